/*
 * repair.c
 *	  The verbs for jobs that went wrong: cancel, retry, redrive; and the purge
 *	  of a tenant.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "quota.h"
#include "result.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#define PATTERN_BYTES 10000

PG_FUNCTION_INFO_V1(queue_cancel);
PG_FUNCTION_INFO_V1(queue_retry);
PG_FUNCTION_INFO_V1(queue_redrive);
PG_FUNCTION_INFO_V1(queue_tenant_purge);

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

static QsStatement select_dead = {
	.sql = "SELECT id FROM @dead_letter_jobs"
	" WHERE tenant_id = $1 AND queue_id = $2 AND redriven_at IS NULL"
	" AND reason <> 'cancelled' AND ($3 IS NULL OR last_error LIKE $3)"
	" AND ($4 IS NULL OR died_at >= $4) AND ($5 IS NULL OR died_at < $5)"
	" ORDER BY died_at, id",
	.nargs = 5, .argtypes = {UUIDOID, UUIDOID, TEXTOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID}
};

/* The ids of up to limit (0: all) dead letters, copied out of SPI's memory. */
static uint64
find_dead_letters(QsCall *call, Datum *args, const char *nulls, long limit,
				  pg_uuid_t **ids)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64		count;

	qs_connect();
	count = qs_execute(&select_dead, call, SPI_OK_SELECT, args, nulls, limit);
	*ids = MemoryContextAllocHuge(caller, (count + 1) * sizeof(pg_uuid_t));
	for (uint64 i = 0; i < count; i++)
	{
		bool		isnull;

		(*ids)[i] = *DatumGetUUIDP(qs_result((int) i, 1, &isnull));
	}
	SPI_finish();
	return count;
}

/* Refuses a LIKE pattern that is huge, or ends in the middle of an escape. */
static void
check_pattern(text *pattern)
{
	const char *c = VARDATA_ANY(pattern);
	const char *end = c + VARSIZE_ANY_EXHDR(pattern);

	if (end - c > PATTERN_BYTES)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("error_like must be at most %d bytes long", PATTERN_BYTES)));
	for (; c < end; c++)
		if (*c == '\\' && ++c == end)
			ereport(ERROR,
					(errcode(QS_ARGUMENT_INVALID),
					 errmsg("error_like must not end with an escape character")));
}

/*
 * SQL: queue_redrive(queue, max_jobs, error_like, died_after, died_before,
 * per_second)
 */
Datum
queue_redrive(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	QsQueue		queue;
	Datum		args[5];
	char		nulls[6] = "     ";
	int			limit;
	double		per_second = 0;
	pg_uuid_t  *ids;
	uint64		count;
	int64		redriven = 0;

	qs_begin(&call, fcinfo, "queue_redrive()", QS_ONE_TENANT);
	qs_queue_by_name(&call, qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES), &queue);
	limit = PG_ARGISNULL(1) ? 0 :
		qs_arg_int(fcinfo, 1, "max_jobs", 1, PG_INT32_MAX);
	if (!PG_ARGISNULL(2))
		check_pattern(PG_GETARG_TEXT_PP(2));
	args[0] = UUIDPGetDatum(&call.tenant);
	args[1] = UUIDPGetDatum(&queue.id);
	for (int i = 2; i < 5; i++)
	{
		args[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (!PG_ARGISNULL(5))
	{
		per_second = PG_GETARG_FLOAT8(5);
		if (!(per_second >= 0.001 && per_second <= 1e6))
			ereport(ERROR,
					(errcode(QS_ARGUMENT_INVALID),
					 errmsg("per_second must be between 0.001 and 1000000")));
	}

	count = find_dead_letters(&call, args, nulls, limit, &ids);
	qs_renew_snapshot();
	qs_jobs_begin(&jobs, &call);
	for (uint64 i = 0; i < count; i++)
	{
		TimestampTz run_at = call.now;
		pg_uuid_t	id;

		CHECK_FOR_INTERRUPTS();
		if (!find_dead(&jobs, &ids[i]) ||
			!qs_is_null(&jobs.tables[QS_DEAD_LETTER_JOBS], QS_DEAD_REDRIVEN_AS))
			continue;
		if (per_second > 0)
			run_at += (TimestampTz) (redriven / per_second * USECS_PER_SEC);
		if (redrive(&jobs, run_at, &id))
			redriven++;
	}
	qs_jobs_end(&jobs);
	qs_end(&call);
	PG_RETURN_INT64(redriven);
}

/* In the order in which keys allow it; tenant_id comes first in an index of each. */
#define PURGE(table, key) \
	{ \
		.sql = "DELETE FROM @" table " WHERE " key " = ANY (ARRAY(" \
		"SELECT " key " FROM @" table " WHERE tenant_id = $1 LIMIT $2))", \
		.nargs = 2, .argtypes = {UUIDOID, INT8OID} \
	}

static QsStatement tenant_purges[] = {
	PURGE("jobs", "id"),
	PURGE("critical_jobs", "id"),
	PURGE("dead_letter_jobs", "id"),
	PURGE("idempotency_keys", "id"),
	PURGE("schedules", "id"),
	PURGE("queue_metrics", "id"),
	PURGE("alert_history", "id"),
	PURGE("rate_limits", "id"),
	PURGE("rate_limiters", "service_name"),
	PURGE("queues", "id")
};

/* SQL: queue_tenant_purge(tenant, max_rows) */
Datum
queue_tenant_purge(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	Datum		args[2];
	int64		max_rows;
	int64		deleted = 0;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	qs_begin(&call, fcinfo, "queue_tenant_purge()", QS_ANY_TENANT);
	if (!qs_is_platform(call.cat, call.caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only the platform purges a tenant")));
	args[0] = UUIDPGetDatum(qs_arg_uuid(fcinfo, 0, "tenant"));
	max_rows = qs_arg_int(fcinfo, 1, "max_rows", 1, PG_INT32_MAX);
	qs_connect();
	for (int i = 0; i < (int) lengthof(tenant_purges) && deleted < max_rows; i++)
	{
		args[1] = Int64GetDatum(max_rows - deleted);
		deleted += qs_execute(&tenant_purges[i], &call, SPI_OK_DELETE, args,
							  NULL, 0);
	}
	SPI_finish();
	qs_end(&call);

	values[0] = Int64GetDatum(deleted);
	values[1] = BoolGetDatum(deleted < max_rows);
	return qs_return_row(fcinfo, &desc, values, nulls);
}
