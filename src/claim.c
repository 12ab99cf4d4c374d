/*
 * claim.c
 *	  Claims jobs: see claim.h.
 *
 * A queue's critical jobs come before all others; ageing orders each of the two
 * within itself. A caller that serves all tenants has them in turn (fair.h).
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "claim.h"
#include "claim_only.h"
#include "claim_tokens.h"
#include "fair.h"
#include "fault.h"
#include "miscadmin.h"
#include "ready_direct.h"
#include "result.h"
#include "slots.h"
#include "token.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/*
 * Jobs whose lease expired for good that one claim puts away on its way. It
 * passes the others over, to find what is claimable behind them.
 */
#define MAX_BURIED 100

/* When a queue without slots or tokens is looked at again, at the latest. */
#define LIMITED_AGAIN USECS_PER_SEC

PG_FUNCTION_INFO_V1(queue_claim);

/* What the arguments with these numbers (from 0) ask for. */
void
qs_claim_arguments(FunctionCallInfo fcinfo, int queue, int worker,
				   int max_jobs, int lease, QsClaimRequest *request)
{
	request->queue = qs_arg_text(fcinfo, queue, "queue", QS_NAME_BYTES);
	if (PG_ARGISNULL(worker))
		request->worker = application_name && application_name[0] != '\0' ?
			CStringGetTextDatum(application_name) :
			CStringGetTextDatum(psprintf("process %d", MyProcPid));
	else
		request->worker = CStringGetTextDatum(qs_arg_text(fcinfo, worker, "worker",
														  QS_WORKER_BYTES));
	request->max_jobs = qs_arg_int(fcinfo, max_jobs, "max_jobs", 1, QS_MAX_BATCH);
	request->lease = PG_ARGISNULL(lease) ? NULL :
		qs_arg_interval(fcinfo, lease, "lease", 1, QS_YEAR);
}

/* Puts the loaded job, just leased, into the result. */
static void
put_job(QsTable *table, const QsQueue *queue, FunctionCallInfo fcinfo,
		const char *kind)
{
	static const int columns[] = {
		QS_JOB_ID, QS_JOB_LEASE_TOKEN, QS_JOB_TENANT_ID, 0, QS_JOB_JOB_TYPE,
		QS_JOB_PAYLOAD, QS_JOB_HEADERS, QS_JOB_ATTEMPTS, QS_JOB_MAX_ATTEMPTS,
		QS_JOB_PRIORITY, 0, QS_JOB_ENQUEUED_AT, QS_JOB_LEASED_UNTIL
	};
	Datum		values[lengthof(columns) + 1];
	bool		nulls[lengthof(columns) + 1];
	int			n = 0;

	if (kind != NULL)
	{
		values[n] = CStringGetTextDatum(kind);
		nulls[n++] = false;
	}
	for (int i = 0; i < (int) lengthof(columns); i++, n++)
	{
		nulls[n] = false;
		if (i == 3)
			values[n] = CStringGetTextDatum(queue->name);
		else if (i == 10)
			values[n] = BoolGetDatum(table->kind == QS_CRITICAL_JOBS);
		else
		{
			values[n] = qs_get(table, columns[i]);
			nulls[n] = qs_is_null(table, columns[i]);
		}
	}
	qs_put_row(fcinfo, values, nulls);
}

/* A limit keeps the queue's jobs back until then, at most. */
static void
note_limit(QsOutlook *outlook, TimestampTz now, int64 wait)
{
	outlook->due = Min(outlook->due, now + Min(wait, LIMITED_AGAIN));
}

/* A lease that is to begin, with a slot; false if the queue has none left. */
static bool
begin_lease(QsSlots *slots, bool may_wait, QsHolder *lease)
{
	lease->token = qs_random_token();
	return qs_slots_take(slots, lease, may_wait);
}

/* The queue has none left. What frees one is announced, unless it is quiet. */
static void
note_no_slot(QsOutlook *outlook, const QsSlots *slots, TimestampTz now)
{
	note_limit(outlook, now, LIMITED_AGAIN);
	outlook->certain &= !slots->quiet;
}

/*
 * Claims up to max_jobs jobs of a queue from one table; returns how many. If
 * they are fewer, the outlook has when there may be more.
 */
