/*
 * ageing.h
 *	  The order of a queue's jobs that grow more urgent as they wait.
 *
 * With ageing A a job goes by its effective time, run_at - priority * A: a
 * job of priority 0 goes before one of priority p exactly if it is p * A older.
 * That never changes with time, so nothing is rewritten, and within a level (a
 * priority) it is the order of the ready index. A scan merges the levels: it
 * finds the first entry of each, and goes on in the level whose turn it is
 * until an entry there comes after the first one of another.
 *
 * Invariants, for a scan that keeps to them:
 *	 Every level that has an entry which may be claimable and is not behind the
 *	 scan is in the merge, with a key at which or behind which that entry is.
 *	 An entry is looked at only if no entry of another level may come before it.
 *	 Equal effective times: the older job first.
 */
#ifndef QS_AGEING_H
#define QS_AGEING_H

#include "key_range.h"

/* A level in which the scan is to go on. */
typedef struct QsLevel
{
	QsRangeKey	from;			/* where it goes on */
	QsRangeKey	key;			/* of the first entry there */
	int64_t		effective;		/* time of that */
} QsLevel;

/* The levels of a queue. All zero: no ageing. */
typedef struct QsLevels
{
	int64_t		ageing;			/* microseconds a level; 0: off */
	bool		seeking;		/* the levels in use are being found */
	int			count;
	int			room;
	QsLevel    *heap;			/* the level whose turn it is comes first */
} QsLevels;

extern void qs_levels_begin(QsLevels *levels, int64_t ageing);
extern void qs_levels_seek(QsLevels *levels);
extern void qs_levels_add(QsLevels *levels, const QsRangeKey *from,
						  const QsRangeKey *key);
extern bool qs_levels_is_turn(const QsLevels *levels, const QsRangeKey *key);
extern void qs_levels_put_back(QsLevels *levels, const QsRangeKey *key);
extern void qs_levels_drop(QsLevels *levels);
extern void qs_levels_end(QsLevels *levels);

#endif							/* QS_AGEING_H */
