/*
 * schedule.c
 *	  The verbs on schedules: queue_schedule(), queue_unschedule() and
 *	  queue_cron_next(). What fires them is in fire.c.
 *
 * A definition that did not change is left alone, so that a deployment may
 * state all its schedules each time. One whose times change is due next after
 * now, and after the time that it fired for last: no due time fires twice.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "due.h"
#include "enqueue.h"
#include "errors.h"
#include "miscadmin.h"
#include "queue.h"
#include "result.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define CRON_BYTES 1000
#define ZONE_BYTES 255

PG_FUNCTION_INFO_V1(queue_schedule);
PG_FUNCTION_INFO_V1(queue_unschedule);
PG_FUNCTION_INFO_V1(queue_cron_next);

/* the arguments of queue_schedule(), and what the statements take besides */
enum
{
	ARG_NAME,
	ARG_QUEUE,					/* its id, for the statements */
	ARG_CRON,
	ARG_PAYLOAD,
	ARG_TIMEZONE,
	ARG_JOB_TYPE,
	ARG_PRIORITY,
	ARG_CATCH_UP,
	ARG_CATCH_UP_MAX,
	ARG_OVERLAP,
	ARG_JITTER,
	ARG_ENABLED,
	NARGUMENTS,
	ARG_TENANT = NARGUMENTS,
	ARG_NEXT,					/* next_run_at */
	ARG_NOW,
	NARGS
};

#define TYPES \
	TEXTOID, UUIDOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, \
	INT4OID, TEXTOID, INTERVALOID, BOOLOID, UUIDOID, TIMESTAMPTZOID, \
	TIMESTAMPTZOID

static QsStatement hold_queue = {
	.sql = "SELECT FROM @queues WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE",
	.nargs = 2, .argtypes = {UUIDOID, UUIDOID}
};

/* whether the times and the rest are as stated; types as of the others */
static QsStatement lock_schedule = {
	.sql = "SELECT id, next_run_at, last_run_at,"
	" cron = $3 AND timezone = $5 AND enabled = $12,"
	" queue_id = $2 AND payload = $4 AND job_type = $6 AND priority = $7"
	" AND catch_up = $8 AND catch_up_max = $9 AND overlap = $10"
	" AND jitter = $11"
	" FROM @schedules WHERE tenant_id = $13 AND name = $1 FOR NO KEY UPDATE",
	.nargs = NARGS, .argtypes = {TYPES}
};
static QsStatement insert_schedule = {
	.sql = "INSERT INTO @schedules (name, queue_id, cron, payload, timezone,"
	" job_type, priority, catch_up, catch_up_max, overlap, jitter, enabled,"
	" tenant_id, next_run_at, created_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
	" ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id",
	.nargs = NARGS, .argtypes = {TYPES}
};
static QsStatement update_schedule = {
	.sql = "UPDATE @schedules SET queue_id = $2, cron = $3, payload = $4,"
	" timezone = $5, job_type = $6, priority = $7, catch_up = $8,"
	" catch_up_max = $9, overlap = $10, jitter = $11, enabled = $12,"
	" next_run_at = $14, retry_at = NULL, last_error = NULL"
	" WHERE tenant_id = $13 AND name = $1",
	.nargs = NARGS, .argtypes = {TYPES}
};
static QsStatement delete_schedule = {
	.sql = "DELETE FROM @schedules WHERE tenant_id = $1 AND name = $2",
	.nargs = 2, .argtypes = {UUIDOID, TEXTOID}
};

/* what queue_schedule() returns */
typedef struct Scheduled
{
	pg_uuid_t	id;
	bool		created;
} Scheduled;

/* Refuses a text that is none of the names, the last of which is NULL. */
static void
check_name(FunctionCallInfo fcinfo, int n, const char *argument,
		   const char *const *names, const char *listed)
{
	char	   *value = qs_arg_text(fcinfo, n, argument, 32);

	while (*names != NULL)
		if (strcmp(value, *names++) == 0)
			return;
	ereport(ERROR,
			(errcode(QS_ARGUMENT_INVALID),
			 errmsg("%s must be %s", argument, listed)));
}

