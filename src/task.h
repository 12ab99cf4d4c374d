/*
 * task.h
 *	  Maintenance: a table of small tasks, and what runs them.
 *
 * A task is a bounded, idempotent piece of work. It may be run by anybody at
 * any time, also when nothing is due, and may fail or be rolled back: the next
 * run does what this one did not.
 */
#ifndef QS_TASK_H
#define QS_TASK_H

#include "call.h"

/* one run of a task */
typedef struct QsTaskRun
{
	QsCall	   *call;			/* of the platform, for all tenants; its now is
								 * the clock, which may be another than ours */
	int64		done;			/* how many things the run did */
	bool		more;			/* it stopped at its bound: run it again at once */
} QsTaskRun;

typedef struct QsTask
{
	const char *name;
	int			period;			/* seconds between runs that leave nothing */
	void		(*run) (QsTaskRun *run);
	bool		rests;			/* the worker lets it rest after each run that
								 * leaves more, as long as that took */
} QsTask;

/*
 * Writes the items from first on, of a task's batch; returns how many things it
 * did. An error undoes all of it, and it is called again with fewer of them.
 */
typedef int64 (*QsTaskBatch) (QsCall *call, int first, int count, void *arg);

/* Is told of an item that cannot be written. Its error ends the task. */
typedef void (*QsTaskFailure) (QsCall *call, int item, const ErrorData *error,
							   void *arg);

extern int64 qs_task_batch(QsCall *call, int count, QsTaskBatch write,
						   QsTaskFailure failed, void *arg);
extern void qs_task_log_failure(QsCall *call, int item, const ErrorData *error,
								void *arg);

extern const QsTask *const qs_tasks[];	/* in the order in which they run */
extern const int qs_ntasks;

/* each in the module of what it looks after */
extern const QsTask qs_task_fire;
extern const QsTask qs_task_rescue;
extern const QsTask qs_task_groups;
extern const QsTask qs_task_keys;
extern const QsTask qs_task_finished;
extern const QsTask qs_task_dead;
extern const QsTask qs_task_metrics;
extern const QsTask qs_task_alert_history;
extern const QsTask qs_task_recount;
extern const QsTask qs_task_sample;
extern const QsTask qs_task_flush;
extern const QsTask qs_task_alerts;

extern void qs_retention_init(void);
extern void qs_alerts_init(void);

#endif							/* QS_TASK_H */
