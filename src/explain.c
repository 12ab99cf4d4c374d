/*
 * explain.c
 *	  queue_explain(): why a job does not run.
 *
 * The reasons are looked for in the order in which they keep a claim from the
 * job: it has ended, it is leased, its queue is paused, its group holds it, it
 * is not due, there is no slot, there is no token, others come first. If there
 * is none, the next claim takes it; so the last one is that nobody claims.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "claim_tokens.h"
#include "errors.h"
#include "group_look.h"
#include "queue.h"
#include "result.h"
#include "slots.h"
#include "statement.h"
#include "stats_table.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_explain);

/* So many jobs that come first are counted. */
#define MAX_AHEAD 10000

/* For how long nobody has claimed before that is a reason. */
#define QUIET USECS_PER_MINUTE

#define LIVE_JOB(table, kind) \
	"SELECT " kind ", queue_id, tenant_id, status, finish_reason, finished_at," \
	" leased_by, leased_until, run_at, priority, attempts, max_attempts, held," \
	" group_key, NULL::uuid AS redriven_as FROM @" table \
	" WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)"

static QsStatement select_job = {
	.sql = LIVE_JOB("jobs", "0") " UNION ALL " LIVE_JOB("critical_jobs", "1")
	" UNION ALL SELECT 2, queue_id, tenant_id, 'dead', reason, died_at,"
	" leased_by, leased_until, run_at, priority, attempts, max_attempts, false,"
	" group_key, redriven_as FROM @dead_letter_jobs"
	" WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)",
	.nargs = 2, .argtypes = {UUIDOID, UUIDOID}
};

/* the columns of select_job */
enum
{
	COLUMN_KIND = 1,
	COLUMN_QUEUE_ID,
	COLUMN_TENANT_ID,
	COLUMN_STATUS,
	COLUMN_FINISH_REASON,
	COLUMN_FINISHED_AT,
	COLUMN_LEASED_BY,
	COLUMN_LEASED_UNTIL,
	COLUMN_RUN_AT,
	COLUMN_PRIORITY,
	COLUMN_ATTEMPTS,
	COLUMN_MAX_ATTEMPTS,
	COLUMN_HELD,
	COLUMN_GROUP_KEY,
	COLUMN_REDRIVEN_AS,
	NCOLUMNS = COLUMN_REDRIVEN_AS
};

#define CLAIMABLE(table) \
	"FROM @" table " WHERE queue_id = $1 AND finished_at IS NULL AND NOT held" \
	" AND run_at <= $2 AND (status = 'pending' OR leased_until <= $2)"

static QsStatement count_critical = {
	.sql = "SELECT count(*) FROM (SELECT " CLAIMABLE("critical_jobs")
	" LIMIT $3) c",
	.nargs = 3, .argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID}
};

/* Those before ($4, $5, $6) in the order of claims, each by its own range. */
#define AHEAD(table) \
	"SELECT count(*) FROM (" \
	"(SELECT " CLAIMABLE(table) " AND priority > $4 LIMIT $3)" \
	" UNION ALL (SELECT " CLAIMABLE(table) \
	" AND priority = $4 AND (run_at, id) < ($5, $6) LIMIT $3)) a"
#define AHEAD_TYPES \
	{UUIDOID, TIMESTAMPTZOID, INT8OID, INT2OID, TIMESTAMPTZOID, UUIDOID, INT8OID}

static QsStatement count_ahead[] = {
	{.sql = AHEAD("jobs"), .nargs = 6, .argtypes = AHEAD_TYPES},
	{.sql = AHEAD("critical_jobs"), .nargs = 6, .argtypes = AHEAD_TYPES}
};

/* With ageing: those whose effective time is earlier, of each level in use. */
#define READY "queue_id = $1 AND finished_at IS NULL AND NOT held"
#define AHEAD_AGEING(table) \
	"WITH RECURSIVE level (p) AS (" \
	"(SELECT priority FROM @" table " WHERE " READY \
	" ORDER BY priority DESC LIMIT 1)" \
	" UNION ALL SELECT (SELECT priority FROM @" table " WHERE " READY \
	" AND priority < level.p ORDER BY priority DESC LIMIT 1)" \
	" FROM level WHERE level.p IS NOT NULL)" \
	" SELECT count(*) FROM (SELECT FROM level, LATERAL (SELECT " CLAIMABLE(table) \
	" AND priority = level.p AND (run_at, id) <" \
	" ($5 + (level.p - $4) * $7 * interval '1 microsecond', $6) LIMIT $3) l" \
	" LIMIT $3) a"

static QsStatement count_ahead_ageing[] = {
	{.sql = AHEAD_AGEING("jobs"), .nargs = 7, .argtypes = AHEAD_TYPES},
	{.sql = AHEAD_AGEING("critical_jobs"), .nargs = 7, .argtypes = AHEAD_TYPES}
};

