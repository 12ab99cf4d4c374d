/*
 * lifecycle.c
 *	  What becomes of a job: see lifecycle.h.
 *
 * Invariants:
 *	 A job has a lease token exactly while it is processing, a new one for each
 *	 lease. Who shows another token, or none, has lost the lease.
 *	 attempts counts claims; snooze and release give theirs back.
 *	 A lease only moves later while it lasts.
 *	 A dead letter appears in the same transaction in which the job goes, with
 *	 the same id.
 */
#include "postgres.h"

#include "args.h"
#include "backoff.h"
#include "common/pg_prng.h"
#include "failures.h"
#include "lifecycle.h"
#include "recent.h"
#include "stats_note.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/*
 * Loads the job with this id, in whichever table it is, and sets the call's
 * clock anew, since that may have waited. NULL if there is none that the call
 * may see: another tenant's is as good as missing.
 */
static QsTable *
find(QsJobs *jobs, const pg_uuid_t *id,
	 bool (*load) (QsTable *table, const pg_uuid_t *id))
{
	for (QsTableKind kind = QS_JOBS; kind <= QS_CRITICAL_JOBS; kind++)
	{
		QsTable    *table = qs_jobs_table(jobs, kind);

		if (load(table, id))
		{
			jobs->call->now = GetCurrentTimestamp();
			return table;
		}
	}
	return NULL;
}

/* Finds the job and locks it. */
QsTable *
qs_jobs_find(QsJobs *jobs, const pg_uuid_t *id)
{
	return find(jobs, id, qs_lock_by_id);
}

/*
 * Finds the job without a lock, for qs_job_complete_if_same(). NULL also if it
 * has to be locked.
 */
QsTable *
qs_jobs_find_unlocked(QsJobs *jobs, const pg_uuid_t *id)
{
	return find(jobs, id, qs_find_by_id);
}

/* The queue of the loaded job. */
void
qs_jobs_queue(QsJobs *jobs, QsTable *table, QsQueue *queue)
{
	if (!qs_queue_by_id(jobs->call,
						DatumGetUUIDP(qs_get(table, QS_JOB_QUEUE_ID)), queue))
		elog(ERROR, "a job has no queue");
}

static void
set_status(QsTable *table, const char *status)
{
	qs_set(table, QS_JOB_STATUS, CStringGetTextDatum(status));
}

static int
get_int(QsTable *table, int column)
{
	return DatumGetInt32(qs_get(table, column));
}

/*
 * Hands the job out under a new lease, with a token of its own. False if a
 * trigger forbade it; the job then stays as it was.
 */
bool
qs_job_lease(QsTable *table, Datum worker, int64 token, TimestampTz until)
{
	set_status(table, "processing");
	qs_set(table, QS_JOB_ATTEMPTS,
		   Int32GetDatum(get_int(table, QS_JOB_ATTEMPTS) + 1));
	qs_set(table, QS_JOB_LEASE_TOKEN, Int64GetDatum(token));
	qs_set(table, QS_JOB_LEASED_BY, worker);
	qs_set(table, QS_JOB_LEASED_AT, TimestampTzGetDatum(table->call->now));
	qs_set(table, QS_JOB_LEASED_UNTIL, TimestampTzGetDatum(until));
	if (!qs_try_update(table))
		return false;
	qs_recent_note(table);
	return true;
}

static void
set_finished(QsTable *table, const char *status, const char *reason)
{
	set_status(table, status);
	qs_set(table, QS_JOB_FINISH_REASON, CStringGetTextDatum(reason));
	qs_set(table, QS_JOB_FINISHED_AT, TimestampTzGetDatum(table->call->now));
	qs_set_null(table, QS_JOB_LEASE_TOKEN);
}

/* Ends the job where it is. */
static void
finish(QsTable *table, const char *status, const char *reason)
{
	set_finished(table, status, reason);
	qs_update(table);
}

/* Ends the job as cancelled; it stays for as long as a completed one. */
void
qs_job_cancel(QsTable *table, const QsQueue *queue)
{
	if (queue->keeps_completed)
	{
		finish(table, "failed", "cancelled");
		return;
	}
	qs_stats_write_does(table, QS_ENDED_CANCELLED);
	qs_delete(table);
}

/* Gives the job back, to be claimed from run_at on. */
static void
give_back(QsTable *table)
{
	set_status(table, "pending");
	qs_set_null(table, QS_JOB_LEASE_TOKEN);
	qs_set_null(table, QS_JOB_LEASED_UNTIL);
	qs_update(table);
}

