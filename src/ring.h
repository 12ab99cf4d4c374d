/*
 * ring.h
 *	  Which queues of a name have work, in turn, for callers that serve all
 *	  tenants: the part that is in shared memory.
 *
 * There is a ring for each name of a database that somebody claims from for all
 * tenants. Its members are the queues of that name. A member is
 *	 active:	It may have work, and takes its turns.
 *	 parked:	It has nothing before a time, or until something is announced.
 *	 uncertain: It had nothing, but somebody holds what it has, and may let go
 *				of it without a word. It is looked at again after a short time,
 *				and before a claim says that there is nothing.
 * Only active members cost a claim anything.
 *
 * Why no queue is forgotten: a queue with a claimable job is active or uncertain
 * in its ring, or announced to it.
 *	 announce:	Whatever makes a job of a queue claimable, other than time, is
 *				announced after that: an entry in a ready index when it is
 *				there, the rest (a definition, a slot) when it is committed and
 *				visible. The member is active from then on.
 *	 register:	A turn tells how often the member was announced. Who found
 *				nothing parks it only if that is still so. What he relies on he
 *				read after the turn.
 *	 certain:	Who saw anything that could become claimable other than by an
 *				announcement or at the time that he tells, parks as uncertain.
 *	 filled:	A ring exists before its members are read, and nobody takes turns
 *				until it has them all. A queue that gets the name later is told
 *				to the ring when that is committed and visible.
 *	 source:	Members that were filled in, or parked, by what one set of
 *				tables told, under one state of their triggers, are void for any
 *				other. The next one fills the ring anew.
 *	 prepared:	A transaction that was prepared, and changed queues, ends without
 *				a word. Until it has ended no ring of its database is used; all
 *				are void then.
 *
 * Why it is fair:
 *	 turns:		A turn is handed out once, under the lock. A member has as many
 *				jobs in a round as turns.h says; then all others that are active
 *				have theirs. Who becomes active begins at the tail.
 *
 * A ring that does not fit is given up as a whole, as a part of the queues would
 * be unfair to the rest; claims do without for a while.
 *
 * Nothing here waits for more than a short lock, or can fail. Times are
 * microseconds.
 */
#ifndef QS_RING_H
#define QS_RING_H

#include "range_cache.h"
#include "turns.h"

#define QS_RING_NAME 128		/* bytes of a name, at most */

/* how soon an uncertain member is looked at again */
#define QS_RING_AGAIN (100 * INT64CONST(1000))

/* where knowledge of a ring comes from */
typedef struct QsRingSource
{
	QsCacheSource jobs;
	QsCacheSource critical;
	uint64		queues;			/* version of the telling trigger on queues */
} QsRingSource;

typedef enum QsRingState
{
	QS_RING_FILLED,
	QS_RING_EMPTY,				/* to be filled */
	QS_RING_UNUSABLE			/* no room, or a prepared transaction */
} QsRingState;

/* what names a ring, as long as it is the same */
typedef struct QsRingTicket
{
	int32		ring;
	uint32		generation;
	uint64		parked;			/* how many had been uncertain, then */
} QsRingTicket;

typedef struct QsRingTurn
{
	pg_uuid_t	queue;
	int32		jobs;			/* that may be claimed */
	int32		member;
	uint32		announced;
	int32		active;			/* members, with this one */
} QsRingTurn;

/* counters since the server started */
typedef struct QsRingStatistics
{
	uint64		turns;
	uint64		in_vain;		/* that found fewer jobs than they might have */
	uint64		queues;
	uint64		queues_max;
	uint64		bytes;
} QsRingStatistics;

extern void qs_ring_init(void);
extern bool qs_ring_exists(void);

extern QsRingState qs_ring_open(const char *name, const QsRingSource *source,
								int64 now, QsRingTicket *ticket);
extern bool qs_ring_add(const QsRingTicket *ticket, const pg_uuid_t *queue,
						int32 weight);
extern void qs_ring_filled(const QsRingTicket *ticket);

extern bool qs_ring_turn(const QsRingTicket *ticket, int64 now, int32 wanted,
						 QsRingTurn *turn);
extern int32 qs_ring_recall(const QsRingTicket *ticket);
extern void qs_ring_park(const QsRingTicket *ticket, const QsRingTurn *turn,
						 int64 until, bool certain);
extern void qs_ring_remove(const QsRingTicket *ticket, const QsRingTurn *turn);

extern void qs_ring_announce(const pg_uuid_t *queue);
extern void qs_ring_queue_is(const pg_uuid_t *queue, const char *name,
							 int32 weight);
extern void qs_ring_void(void);
extern void qs_ring_prepared(TransactionId xid);
extern uint64 qs_ring_name_hash(const char *name);
extern bool qs_ring_name_of(const pg_uuid_t *queue, uint64 *name_hash);
extern void qs_ring_statistics(QsRingStatistics *statistics);

#endif							/* QS_RING_H */
