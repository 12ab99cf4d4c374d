/*
 * look.c
 *	  The verbs that only look: job, peek.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "queue.h"
#include "result.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_job);
PG_FUNCTION_INFO_V1(queue_peek);

#define JOB_COLUMNS 25
#define PEEK_COLUMNS 8

/* a job of jobs or critical_jobs, as queue_job() shows it */
#define LIVE_JOB(table, critical) \
	"SELECT j.id, j.tenant_id, q.name, " critical ", j.status, j.finish_reason," \
	" j.job_type, j.payload, j.headers, j.result, j.priority, j.run_at," \
	" j.attempts, j.max_attempts, j.group_key, j.idempotency_key," \
	" j.cancel_requested, j.leased_by, j.leased_at, j.leased_until," \
	" j.last_error, j.errors, j.enqueued_at, j.finished_at, NULL::uuid" \
	" FROM @" table " j JOIN @queues q ON q.id = j.queue_id" \
	" WHERE j.id = $1 AND ($2 IS NULL OR j.tenant_id = $2)"

static QsStatement select_job = {
	.sql = LIVE_JOB("jobs", "false")
	" UNION ALL " LIVE_JOB("critical_jobs", "true")
	" UNION ALL SELECT j.id, j.tenant_id, q.name,"
	" j.source_table = 'critical_jobs', 'failed', j.reason, j.job_type,"
	" j.payload, j.headers, NULL, j.priority, j.run_at, j.attempts,"
	" j.max_attempts, j.group_key, j.idempotency_key, false, j.leased_by,"
	" j.leased_at, j.leased_until, j.last_error, j.errors, j.enqueued_at,"
	" j.died_at, j.redriven_as"
	" FROM @dead_letter_jobs j JOIN @queues q ON q.id = j.queue_id"
	" WHERE j.id = $1 AND ($2 IS NULL OR j.tenant_id = $2)",
	.nargs = 2, .argtypes = {UUIDOID, UUIDOID}
};

/* the claimable jobs of a queue, in the order in which they are claimed */
#define READY "tenant_id = $1 AND queue_id = $2 AND finished_at IS NULL AND NOT held"
#define CLAIMABLE(table, critical, condition) \
	"(SELECT id, " critical ", job_type, payload, priority, run_at, attempts," \
	" max_attempts FROM @" table \
	" WHERE " READY " AND run_at <= $3" \
	" AND (status = 'pending' OR leased_until <= $3)" condition \
	" ORDER BY priority DESC, run_at, id LIMIT $4)"

static QsStatement select_claimable = {
	.sql = CLAIMABLE("critical_jobs", "true", "")
	" UNION ALL " CLAIMABLE("jobs", "false", ""),
	.nargs = 4, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID, INT4OID}
};

/*
 * With ageing: the first ones of each priority in use, merged as ageing.h says.
 * Numeric, since an interval has no exact product.
 */
#define CLAIMABLE_AGEING(table, critical) \
	"(WITH RECURSIVE level (p) AS (" \
	"(SELECT priority FROM @" table " WHERE " READY \
	" ORDER BY priority DESC LIMIT 1)" \
	" UNION ALL SELECT (SELECT priority FROM @" table " WHERE " READY \
	" AND priority < level.p ORDER BY priority DESC LIMIT 1)" \
	" FROM level WHERE level.p IS NOT NULL)" \
	" SELECT c.* FROM level, LATERAL " \
	CLAIMABLE(table, critical, " AND priority = level.p") " c" \
	" ORDER BY extract(epoch FROM c.run_at) * 1000000 - c.priority * $5::numeric," \
	" c.run_at, c.id LIMIT $4)"

static QsStatement select_claimable_ageing = {
	.sql = CLAIMABLE_AGEING("critical_jobs", "true")
	" UNION ALL " CLAIMABLE_AGEING("jobs", "false"),
	.nargs = 5,
	.argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID, INT4OID, INT8OID}
};

/* Copies the last statement's rows, all of ncolumns, into the result. */
static void
put_rows(FunctionCallInfo fcinfo, uint64 count, int ncolumns)
{
	Datum		values[JOB_COLUMNS];
	bool		nulls[JOB_COLUMNS];

	Assert(ncolumns <= JOB_COLUMNS);
	for (uint64 row = 0; row < count; row++)
	{
		for (int i = 0; i < ncolumns; i++)
			values[i] = qs_result((int) row, i + 1, &nulls[i]);
		qs_put_row(fcinfo, values, nulls);
	}
}

/* SQL: queue_job(job_id) */
Datum
queue_job(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Datum		args[2];

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	args[0] = UUIDPGetDatum(qs_arg_uuid(fcinfo, 0, "job_id"));
	args[1] = UUIDPGetDatum(&call.tenant);
	qs_begin_rows(fcinfo);
	qs_connect();
	put_rows(fcinfo,
			 qs_read(&select_job, &call, args, call.has_tenant ? NULL : " n", 0),
			 JOB_COLUMNS);
	SPI_finish();
	qs_end(&call);
	return (Datum) 0;
}

/* SQL: queue_peek(queue, max_jobs) */
Datum
queue_peek(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsQueue		queue;
	Datum		args[5];
	int			max_jobs;

	qs_begin_read(&call, fcinfo, QS_ONE_TENANT);
	qs_queue_by_name(&call, qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES), &queue);
	max_jobs = qs_arg_int(fcinfo, 1, "max_jobs", 1, QS_MAX_BATCH);
	args[0] = UUIDPGetDatum(&call.tenant);
	args[1] = UUIDPGetDatum(&queue.id);
	args[2] = TimestampTzGetDatum(call.now);
	args[3] = Int32GetDatum(max_jobs);
	args[4] = Int64GetDatum(queue.ageing);
	qs_begin_rows(fcinfo);
	qs_connect();
	put_rows(fcinfo,
			 queue.paused ? 0 :
			 qs_read(queue.ageing > 0 ? &select_claimable_ageing : &select_claimable,
					 &call, args, NULL, max_jobs),
			 PEEK_COLUMNS);
	SPI_finish();
	qs_end(&call);
	return (Datum) 0;
}
