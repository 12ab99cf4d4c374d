/*
 * queue_admin.c
 *	  The verbs on queues: create, set, drop, pause, resume.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "queue.h"
#include "result.h"
#include "statement.h"
#include "stats_note.h"
#include "stats_trigger.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_create);
PG_FUNCTION_INFO_V1(queue_set);
PG_FUNCTION_INFO_V1(queue_drop);
PG_FUNCTION_INFO_V1(queue_pause);
PG_FUNCTION_INFO_V1(queue_resume);

/*
 * The arguments of queue_create() and queue_set(), which are columns of
 * queues, with the range of each. Argument 0 is the name.
 */
typedef struct Setting
{
	const char *name;
	Oid			type;
	double		min;			/* intervals in microseconds */
	double		max;
	bool		clears;			/* for queue_set() 0, or '', means none */
	bool		platform;		/* not for tenants */
} Setting;

static const Setting settings[] = {
	{"name", TEXTOID, 1, QS_NAME_BYTES, false, false},
	{"description", TEXTOID, 0, 10000, false, false},
	{"max_attempts", INT4OID, 1, QS_MAX_ATTEMPTS, false, false},
	{"default_lease", INTERVALOID, 1, QS_YEAR, false, false},
	{"backoff_base", INTERVALOID, 0, QS_YEAR, false, false},
	{"backoff_factor", FLOAT8OID, 1, 100, false, false},
	{"backoff_max", INTERVALOID, 0, QS_YEAR, false, false},
	{"backoff_jitter", FLOAT8OID, 0, 1, false, false},
	{"keep_completed", INTERVALOID, 0, 100 * QS_YEAR, false, false},
	{"keep_dead", INTERVALOID, 0, 100 * QS_YEAR, false, false},
	{"dead_letters", BOOLOID, 0, 1, false, false},
	{"max_depth", INT8OID, 1, 1e15, true, true},
	{"max_payload", INT4OID, 1, 256 * 1024 * 1024, true, false},
	{"max_concurrency", INT4OID, 1, 1000000, true, true},
	{"critical_reserve", INT4OID, 0, 1000000, false, true},
	{"rate_limiter", TEXTOID, 1, 128, true, true},
	{"enqueue_limiter", TEXTOID, 1, 128, true, true},
	{"weight", INT4OID, 1, 1000, false, true},
	{"ageing", INTERVALOID, 1, QS_YEAR, true, false},
	{"group_concurrency", INT4OID, 1, 1000000, true, false},
	{"group_on_failure", TEXTOID, 1, 8, false, false},
	{"alert_depth", INT8OID, 1, 1e15, true, false},
	{"alert_age", INTERVALOID, 1, QS_YEAR, true, false},
	{"alert_dead", INT8OID, 1, 1e15, true, false},
	{"config", JSONBOID, 0, 0, false, false}
};

#define NSETTINGS lengthof(settings)

#define SETTING_TYPES \
	TEXTOID, TEXTOID, INT4OID, INTERVALOID, INTERVALOID, FLOAT8OID, \
	INTERVALOID, FLOAT8OID, INTERVALOID, INTERVALOID, BOOLOID, INT8OID, \
	INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, INT4OID, INTERVALOID, \
	INT4OID, TEXTOID, INT8OID, INTERVALOID, INT8OID, JSONBOID

