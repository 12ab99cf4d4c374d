/*
 * repair.c
 *	  The verbs for a job that went wrong: cancel and retry; and how a dead
 *	  letter is sent back (redrive.c does so for many).
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "quota.h"
#include "repair.h"
#include "result.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(queue_cancel);
PG_FUNCTION_INFO_V1(queue_retry);

static Datum
return_outcome(FunctionCallInfo fcinfo, const pg_uuid_t *id, const char *outcome)
{
	static TupleDesc desc = NULL;
	Datum		values[2] = {UUIDPGetDatum(id), CStringGetTextDatum(outcome)};
	bool		nulls[2] = {false, false};

	return qs_return_row(fcinfo, &desc, values, nulls);
}

static void
unknown_job(void)
{
	ereport(ERROR,
			(errcode(QS_JOB_UNKNOWN),
			 errmsg("there is no such job")));
}

/* Whether the caller has a dead letter with this id; it is locked and loaded. */
static bool
find_dead(QsJobs *jobs, const pg_uuid_t *id)
{
	return qs_lock_by_id(qs_jobs_table(jobs, QS_DEAD_LETTER_JOBS), id);
}

/*
 * The same for a job that was not found alive. It may have died only while
 * that waited for its lock, so its letter may be newer than the snapshot.
 */
static bool
find_died(QsJobs *jobs, const pg_uuid_t *id)
{
	qs_advance_snapshot();
	return find_dead(jobs, id);
}

/* Whether a queue lets failed jobs block their groups. */
static bool
groups_block(QsJobs *jobs, QsTable *table)
{
	QsQueue		queue;

	return qs_queue_by_id(jobs->call, DatumGetUUIDP(qs_get(table, QS_JOB_QUEUE_ID)),
						  &queue) &&
		queue.group_concurrency > 0 && queue.group_blocks;
}

/* Gives up the loaded dead letter, if it blocks its group. */
static const char *
cancel_letter(QsJobs *jobs)
{
	QsTable    *dead = &jobs->tables[QS_DEAD_LETTER_JOBS];

	if (qs_is_null(dead, QS_DEAD_GROUP_KEY) ||
		!qs_is_null(dead, QS_DEAD_REDRIVEN_AT) ||
		qs_text_is(qs_get(dead, QS_DEAD_REASON), "cancelled") ||
		!groups_block(jobs, dead))
		return "finished";
	qs_set(dead, QS_DEAD_REASON, CStringGetTextDatum("cancelled"));
	qs_update(dead);
	return "cancelled";
}

/* The same for a loaded job that has finished, and stays where it is. */
static const char *
cancel_finished(QsJobs *jobs, QsTable *table)
{
	if (qs_is_null(table, QS_JOB_GROUP_KEY) ||
		!qs_text_is(qs_get(table, QS_JOB_STATUS), "failed") ||
		qs_text_is(qs_get(table, QS_JOB_FINISH_REASON), "cancelled") ||
		!groups_block(jobs, table))
		return "finished";
	qs_set(table, QS_JOB_FINISH_REASON, CStringGetTextDatum("cancelled"));
	qs_update(table);
	return "cancelled";
}

static const char *
cancel(QsJobs *jobs, const pg_uuid_t *id)
{
	QsTable    *table = qs_jobs_find(jobs, id);
	QsQueue		queue;
	Datum		status;

	if (table == NULL)
	{
		if (!find_died(jobs, id))
			unknown_job();
		return cancel_letter(jobs);
	}

	status = qs_get(table, QS_JOB_STATUS);
	if (qs_text_is(status, "pending"))
	{
		qs_jobs_queue(jobs, table, &queue);
		qs_job_cancel(table, &queue);
		return "cancelled";
	}
	if (!qs_text_is(status, "processing"))
		return cancel_finished(jobs, table);
	if (!DatumGetBool(qs_get(table, QS_JOB_CANCEL_REQUESTED)))
	{
		qs_set(table, QS_JOB_CANCEL_REQUESTED, BoolGetDatum(true));
		qs_update(table);
	}
	return "requested";
}

/* SQL: queue_cancel(job_id) */
Datum
queue_cancel(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	pg_uuid_t  *id;
	const char *outcome;

	qs_begin(&call, fcinfo, "queue_cancel()", QS_ANY_TENANT);
	id = qs_arg_uuid(fcinfo, 0, "job_id");
	qs_jobs_begin(&jobs, &call);
	outcome = cancel(&jobs, id);
	qs_jobs_end(&jobs);
	qs_end(&call);
	return return_outcome(fcinfo, id, outcome);
}

static Datum
datum_or_null(QsTable *table, int column)
{
	return qs_is_null(table, column) ? (Datum) 0 : qs_get(table, column);
}

/*
 * Sends the loaded dead letter back to the table that it came from, under a
 * new id, and notes that on it. False if a later job has its idempotency key.
 */
