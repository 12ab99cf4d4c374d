/*
 * quota.h
 *	  What a queue takes: at most max_depth unfinished jobs, and new ones only for
 *	  the tokens of its enqueue_limiter.
 *
 * Invariants:
 *	 before:	A queue is asked before a job is written that is to be unfinished
 *				in it; by the trigger after SQL wrote one, whose error undoes
 *				that.
 *	 promised:	Where the statistics in shared memory count the queue, room is
 *				promised to a transaction under the lock of that count. It is
 *				given up as the jobs are counted, or with what asked for it. So
 *				those that are committed and those that are promised are never
 *				more than max_depth, but for what an older max_depth allowed.
 *	 counted:	Where they do not, whoever enqueues counts the jobs, and keeps
 *				all others from the queue until his transaction ends: he holds
 *				its lock exclusively, and they hold it shared.
 *
 * Jobs of a transaction that was prepared before the server restarted are not
 * seen before it commits. What a subscription applies is not asked for.
 */
#ifndef QS_QUOTA_H
#define QS_QUOTA_H

#include "access/htup.h"
#include "queue.h"

extern void qs_quota_enqueue(QsCall *call, const QsQueue *queue, int count);
extern void qs_quota_restart(QsCall *call, const QsQueue *queue);
extern void qs_quota_after_sql(FunctionCallInfo fcinfo, TupleDesc desc,
							   HeapTuple old, HeapTuple new);

#endif							/* QS_QUOTA_H */