static QsStatement insert_queue = {
	.sql = "INSERT INTO @queues (name, description, max_attempts,"
	" default_lease, backoff_base, backoff_factor, backoff_max, backoff_jitter,"
	" keep_completed, keep_dead, dead_letters, max_depth, max_payload,"
	" max_concurrency, critical_reserve, rate_limiter, enqueue_limiter, weight,"
	" ageing, group_concurrency, group_on_failure, alert_depth, alert_age, alert_dead,"
	" config, tenant_id, created_at, updated_at)"
	" VALUES ($1, $2, coalesce($3, 3), coalesce($4, '1 minute'),"
	" coalesce($5, '5 seconds'), coalesce($6, 2), coalesce($7, '1 hour'),"
	" coalesce($8, 0.2), coalesce($9, '1 day'), coalesce($10, '30 days'),"
	" coalesce($11, true), $12, $13, $14, coalesce($15, 0), $16,"
	" $17, coalesce($18, 1), $19, $20, coalesce($21, 'block'), $22, $23, $24,"
	" coalesce($25, '{}'), $26, $27, $27)"
	" ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id",
	.nargs = NSETTINGS + 2, .argtypes = {SETTING_TYPES, UUIDOID, TIMESTAMPTZOID}
};
static QsStatement update_queue = {
	.sql = "UPDATE @queues SET description = coalesce($2, description),"
	" max_attempts = coalesce($3, max_attempts),"
	" default_lease = coalesce($4, default_lease),"
	" backoff_base = coalesce($5, backoff_base),"
	" backoff_factor = coalesce($6, backoff_factor),"
	" backoff_max = coalesce($7, backoff_max),"
	" backoff_jitter = coalesce($8, backoff_jitter),"
	" keep_completed = coalesce($9, keep_completed),"
	" keep_dead = coalesce($10, keep_dead),"
	" dead_letters = coalesce($11, dead_letters),"
	" max_depth = nullif(coalesce($12, max_depth), 0),"
	" max_payload = nullif(coalesce($13, max_payload), 0),"
	" max_concurrency = nullif(coalesce($14, max_concurrency), 0),"
	" critical_reserve = coalesce($15, critical_reserve),"
	" rate_limiter = nullif(coalesce($16, rate_limiter), ''),"
	" enqueue_limiter = nullif(coalesce($17, enqueue_limiter), ''),"
	" weight = coalesce($18, weight),"
	" ageing = nullif(coalesce($19, ageing), '0'),"
	" group_concurrency = nullif(coalesce($20, group_concurrency), 0),"
	" group_on_failure = coalesce($21, group_on_failure),"
	" alert_depth = nullif(coalesce($22, alert_depth), 0),"
	" alert_age = nullif(coalesce($23, alert_age), '0'),"
	" alert_dead = nullif(coalesce($24, alert_dead), 0),"
	" config = coalesce($25, config), updated_at = $27"
	" WHERE tenant_id = $26 AND name = $1 RETURNING id",
	.nargs = NSETTINGS + 2, .argtypes = {SETTING_TYPES, UUIDOID, TIMESTAMPTZOID}
};
static QsStatement select_tenant = {
	.sql = "SELECT FROM @tenants WHERE id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};
static QsStatement update_paused = {
	.sql = "UPDATE @queues SET paused = $2, updated_at = $3"
	" WHERE id = $1 AND paused <> $2",
	.nargs = 3, .argtypes = {UUIDOID, BOOLOID, TIMESTAMPTZOID}
};

/* The length that a setting's range is about. */
static double
magnitude(FunctionCallInfo fcinfo, int n)
{
	switch (settings[n].type)
	{
		case TEXTOID:
			return toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ;
		case INT4OID:
			return PG_GETARG_INT32(n);
		case INT8OID:
			return (double) PG_GETARG_INT64(n);
		case FLOAT8OID:
			return PG_GETARG_FLOAT8(n);
		case INTERVALOID:
			return (double) qs_interval_microseconds(PG_GETARG_INTERVAL_P(n));
		default:
			return 0;
	}
}

static void
check_setting(FunctionCallInfo fcinfo, QsCall *call, int n, bool may_clear)
{
	const Setting *setting = &settings[n];
	double		value = magnitude(fcinfo, n);

	if (setting->platform && !qs_is_platform(call->cat, call->caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s is set by the platform", setting->name)));
	if (setting->type == JSONBOID)
		qs_check_json(PG_GETARG_DATUM(n), setting->name, 0);
	if (setting->type == BOOLOID || setting->type == JSONBOID ||
		(value == 0 && setting->clears && may_clear))
		return;
	/* not a number is in no range */
	if (value >= setting->min && value <= setting->max)
		return;
	if (setting->type == INTERVALOID)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("%s must be %s and at most %.0f days", setting->name,
						setting->min > 0 ? "positive" : "0 or longer",
						setting->max / USECS_PER_DAY)));
	ereport(ERROR,
			(errcode(QS_ARGUMENT_INVALID),
			 setting->type == TEXTOID ?
			 errmsg("%s must be %.0f to %.0f bytes long", setting->name,
					setting->min, setting->max) :
			 errmsg("%s must be between %.0f and %.0f", setting->name,
					setting->min, setting->max)));
}

/* Checks all settings, and puts them into args and nulls, with two more. */
static void
take_settings(FunctionCallInfo fcinfo, QsCall *call, bool may_clear,
			  Datum *args, char *nulls)
{
	qs_require(fcinfo, 0, "name");
	for (int i = 0; i < (int) NSETTINGS; i++)
	{
		args[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		if (!PG_ARGISNULL(i))
			check_setting(fcinfo, call, i, may_clear);
		if (strcmp(settings[i].name, "group_on_failure") == 0 && !PG_ARGISNULL(i))
		{
			char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(i));

			if (strcmp(value, "block") != 0 && strcmp(value, "pass") != 0)
				ereport(ERROR,
						(errcode(QS_ARGUMENT_INVALID),
						 errmsg("group_on_failure must be block or pass")));
		}
	}
	args[NSETTINGS] = UUIDPGetDatum(&call->tenant);
	nulls[NSETTINGS] = ' ';
	args[NSETTINGS + 1] = TimestampTzGetDatum(call->now);
	nulls[NSETTINGS + 1] = ' ';
}

/* The id that a statement returned, copied out of SPI's memory. */
static void
returned_id(pg_uuid_t *id)
{
	bool		isnull;

	*id = *DatumGetUUIDP(qs_result(0, 1, &isnull));
}

/* SQL: queue_create(name, ...) */
Datum
queue_create(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	Datum		args[NSETTINGS + 2];
	char		nulls[NSETTINGS + 2];
	pg_uuid_t	id;
	bool		created;
	Datum		values[2];
	bool		result_nulls[2] = {false, false};

	qs_begin(&call, fcinfo, "queue_create()", QS_ONE_TENANT);
	take_settings(fcinfo, &call, false, args, nulls);

	qs_connect();
	if (qs_execute(&select_tenant, &call, SPI_OK_SELECT, &args[NSETTINGS],
				   NULL, 1) == 0)
		ereport(ERROR,
				(errcode(QS_TENANT_UNKNOWN),
				 errmsg("the tenant in app.current_tenant does not exist")));
	created = qs_execute(&insert_queue, &call, SPI_OK_INSERT_RETURNING, args,
						 nulls, 0) == 1;
	if (created)
	{
		returned_id(&id);
		if (qs_stats_exist())
			qs_stats_queue_created(&id, qs_stats_triggers(call.cat));
	}
	SPI_finish();
	if (!created)
	{
		QsQueue		queue;

		qs_queue_by_name(&call, TextDatumGetCString(args[0]), &queue);
		id = queue.id;
	}
	qs_end(&call);

	values[0] = UUIDPGetDatum(&id);
	values[1] = BoolGetDatum(created);
	return qs_return_row(fcinfo, &desc, values, result_nulls);
}

/* SQL: queue_set(name, ...) */
Datum
queue_set(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Datum		args[NSETTINGS + 2];
	char		nulls[NSETTINGS + 2];
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	qs_begin(&call, fcinfo, "queue_set()", QS_ONE_TENANT);
	take_settings(fcinfo, &call, true, args, nulls);
	qs_connect();
	if (qs_execute(&update_queue, &call, SPI_OK_UPDATE_RETURNING, args, nulls,
				   0) == 0)
		ereport(ERROR,
				(errcode(QS_QUEUE_UNKNOWN),
				 errmsg("queue \"%s\" does not exist",
						TextDatumGetCString(args[0]))));
	returned_id(id);
	SPI_finish();
	qs_end(&call);
	PG_RETURN_UUID_P(id);
}

static void
arg_queue(FunctionCallInfo fcinfo, QsCall *call, QsQueue *queue)
{
	qs_queue_by_name(call, qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES), queue);
}