/* Checks the arguments, and puts them into args, but for next_run_at. */
static void
take_schedule(FunctionCallInfo fcinfo, QsCall *call, QsDue *due, Datum *args)
{
	static const char *const catch_ups[] = {"none", "last", "all", NULL};
	static const char *const overlaps[] = {"allow", "skip", NULL};
	QsQueue    *queue = palloc(sizeof(QsQueue));

	(void) qs_arg_text(fcinfo, ARG_NAME, "name", QS_NAME_BYTES);
	qs_queue_by_name(call, qs_arg_text(fcinfo, ARG_QUEUE, "queue", QS_NAME_BYTES),
					 queue);
	qs_due_parse(due, qs_arg_text(fcinfo, ARG_CRON, "cron", CRON_BYTES),
				 qs_arg_text(fcinfo, ARG_TIMEZONE, "timezone", ZONE_BYTES));
	qs_require(fcinfo, ARG_PAYLOAD, "payload");
	qs_check_json(PG_GETARG_DATUM(ARG_PAYLOAD), "payload", queue->max_payload);
	(void) qs_arg_text(fcinfo, ARG_JOB_TYPE, "job_type", QS_JOB_TYPE_BYTES);
	(void) qs_arg_int(fcinfo, ARG_PRIORITY, "priority", PG_INT16_MIN,
					  PG_INT16_MAX);
	check_name(fcinfo, ARG_CATCH_UP, "catch_up", catch_ups, "none, last or all");
	(void) qs_arg_int(fcinfo, ARG_CATCH_UP_MAX, "catch_up_max", 1, QS_MAX_BATCH);
	check_name(fcinfo, ARG_OVERLAP, "overlap", overlaps, "allow or skip");
	(void) qs_arg_interval(fcinfo, ARG_JITTER, "jitter", 0, QS_YEAR);
	(void) qs_arg_bool(fcinfo, ARG_ENABLED, "enabled");

	for (int i = 0; i < NARGUMENTS; i++)
		args[i] = PG_GETARG_DATUM(i);
	args[ARG_QUEUE] = UUIDPGetDatum(&queue->id);
	args[ARG_TENANT] = UUIDPGetDatum(&call->tenant);
	args[ARG_NOW] = TimestampTzGetDatum(call->now);
}

/* Keeps the queue from being dropped until the transaction ends. */
static void
hold(FunctionCallInfo fcinfo, QsCall *call, Datum *args)
{
	Datum		key[2] = {args[ARG_TENANT], args[ARG_QUEUE]};

	if (qs_execute(&hold_queue, call, SPI_OK_SELECT, key, NULL, 0) == 0)
		qs_queue_unknown(text_to_cstring(PG_GETARG_TEXT_PP(ARG_QUEUE)));
}

/*
 * Changes the schedule of that name, unless it is as stated. False if there is
 * none. next_run_at is left in args and nulls.
 */
static bool
change(QsCall *call, const QsDue *due, Datum *args, char *nulls, Scheduled *result)
{
	TimestampTz after = call->now;
	bool		has_next;
	bool		fired;
	bool		isnull;
	TimestampTz next;
	TimestampTz last;
	bool		same_times;
	bool		same_rest;
	bool		enabled = DatumGetBool(args[ARG_ENABLED]);

	if (qs_execute(&lock_schedule, call, SPI_OK_SELECT, args, nulls, 0) == 0)
		return false;
	result->created = false;
	result->id = *DatumGetUUIDP(qs_result(0, 1, &isnull));
	next = DatumGetTimestampTz(qs_result(0, 2, &isnull));
	has_next = !isnull;
	last = DatumGetTimestampTz(qs_result(0, 3, &isnull));
	fired = !isnull;
	same_times = DatumGetBool(qs_result(0, 4, &isnull));
	same_rest = DatumGetBool(qs_result(0, 5, &isnull));

	if (fired)
		after = Max(after, last);
	if (!enabled)
		nulls[ARG_NEXT] = 'n';
	else
		args[ARG_NEXT] = TimestampTzGetDatum(same_times && has_next ? next :
											 qs_due_next(due, after));
	if (!same_times || !same_rest || has_next != enabled)
		(void) qs_execute(&update_schedule, call, SPI_OK_UPDATE, args, nulls, 0);
	return true;
}

