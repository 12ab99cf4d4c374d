/*
 * rate.c
 *	  The verbs on limits for whoever calls a service: acquire, release, peek.
 */
#include "postgres.h"

#include <math.h>

#include "args.h"
#include "errors.h"
#include "limit_clock.h"
#include "limiter.h"
#include "permits.h"
#include "result.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_rate_acquire);
PG_FUNCTION_INFO_V1(queue_rate_release);
PG_FUNCTION_INFO_V1(queue_rate_peek);

static const pg_uuid_t *
caller_tenant(const QsCall *call)
{
	return call->has_tenant ? &call->tenant : NULL;
}

static Datum
interval_of(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

/* SQL: queue_rate_acquire(service, tokens, hold) */
Datum
queue_rate_acquire(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	QsRequest	request = {.with_permit = true};
	QsGrant		grant;
	bool		granted;
	Datum		values[5];
	bool		nulls[5] = {false};

	qs_begin_outside(&call, fcinfo, "queue_rate_acquire()", QS_ANY_TENANT);
	request.tenant = caller_tenant(&call);
	request.name = qs_arg_text(fcinfo, 0, "service", QS_NAME_BYTES);
	request.least = request.most =
		qs_arg_int(fcinfo, 1, "tokens", 1, PG_INT32_MAX);
	if (!PG_ARGISNULL(2))
		request.hold = qs_interval_microseconds(
			qs_arg_interval(fcinfo, 2, "hold", 1, USECS_PER_DAY));
	qs_limiter_take(&call, &request, &grant);
	qs_end(&call);

	granted = grant.tokens > 0;
	values[0] = BoolGetDatum(granted);
	values[1] = Int64GetDatum(grant.permit);
	nulls[1] = grant.permit == 0;
	values[2] = Float8GetDatum(grant.left);
	values[3] = granted ? (Datum) 0 : interval_of(grant.wait);
	nulls[3] = granted;
	values[4] = TimestampTzGetDatum(grant.at);
	nulls[4] = !granted;
	return qs_return_row(fcinfo, &desc, values, nulls);
}

/* SQL: queue_rate_release(service, permit) */
Datum
queue_rate_release(PG_FUNCTION_ARGS)
{
	QsCall		call;
	char	   *name;
	bool		released;

	qs_begin_outside(&call, fcinfo, "queue_rate_release()", QS_ANY_TENANT);
	name = qs_arg_text(fcinfo, 0, "service", QS_NAME_BYTES);
	qs_require(fcinfo, 1, "permit");
	released = qs_limiter_release(&call, caller_tenant(&call), name,
								  PG_GETARG_INT64(1));
	qs_end(&call);
	PG_RETURN_BOOL(released);
}

/*
 * In thousandths, as more digits are noise. Down, so that no token shows that is
 * not there, but for what doubles lose.
 */
static double
shown_tokens(double tokens)
{
	return floor(tokens * 1000 + 1e-6) / 1000;
}

static void
put_limit(FunctionCallInfo fcinfo, QsCall *call, const char *name,
		  const QsLimit *limit)
{
	TimestampTz now = qs_limit_clock();
	double		tokens;
	int64		wait;
	int32		out = 0;
	int64		permit_wait = 0;
	Datum		values[8];
	bool		nulls[8] = {false};
	int			n = 0;

	if (!qs_limiter_look(call, limit, caller_tenant(call), name, 1, &now, &tokens,
						 &wait))
		return;
	if (limit->max_concurrent > 0 && qs_holders_exist())
		permit_wait = qs_permit_wait(limit, now, &out);

	values[n++] = CStringGetTextDatum(limit->is_share ? "tenant" : "service");
	values[n++] = Float8GetDatum(shown_tokens(tokens));
	values[n++] = Float8GetDatum(limit->bucket.capacity);
	values[n++] = Float8GetDatum(limit->bucket.rate);
	values[n++] = interval_of(wait);
	nulls[n] = limit->max_concurrent == 0;
	values[n++] = Int32GetDatum(out);
	nulls[n] = limit->max_concurrent == 0;
	values[n++] = Int32GetDatum(limit->max_concurrent);
	nulls[n] = limit->max_concurrent == 0;
	values[n++] = interval_of(permit_wait);
	qs_put_row(fcinfo, values, nulls);
}

/* SQL: queue_rate_peek(service) */
Datum
queue_rate_peek(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsLimits	limits;
	char	   *name;

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	name = qs_arg_text(fcinfo, 0, "service", QS_NAME_BYTES);
	limits = *qs_limits_find(&call, caller_tenant(&call), name);
	qs_begin_rows(fcinfo);
	for (int i = 0; i < limits.count; i++)
		put_limit(fcinfo, &call, name, &limits.limit[i]);
	qs_end(&call);
	return (Datum) 0;
}
