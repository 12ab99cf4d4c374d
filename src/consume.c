/*
 * consume.c
 *	  The verbs of a worker on the leases it holds: complete, fail, heartbeat,
 *	  snooze, release.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "claim.h"
#include "errors.h"
#include "failures.h"
#include "groups.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "recent.h"
#include "result.h"
#include "slots.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_complete);
PG_FUNCTION_INFO_V1(queue_complete_many);
PG_FUNCTION_INFO_V1(queue_complete_and_claim);
PG_FUNCTION_INFO_V1(queue_fail);
PG_FUNCTION_INFO_V1(queue_heartbeat);
PG_FUNCTION_INFO_V1(queue_heartbeat_many);
PG_FUNCTION_INFO_V1(queue_snooze);
PG_FUNCTION_INFO_V1(queue_release);

/* Whether there is a job, and it is held under this token. */
static bool
is_leased(QsTable *table, int64 token)
{
	return table != NULL &&
		qs_text_is(qs_get(table, QS_JOB_STATUS), "processing") &&
		!qs_is_null(table, QS_JOB_LEASE_TOKEN) &&
		DatumGetInt64(qs_get(table, QS_JOB_LEASE_TOKEN)) == token;
}

static void
lease_lost(const pg_uuid_t *id, const char *hint)
{
	ereport(ERROR,
			(errcode(QS_LEASE_LOST),
			 errmsg("the lease of job %s is not held any more",
					DatumGetCString(DirectFunctionCall1(uuid_out,
														UUIDPGetDatum(id)))),
			 errhint("%s", hint)));
}

/*
 * Finds, locks and loads the job if it is held under this token. NULL, or an
 * error if strict, if the lease was lost: the job ended, was handed out anew
 * or given back, or is not there for the caller at all.
 */
static QsTable *
find_leased(QsJobs *jobs, const pg_uuid_t *id, int64 token, bool strict)
{
	QsTable    *table = qs_jobs_find(jobs, id);

	if (is_leased(table, token))
		return table;
	if (strict)
		lease_lost(id, "Another worker may have the job by now.");
	return NULL;
}

static int64
arg_token(FunctionCallInfo fcinfo, int n)
{
	qs_require(fcinfo, n, "lease_token");
	return PG_GETARG_INT64(n);
}

static Datum
return_outcome(FunctionCallInfo fcinfo, const pg_uuid_t *id, QsOutcome outcome)
{
	static TupleDesc desc = NULL;
	Datum		values[2] = {UUIDPGetDatum(id), qs_outcome_name(outcome)};
	bool		nulls[2] = {false, false};

	return qs_return_row(fcinfo, &desc, values, nulls);
}

/*
 * Almost always nobody else has the job, so it is completed without a lock if
 * it can be; whatever else is found is looked at anew under one.
 */
static QsOutcome
complete(QsJobs *jobs, const pg_uuid_t *id, int64 token, Datum result,
		 bool no_result, bool strict)
{
	QsTable    *table = qs_jobs_find_unlocked(jobs, id);
	QsQueue		queue;

	if (is_leased(table, token))
	{
		qs_jobs_queue(jobs, table, &queue);
		if (qs_job_complete_if_same(table, &queue, result, no_result))
			return QS_DONE;
	}
	table = find_leased(jobs, id, token, strict);
	if (table == NULL)
		return QS_LOST;
	qs_jobs_queue(jobs, table, &queue);
	qs_job_complete(table, &queue, result, no_result);
	return QS_DONE;
}

/* SQL: queue_complete(job_id, lease_token, result, strict) */
Datum
queue_complete(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	pg_uuid_t  *id;
	QsOutcome	outcome;

	qs_begin(&call, fcinfo, "queue_complete()", QS_ANY_TENANT);
	id = qs_arg_uuid(fcinfo, 0, "job_id");
	if (!PG_ARGISNULL(2))
		qs_check_json(PG_GETARG_DATUM(2), "result", 0);
	qs_jobs_begin(&jobs, &call);
	outcome = complete(&jobs, id, arg_token(fcinfo, 1), PG_GETARG_DATUM(2),
					   PG_ARGISNULL(2), qs_arg_bool(fcinfo, 3, "strict"));
	qs_jobs_end(&jobs);
	qs_end(&call);
	return return_outcome(fcinfo, id, outcome);
}

