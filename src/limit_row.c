/*
 * limit_row.c
 *	  Token buckets that are kept in their rows: see limit_row.h.
 *
 * So are slow buckets, which may not begin empty each time the server starts,
 * and without shared memory all. Who takes from one holds a lock on its row until
 * the end of the transaction: others wait, and a rollback undoes the take.
 *
 * A row holds the tokens as of a time. That is what there was then, for:
 * - a bucket that is kept in its row: by every take, in exact arithmetic;
 * - any bucket when its definition changes: the trigger queue_limit_settled
 *	 puts there what it holds by the old one, whoever changes it.
 * A bucket that is not slow begins empty with each start of the server, here as
 * in shared memory: what a row says from before that is not looked at.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "limit_clock.h"
#include "limit_row.h"
#include "postmaster/postmaster.h"
#include "statement.h"
#include "table.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(qs_queue_limit_settle);

#define READ(table, condition) \
	"SELECT tokens_available, last_refill_at, max_tokens, refill_per_second" \
	" FROM @" table " WHERE " condition
#define LOCK(table, condition) READ(table, condition) " FOR NO KEY UPDATE"
#define WRITE(table, condition) \
	"UPDATE @" table " SET tokens_available = $1, last_refill_at = $2" \
	" WHERE " condition

static QsStatement read_service = {
	.sql = READ("rate_limiters", "service_name = $1"),
	.nargs = 1, .argtypes = {TEXTOID}
};
static QsStatement read_share = {
	.sql = READ("rate_limits", "name = $1 AND tenant_id = $2"),
	.nargs = 2, .argtypes = {TEXTOID, UUIDOID}
};
static QsStatement lock_service = {
	.sql = LOCK("rate_limiters", "service_name = $1"),
	.nargs = 1, .argtypes = {TEXTOID}
};
static QsStatement lock_share = {
	.sql = LOCK("rate_limits", "name = $1 AND tenant_id = $2"),
	.nargs = 2, .argtypes = {TEXTOID, UUIDOID}
};
static QsStatement write_service = {
	.sql = WRITE("rate_limiters", "service_name = $3"),
	.nargs = 3, .argtypes = {FLOAT8OID, TIMESTAMPTZOID, TEXTOID}
};
static QsStatement write_share = {
	.sql = WRITE("rate_limits", "name = $3 AND tenant_id = $4"),
	.nargs = 4, .argtypes = {FLOAT8OID, TIMESTAMPTZOID, TEXTOID, UUIDOID}
};

/* The bucket that a row describes. */
static void
make_bucket(double tokens, TimestampTz at, double capacity, double rate,
			QsLimitRow *row)
{
	if (TIMESTAMP_NOT_FINITE(at))
		at = qs_limit_clock();
	if (at < PgStartTime && !qs_limit_is_slow(capacity, rate))
	{
		tokens = 0;
		at = PgStartTime;
	}
	qs_bucket_init(&row->bucket, capacity, rate, at);
	row->position = qs_bucket_position(&row->bucket, tokens);
}

/* Takes the bucket from the row that a statement found; false if it found none. */
static bool
fetch(QsStatement *statement, QsCall *call, bool reads,
	  const pg_uuid_t *tenant, const char *name, QsLimitRow *row,
	  double *capacity, double *rate)
{
	Datum		args[2] = {CStringGetTextDatum(name), UUIDPGetDatum(tenant)};
	bool		isnull;
	bool		found;

	qs_connect();
	found = (reads ? qs_read(statement, call, args, NULL, 0) :
			 qs_execute(statement, call, SPI_OK_SELECT, args, NULL, 0)) == 1;
	if (found)
	{
		*capacity = DatumGetFloat8(qs_result(0, 3, &isnull));
		*rate = DatumGetFloat8(qs_result(0, 4, &isnull));
		make_bucket(DatumGetFloat8(qs_result(0, 1, &isnull)),
					DatumGetTimestampTz(qs_result(0, 2, &isnull)),
					*capacity, *rate, row);
	}
	SPI_finish();
	return found;
}

/* Reads the row of a limit; false if there is none. */
bool
qs_limit_row_read(QsCall *call, const QsLimit *limit, const pg_uuid_t *tenant,
				  const char *name, QsLimitRow *row)
{
	double		capacity;
	double		rate;

	return fetch(limit->is_share ? &read_share : &read_service, call, true,
				 tenant, name, row, &capacity, &rate);
}

/*
 * Leaves in a bucket no more tokens than shared memory knows of, from before
 * it was kept in its row.
 */
static void
bound_row(const QsLiveBucket *live, QsLimitRow *row)
{
	TimestampTz now = Max(qs_limit_clock(), row->bucket.base);
	double		tokens;
	QsLimitRow	bound;

	if (!qs_buckets_bound(live, now, &tokens))
		return;
	qs_bucket_init(&bound.bucket, live->capacity, live->rate, now);
	bound.position = Max(qs_bucket_position(&bound.bucket, tokens),
						 qs_bucket_carried(&row->bucket, row->position,
										   &bound.bucket));
	*row = bound;
}

