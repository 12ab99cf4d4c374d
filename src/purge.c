/*
 * purge.c
 *	  Deletes what somebody wants to be rid of, of a queue or of a tenant: in the
 *	  caller's transaction, or batch by batch in transactions of its own.
 */
#include "postgres.h"

#include "args.h"
#include "batches.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "queue.h"
#include "result.h"
#include "statement.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(queue_purge);
PG_FUNCTION_INFO_V1(queue_purge_all);
PG_FUNCTION_INFO_V1(queue_tenant_purge);
PG_FUNCTION_INFO_V1(queue_tenant_purge_all);

/*
 * Deletes rows of a queue from a table, up to a limit. Rows that somebody else
 * has locked stay. The inner query is materialized: a plain subquery could be
 * run more than once, and lock more than the limit.
 */
#define DELETE_FROM(table, condition) \
	{ \
		.sql = "WITH d AS MATERIALIZED (SELECT id FROM @" table \
		" WHERE tenant_id = $1 AND queue_id = $2 AND " condition \
		" LIMIT $3 FOR UPDATE SKIP LOCKED)" \
		" DELETE FROM @" table " WHERE id = ANY (ARRAY(SELECT id FROM d))", \
		.nargs = 3, .argtypes = {UUIDOID, UUIDOID, INT8OID} \
	}

#define COUNT_OF(table, condition) \
	{ \
		.sql = "SELECT count(*) FROM @" table \
		" WHERE tenant_id = $1 AND queue_id = $2 AND " condition, \
		.nargs = 2, .argtypes = {UUIDOID, UUIDOID} \
	}

#define EACH(of) \
	{ \
		of("jobs", "status = 'pending'"), \
		of("critical_jobs", "status = 'pending'"), \
		of("jobs", "finished_at IS NOT NULL"), \
		of("critical_jobs", "finished_at IS NOT NULL"), \
		of("dead_letter_jobs", "true") \
	}

static QsStatement purges[] = EACH(DELETE_FROM);
static QsStatement counts[] = EACH(COUNT_OF);

/* which of these, from and up to, what stands for */
static const struct
{
	const char *what;
	int			first;
	int			last;
}			purge_ranges[] = {
	{"waiting", 0, 1}, {"finished", 2, 3}, {"dead", 4, 4}, {"all", 0, 4}
};

/* what is deleted of a queue; its memory is the caller's */
typedef struct Purge
{
	pg_uuid_t	tenant;
	QsQueue		queue;
	int			range;			/* in purge_ranges */
} Purge;

/* Takes the arguments queue and what. */
static void
take_arguments(FunctionCallInfo fcinfo, QsCall *call, Purge *purge)
{
	char	   *what;

	qs_queue_by_name(call, qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES),
					 &purge->queue);
	purge->tenant = call->tenant;
	purge->range = 0;
	what = qs_arg_text(fcinfo, 1, "what", 32);
	while (purge->range < (int) lengthof(purge_ranges) &&
		   strcmp(what, purge_ranges[purge->range].what) != 0)
		purge->range++;
	if (purge->range == lengthof(purge_ranges))
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("what must be waiting, finished, dead or all")));
}

/* Deletes up to so many rows; returns how many it did. */
static int64
purge_some(QsCall *call, Purge *purge, int64 max_rows)
{
	int64		deleted = 0;

	qs_connect();
	for (int i = purge_ranges[purge->range].first;
		 i <= purge_ranges[purge->range].last; i++)
	{
		Datum		args[3] = {UUIDPGetDatum(&purge->tenant),
			UUIDPGetDatum(&purge->queue.id), Int64GetDatum(max_rows - deleted)};

		deleted += qs_execute(&purges[i], call, SPI_OK_DELETE, args, NULL, 0);
	}
	SPI_finish();
	return deleted;
}