static bool
set_paused(FunctionCallInfo fcinfo, const char *verb, bool paused)
{
	QsCall		call;
	QsQueue		queue;
	Datum		args[3];
	bool		changed;

	qs_begin(&call, fcinfo, verb, QS_ONE_TENANT);
	arg_queue(fcinfo, &call, &queue);
	args[0] = UUIDPGetDatum(&queue.id);
	args[1] = BoolGetDatum(paused);
	args[2] = TimestampTzGetDatum(call.now);
	qs_connect();
	changed = qs_execute(&update_paused, &call, SPI_OK_UPDATE, args, NULL, 0) == 1;
	SPI_finish();
	qs_end(&call);
	return changed;
}

/* SQL: queue_pause(queue) */
Datum
queue_pause(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(set_paused(fcinfo, "queue_pause()", true));
}

/* SQL: queue_resume(queue) */
Datum
queue_resume(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(set_paused(fcinfo, "queue_resume()", false));
}

/*
 * Locked against enqueues, which take a key share lock on the queue; and
 * whether a column of the platform's is set.
 */
static QsStatement lock_queue = {
	.sql = "SELECT weight <> 1 OR critical_reserve <> 0"
	" OR num_nonnulls(max_depth, max_concurrency, rate_limiter, enqueue_limiter) > 0"
	" FROM @queues WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
	.nargs = 2, .argtypes = {UUIDOID, UUIDOID}
};
static QsStatement select_in_use = {
	.sql = "SELECT FROM @jobs WHERE tenant_id = $1 AND queue_id = $2"
	" AND finished_at IS NULL"
	" UNION ALL SELECT FROM @critical_jobs WHERE tenant_id = $1"
	" AND queue_id = $2 AND finished_at IS NULL"
	" UNION ALL SELECT FROM @dead_letter_jobs WHERE tenant_id = $1"
	" AND queue_id = $2 AND redriven_at IS NULL"
	" UNION ALL SELECT FROM @schedules WHERE tenant_id = $1 AND queue_id = $2",
	.nargs = 2, .argtypes = {UUIDOID, UUIDOID}
};