/* Makes the schedule; false if there is one of that name. */
static bool
make(QsCall *call, const QsDue *due, Datum *args, char *nulls, Scheduled *result)
{
	bool		isnull;

	if (DatumGetBool(args[ARG_ENABLED]))
		args[ARG_NEXT] = TimestampTzGetDatum(qs_due_next(due, call->now));
	else
		nulls[ARG_NEXT] = 'n';
	if (qs_execute(&insert_schedule, call, SPI_OK_INSERT_RETURNING, args, nulls,
				   0) == 0)
		return false;
	result->created = true;
	result->id = *DatumGetUUIDP(qs_result(0, 1, &isnull));
	return true;
}

/*
 * SQL: queue_schedule(name, queue, cron, payload, timezone, job_type, priority,
 * catch_up, catch_up_max, overlap, jitter, enabled)
 */
Datum
queue_schedule(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	QsDue		due;
	Datum		args[NARGS] = {0};
	char		nulls[NARGS];
	Scheduled	result;
	Datum		values[3];
	bool		result_nulls[3] = {false, false, false};

	memset(nulls, ' ', sizeof(nulls));
	qs_begin(&call, fcinfo, "queue_schedule()", QS_ONE_TENANT);
	take_schedule(fcinfo, &call, &due, args);
	qs_connect();
	hold(fcinfo, &call, args);
	if (!change(&call, &due, args, nulls, &result) &&
		!make(&call, &due, args, nulls, &result))
	{
		/* somebody else made it meanwhile */
		qs_renew_snapshot();
		if (!change(&call, &due, args, nulls, &result))
			qs_serialization_failure();
	}
	SPI_finish();
	qs_end(&call);

	values[0] = UUIDPGetDatum(&result.id);
	values[1] = BoolGetDatum(result.created);
	values[2] = args[ARG_NEXT];
	result_nulls[2] = nulls[ARG_NEXT] == 'n';
	return qs_return_row(fcinfo, &desc, values, result_nulls);
}

/* SQL: queue_unschedule(name) */
Datum
queue_unschedule(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Datum		args[2];
	bool		deleted;

	qs_begin(&call, fcinfo, "queue_unschedule()", QS_ONE_TENANT);
	(void) qs_arg_text(fcinfo, 0, "name", QS_NAME_BYTES);
	args[0] = UUIDPGetDatum(&call.tenant);
	args[1] = PG_GETARG_DATUM(0);
	qs_connect();
	deleted = qs_execute(&delete_schedule, &call, SPI_OK_DELETE, args, NULL, 0) == 1;
	SPI_finish();
	qs_end(&call);
	PG_RETURN_BOOL(deleted);
}

/* SQL: queue_cron_next(cron, timezone, after, n) */
Datum
queue_cron_next(PG_FUNCTION_ARGS)
{
	QsDue		due;
	TimestampTz time = GetCurrentTimestamp();
	int			n;

	qs_due_parse(&due, qs_arg_text(fcinfo, 0, "cron", CRON_BYTES),
				 qs_arg_text(fcinfo, 1, "timezone", ZONE_BYTES));
	if (!PG_ARGISNULL(2))
		time = qs_arg_time(fcinfo, 2, "after", time);
	n = qs_arg_int(fcinfo, 3, "n", 1, QS_MAX_BATCH);
	qs_begin_rows(fcinfo);
	for (int i = 0; i < n; i++)
	{
		Datum		value;
		bool		isnull = false;

		CHECK_FOR_INTERRUPTS();
		time = qs_due_next(&due, time);
		value = TimestampTzGetDatum(time);
		qs_put_row(fcinfo, &value, &isnull);
	}
	return (Datum) 0;
}
