/*
 * holders.h
 *	  Who holds one of a limited number of places: permits of a service, slots
 *	  of a queue. In shared memory; there are none without it.
 *
 * Places of one kind are a group. A holder has one of them under its token,
 * until a time. The limit is not part of a group: it comes with each call.
 *
 * Invariants:
 *	 A place is free for others only once its holder left the group: released,
 *	 or found expired. Whether a holder has its place is decided by what is in
 *	 the group, not by anybody's clock; so who is late may go on if nobody
 *	 looked in between.
 *	 Take, pass and extend never make a group exceed the limit that they come
 *	 with, add does. Who holds stays when a limit is lowered.
 *	 A group of slots is filled or it is not: what it has is right in either
 *	 case, but only a filled one has all leases. Until then nobody takes.
 *	 While one session fills a group, what is released is remembered, so that
 *	 the filler does not add what it saw before.
 *	 A group without an unexpired holder may go at any time.
 *
 * Nothing here waits, or can fail. Times are microseconds of one clock, the
 * same for all calls about one group. Keys are zeroed where they have padding.
 */
#ifndef QS_HOLDERS_H
#define QS_HOLDERS_H

#include "utils/uuid.h"

typedef enum QsHoldersKind
{
	QS_PERMITS_OF_SERVICE,
	QS_PERMITS_OF_TENANT,
	QS_SLOTS					/* of a queue: must be filled */
} QsHoldersKind;

typedef struct QsHoldersKey
{
	Oid			database;
	int32		kind;			/* QsHoldersKind */
	pg_uuid_t	id;
} QsHoldersKey;

typedef struct QsHoldersLimit
{
	int32		all;
	int32		normal;			/* of those that are not critical */
} QsHoldersLimit;

typedef struct QsHolder
{
	int64		token;
	int64		until;
	bool		critical;
} QsHolder;

typedef enum QsHoldersAnswer
{
	QS_GRANTED,
	QS_FULL,
	QS_NO_ROOM,					/* shared memory has none */
	QS_NOT_FILLED
} QsHoldersAnswer;

/* what a group looks like */
typedef struct QsHoldersState
{
	int32		normal;			/* unexpired holders */
	int32		critical;
	int64		free_at;		/* when the first one expires that counts */
} QsHoldersState;

/* a place that went from one holder to another */
typedef struct QsPassed
{
	QsHolder	from;			/* as it was */
	QsHolder	to;
	int64		held_until;		/* the later of both, as long as it is open */
} QsPassed;

extern void qs_holders_init(void);
extern bool qs_holders_exist(void);
extern bool qs_holders_any_slots(void);

extern QsHoldersAnswer qs_holders_take(const QsHoldersKey *key,
									   const QsHoldersLimit *limit,
									   const QsHolder *holder, int64 now,
									   int64 *free_at);
extern bool qs_holders_release(const QsHoldersKey *key, int64 token);
extern QsHoldersAnswer qs_holders_extend(const QsHoldersKey *key,
										 const QsHoldersLimit *limit,
										 const QsHolder *holder, int64 now);
extern QsHoldersAnswer qs_holders_look(const QsHoldersKey *key,
									   const QsHoldersLimit *limit,
									   bool critical, int64 now,
									   QsHoldersState *state);

extern bool qs_holders_pass(const QsHoldersKey *key,
							const QsHoldersLimit *limit, int64 from,
							const QsHolder *to, QsPassed *passed);
extern void qs_holders_settle(const QsHoldersKey *key, const QsPassed *passed);
extern void qs_holders_take_back(const QsHoldersKey *key, const QsPassed *passed);

extern void qs_holders_add(const QsHoldersKey *key, const QsHolder *holder);
extern bool qs_holders_has(const QsHoldersKey *key, int64 token);
extern void qs_holders_void(const QsHoldersKey *key);
extern bool qs_holders_fill_begin(const QsHoldersKey *key, int64 now);
extern bool qs_holders_fill_add(const QsHoldersKey *key, const QsHolder *holder);
extern bool qs_holders_fill_end(const QsHoldersKey *key, bool complete);

#endif							/* QS_HOLDERS_H */