/* Copies the loaded job into a dead letter, and removes it from its table. */
static void
bury(QsJobs *jobs, QsTable *table, QsDeath death)
{
	static const struct
	{
		int			dead;
		int			job;
	}			columns[] = {
		{QS_DEAD_ID, QS_JOB_ID},
		{QS_DEAD_TENANT_ID, QS_JOB_TENANT_ID},
		{QS_DEAD_QUEUE_ID, QS_JOB_QUEUE_ID},
		{QS_DEAD_RUN_AT, QS_JOB_RUN_AT},
		{QS_DEAD_ENQUEUED_AT, QS_JOB_ENQUEUED_AT},
		{QS_DEAD_ATTEMPTS, QS_JOB_ATTEMPTS},
		{QS_DEAD_MAX_ATTEMPTS, QS_JOB_MAX_ATTEMPTS},
		{QS_DEAD_PRIORITY, QS_JOB_PRIORITY},
		{QS_DEAD_JOB_TYPE, QS_JOB_JOB_TYPE},
		{QS_DEAD_PAYLOAD, QS_JOB_PAYLOAD},
		{QS_DEAD_HEADERS, QS_JOB_HEADERS},
		{QS_DEAD_GROUP_KEY, QS_JOB_GROUP_KEY},
		{QS_DEAD_IDEMPOTENCY_KEY, QS_JOB_IDEMPOTENCY_KEY},
		{QS_DEAD_SCHEDULE_ID, QS_JOB_SCHEDULE_ID},
		{QS_DEAD_LEASED_BY, QS_JOB_LEASED_BY},
		{QS_DEAD_LEASED_AT, QS_JOB_LEASED_AT},
		{QS_DEAD_LEASED_UNTIL, QS_JOB_LEASED_UNTIL},
		{QS_DEAD_LAST_ERROR, QS_JOB_LAST_ERROR},
		{QS_DEAD_ERRORS, QS_JOB_ERRORS}
	};
	static const char *const reasons[] = {"exhausted", "dead", "lease_expired"};
	QsTable    *dead = qs_jobs_table(jobs, QS_DEAD_LETTER_JOBS);

	qs_new_row(dead);
	for (int i = 0; i < (int) lengthof(columns); i++)
		if (!qs_is_null(table, columns[i].job))
			qs_set(dead, columns[i].dead, qs_get(table, columns[i].job));
	qs_set(dead, QS_DEAD_SOURCE_TABLE,
		   CStringGetTextDatum(RelationGetRelationName(table->rel)));
	qs_set(dead, QS_DEAD_REASON, CStringGetTextDatum(reasons[death]));
	qs_set(dead, QS_DEAD_DIED_AT, TimestampTzGetDatum(table->call->now));
	qs_insert(dead);
	qs_stats_write_does(table, QS_DIED);
	qs_delete(table);
}

/* Ends a job that failed for good. */
static void
give_up(QsJobs *jobs, QsTable *table, const QsQueue *queue, QsDeath death)
{
	if (queue->dead_letters)
		bury(jobs, table, death);
	else
		finish(table, "failed", death == QS_DEATH_DEAD ? "dead" : "exhausted");
}

/* Whether a processing job is not to be tried again if its lease runs out. */
bool
qs_job_is_over(QsTable *table)
{
	return DatumGetBool(qs_get(table, QS_JOB_CANCEL_REQUESTED)) ||
		get_int(table, QS_JOB_ATTEMPTS) >= get_int(table, QS_JOB_MAX_ATTEMPTS);
}

/*
 * Notes that the lease of a processing job ran out. True if the job has an
 * attempt left: it is then to be leased, or given back. False if it was
 * cancelled meanwhile or that was its last attempt, and it has ended.
 */
bool
qs_job_expire(QsJobs *jobs, QsTable *table, const QsQueue *queue)
{
	qs_note_failure(table, "lease expired");
	qs_stats_write_does(table, QS_FAILED);
	if (DatumGetBool(qs_get(table, QS_JOB_CANCEL_REQUESTED)))
	{
		qs_job_cancel(table, queue);
		return false;
	}
	if (get_int(table, QS_JOB_ATTEMPTS) >= get_int(table, QS_JOB_MAX_ATTEMPTS))
	{
		give_up(jobs, table, queue, QS_DEATH_LEASE_EXPIRED);
		return false;
	}
	return true;
}

