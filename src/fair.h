/*
 * fair.h
 *	  Claims that serve all tenants: which queue of a name comes next.
 *
 * With shared memory the queues of a name take turns in a ring (ring.h), whoever
 * claims. Without it, or if the ring cannot be used, each session goes round by
 * itself: it reads the queues with unfinished jobs with each claim, and goes on
 * where it stopped; where it begins is by chance. So shares are right within
 * each session.
 */
#ifndef QS_FAIR_H
#define QS_FAIR_H

#include "queue.h"
#include "ring.h"

/* what is known of a queue in which fewer jobs were found than might have been */
typedef struct QsOutlook
{
	TimestampTz due;			/* it has nothing before */
	bool		certain;		/* unless something is announced */
} QsOutlook;

typedef struct QsFair
{
	QsCall	   *call;
	const char *name;
	bool		in_ring;
	int			jobs;			/* of the turn */

	/* if in_ring */
	QsRingTicket ticket;
	QsRingTurn	turn;
	int32		left;			/* turns before all have had one in vain; -1: all */
	bool		recalled;

	/* if not */
	pg_uuid_t  *queues;
	int			count;
	int			next;
	int			kept;			/* of those before next */
} QsFair;

extern void qs_fair_know(QsCall *call, const char *name);
extern void qs_fair_begin(QsFair *fair, QsCall *call, const char *name);
extern int	qs_fair_next(QsFair *fair, int wanted, QsQueue *queue);
extern void qs_fair_claimed(QsFair *fair, int jobs, const QsOutlook *outlook);

#endif							/* QS_FAIR_H */
