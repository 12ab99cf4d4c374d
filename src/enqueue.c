/*
 * enqueue.c
 *	  The verbs of a producer: see enqueue.h.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "enqueue.h"
#include "errors.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "quota.h"
#include "result.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "uuid7.h"
#include "waiters.h"

#define CRITICAL_MAX_ATTEMPTS 5

PG_FUNCTION_INFO_V1(queue_enqueue);
PG_FUNCTION_INFO_V1(queue_enqueue_critical);
PG_FUNCTION_INFO_V1(queue_enqueue_many);

/* This transaction has enqueued a critical job. */
static bool durable = false;

/*
 * An acknowledged critical job is as durable as the server can make it. Not by
 * ForceSyncCommit(), which would not wait for a standby; and not when it is
 * enqueued, as a function may have a synchronous_commit of its own until it ends.
 */
static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT && durable &&
		synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		(void) set_config_option("synchronous_commit", "on",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);
	durable = false;
}

/* Registers the callback; once a session. */
void
qs_enqueue_init(void)
{
	RegisterXactCallback(at_end, NULL);
}

static void
set_or_null(QsTable *table, int column, Datum value)
{
	if (value == (Datum) 0)
		qs_set_null(table, column);
	else
		qs_set(table, column, value);
}

/* The columns that the producer decides. */
static void
set_wish(QsTable *table, const QsNewJob *job)
{
	qs_set(table, QS_JOB_RUN_AT, TimestampTzGetDatum(job->run_at));
	qs_set(table, QS_JOB_MAX_ATTEMPTS, Int32GetDatum(job->max_attempts));
	qs_set(table, QS_JOB_PRIORITY, Int16GetDatum(job->priority));
	qs_set(table, QS_JOB_JOB_TYPE, job->job_type);
	qs_set(table, QS_JOB_PAYLOAD, job->payload);
	set_or_null(table, QS_JOB_HEADERS, job->headers);
	set_or_null(table, QS_JOB_GROUP_KEY, job->group_key);
}

/* Inserts a new job under this id. */
void
qs_job_insert(QsTable *table, const QsNewJob *job, const pg_uuid_t *id)
{
	qs_new_row(table);
	qs_set(table, QS_JOB_ID, UUIDPGetDatum(id));
	qs_set(table, QS_JOB_TENANT_ID, UUIDPGetDatum(&job->queue.tenant));
	qs_set(table, QS_JOB_QUEUE_ID, UUIDPGetDatum(&job->queue.id));
	qs_set(table, QS_JOB_ENQUEUED_AT, TimestampTzGetDatum(table->call->now));
	qs_set(table, QS_JOB_ATTEMPTS, Int32GetDatum(0));
	qs_set(table, QS_JOB_HELD, BoolGetDatum(false));
	qs_set(table, QS_JOB_CANCEL_REQUESTED, BoolGetDatum(false));
	qs_set(table, QS_JOB_STATUS, CStringGetTextDatum("pending"));
	set_or_null(table, QS_JOB_IDEMPOTENCY_KEY, job->idempotency_key);
	set_or_null(table, QS_JOB_SCHEDULE_ID, job->schedule_id);
	set_wish(table, job);
	table->goes_first = job->goes_first;
	qs_insert(table);
	qs_note_name(&job->queue.id, job->queue.name);
}

/*
 * Makes the loaded job, which waits, what is wished for now. What it replaces
 * may have been tried before: that does not count for it.
 */
void
qs_job_replace(QsTable *table, const QsNewJob *job)
{
	set_wish(table, job);
	qs_set(table, QS_JOB_ATTEMPTS, Int32GetDatum(0));
	qs_set_null(table, QS_JOB_LAST_ERROR);
	qs_set_null(table, QS_JOB_ERRORS);
	qs_update(table);
}

static Datum
arg_json(FunctionCallInfo fcinfo, int n, const char *name, const QsQueue *queue)
{
	qs_require(fcinfo, n, name);
	qs_check_json(PG_GETARG_DATUM(n), name, queue->max_payload);
	return PG_GETARG_DATUM(n);
}

static Datum
arg_text(FunctionCallInfo fcinfo, int n, const char *name, int max_bytes)
{
	return CStringGetTextDatum(qs_arg_text(fcinfo, n, name, max_bytes));
}

/* Numbers of the arguments that all producers' verbs have. */
typedef struct JobArguments
{
	int			job_type;
	int			priority;
	int			run_at;
	int			max_attempts;
	int			group_key;
	int			headers;
} JobArguments;

/* Fills what the arguments say; the queue is argument 0. */
static void
take_job(FunctionCallInfo fcinfo, QsCall *call, const JobArguments *n,
		 QsTableKind kind, QsNewJob *job)
{
	memset(job, 0, sizeof(*job));
	job->kind = kind;
	qs_queue_by_name(call, qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES),
					 &job->queue);
	job->job_type = arg_text(fcinfo, n->job_type, "job_type", QS_JOB_TYPE_BYTES);
	job->priority = qs_arg_int(fcinfo, n->priority, "priority",
							   PG_INT16_MIN, PG_INT16_MAX);
	job->run_at = PG_ARGISNULL(n->run_at) ? call->now :
		qs_arg_time(fcinfo, n->run_at, "run_at", call->now);
	if (!PG_ARGISNULL(n->max_attempts))
		job->max_attempts = qs_arg_int(fcinfo, n->max_attempts, "max_attempts",
									   1, QS_MAX_ATTEMPTS);
	else
		job->max_attempts = kind == QS_CRITICAL_JOBS ? CRITICAL_MAX_ATTEMPTS :
			job->queue.max_attempts;
	if (!PG_ARGISNULL(n->group_key))
		job->group_key = arg_text(fcinfo, n->group_key, "group_key", QS_KEY_BYTES);
	if (!PG_ARGISNULL(n->headers))
		job->headers = arg_json(fcinfo, n->headers, "headers", &job->queue);
}