#define DELETE_ALL(table, key) \
	{ \
		.sql = "DELETE FROM @" table " WHERE tenant_id = $1 AND " key " = $2", \
		.nargs = 2, .argtypes = {UUIDOID, UUIDOID} \
	}

static QsStatement drops[] = {
	DELETE_ALL("jobs", "queue_id"),
	DELETE_ALL("critical_jobs", "queue_id"),
	DELETE_ALL("dead_letter_jobs", "queue_id"),
	DELETE_ALL("idempotency_keys", "queue_id"),
	DELETE_ALL("schedules", "queue_id"),
	DELETE_ALL("queue_metrics", "queue_id"),
	DELETE_ALL("alert_history", "queue_id"),
	DELETE_ALL("queues", "id")
};

/* SQL: queue_drop(queue, force) */
Datum
queue_drop(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsQueue		queue;
	bool		force;
	bool		isnull;
	Datum		args[2];

	qs_begin(&call, fcinfo, "queue_drop()", QS_ONE_TENANT);
	arg_queue(fcinfo, &call, &queue);
	force = qs_arg_bool(fcinfo, 1, "force");
	args[0] = UUIDPGetDatum(&call.tenant);
	args[1] = UUIDPGetDatum(&queue.id);

	qs_connect();
	if (qs_execute(&lock_queue, &call, SPI_OK_SELECT, args, NULL, 0) == 0)
		qs_queue_unknown(queue.name);
	if (DatumGetBool(qs_result(0, 1, &isnull)) &&
		!qs_is_platform(call.cat, call.caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("queue \"%s\" has limits that are set by the platform",
						queue.name)));
	if (!force &&
		qs_execute(&select_in_use, &call, SPI_OK_SELECT, args, NULL, 1) > 0)
		ereport(ERROR,
				(errcode(QS_QUEUE_NOT_EMPTY),
				 errmsg("queue \"%s\" has unfinished jobs, dead letters or schedules",
						queue.name),
				 errhint("Use force => true to drop them too.")));
	for (int i = 0; i < (int) lengthof(drops); i++)
		(void) qs_execute(&drops[i], &call, SPI_OK_DELETE, args, NULL, 0);
	SPI_finish();
	qs_end(&call);
	PG_RETURN_BOOL(true);
}