static int
claim_from(QsJobs *jobs, QsTableKind kind, const QsQueue *queue,
		   QsSlots *slots, QsTokens *tokens, int max_jobs,
		   const QsClaimRequest *request, FunctionCallInfo fcinfo,
		   const char *result_kind, QsOutlook *outlook)
{
	TimestampTz idle_until = qs_direct_idle_until(jobs->call, kind, &queue->id);
	QsTable    *table;
	QsHolder	lease = {
		.until = qs_add_interval(jobs->call->now,
								 request->lease ? request->lease :
								 &queue->default_lease),
		.critical = kind == QS_CRITICAL_JOBS
	};
	QsDirectScan ready;
	int			claimed = 0;
	int			buried = 0;
	bool		has_slot;

	if (jobs->call->now < idle_until)
	{
		outlook->due = Min(outlook->due, idle_until);
		return 0;
	}
	has_slot = begin_lease(slots, true, &lease);
	if (!has_slot)
	{
		note_no_slot(outlook, slots, jobs->call->now);
		return 0;
	}
	table = qs_jobs_table(jobs, kind);
	qs_direct_begin(&ready, table, &queue->id, queue->ageing);
	while (has_slot && qs_direct_next(&ready))
	{
		if (qs_text_is(qs_get(table, QS_JOB_STATUS), "processing"))
		{
			if (buried == MAX_BURIED && qs_job_is_over(table))
				continue;
			if (!qs_job_expire(jobs, table, queue))
			{
				buried++;
				continue;
			}
		}
		if (!qs_tokens_any(tokens))
			break;
		if (!qs_job_lease(table, request->worker, lease.token, lease.until))
			continue;
		qs_tokens_use(tokens);
		put_job(table, queue, fcinfo, result_kind);
		has_slot = ++claimed < max_jobs && begin_lease(slots, false, &lease);
	}
	qs_direct_end(&ready);
	if (has_slot)
	{
		qs_slots_give_back(slots, &lease);
		outlook->due = Min(outlook->due, ready.jump.until);
		outlook->certain &= ready.idle || qs_tokens_spent(tokens);
	}
	else
		note_no_slot(outlook, slots, jobs->call->now);
	return claimed;
}

/* The same, from both tables. */
static int
claim_queue(QsJobs *jobs, const QsQueue *queue, int max_jobs,
			const QsClaimRequest *request, FunctionCallInfo fcinfo,
			const char *result_kind, QsOutlook *outlook)
{
	int64		token_wait = qs_tokens_wait(jobs->call, queue);
	QsSlots		slots;
	QsTokens	tokens;
	int			claimed;

	if (token_wait > 0)
		note_limit(outlook, jobs->call->now, token_wait);
	if (queue->paused || token_wait > 0)
		return 0;
	qs_slots_begin(&slots, jobs->call, queue);
	qs_tokens_begin(&tokens, jobs->call, queue, max_jobs);
	claimed = claim_from(jobs, QS_CRITICAL_JOBS, queue, &slots, &tokens,
						 max_jobs, request, fcinfo, result_kind, outlook);
	if (claimed < max_jobs && !qs_tokens_spent(&tokens))
		claimed += claim_from(jobs, QS_JOBS, queue, &slots, &tokens,
							  max_jobs - claimed, request, fcinfo, result_kind,
							  outlook);
	if (qs_tokens_spent(&tokens))
		note_limit(outlook, jobs->call->now,
				   qs_tokens_wait(jobs->call, queue));
	qs_tokens_end(&tokens);
	return claimed;
}

/* Claims for all tenants, who take turns. */
static void
claim_all_tenants(QsJobs *jobs, const QsClaimRequest *request,
				  FunctionCallInfo fcinfo, const char *result_kind)
{
	int			wanted = request->max_jobs;
	QsFair		fair;

	qs_fair_begin(&fair, jobs->call, request->queue);
	while (wanted > 0)
	{
		QsOutlook	outlook = {PG_INT64_MAX, true};
		QsQueue		queue;
		int			max_jobs = qs_fair_next(&fair, wanted, &queue);
		int			claimed;

		if (max_jobs == 0)
			break;
		claimed = claim_queue(jobs, &queue, max_jobs, request, fcinfo,
							  result_kind, &outlook);
		qs_fair_claimed(&fair, claimed, &outlook);
		wanted -= claimed;
	}
}

/*
 * Claims what is asked for and puts it into the function's result, with kind
 * as the first column unless that is NULL. From here on the call waits for
 * nobody.
 */
void
qs_claim(QsJobs *jobs, const QsClaimRequest *request, FunctionCallInfo fcinfo,
		 const char *kind)
{
	jobs->impatient = true;
	if (jobs->call->has_tenant)
	{
		QsOutlook	outlook = {PG_INT64_MAX, true};
		QsQueue		queue;

		qs_queue_by_name(jobs->call, request->queue, &queue);
		(void) claim_queue(jobs, &queue, request->max_jobs, request, fcinfo,
						   kind, &outlook);
	}
	else
		claim_all_tenants(jobs, request, fcinfo, kind);
	if (qs_cache_exists())
		qs_cache_count_claim(jobs->call->visited);
}

/* SQL: queue_claim(queue, worker, max_jobs, lease) */
Datum
queue_claim(PG_FUNCTION_ARGS)
{
	QsClaimRequest request;
	QsCall		call;
	QsJobs		jobs;

	qs_claim_only_begin();
	qs_begin(&call, fcinfo, "queue_claim()", QS_ANY_TENANT);
	qs_claim_arguments(fcinfo, 0, 1, 2, 3, &request);
	qs_begin_rows(fcinfo);
	qs_jobs_begin(&jobs, &call);
	qs_claim(&jobs, &request, fcinfo, NULL);
	qs_jobs_end(&jobs);
	QS_FAULT_POINT("claimed");
	qs_end(&call);
	qs_claim_only_end(qs_runs_user_code(&jobs));
	return (Datum) 0;
}