/* The key's lifetime and conflict option; longest_wait is -1 if there is none. */
static void
take_key(FunctionCallInfo fcinfo, int ttl, int on_conflict, int longest_wait,
		 QsKey *key)
{
	static const char *const names[] = {"return", "reject", "replace", "debounce"};
	int			count = longest_wait >= 0 ? 4 : 3;
	char	   *name = qs_arg_text(fcinfo, on_conflict, "on_conflict", 32);
	int			i;

	key->ttl = PG_ARGISNULL(ttl) ? NULL :
		qs_arg_interval(fcinfo, ttl, "idempotency_ttl", 1, 10 * QS_YEAR);
	for (i = 0; i < count && strcmp(name, names[i]) != 0; i++)
		;
	if (i == count)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg(longest_wait >= 0 ?
						"on_conflict must be return, reject, replace or debounce" :
						"on_conflict must be return, reject or replace")));
	key->on_conflict = (QsConflict) i;
	key->longest_wait = longest_wait < 0 || PG_ARGISNULL(longest_wait) ? NULL :
		qs_arg_interval(fcinfo, longest_wait, "longest_wait", 0, QS_YEAR);
}

static Datum
return_job(FunctionCallInfo fcinfo, const pg_uuid_t *id, bool created)
{
	static TupleDesc desc = NULL;
	Datum		values[2] = {UUIDPGetDatum(id), BoolGetDatum(created)};
	bool		nulls[2] = {false, false};

	return qs_return_row(fcinfo, &desc, values, nulls);
}

/*
 * SQL: queue_enqueue(queue, payload, job_type, priority, run_at, max_attempts,
 * idempotency_key, idempotency_ttl, on_conflict, group_key, headers,
 * longest_wait)
 */
Datum
queue_enqueue(PG_FUNCTION_ARGS)
{
	static const JobArguments arguments = {2, 3, 4, 5, 9, 10};
	QsCall		call;
	QsNewJob	job;
	QsKey		key;
	pg_uuid_t	id;
	bool		created = true;

	qs_begin(&call, fcinfo, "queue_enqueue()", QS_ONE_TENANT);
	take_job(fcinfo, &call, &arguments, QS_JOBS, &job);
	job.payload = arg_json(fcinfo, 1, "payload", &job.queue);
	take_key(fcinfo, 7, 8, 11, &key);
	if (!PG_ARGISNULL(6))
	{
		job.idempotency_key = arg_text(fcinfo, 6, "idempotency_key", QS_KEY_BYTES);
		created = qs_enqueue_once(&call, &job, &key, &id);
	}
	else
	{
		QsJobs		jobs;

		qs_uuid7(&id);
		qs_quota_enqueue(&call, &job.queue, 1);
		qs_jobs_begin(&jobs, &call);
		qs_job_insert(qs_jobs_table(&jobs, QS_JOBS), &job, &id);
		qs_jobs_end(&jobs);
	}
	qs_end(&call);
	return return_job(fcinfo, &id, created);
}

/*
 * SQL: queue_enqueue_critical(queue, payload, idempotency_key, job_type,
 * priority, run_at, max_attempts, idempotency_ttl, on_conflict, group_key,
 * headers)
 */
Datum
queue_enqueue_critical(PG_FUNCTION_ARGS)
{
	static const JobArguments arguments = {3, 4, 5, 6, 9, 10};
	QsCall		call;
	QsNewJob	job;
	QsKey		key;
	pg_uuid_t	id;
	bool		created;

	qs_begin(&call, fcinfo, "queue_enqueue_critical()", QS_ONE_TENANT);
	take_job(fcinfo, &call, &arguments, QS_CRITICAL_JOBS, &job);
	job.payload = arg_json(fcinfo, 1, "payload", &job.queue);
	job.idempotency_key = arg_text(fcinfo, 2, "idempotency_key", QS_KEY_BYTES);
	take_key(fcinfo, 7, 8, -1, &key);
	created = qs_enqueue_once(&call, &job, &key, &id);
	qs_end(&call);
	durable = true;
	return return_job(fcinfo, &id, created);
}

/*
 * SQL: queue_enqueue_many(queue, payloads, job_type, priority, run_at,
 * max_attempts, group_key, headers)
 */
Datum
queue_enqueue_many(PG_FUNCTION_ARGS)
{
	static const JobArguments arguments = {2, 3, 4, 5, 6, 7};
	QsCall		call;
	QsJobs		jobs;
	QsNewJob	job;
	Datum	   *payloads;
	int			count;

	qs_begin(&call, fcinfo, "queue_enqueue_many()", QS_ONE_TENANT);
	take_job(fcinfo, &call, &arguments, QS_JOBS, &job);
	count = qs_arg_array(fcinfo, 1, "payloads", JSONBOID, &payloads, NULL);
	for (int i = 0; i < count; i++)
		qs_check_json(payloads[i], "a payload", job.queue.max_payload);
	qs_begin_rows(fcinfo);
	if (count > 0)
		qs_quota_enqueue(&call, &job.queue, count);
	qs_jobs_begin(&jobs, &call);
	for (int i = 0; i < count; i++)
	{
		pg_uuid_t	id;
		Datum		value;
		bool		isnull = false;

		CHECK_FOR_INTERRUPTS();
		qs_uuid7(&id);
		value = UUIDPGetDatum(&id);
		job.payload = payloads[i];
		qs_job_insert(qs_jobs_table(&jobs, QS_JOBS), &job, &id);
		qs_put_row(fcinfo, &value, &isnull);
	}
	qs_jobs_end(&jobs);
	qs_end(&call);
	return (Datum) 0;
}