static QsStatement select_head = {
	.sql = "SELECT id FROM (SELECT id, priority, run_at, 0 AS kind FROM @jobs"
	" WHERE tenant_id = $1 AND NOT held AND queue_id = $2 AND group_key = $3"
	" AND finished_at IS NULL"
	" UNION ALL SELECT id, priority, run_at, 1 FROM @critical_jobs"
	" WHERE tenant_id = $1 AND NOT held AND queue_id = $2 AND group_key = $3"
	" AND finished_at IS NULL) j ORDER BY kind DESC, priority DESC, run_at, id",
	.nargs = 3, .argtypes = {UUIDOID, UUIDOID, TEXTOID}
};

typedef struct Explained
{
	FunctionCallInfo fcinfo;
	QsCall	   *call;
	pg_uuid_t  *id;
	Datum		value[NCOLUMNS + 1];
	bool		null[NCOLUMNS + 1];
	QsQueue		queue;
	int			reasons;
} Explained;

/* Adds a reason; until is 0 if nothing is known of that. */
static void
add(Explained *job, const char *reason, const char *detail, TimestampTz until)
{
	Datum		values[3] = {
		CStringGetTextDatum(reason), CStringGetTextDatum(detail),
		TimestampTzGetDatum(until)
	};
	bool		nulls[3] = {false, false, until == 0};

	qs_put_row(job->fcinfo, values, nulls);
	job->reasons++;
}

static TimestampTz
time_of(const Explained *job, int column)
{
	return job->null[column] ? 0 : DatumGetTimestampTz(job->value[column]);
}

static char *
text_of(const Explained *job, int column)
{
	return job->null[column] ? "" : TextDatumGetCString(job->value[column]);
}

static char *
uuid_text(Datum uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, uuid));
}

static bool
is_critical(const Explained *job)
{
	return DatumGetInt32(job->value[COLUMN_KIND]) == QS_CRITICAL_JOBS;
}

/* A job that has ended: false if it has not. */
static bool
has_ended(Explained *job)
{
	if (!job->null[COLUMN_REDRIVEN_AS])
		add(job, "redriven",
			psprintf("it runs as %s", uuid_text(job->value[COLUMN_REDRIVEN_AS])), 0);
	else if (strcmp(text_of(job, COLUMN_STATUS), "dead") == 0)
		add(job, "dead",
			psprintf("it failed for good (%s); queue_redrive() or queue_retry() sends it back",
					 text_of(job, COLUMN_FINISH_REASON)), 0);
	else if (!job->null[COLUMN_FINISHED_AT])
		add(job, "finished",
			strcmp(text_of(job, COLUMN_STATUS), "failed") != 0 ? "it is completed" :
			psprintf("it has ended: %s", text_of(job, COLUMN_FINISH_REASON)),
			0);
	return job->reasons > 0;
}

static bool
is_leased(Explained *job)
{
	if (strcmp(text_of(job, COLUMN_STATUS), "processing") != 0 ||
		time_of(job, COLUMN_LEASED_UNTIL) <= job->call->now)
		return false;
	add(job, "leased", psprintf("\"%s\" has it, attempt %d of %d",
								text_of(job, COLUMN_LEASED_BY),
								DatumGetInt32(job->value[COLUMN_ATTEMPTS]),
								DatumGetInt32(job->value[COLUMN_MAX_ATTEMPTS])),
		time_of(job, COLUMN_LEASED_UNTIL));
	return true;
}

static void
explain_held(Explained *job)
{
	QsGroup		group = {
		*DatumGetUUIDP(job->value[COLUMN_TENANT_ID]), job->queue.id,
		PointerGetDatum(PG_DETOAST_DATUM_PACKED(job->value[COLUMN_GROUP_KEY]))
	};
	Datum		args[3] = {job->value[COLUMN_TENANT_ID],
	job->value[COLUMN_QUEUE_ID], job->value[COLUMN_GROUP_KEY]};
	bool		blocked;
	bool		isnull;
	char	   *key = text_of(job, COLUMN_GROUP_KEY);

	qs_group_look_begin();
	blocked = job->queue.group_blocks && qs_group_blocked(job->call, &group);
	qs_group_look_end();
	if (blocked)
		add(job, "held", psprintf("a job of its group \"%s\" failed for good, and blocks it",
								  key), 0);
	else if (qs_read(&select_head, job->call, args, NULL, 1) > 0)
		add(job, "held", psprintf("its group \"%s\" is at job %s", key,
								  uuid_text(qs_result(0, 1, &isnull))), 0);
	else
		add(job, "held", psprintf("its group \"%s\" goes on with the next maintenance",
								  key), 0);
}

