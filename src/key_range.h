/*
 * key_range.h
 *	  Sets of disjoint ranges of ready-index keys. Pure arithmetic on memory
 *	  that the caller gives and guards; nothing here allocates, waits or fails.
 *
 * A range says of all index entries whose keys it has that none of them leads
 * to a claimable job: for ever (dead), until a time (timed), or while a
 * transaction runs (guarded). What no longer holds is void. Ranges are
 * half-open, [lo, hi), and end at real keys.
 */
#ifndef QS_KEY_RANGE_H
#define QS_KEY_RANGE_H

#include <stdbool.h>
#include <stdint.h>

/* A key of a ready index within one queue. Orders as the index does. */
typedef struct QsRangeKey
{
	int64_t		run_at;
	uint8_t		id[16];
	int16_t		priority;		/* the higher comes first */
} QsRangeKey;

typedef enum QsRangeKind
{
	QS_RANGE_DEAD,
	QS_RANGE_TIMED,
	QS_RANGE_GUARDED
} QsRangeKind;

typedef struct QsRange
{
	QsRangeKey	lo;
	QsRangeKey	hi;
	int64_t		until;			/* timed: no longer from this time on */
	uint64_t	xid;			/* guarded: while this transaction runs; 0 else */
	int32_t		entries;		/* index entries, about */
	int32_t		next;			/* in the set, or in the list of free ones */
	uint8_t		kind;
} QsRange;

#define QS_NO_RANGE (-1)

/* Where the ranges of many sets are; the sets hold numbers of them. */
typedef struct QsRangePool
{
	QsRange    *ranges;
	int32_t		free;			/* first free one, or QS_NO_RANGE */
} QsRangePool;

/* what decides whether a range still holds */
typedef struct QsRangeClock
{
	int64_t		now;
	bool		(*is_running) (uint64_t xid);
} QsRangeClock;

/* what a jump found out */
typedef struct QsRangeJump
{
	QsRangeKey	next_lo;		/* where the next range that holds begins */
	bool		has_next;		/* if there is one */
	int32_t		entries;		/* jumped over, about */
	int64_t		until;			/* no later than the end of any timed one */
	bool		guarded;		/* whether one of them was guarded */
} QsRangeJump;

/* the most entries that timed ranges have when they were merged */
#define QS_TIMED_ENTRIES 256

extern int	qs_key_compare(const QsRangeKey *a, const QsRangeKey *b);
extern bool qs_key_next(QsRangeKey *key);
extern void qs_key_first_of_level(QsRangeKey *key, int16_t priority);

extern void qs_pool_init(QsRangePool *pool, QsRange *ranges, int32_t count);
extern bool qs_ranges_jump(const QsRangePool *pool, int32_t set,
						   const QsRangeClock *clock, QsRangeKey *key,
						   QsRangeJump *jump);
extern void qs_ranges_cut(QsRangePool *pool, int32_t *set,
						  const QsRangeKey *key, uint64_t own_xid);
extern void qs_ranges_add(QsRangePool *pool, int32_t *set,
						  const QsRangeClock *clock, const QsRange *range);
extern void qs_ranges_clear(QsRangePool *pool, int32_t *set);

#endif							/* QS_KEY_RANGE_H */