static void
set_completed(QsTable *table, Datum result, bool no_result)
{
	if (!no_result)
		qs_set(table, QS_JOB_RESULT, result);
	set_finished(table, "completed", "completed");
}

void
qs_job_complete(QsTable *table, const QsQueue *queue, Datum result,
				bool no_result)
{
	if (queue->keeps_completed)
	{
		set_completed(table, result, no_result);
		qs_update(table);
		return;
	}
	qs_stats_write_does(table, QS_COMPLETED);
	qs_delete(table);
}

/*
 * Completes a job that is not locked. False if it is not as it was found any
 * more; nothing was done then.
 */
bool
qs_job_complete_if_same(QsTable *table, const QsQueue *queue, Datum result,
						bool no_result)
{
	if (!queue->keeps_completed)
	{
		qs_stats_write_does(table, QS_COMPLETED);
		return qs_delete_if_same(table);
	}
	set_completed(table, result, no_result);
	return qs_update_if_same(table);
}

static TimestampTz
after_backoff(QsTable *table, const QsQueue *queue)
{
	return table->call->now +
		qs_backoff(queue->backoff_base, queue->backoff_factor,
				   queue->backoff_max, queue->backoff_jitter,
				   get_int(table, QS_JOB_ATTEMPTS),
				   pg_prng_double(&pg_global_prng_state));
}

/*
 * Ends a failed attempt: the job is tried again after retry_in, or the
 * queue's backoff if that is NULL, unless it was its last attempt, it is dead,
 * or a cancel was requested.
 */
QsOutcome
qs_job_fail(QsJobs *jobs, QsTable *table, const QsQueue *queue,
			const char *error, const Interval *retry_in, bool dead)
{
	qs_note_failure(table, error);
	qs_stats_write_does(table, QS_FAILED);
	if (DatumGetBool(qs_get(table, QS_JOB_CANCEL_REQUESTED)))
	{
		qs_job_cancel(table, queue);
		return QS_CANCELLED;
	}
	if (dead ||
		get_int(table, QS_JOB_ATTEMPTS) >= get_int(table, QS_JOB_MAX_ATTEMPTS))
	{
		give_up(jobs, table, queue, dead ? QS_DEATH_DEAD : QS_DEATH_EXHAUSTED);
		return QS_DEAD;
	}
	qs_set(table, QS_JOB_RUN_AT,
		   TimestampTzGetDatum(retry_in ?
							   qs_add_interval(table->call->now, retry_in) :
							   after_backoff(table, queue)));
	give_back(table);
	return QS_RETRY;
}

/*
 * Ends an attempt that does not count: the job is claimable after delay, or at
 * once and at its old place if that is NULL, unless a cancel was requested.
 */
QsOutcome
qs_job_release(QsTable *table, const QsQueue *queue, const Interval *delay)
{
	if (DatumGetBool(qs_get(table, QS_JOB_CANCEL_REQUESTED)))
	{
		qs_job_cancel(table, queue);
		return QS_CANCELLED;
	}
	qs_set(table, QS_JOB_ATTEMPTS,
		   Int32GetDatum(get_int(table, QS_JOB_ATTEMPTS) - 1));
	if (delay)
		qs_set(table, QS_JOB_RUN_AT,
			   TimestampTzGetDatum(qs_add_interval(table->call->now, delay)));
	give_back(table);
	return QS_RELEASED;
}

/* Puts the job back to where it was when enqueued, whatever it is now. */
void
qs_job_restart(QsTable *table, TimestampTz run_at)
{
	table->goes_first = true;
	qs_set(table, QS_JOB_ATTEMPTS, Int32GetDatum(0));
	qs_set(table, QS_JOB_RUN_AT, TimestampTzGetDatum(run_at));
	qs_set(table, QS_JOB_CANCEL_REQUESTED, BoolGetDatum(false));
	qs_set_null(table, QS_JOB_FINISH_REASON);
	qs_set_null(table, QS_JOB_FINISHED_AT);
	give_back(table);
}

/* The name of an outcome, as text. */
Datum
qs_outcome_name(QsOutcome outcome)
{
	static const char *const names[] = {
		"done", "retry", "dead", "released", "lost", "cancelled"
	};

	return CStringGetTextDatum(names[outcome]);
}