static void
explain_limits(Explained *job)
{
	TimestampTz until = DT_NOEND;
	int64		wait;

	if (!qs_slots_look(job->call, &job->queue, is_critical(job), &until))
		add(job, "slots", psprintf("max_concurrency of the queue is %d",
								   job->queue.max_concurrency),
			until == DT_NOEND ? 0 : until);
	wait = qs_tokens_wait(job->call, &job->queue);
	if (wait > 0)
		add(job, "tokens", psprintf("there is no token of \"%s\"",
									job->queue.rate_limiter),
			job->call->now + wait);
}

static int64
count(QsStatement *statement, QsCall *call, Datum *args)
{
	bool		isnull;

	(void) qs_read(statement, call, args, NULL, 1);
	return DatumGetInt64(qs_result(0, 1, &isnull));
}

static void
explain_order(Explained *job)
{
	int			kind = DatumGetInt32(job->value[COLUMN_KIND]);
	Datum		args[7] = {
		job->value[COLUMN_QUEUE_ID], TimestampTzGetDatum(job->call->now),
		Int64GetDatum(MAX_AHEAD), job->value[COLUMN_PRIORITY],
		job->value[COLUMN_RUN_AT], UUIDPGetDatum(job->id),
		Int64GetDatum(job->queue.ageing)
	};
	int64		ahead;

	ahead = count(job->queue.ageing > 0 ? &count_ahead_ageing[kind] :
				  &count_ahead[kind], job->call, args);
	if (kind != QS_CRITICAL_JOBS)
		ahead += count(&count_critical, job->call, args);
	if (ahead > 0)
		add(job, "behind", ahead < MAX_AHEAD ?
			psprintf(INT64_FORMAT " %s before it", ahead,
					 ahead == 1 ? "job comes" : "jobs come") :
			psprintf("%d jobs or more come before it", MAX_AHEAD), 0);
}

/* Nobody has claimed from the queue; known only with shared memory. */
static void
explain_quiet(Explained *job)
{
	QsStatsView view;
	TimestampTz due = Max(time_of(job, COLUMN_RUN_AT), time_of(job, COLUMN_LEASED_UNTIL));

	if (!qs_stats_view(&job->queue.id, 0, &view) ||
		job->call->now - Max(view.claimed_at, due) < QUIET)
		return;
	add(job, "unclaimed", view.claimed_at == 0 ?
		"no claim from the queue is on record" :
		psprintf("nobody has claimed from the queue since %s",
				 timestamptz_to_str(view.claimed_at)), 0);
}

/* Why a job that waits, or whose lease has run out, does. */
static void
explain_waiting(Explained *job)
{
	bool		held = DatumGetBool(job->value[COLUMN_HELD]);
	bool		delayed = time_of(job, COLUMN_RUN_AT) > job->call->now;

	if (job->queue.paused)
		add(job, "paused", "the queue is; queue_resume() lets it go on", 0);
	if (held)
		explain_held(job);
	if (delayed)
		add(job, "delayed", DatumGetInt32(job->value[COLUMN_ATTEMPTS]) == 0 ?
			"it is not due" :
			psprintf("attempt %d of %d failed, and is followed by another",
					 DatumGetInt32(job->value[COLUMN_ATTEMPTS]),
					 DatumGetInt32(job->value[COLUMN_MAX_ATTEMPTS])),
			time_of(job, COLUMN_RUN_AT));
	explain_limits(job);
	if (!held && !delayed)
	{
		explain_order(job);
		explain_quiet(job);
	}
	if (job->reasons == 0)
		add(job, "none", "the next claim takes it", 0);
}

/* SQL: queue_explain(job_id) */
Datum
queue_explain(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Explained	job = {.fcinfo = fcinfo, .call = &call};
	Datum		args[2];

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	job.id = qs_arg_uuid(fcinfo, 0, "job_id");
	args[0] = UUIDPGetDatum(job.id);
	args[1] = UUIDPGetDatum(&call.tenant);
	qs_begin_rows(fcinfo);
	qs_connect();
	if (qs_read(&select_job, &call, args, call.has_tenant ? NULL : " n", 1) == 0)
		ereport(ERROR,
				(errcode(QS_JOB_UNKNOWN),
				 errmsg("there is no such job")));
	for (int c = COLUMN_KIND; c <= NCOLUMNS; c++)
		job.value[c] = qs_result(0, c, &job.null[c]);
	if (!has_ended(&job) && !is_leased(&job) &&
		qs_queue_by_id(&call, DatumGetUUIDP(job.value[COLUMN_QUEUE_ID]), &job.queue))
		explain_waiting(&job);
	SPI_finish();
	qs_end(&call);
	return (Datum) 0;
}