/*
 * Locks the row of a limit, and reads it. False if it is not what the session
 * took it for.
 */
bool
qs_limit_row_lock(QsCall *call, const QsLimit *limit, const pg_uuid_t *tenant,
				  const char *name, QsLimitRow *row)
{
	const QsLiveBucket *bucket = &limit->bucket;
	bool		same;
	double		capacity;
	double		rate;

	same = fetch(limit->is_share ? &lock_share : &lock_service, call, false,
				 tenant, name, row, &capacity, &rate);
	/* to this transaction a row that is known does not exist */
	if (!same && IsolationUsesXactSnapshot())
		qs_serialization_failure();
	same = same && capacity == bucket->capacity && rate == bucket->rate;

	if (same && qs_buckets_exist())
		bound_row(bucket, row);
	return same;
}

/* Writes what a locked row holds now, or as of its base if that is later. */
void
qs_limit_row_write(QsCall *call, const QsLimit *limit, const pg_uuid_t *tenant,
				   const char *name, const QsLimitRow *row, TimestampTz now)
{
	TimestampTz at = Max(now, row->bucket.base);
	Datum		args[4] = {
		Float8GetDatum(qs_bucket_tokens(&row->bucket, row->position, at)),
		TimestampTzGetDatum(at), CStringGetTextDatum(name), UUIDPGetDatum(tenant)
	};

	qs_connect();
	if (qs_execute(limit->is_share ? &write_share : &write_service, call,
				   SPI_OK_UPDATE, args, NULL, 0) != 1)
		elog(ERROR, "could not find the row of a limit that is locked");
	SPI_finish();
}

static Datum
get_column(Relation rel, HeapTuple row, const char *column, bool *isnull)
{
	return heap_getattr(row, get_attnum(RelationGetRelid(rel), column),
						RelationGetDescr(rel), isnull);
}

static double
get_double(Relation rel, HeapTuple row, const char *column)
{
	bool		isnull;

	return DatumGetFloat8(get_column(rel, row, column, &isnull));
}

/* What the bucket of a row holds now. */
static double
tokens_now(Relation rel, HeapTuple row, TimestampTz *now)
{
	bool		share = strcmp(RelationGetRelationName(rel), "rate_limits") == 0;
	bool		isnull;
	Datum		tenant = get_column(rel, row, "tenant_id", &isnull);
	Datum		name = get_column(rel, row, share ? "name" : "service_name", &isnull);
	QsLiveBucket live = {0};
	QsLimitRow	kept;

	live.capacity = get_double(rel, row, "max_tokens");
	live.rate = get_double(rel, row, "refill_per_second");
	live.tokens = get_double(rel, row, "tokens_available");
	live.tokens_at = DatumGetTimestampTz(get_column(rel, row, "last_refill_at", &isnull));
	qs_limit_key(&live.key, share ? DatumGetUUIDP(tenant) : NULL,
				 TextDatumGetCString(name));
	*now = qs_limit_clock();
	if (qs_buckets_exist() && !qs_limit_is_slow(live.capacity, live.rate))
	{
		double		tokens;
		int64		wait;

		qs_buckets_look(&live, *now, 1, &tokens, &wait);
		return tokens;
	}
	make_bucket(live.tokens, live.tokens_at, live.capacity, live.rate, &kept);
	if (qs_buckets_exist())
		bound_row(&live, &kept);
	*now = Max(*now, kept.bucket.base);
	return qs_bucket_tokens(&kept.bucket, kept.position, *now);
}

/*
 * SQL: _queue_limit_settle(), trigger for each row of rate_limiters and
 * rate_limits that is about to change. Who sets the tokens too has his way.
 */
Datum
qs_queue_limit_settle(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;
	HeapTuple	old;
	HeapTuple	new;
	TimestampTz now;
	int			numbers[2];
	Datum		values[2];
	bool		nulls[2] = {false, false};
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger", "_queue_limit_settle()")));
	rel = trigger->tg_relation;
	old = trigger->tg_trigtuple;
	new = trigger->tg_newtuple;
	if ((get_double(rel, old, "max_tokens") == get_double(rel, new, "max_tokens") &&
		 get_double(rel, old, "refill_per_second") == get_double(rel, new, "refill_per_second")) ||
		get_double(rel, old, "tokens_available") != get_double(rel, new, "tokens_available") ||
		DatumGetTimestampTz(get_column(rel, old, "last_refill_at", &isnull)) !=
		DatumGetTimestampTz(get_column(rel, new, "last_refill_at", &isnull)))
		return PointerGetDatum(new);

	numbers[0] = get_attnum(RelationGetRelid(rel), "tokens_available");
	values[0] = Float8GetDatum(Min(tokens_now(rel, old, &now),
								   get_double(rel, new, "max_tokens")));
	numbers[1] = get_attnum(RelationGetRelid(rel), "last_refill_at");
	values[1] = TimestampTzGetDatum(now);
	return PointerGetDatum(heap_modify_tuple_by_cols(new, RelationGetDescr(rel), 2,
													 numbers, values, nulls));
}