static bool
redrive(QsJobs *jobs, TimestampTz run_at, pg_uuid_t *id)
{
	QsTable    *dead = &jobs->tables[QS_DEAD_LETTER_JOBS];
	QsNewJob	job = {0};
	pg_uuid_t	old;

	job.kind = qs_text_is(qs_get(dead, QS_DEAD_SOURCE_TABLE), "jobs") ?
		QS_JOBS : QS_CRITICAL_JOBS;
	/* its name, for who waits; the insert finds out whether it is there */
	(void) qs_queue_by_id(jobs->call,
						  DatumGetUUIDP(qs_get(dead, QS_DEAD_QUEUE_ID)), &job.queue);
	job.queue.id = *DatumGetUUIDP(qs_get(dead, QS_DEAD_QUEUE_ID));
	job.queue.tenant = *DatumGetUUIDP(qs_get(dead, QS_DEAD_TENANT_ID));
	job.payload = qs_get(dead, QS_DEAD_PAYLOAD);
	job.job_type = qs_get(dead, QS_DEAD_JOB_TYPE);
	job.priority = DatumGetInt16(qs_get(dead, QS_DEAD_PRIORITY));
	job.run_at = run_at;
	job.goes_first = true;
	job.max_attempts = DatumGetInt32(qs_get(dead, QS_DEAD_MAX_ATTEMPTS));
	job.headers = datum_or_null(dead, QS_DEAD_HEADERS);
	job.group_key = datum_or_null(dead, QS_DEAD_GROUP_KEY);
	job.idempotency_key = datum_or_null(dead, QS_DEAD_IDEMPOTENCY_KEY);
	job.schedule_id = datum_or_null(dead, QS_DEAD_SCHEDULE_ID);
	if (job.idempotency_key != (Datum) 0 &&
		!qs_key_is_free(jobs->call, job.kind, &job.queue.tenant,
						job.idempotency_key))
		return false;
	old = *DatumGetUUIDP(qs_get(dead, QS_DEAD_ID));
	qs_uuid7(id);
	qs_quota_restart(jobs->call, &job.queue);
	qs_job_insert(qs_jobs_table(jobs, job.kind), &job, id);
	if (job.idempotency_key != (Datum) 0)
		qs_key_follow(jobs->call, &job, &old, id);

	qs_set(dead, QS_DEAD_REDRIVEN_AT, TimestampTzGetDatum(jobs->call->now));
	qs_set(dead, QS_DEAD_REDRIVEN_AS, UUIDPGetDatum(id));
	qs_update(dead);
	return true;
}

/*
 * Sends a dead letter back, unless it was already, or a later job has its
 * idempotency key: then false.
 */
bool
qs_redrive_letter(QsJobs *jobs, const pg_uuid_t *letter, TimestampTz run_at)
{
	pg_uuid_t	id;

	return find_dead(jobs, letter) &&
		qs_is_null(&jobs->tables[QS_DEAD_LETTER_JOBS], QS_DEAD_REDRIVEN_AT) &&
		redrive(jobs, run_at, &id);
}

/* Retries the job; *id becomes that of the job that will run. */
static const char *
retry(QsJobs *jobs, pg_uuid_t *id, TimestampTz run_at)
{
	QsTable    *table = qs_jobs_find(jobs, id);
	QsQueue		queue;

	if (table == NULL)
	{
		QsTable    *dead;

		if (!find_died(jobs, id))
			unknown_job();
		dead = &jobs->tables[QS_DEAD_LETTER_JOBS];
		if (qs_is_null(dead, QS_DEAD_REDRIVEN_AS))
		{
			if (!redrive(jobs, run_at, id))
				qs_key_taken(NULL);
		}
		else
			*id = *DatumGetUUIDP(qs_get(dead, QS_DEAD_REDRIVEN_AS));
		return "retry";
	}
	if (qs_text_is(qs_get(table, QS_JOB_STATUS), "completed"))
		return "finished";
	if (!qs_is_null(table, QS_JOB_FINISHED_AT) &&
		!qs_is_null(table, QS_JOB_IDEMPOTENCY_KEY) &&
		!qs_key_is_free(jobs->call, table->kind,
						DatumGetUUIDP(qs_get(table, QS_JOB_TENANT_ID)),
						qs_get(table, QS_JOB_IDEMPOTENCY_KEY)))
		qs_key_taken(NULL);
	if (!qs_is_null(table, QS_JOB_FINISHED_AT))
	{
		qs_jobs_queue(jobs, table, &queue);
		qs_quota_restart(jobs->call, &queue);
	}
	qs_job_restart(table, run_at);
	return "retry";
}

/* SQL: queue_retry(job_id, run_at) */
Datum
queue_retry(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	pg_uuid_t	id;
	TimestampTz run_at;
	const char *outcome;

	qs_begin(&call, fcinfo, "queue_retry()", QS_ANY_TENANT);
	id = *qs_arg_uuid(fcinfo, 0, "job_id");
	run_at = PG_ARGISNULL(1) ? call.now :
		qs_arg_time(fcinfo, 1, "run_at", call.now);
	qs_jobs_begin(&jobs, &call);
	outcome = retry(&jobs, &id, run_at);
	qs_jobs_end(&jobs);
	qs_end(&call);
	return return_outcome(fcinfo, &id, outcome);
}
