/*
 * retention.c
 *	  Tasks that delete what has been kept for long enough.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "statement.h"
#include "task.h"
#include "utils/timestamp.h"

/* Rows that one run deletes at most. */
#define BATCH 1000

/*
 * A key is free once it has expired and its job has finished. It may stand for
 * another job by the time it is locked, so that is looked at again.
 */
#define FREE_KEY \
	"k.expires_at <= $1" \
	" AND NOT EXISTS (SELECT FROM @jobs j" \
	" WHERE j.id = k.job_id AND j.finished_at IS NULL)" \
	" AND NOT EXISTS (SELECT FROM @critical_jobs j" \
	" WHERE j.id = k.job_id AND j.finished_at IS NULL)"

static QsStatement lock_keys = {
	.sql = "WITH k AS MATERIALIZED (SELECT k.id FROM @idempotency_keys k WHERE "
	FREE_KEY " ORDER BY k.expires_at LIMIT $2 FOR UPDATE OF k SKIP LOCKED)"
	" SELECT array_agg(id), count(*) FROM k",
	.nargs = 2, .argtypes = {TIMESTAMPTZOID, INT8OID}
};
static QsStatement delete_keys = {
	.sql = "DELETE FROM @idempotency_keys k WHERE k.id = ANY ($2) AND " FREE_KEY,
	.nargs = 2, .argtypes = {TIMESTAMPTZOID, UUIDARRAYOID}
};

static void
purge_keys(QsTaskRun *run)
{
	Datum		args[2] = {TimestampTzGetDatum(run->call->now),
		Int64GetDatum(BATCH)};
	bool		none;
	bool		isnull;

	qs_connect();
	(void) qs_execute(&lock_keys, run->call, SPI_OK_SELECT, args, NULL, 0);
	args[1] = qs_result(0, 1, &none);
	run->more = DatumGetInt64(qs_result(0, 2, &isnull)) == BATCH;
	if (!none)
	{
		qs_renew_snapshot();
		run->done = qs_execute(&delete_keys, run->call, SPI_OK_DELETE, args,
							   NULL, 0);
	}
	SPI_finish();
}

const QsTask qs_task_keys = {
	.name = "keys", .period = 60, .run = purge_keys, .rests = true
};
