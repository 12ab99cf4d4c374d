/*
 * lifecycle.h
 *	  What becomes of a job: one function for each arrow of its life.
 *
 *	pending --lease--> processing --complete--> completed
 *	   ^                  |  |  |
 *	   |<---release-------'  |  |
 *	   |<---fail, expire-----'  '--fail, expire on the last attempt--> dead
 *
 * Each takes a job that its table has locked and loaded, and writes it;
 * qs_job_complete_if_same() one that is loaded only.
 */
#ifndef QS_LIFECYCLE_H
#define QS_LIFECYCLE_H

#include "queue.h"
#include "table.h"

/* how a verb on a lease ended */
typedef enum QsOutcome
{
	QS_DONE,
	QS_RETRY,
	QS_DEAD,
	QS_RELEASED,
	QS_LOST,
	QS_CANCELLED
} QsOutcome;

/* why a job died; also the order of dead_letter_jobs.reason's names */
typedef enum QsDeath
{
	QS_DEATH_EXHAUSTED,
	QS_DEATH_DEAD,
	QS_DEATH_LEASE_EXPIRED
} QsDeath;

extern QsTable *qs_jobs_find(QsJobs *jobs, const pg_uuid_t *id);
extern QsTable *qs_jobs_find_unlocked(QsJobs *jobs, const pg_uuid_t *id);
extern void qs_jobs_queue(QsJobs *jobs, QsTable *table, QsQueue *queue);

extern bool qs_job_lease(QsTable *table, Datum worker, int64 token,
						 TimestampTz until);
extern bool qs_job_is_over(QsTable *table);
extern bool qs_job_expire(QsJobs *jobs, QsTable *table, const QsQueue *queue);
extern void qs_job_complete(QsTable *table, const QsQueue *queue,
							Datum result, bool no_result);
extern bool qs_job_complete_if_same(QsTable *table, const QsQueue *queue,
									Datum result, bool no_result);
extern QsOutcome qs_job_fail(QsJobs *jobs, QsTable *table, const QsQueue *queue,
							 const char *error, const Interval *retry_in,
							 bool dead);
extern QsOutcome qs_job_release(QsTable *table, const QsQueue *queue,
								const Interval *delay);
extern void qs_job_cancel(QsTable *table, const QsQueue *queue);
extern void qs_job_restart(QsTable *table, TimestampTz run_at);

extern Datum qs_outcome_name(QsOutcome outcome);

#endif							/* QS_LIFECYCLE_H */
