/*
 * groups.h
 *	  queues.group_concurrency: at most so many jobs of a group at once; the
 *	  others are held, and so not in the ready index.
 *
 * Invariants:
 *	 room:	A group of a queue with group_concurrency k has at most k admitted
 *			jobs, but for those that came before the limit did. A job keeps its
 *			place until it has finished, also while it is delayed or waits for a
 *			retry.
 *	 order:	Held jobs are admitted in the order of the ready index, critical
 *			ones first. Nobody who comes later overtakes them.
 *	 none stuck:	Whoever takes an admitted job away (an end, a delete, another
 *			group_key) admits as many others before he commits as there is room
 *			for. What no code of ours sees, and what must not wait, is left to the
 *			task "groups".
 *	 block:	With group_on_failure block nobody is admitted while a job of the
 *			group has failed for good and was not retried, redriven, cancelled or
 *			deleted.
 *	 lock:	Who decides on a group (admits, or holds a newcomer) has its lock
 *			until his transaction ends, and looks under a snapshot that he took
 *			after that. So of an enqueue and the end of the last job one sees what
 *			the other did. Ends write their row first: they cannot commit without
 *			the lock, so who has it knows whom they leave behind.
 *	 no waits:	A claim, and maintenance, never wait for the lock or a row.
 */
#ifndef QS_GROUPS_H
#define QS_GROUPS_H

#include "group_look.h"
#include "queue.h"
#include "table.h"

extern void qs_group_before_insert(QsTable *table);
extern void qs_group_before_update(QsTable *table);
extern void qs_group_after_update(QsTable *table);
extern void qs_group_after_delete(QsTable *table);

extern bool qs_group_must_hold(QsCall *call, const QsQueue *queue,
							   const QsGroup *group);
extern void qs_group_note_left(QsJobs *jobs, const QsGroup *group, int jobs_left);
extern int	qs_groups_settle(QsJobs *jobs);

#endif							/* QS_GROUPS_H */
