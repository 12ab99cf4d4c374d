/*
 * fault.h
 *	  Places where a test can stop a session, to have others act meanwhile.
 *
 * Only builds with -DQS_FAULT_POINTS have them. There a session that has set
 * queue_service.fault_point to the name of a place waits there for as long as
 * another one holds pg_advisory_lock(42):
 *	 leaf		an entry was read from the index, its row was not looked at
 *	 take		a row was found claimable, and is about to be taken
 *	 publish	ranges were found, and are about to be published
 *	 claimed	queue_claim() has written all that it claimed
 *	 woken		queue_wait() was woken, and is about to look for work
 *	 fill		the group of a limited queue is there, its leases are not in it
 *	 walk		a row was read by who looks for leases
 *	 tell		a lease was written, and the group was not told yet
 *	 fired		schedules were fired, and nothing was committed yet
 *	 apply		a transaction has committed, and its statistics are not counted yet
 *	 counted	a queue was recounted, and what was found is not in its statistics
 *	 group		the lock of a group was taken, and nothing was looked at yet
 *	 members	the queues of a ring were read, and are not in it yet
 *	 served		a member has the turn whose definition is to be read anew
 *	 announce	a new entry is in the index, and is about to be announced
 */
#ifndef QS_FAULT_H
#define QS_FAULT_H

#ifdef QS_FAULT_POINTS
extern void qs_fault_init(void);
extern void qs_fault_point(const char *name);
#define QS_FAULT_POINT(name) qs_fault_point(name)
#else
#define qs_fault_init() ((void) 0)
#define QS_FAULT_POINT(name) ((void) 0)
#endif

#endif							/* QS_FAULT_H */