/* SQL: queue_purge(queue, what, max_jobs) */
Datum
queue_purge(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Purge		purge;
	int64		deleted;

	qs_begin(&call, fcinfo, "queue_purge()", QS_ONE_TENANT);
	take_arguments(fcinfo, &call, &purge);
	deleted = purge_some(&call, &purge, PG_ARGISNULL(2) ? PG_INT64_MAX :
						 qs_arg_int(fcinfo, 2, "max_jobs", 1, PG_INT32_MAX));
	qs_end(&call);
	PG_RETURN_INT64(deleted);
}

static int64
count_rows(QsCall *call, Purge *purge)
{
	Datum		args[2] = {UUIDPGetDatum(&purge->tenant),
	UUIDPGetDatum(&purge->queue.id)};
	int64		total = 0;
	bool		isnull;

	qs_connect();
	for (int i = purge_ranges[purge->range].first;
		 i <= purge_ranges[purge->range].last; i++)
	{
		(void) qs_execute(&counts[i], call, SPI_OK_SELECT, args, NULL, 0);
		total += DatumGetInt64(qs_result(0, 1, &isnull));
	}
	SPI_finish();
	return total;
}

/* SQL: CALL queue_purge_all(queue, what, batch) */
Datum
queue_purge_all(PG_FUNCTION_ARGS)
{
	QsBatches	batches;
	Purge		purge;
	int64		deleted;

	qs_batches_begin(&batches, fcinfo, "queue_purge_all()", QS_ONE_TENANT, 2);
	take_arguments(fcinfo, &batches.call, &purge);
	qs_batches_show(&batches, &purge.tenant, purge.queue.name,
					count_rows(&batches.call, &purge));
	while ((deleted = purge_some(&batches.call, &purge, batches.size)) > 0)
		qs_batches_commit(&batches, deleted);
	qs_batches_end(&batches);
	PG_RETURN_VOID();
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

static void
check_platform(const QsCall *call)
{
	if (!qs_is_platform(call->cat, call->caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only the platform purges a tenant")));
}

static int64
tenant_purge_some(QsCall *call, const pg_uuid_t *tenant, int64 max_rows)
{
	Datum		args[2] = {UUIDPGetDatum(tenant)};
	int64		deleted = 0;

	qs_connect();
	for (int i = 0; i < (int) lengthof(tenant_purges) && deleted < max_rows; i++)
	{
		args[1] = Int64GetDatum(max_rows - deleted);
		deleted += qs_execute(&tenant_purges[i], call, SPI_OK_DELETE, args,
							  NULL, 0);
	}
	SPI_finish();
	return deleted;
}

/* SQL: queue_tenant_purge(tenant, max_rows) */
Datum
queue_tenant_purge(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	int64		max_rows;
	int64		deleted;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	qs_begin(&call, fcinfo, "queue_tenant_purge()", QS_ANY_TENANT);
	check_platform(&call);
	max_rows = qs_arg_int(fcinfo, 1, "max_rows", 1, PG_INT32_MAX);
	deleted = tenant_purge_some(&call, qs_arg_uuid(fcinfo, 0, "tenant"), max_rows);
	qs_end(&call);

	values[0] = Int64GetDatum(deleted);
	values[1] = BoolGetDatum(deleted < max_rows);
	return qs_return_row(fcinfo, &desc, values, nulls);
}

/* SQL: CALL queue_tenant_purge_all(tenant, batch) */
Datum
queue_tenant_purge_all(PG_FUNCTION_ARGS)
{
	QsBatches	batches;
	pg_uuid_t	tenant;
	int64		deleted;

	qs_batches_begin(&batches, fcinfo, "queue_tenant_purge_all()", QS_ANY_TENANT, 1);
	check_platform(&batches.call);
	tenant = *qs_arg_uuid(fcinfo, 0, "tenant");
	qs_batches_show(&batches, &tenant, NULL, -1);
	while ((deleted = tenant_purge_some(&batches.call, &tenant, batches.size)) > 0)
	{
		qs_batches_commit(&batches, deleted);
		check_platform(&batches.call);
	}
	qs_batches_end(&batches);
	PG_RETURN_VOID();
}
