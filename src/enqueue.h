/*
 * enqueue.h
 *	  Makes jobs.
 */
#ifndef QS_ENQUEUE_H
#define QS_ENQUEUE_H

#include "lifecycle.h"

/* what the caller of an enqueue wants; a Datum of 0 is a null */
typedef struct QsNewJob
{
	QsTableKind kind;			/* QS_JOBS or QS_CRITICAL_JOBS */
	QsQueue		queue;
	Datum		payload;
	Datum		job_type;
	int			priority;
	TimestampTz run_at;
	int			max_attempts;
	Datum		group_key;
	Datum		headers;
	Datum		idempotency_key;
	Datum		schedule_id;
	bool		goes_first;		/* in its group: it has been there before */
} QsNewJob;

extern void qs_enqueue_init(void);
extern void qs_job_insert(QsTable *table, const QsNewJob *job,
						  const pg_uuid_t *id);
extern void qs_job_replace(QsTable *table, const QsNewJob *job);

#endif							/* QS_ENQUEUE_H */
