/*
 * limiter_admin.c
 *	  The verbs of the platform on limits: queue_limiter_set() for a service,
 *	  queue_tenant_limit_set() for a tenant's own share of one.
 *
 * Both write one row. A trigger settles what its bucket holds (limit_row.c); a
 * new limit begins with a full one.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "queue.h"
#include "statement.h"
#include "table.h"
#include "utils/timestamp.h"

#define MAX_TOKENS 1e9
#define MAX_CONCURRENT 1000000

PG_FUNCTION_INFO_V1(queue_limiter_set);
PG_FUNCTION_INFO_V1(queue_tenant_limit_set);

/* the arguments of the statements */
enum
{
	ARG_NAME,
	ARG_MAX_TOKENS,
	ARG_REFILL,
	ARG_MAX_CONCURRENT,
	ARG_MAX_HOLD,
	ARG_NOW,
	ARG_TENANT,					/* of a tenant's own only */
	NARGS
};

#define UPDATE_LIMIT(table, condition) \
	"UPDATE @" table " SET max_tokens = coalesce($2, max_tokens)," \
	" refill_per_second = coalesce($3, refill_per_second)," \
	" max_concurrent = nullif(coalesce($4, max_concurrent), 0)," \
	" max_hold = coalesce($5, max_hold) WHERE " condition

#define INSERT_LIMIT(table, columns, values, key) \
	"INSERT INTO @" table " (tokens_available, max_tokens, refill_per_second," \
	" max_concurrent, max_hold, last_refill_at, " columns ")" \
	" VALUES ($2, $2, $3, nullif($4, 0), coalesce($5, '1 minute'), $6, " values ")" \
	" ON CONFLICT (" key ") DO NOTHING"

#define LIMIT_TYPES \
	TEXTOID, FLOAT8OID, FLOAT8OID, INT4OID, INTERVALOID, TIMESTAMPTZOID

static QsStatement update_limiter = {
	.sql = UPDATE_LIMIT("rate_limiters", "service_name = $1"),
	.nargs = ARG_TENANT, .argtypes = {LIMIT_TYPES}
};
static QsStatement insert_limiter = {
	.sql = INSERT_LIMIT("rate_limiters", "service_name", "$1", "service_name"),
	.nargs = ARG_TENANT, .argtypes = {LIMIT_TYPES}
};
static QsStatement update_tenant_limit = {
	.sql = UPDATE_LIMIT("rate_limits", "tenant_id = $7 AND name = $1"),
	.nargs = NARGS, .argtypes = {LIMIT_TYPES, UUIDOID}
};
static QsStatement insert_tenant_limit = {
	.sql = INSERT_LIMIT("rate_limits", "name, tenant_id", "$1, $7",
						"tenant_id, name"),
	.nargs = NARGS, .argtypes = {LIMIT_TYPES, UUIDOID}
};
static QsStatement select_tenant = {
	.sql = "SELECT FROM @tenants WHERE id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};

/*
 * Takes the name and the settings that follow it from the arguments, from
 * first on. NULL leaves a setting as it is.
 */
static void
take_limit(FunctionCallInfo fcinfo, QsCall *call, int first, const char *name,
		   Datum *args, char *nulls)
{
	if (!qs_is_platform(call->cat, call->caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("limits are set by the platform")));
	for (int i = ARG_NAME; i <= ARG_MAX_HOLD; i++)
	{
		args[i] = PG_GETARG_DATUM(first + i);
		nulls[i] = PG_ARGISNULL(first + i) ? 'n' : ' ';
	}
	args[ARG_NOW] = TimestampTzGetDatum(call->now);
	nulls[ARG_NOW] = nulls[ARG_TENANT] = ' ';

	(void) qs_arg_text(fcinfo, first + ARG_NAME, name, QS_NAME_BYTES);
	if (nulls[ARG_MAX_TOKENS] == ' ')
		(void) qs_arg_double(fcinfo, first + ARG_MAX_TOKENS, "max_tokens", 1,
							 MAX_TOKENS);
	if (nulls[ARG_REFILL] == ' ')
		(void) qs_arg_double(fcinfo, first + ARG_REFILL, "refill_per_second", 0,
							 MAX_TOKENS);
	if (nulls[ARG_MAX_CONCURRENT] == ' ')
		(void) qs_arg_int(fcinfo, first + ARG_MAX_CONCURRENT, "max_concurrent",
						  0, MAX_CONCURRENT);
	if (nulls[ARG_MAX_HOLD] == ' ')
		(void) qs_arg_interval(fcinfo, first + ARG_MAX_HOLD, "max_hold", 1,
							   USECS_PER_DAY);
}

/*
 * Changes the row, or makes it. True if it was made; NULL for what a new limit
 * needs is an error then.
 */
static bool
set_limit(QsCall *call, QsStatement *update, QsStatement *insert,
		  Datum *args, const char *nulls)
{
	if (qs_execute(update, call, SPI_OK_UPDATE, args, nulls, 0) == 1)
		return false;
	if (nulls[ARG_MAX_TOKENS] == 'n' || nulls[ARG_REFILL] == 'n')
		ereport(ERROR,
				(errcode(QS_ARGUMENT_NULL),
				 errmsg("a new limit needs max_tokens and refill_per_second")));
	if (qs_execute(insert, call, SPI_OK_INSERT, args, nulls, 0) == 1)
		return true;

	/* somebody else made it meanwhile */
	qs_renew_snapshot();
	if (qs_execute(update, call, SPI_OK_UPDATE, args, nulls, 0) != 1)
		qs_serialization_failure();
	return false;
}

/*
 * SQL: queue_limiter_set(service, max_tokens, refill_per_second,
 * max_concurrent, max_hold)
 */
Datum
queue_limiter_set(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Datum		args[NARGS];
	char		nulls[NARGS];
	bool		created;

	qs_begin(&call, fcinfo, "queue_limiter_set()", QS_ANY_TENANT);
	take_limit(fcinfo, &call, 0, "service", args, nulls);
	qs_connect();
	created = set_limit(&call, &update_limiter, &insert_limiter, args, nulls);
	SPI_finish();
	qs_end(&call);
	PG_RETURN_BOOL(created);
}

/*
 * SQL: queue_tenant_limit_set(tenant, name, max_tokens, refill_per_second,
 * max_concurrent, max_hold)
 */
Datum
queue_tenant_limit_set(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Datum		args[NARGS];
	char		nulls[NARGS];
	bool		created;

	qs_begin(&call, fcinfo, "queue_tenant_limit_set()", QS_ANY_TENANT);
	take_limit(fcinfo, &call, 1, "name", args, nulls);
	args[ARG_TENANT] = UUIDPGetDatum(qs_arg_uuid(fcinfo, 0, "tenant"));
	qs_connect();
	if (qs_execute(&select_tenant, &call, SPI_OK_SELECT, &args[ARG_TENANT],
				   NULL, 1) == 0)
		ereport(ERROR,
				(errcode(QS_TENANT_UNKNOWN),
				 errmsg("there is no such tenant")));
	created = set_limit(&call, &update_tenant_limit, &insert_tenant_limit,
						args, nulls);
	SPI_finish();
	qs_end(&call);
	PG_RETURN_BOOL(created);
}