/* Leases given as arrays. */
typedef struct Leases
{
	int			count;
	Datum	   *ids;
	Datum	   *tokens;
	Datum	   *results;		/* NULL if there are none */
	bool	   *no_result;
} Leases;

static void
arg_leases(FunctionCallInfo fcinfo, int ids, int tokens, int results,
		   Leases *leases)
{
	leases->count = qs_arg_array(fcinfo, ids, "job_ids", UUIDOID,
								 &leases->ids, NULL);
	if (qs_arg_array(fcinfo, tokens, "lease_tokens", INT8OID,
					 &leases->tokens, NULL) != leases->count)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("job_ids and lease_tokens must be of one length")));
	leases->results = NULL;
	if (results >= 0 && !PG_ARGISNULL(results) &&
		qs_arg_array(fcinfo, results, "results", JSONBOID,
					 &leases->results, &leases->no_result) != leases->count)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("job_ids and results must be of one length")));
	for (int i = 0; leases->results && i < leases->count; i++)
		if (!leases->no_result[i])
			qs_check_json(leases->results[i], "a result", 0);
}

static QsOutcome
complete_one(QsJobs *jobs, const Leases *leases, int i, bool strict)
{
	return complete(jobs, DatumGetUUIDP(leases->ids[i]),
					DatumGetInt64(leases->tokens[i]),
					leases->results ? leases->results[i] : (Datum) 0,
					leases->results == NULL || leases->no_result[i], strict);
}

/* SQL: queue_complete_many(job_ids, lease_tokens, results, strict) */
Datum
queue_complete_many(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	Leases		leases;
	bool		strict;

	qs_begin(&call, fcinfo, "queue_complete_many()", QS_ANY_TENANT);
	arg_leases(fcinfo, 0, 1, 2, &leases);
	strict = qs_arg_bool(fcinfo, 3, "strict");
	qs_begin_rows(fcinfo);
	qs_jobs_begin(&jobs, &call);
	for (int i = 0; i < leases.count; i++)
	{
		QsOutcome	outcome = complete_one(&jobs, &leases, i, strict);
		Datum		values[2] = {leases.ids[i], qs_outcome_name(outcome)};
		bool		nulls[2] = {false, false};

		CHECK_FOR_INTERRUPTS();
		qs_put_row(fcinfo, values, nulls);
	}
	qs_jobs_end(&jobs);
	qs_end(&call);
	return (Datum) 0;
}

/* A lease that was lost, in the result of queue_complete_and_claim(). */
static void
put_refused(FunctionCallInfo fcinfo, const Leases *leases, int i)
{
	Datum		values[14] = {0};
	bool		nulls[14];

	memset(nulls, true, sizeof(nulls));
	values[0] = CStringGetTextDatum("refused");
	values[1] = leases->ids[i];
	values[2] = leases->tokens[i];
	nulls[0] = nulls[1] = nulls[2] = false;
	qs_put_row(fcinfo, values, nulls);
}

/*
 * SQL: queue_complete_and_claim(queue, job_ids, lease_tokens, results, worker,
 * max_jobs, lease, strict)
 */
Datum
queue_complete_and_claim(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	Leases		leases;
	QsClaimRequest request;
	bool		strict;

	qs_begin(&call, fcinfo, "queue_complete_and_claim()", QS_ANY_TENANT);
	arg_leases(fcinfo, 1, 2, 3, &leases);
	qs_claim_arguments(fcinfo, 0, 4, 5, 6, &request);
	strict = qs_arg_bool(fcinfo, 7, "strict");
	qs_begin_rows(fcinfo);
	qs_jobs_begin(&jobs, &call);
	for (int i = 0; i < leases.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (complete_one(&jobs, &leases, i, strict) == QS_LOST)
			put_refused(fcinfo, &leases, i);
	}
	/* what comes after that may be claimed at once */
	(void) qs_groups_settle(&jobs);
	qs_claim(&jobs, &request, fcinfo, "claimed");
	qs_jobs_end(&jobs);
	qs_end(&call);
	return (Datum) 0;
}

