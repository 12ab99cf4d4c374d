/*
 * slots.h
 *	  queues.max_concurrency and critical_reserve: at most so many jobs of a
 *	  queue have an unexpired lease.
 *
 * Each lease of a limited queue has a slot, a place of holders.h, under its
 * token. No row is written for it. Invariants:
 *	 before:	A slot is taken before the claim writes the row, and extended
 *				before a heartbeat does. So it holds at least as long as the
 *				row says.
 *	 after:		A slot is freed only when what ends its lease is committed and
 *				visible, or when what began it is rolled back. A heartbeat that
 *				is rolled back leaves its slot extended.
 *	 passed on:	A transaction that ends a lease may use the slot for its next
 *				claim, since both appear at once. If the claim is rolled back,
 *				or all of it, the slot is of whom it was before.
 *	 filled:	After a start, or when the group of slots was evicted, nobody
 *				takes a slot until one session has found the leases that there
 *				are (leases.h) and the group has them all. One session fills at
 *				a time: it holds the queue's lock.
 *	 told:		Whoever writes a row that is leased then, by our functions or
 *				SQL, afterwards tells the group if there is one by now, whether
 *				he knows of a limit or not. So a lease is in the group
 *				if it was written after the group appeared, and is found by the
 *				walk if it was written before.
 *	 counted:	If shared memory is not there or has no room, the claim holds
 *				the queue's lock until its transaction ends, and counts the
 *				leases. The group, if there is one, is not filled from then on:
 *				who is to fill it again must wait for that lock.
 *	 announced:	When a place of a group is freed, other than by time, its queue
 *				is announced. A lease that has no place ends quietly.
 *
 * The lock is one of the lock manager, not of the row in queues: it writes
 * nothing, keeps nobody from changing the queue, and a filler can release it.
 *
 * What a prepared transaction claimed or ended keeps its slots until they
 * expire, as nothing of ours runs when it ends.
 */
#ifndef QS_SLOTS_H
#define QS_SLOTS_H

#include "holders.h"
#include "queue.h"
#include "table.h"

/* the slots of one queue, for one call */
typedef struct QsSlots
{
	QsCall	   *call;
	bool		limited;
	QsHoldersKey key;
	QsHoldersLimit limit;
	int			change;			/* in the list of slots.c, taken last */
	bool		counted;		/* the leases were; we have the lock */
	bool		quiet;			/* some leases end without an announcement */
	QsHoldersState state;		/* how many there are, then */
} QsSlots;

extern void qs_slots_init(void);

extern void qs_slots_begin(QsSlots *slots, QsCall *call, const QsQueue *queue);
extern bool qs_slots_take(QsSlots *slots, const QsHolder *lease,
						  bool may_wait);
extern void qs_slots_give_back(QsSlots *slots, const QsHolder *lease);
extern bool qs_slots_extend(QsSlots *slots, const QsHolder *lease,
							TimestampTz leased_until);
extern bool qs_slots_look(QsCall *call, const QsQueue *queue, bool critical,
						  TimestampTz *next_due);

extern void qs_slots_after_update(QsTable *table);
extern void qs_slots_after_delete(QsTable *table);
extern void qs_slots_after_sql(QsTableKind kind, TupleDesc desc, HeapTuple old,
							   HeapTuple new);

#endif							/* QS_SLOTS_H */
