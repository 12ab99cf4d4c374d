/*
 * args.c
 *	  Takes the arguments of SQL functions: see args.h.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "errors.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* How far from now a time may be: what is further is a mistake. */
#define FARTHEST (100 * QS_YEAR)

/* GUC: queue_service.max_payload, in bytes */
static int	max_payload = 1024 * 1024;

void
qs_args_init(void)
{
	DefineCustomIntVariable("queue_service.max_payload",
							"Largest payload, headers or result of a job.",
							"A queue's max_payload may only be smaller.",
							&max_payload, 1024 * 1024, 1, 256 * 1024 * 1024,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
}

/* Raises QS_ARGUMENT_NULL if the argument is null. */
void
qs_require(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(QS_ARGUMENT_NULL),
				 errmsg("%s must not be null", name)));
}

/* A text of 1 to max_bytes bytes, as a new C string. */
char *
qs_arg_text(FunctionCallInfo fcinfo, int n, const char *name, int max_bytes)
{
	Size		bytes;

	qs_require(fcinfo, n, name);
	/* before it is read, or decompressed, if it comes from a table */
	bytes = toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ;
	if (bytes < 1 || bytes > (Size) max_bytes)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("%s must be 1 to %d bytes long", name, max_bytes)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

bool
qs_arg_bool(FunctionCallInfo fcinfo, int n, const char *name)
{
	qs_require(fcinfo, n, name);
	return PG_GETARG_BOOL(n);
}

int
qs_arg_int(FunctionCallInfo fcinfo, int n, const char *name, int min, int max)
{
	int			value;

	qs_require(fcinfo, n, name);
	value = PG_GETARG_INT32(n);
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("%s must be between %d and %d", name, min, max)));
	return value;
}

/* A number of min to max; above 0 if min is 0. */
double
qs_arg_double(FunctionCallInfo fcinfo, int n, const char *name, double min,
			  double max)
{
	double		value;

	qs_require(fcinfo, n, name);
	value = PG_GETARG_FLOAT8(n);
	/* not a number is in no range */
	if (!(value >= min && value <= max) || value == 0)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 min > 0 ?
				 errmsg("%s must be between %.0f and %.0f", name, min, max) :
				 errmsg("%s must be positive and at most %.0f", name, max)));
	return value;
}

pg_uuid_t *
qs_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name)
{
	qs_require(fcinfo, n, name);
	return PG_GETARG_UUID_P(n);
}

/*
 * The length of an interval in microseconds, with months of 30 days; the
 * largest number instead of what does not fit. For comparing and for backoff;
 * times are computed by qs_add_interval().
 */
int64
qs_interval_microseconds(const Interval *interval)
{
	double		length;

	if (!qs_interval_is_finite(interval))
		return interval->month < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	length = ((double) interval->month * 30 + interval->day) * USECS_PER_DAY +
		(double) interval->time;
	if (length >= 9.2e18)
		return PG_INT64_MAX;
	if (length <= -9.2e18)
		return PG_INT64_MIN;
	return (int64) length;
}

/* An interval of min to max microseconds. */
Interval *
qs_arg_interval(FunctionCallInfo fcinfo, int n, const char *name,
				int64 min, int64 max)
{
	Interval   *value;
	int64		length;

	qs_require(fcinfo, n, name);
	value = PG_GETARG_INTERVAL_P(n);
	length = qs_interval_microseconds(value);
	if (length < min || length > max)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 min > 0 ?
				 errmsg("%s must be positive and at most " INT64_FORMAT " days",
						name, (int64) (max / USECS_PER_DAY)) :
				 errmsg("%s must be between 0 and " INT64_FORMAT " days",
						name, (int64) (max / USECS_PER_DAY))));
	return value;
}

/* A time at most a hundred years from now. */
TimestampTz
qs_arg_time(FunctionCallInfo fcinfo, int n, const char *name, TimestampTz now)
{
	TimestampTz value;

	qs_require(fcinfo, n, name);
	value = PG_GETARG_TIMESTAMPTZ(n);
	if (TIMESTAMP_NOT_FINITE(value) ||
		value < now - FARTHEST || value > now + FARTHEST)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("%s must be within 100 years from now", name)));
	return value;
}

/*
 * An array of one dimension, or empty, with at most QS_MAX_BATCH elements.
 * With nulls NULL, a null element is refused as well. Returns their number.
 */
int
qs_arg_array(FunctionCallInfo fcinfo, int n, const char *name, Oid element,
			 Datum **values, bool **nulls)
{
	ArrayType  *array;
	int16		length;
	bool		by_value;
	char		align;
	int			count;

	qs_require(fcinfo, n, name);
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("%s must have one dimension", name)));
	if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > QS_MAX_BATCH)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("%s must have at most %d elements", name, QS_MAX_BATCH)));
	if (nulls == NULL && array_contains_nulls(array))
		ereport(ERROR,
				(errcode(QS_ARGUMENT_NULL),
				 errmsg("%s must not contain nulls", name)));
	get_typlenbyvalalign(element, &length, &by_value, &align);
	deconstruct_array(array, element, length, by_value, align,
					  values, nulls, &count);
	return count;
}

/* Adds by the rules of SQL, where months and days follow the calendar. */
TimestampTz
qs_add_interval(TimestampTz time, const Interval *interval)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(time),
												   IntervalPGetDatum(interval)));
}

/*
 * Raises QS_PAYLOAD_TOO_LARGE if a jsonb has more than max_bytes, or than
 * queue_service.max_payload, which 0 means: its size before compression.
 */
void
qs_check_json(Datum json, const char *name, int max_bytes)
{
	int			limit = max_bytes > 0 ? Min(max_bytes, max_payload) : max_payload;

	if (toast_raw_datum_size(json) - VARHDRSZ > (Size) limit)
		ereport(ERROR,
				(errcode(QS_PAYLOAD_TOO_LARGE),
				 errmsg("%s is larger than %d bytes", name, limit),
				 errhint("Store large data elsewhere, and a reference to it here.")));
}