/* What is kept of an error, of which a worker may have sent a lot. */
static char *
clip_error(text *error)
{
	char	   *start = VARDATA_ANY(error);

	return pnstrdup(start, pg_mbcliplen(start, VARSIZE_ANY_EXHDR(error),
										QS_ERROR_BYTES));
}

/* SQL: queue_fail(job_id, lease_token, error, retry_in, dead, strict) */
Datum
queue_fail(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	QsTable    *table;
	QsOutcome	outcome = QS_LOST;
	pg_uuid_t  *id;
	int64		token;
	char	   *error;
	Interval   *retry_in;
	bool		dead;

	qs_begin(&call, fcinfo, "queue_fail()", QS_ANY_TENANT);
	id = qs_arg_uuid(fcinfo, 0, "job_id");
	token = arg_token(fcinfo, 1);
	error = PG_ARGISNULL(2) ? NULL : clip_error(PG_GETARG_TEXT_PP(2));
	retry_in = PG_ARGISNULL(3) ? NULL :
		qs_arg_interval(fcinfo, 3, "retry_in", 0, QS_YEAR);
	dead = qs_arg_bool(fcinfo, 4, "dead");
	qs_jobs_begin(&jobs, &call);
	table = find_leased(&jobs, id, token, qs_arg_bool(fcinfo, 5, "strict"));
	if (table != NULL)
	{
		QsQueue		queue;

		qs_jobs_queue(&jobs, table, &queue);
		outcome = qs_job_fail(&jobs, table, &queue, error, retry_in, dead);
	}
	qs_jobs_end(&jobs);
	qs_end(&call);
	return return_outcome(fcinfo, id, outcome);
}

static Datum
release(FunctionCallInfo fcinfo, QsCall *call, const Interval *delay, int strict)
{
	pg_uuid_t  *id = qs_arg_uuid(fcinfo, 0, "job_id");
	int64		token = arg_token(fcinfo, 1);
	QsJobs		jobs;
	QsTable    *table;
	QsOutcome	outcome = QS_LOST;

	qs_jobs_begin(&jobs, call);
	table = find_leased(&jobs, id, token, qs_arg_bool(fcinfo, strict, "strict"));
	if (table != NULL)
	{
		QsQueue		queue;

		qs_jobs_queue(&jobs, table, &queue);
		outcome = qs_job_release(table, &queue, delay);
	}
	qs_jobs_end(&jobs);
	qs_end(call);
	return return_outcome(fcinfo, id, outcome);
}

/* SQL: queue_snooze(job_id, lease_token, delay, strict) */
Datum
queue_snooze(PG_FUNCTION_ARGS)
{
	QsCall		call;

	qs_begin(&call, fcinfo, "queue_snooze()", QS_ANY_TENANT);
	return release(fcinfo, &call,
				   qs_arg_interval(fcinfo, 2, "delay", 0, QS_YEAR), 3);
}

/* SQL: queue_release(job_id, lease_token, strict) */
Datum
queue_release(PG_FUNCTION_ARGS)
{
	QsCall		call;

	qs_begin(&call, fcinfo, "queue_release()", QS_ANY_TENANT);
	return release(fcinfo, &call, NULL, 2);
}

#define HEARTBEAT_COLUMNS 4

/*
 * Makes the locked lease last until extend (NULL: the queue's default_lease)
 * from now on. False if it expired, and other jobs have all slots of the queue.
 */
static bool
prolong(QsJobs *jobs, QsTable *table, int64 token, const Interval *extend)
{
	TimestampTz before = DatumGetTimestampTz(qs_get(table, QS_JOB_LEASED_UNTIL));
	QsHolder	lease = {.token = token, .critical = table->kind == QS_CRITICAL_JOBS};
	QsQueue		queue;
	QsSlots		slots;

	qs_jobs_queue(jobs, table, &queue);
	qs_slots_begin(&slots, jobs->call, &queue);
	lease.until = qs_add_interval(jobs->call->now,
								  extend ? extend : &queue.default_lease);
	/* A lease may only move later. */
	lease.until = Max(lease.until, before);
	if (!qs_slots_extend(&slots, &lease, before))
		return false;
	qs_set(table, QS_JOB_LEASED_UNTIL, TimestampTzGetDatum(lease.until));
	qs_update(table);
	qs_recent_note(table);
	return true;
}

/*
 * Extends one lease, and fills a row: job_id, held, cancel_requested,
 * leased_until. extend NULL means the queue's default_lease.
 */
static void
heartbeat(QsJobs *jobs, const pg_uuid_t *id, int64 token,
		  const Interval *extend, bool strict, Datum *values, bool *nulls)
{
	QsTable    *table = find_leased(jobs, id, token, strict);
	bool		held = table != NULL && prolong(jobs, table, token, extend);

	if (table != NULL && !held && strict)
		lease_lost(id, "It had expired, and other jobs have all slots of the queue by now.");
	values[0] = UUIDPGetDatum(id);
	values[1] = BoolGetDatum(held);
	nulls[0] = nulls[1] = false;
	nulls[2] = nulls[3] = !held;
	if (!held)
		return;
	values[2] = qs_get(table, QS_JOB_CANCEL_REQUESTED);
	values[3] = qs_get(table, QS_JOB_LEASED_UNTIL);
}

static Interval *
arg_extend(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL :
		qs_arg_interval(fcinfo, n, "extend", 1, QS_YEAR);
}

/* SQL: queue_heartbeat(job_id, lease_token, extend, strict) */
Datum
queue_heartbeat(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	QsJobs		jobs;
	Datum		values[HEARTBEAT_COLUMNS] = {0};
	bool		nulls[HEARTBEAT_COLUMNS];

	qs_begin(&call, fcinfo, "queue_heartbeat()", QS_ANY_TENANT);
	qs_jobs_begin(&jobs, &call);
	heartbeat(&jobs, qs_arg_uuid(fcinfo, 0, "job_id"), arg_token(fcinfo, 1),
			  arg_extend(fcinfo, 2), qs_arg_bool(fcinfo, 3, "strict"),
			  values, nulls);
	qs_jobs_end(&jobs);
	qs_end(&call);
	return qs_return_row(fcinfo, &desc, values, nulls);
}

/* SQL: queue_heartbeat_many(job_ids, lease_tokens, extend, strict) */
Datum
queue_heartbeat_many(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsJobs		jobs;
	Leases		leases;
	Interval   *extend;
	bool		strict;

	qs_begin(&call, fcinfo, "queue_heartbeat_many()", QS_ANY_TENANT);
	arg_leases(fcinfo, 0, 1, -1, &leases);
	extend = arg_extend(fcinfo, 2);
	strict = qs_arg_bool(fcinfo, 3, "strict");
	qs_begin_rows(fcinfo);
	qs_jobs_begin(&jobs, &call);
	for (int i = 0; i < leases.count; i++)
	{
		Datum		values[HEARTBEAT_COLUMNS] = {0};
		bool		nulls[HEARTBEAT_COLUMNS];

		CHECK_FOR_INTERRUPTS();
		heartbeat(&jobs, DatumGetUUIDP(leases.ids[i]),
				  DatumGetInt64(leases.tokens[i]), extend, strict,
				  values, nulls);
		qs_put_row(fcinfo, values, nulls);
	}
	qs_jobs_end(&jobs);
	qs_end(&call);
	return (Datum) 0;
}
