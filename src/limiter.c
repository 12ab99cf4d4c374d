/*
 * limiter.c
 *	  Takes tokens and permits: see limiter.h.
 *
 * Rows come first, as to lock one may mean to wait; then permits, then tokens
 * in shared memory, own share before service. Who is refused on the way
 * gives back what it has. Rows are written last, once all is granted. Nothing in
 * shared memory is given back by a rollback, as the call that the tokens are
 * for may have been made; what a row gave is.
 */
#include "postgres.h"

#include "errors.h"
#include "limit_clock.h"
#include "limit_row.h"
#include "limiter.h"
#include "miscadmin.h"
#include "permits.h"
#include "token.h"

/* The rows of those limits that are kept in them. */
typedef struct Rows
{
	QsLimitRow	row[2];
	bool		locked[2];
} Rows;

static void
check_request(const QsRequest *request, const QsLimits *limits)
{
	for (int i = 0; i < limits->count; i++)
	{
		const QsLimit *limit = &limits->limit[i];

		if (request->least > limit->bucket.capacity)
			ereport(ERROR,
					(errcode(QS_TOO_MANY_TOKENS),
					 errmsg("%d tokens will never be there", request->least),
					 errdetail("The bucket of \"%s\" holds %g.", request->name,
							   limit->bucket.capacity)));
		if (!request->with_permit || limit->max_concurrent == 0)
			continue;
		if (request->hold > limit->max_hold)
			ereport(ERROR,
					(errcode(QS_ARGUMENT_INVALID),
					 errmsg("hold must be at most %g seconds",
							(double) limit->max_hold / USECS_PER_SEC)));
		if (!qs_holders_exist())
			ereport(ERROR,
					(errcode(QS_NOT_PRELOADED),
					 errmsg("permits of \"%s\" need shared memory", request->name),
					 errhint("Add queue_service to shared_preload_libraries, or set max_concurrent to 0.")));
	}
}

/* Locks the rows of those limits that have their tokens there. */
static bool
lock_rows(QsCall *call, const QsRequest *request, const QsLimits *limits,
		  Rows *rows)
{
	memset(rows->locked, 0, sizeof(rows->locked));
	for (int i = 0; i < limits->count; i++)
	{
		/* what is found by name is forgotten once others change it */
		QsLimit		limit = limits->limit[i];

		if (!limit.in_row)
			continue;
		qs_enter_tables(call);
		if (!qs_limit_row_lock(call, &limit, request->tenant, request->name,
							   &rows->row[i]))
			return false;
		rows->locked[i] = true;
	}
	return true;
}

/* Says of a refusal when all limits would grant it, and what they have. */
static void
look(const QsRequest *request, const QsLimits *limits, const Rows *rows,
	 QsGrant *grant)
{
	grant->at = Max(grant->at, qs_limit_clock());
	grant->wait = 0;
	for (int i = 0; i < limits->count; i++)
	{
		const QsLimit *limit = &limits->limit[i];
		const QsLimitRow *row = &rows->row[i];
		int64		wait;
		double		left;
		int32		out;

		if (rows->locked[i])
		{
			left = qs_bucket_tokens(&row->bucket, row->position, grant->at);
			wait = qs_bucket_wait(&row->bucket, row->position, grant->at,
								  request->least);
		}
		else
			qs_buckets_look(&limit->bucket, grant->at, request->least, &left,
							&wait);
		if (request->with_permit && limit->max_concurrent > 0)
			wait = Max(wait, qs_permit_wait(limit, grant->at, &out));
		grant->wait = Max(grant->wait, wait);
		grant->left = i == 0 ? left : Min(grant->left, left);
	}
}

static void
release_permits(const QsLimits *limits, int count, int64 permit)
{
	for (int i = 0; i < count; i++)
		if (limits->limit[i].max_concurrent > 0)
			(void) qs_permit_release(&limits->limit[i], permit);
}

/* Takes a permit where there is a limit to them, the same in each. */
static bool
take_permits(const QsRequest *request, const QsLimits *limits, QsGrant *grant)
{
	int64		hold = request->hold;
	int64		permit = 0;

	for (int i = 0; i < limits->count; i++)
		if (limits->limit[i].max_concurrent > 0)
		{
			if (request->hold == 0 &&
				(hold == 0 || limits->limit[i].max_hold < hold))
				hold = limits->limit[i].max_hold;
			if (permit == 0)
				permit = qs_random_token();
		}
	for (int i = 0; i < limits->count; i++)
	{
		QsHoldersAnswer answer;

		if (limits->limit[i].max_concurrent == 0)
			continue;
		answer = qs_permit_take(&limits->limit[i], permit, grant->at,
								grant->at + hold);
		if (answer == QS_GRANTED)
			continue;
		release_permits(limits, i, permit);
		if (answer == QS_NO_ROOM)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("there is no room for another permit"),
					 errhint("Raise queue_service.max_holders.")));
		return false;
	}
	grant->permit = permit;
	return true;
}

/*
 * Takes tokens: as many as all limits have, from least to most. Returns false,
 * and has taken nothing, if one has too few; *late is set if the time in grant
 * is too old to take at.
 */
static bool
take_tokens(const QsRequest *request, const QsLimits *limits, Rows *rows,
			QsGrant *grant, bool *late)
{
	int32		tokens = request->most;

	*late = false;
	for (int i = 0; i < limits->count; i++)
		if (rows->locked[i])
		{
			QsLimitRow *row = &rows->row[i];
			int64		whole = qs_bucket_whole(&row->bucket, row->position,
												grant->at);

			if (whole < request->least)
				return false;
			tokens = (int32) Min(tokens, whole);
		}
	for (int i = 0; i < limits->count; i++)
	{
		QsBucketTake *take = &grant->take[i];

		if (rows->locked[i])
			continue;
		qs_buckets_take(&limits->limit[i].bucket, grant->at, request->least,
						tokens, take);
		for (int j = 0; j < i; j++)
			if (!rows->locked[j] && take->tokens < grant->take[j].tokens)
			{
				int32		excess = grant->take[j].tokens - take->tokens;

				qs_buckets_return(&limits->limit[j].bucket, &grant->take[j], excess);
				grant->take[j].tokens -= excess;
				grant->take[j].left += excess;
			}
		*late = take->late;
		if (take->tokens == 0)
			return false;
		tokens = take->tokens;
	}
	for (int i = 0; i < limits->count; i++)
		if (rows->locked[i])
		{
			QsLimitRow *row = &rows->row[i];

			if (!qs_bucket_take(&row->bucket, &row->position, grant->at, tokens))
				elog(ERROR, "a bucket has fewer tokens than it had");
			grant->take[i].left = qs_bucket_tokens(&row->bucket, row->position,
												   grant->at);
		}
	grant->tokens = tokens;
	return true;
}

/* Notes what was granted, for who gives it back. */
static void
fill_grant(const QsLimits *limits, const Rows *rows, QsGrant *grant)
{
	grant->count = limits->count;
	for (int i = 0; i < limits->count; i++)
	{
		grant->in_row[i] = rows->locked[i];
		grant->bucket[i] = limits->limit[i].bucket;
		if (i == 0 || grant->take[i].left < grant->left)
			grant->left = grant->take[i].left;
	}
}

static void
write_rows(QsCall *call, const QsRequest *request, const QsLimits *limits,
		   const Rows *rows, const QsGrant *grant)
{
	for (int i = 0; i < limits->count; i++)
		if (rows->locked[i])
			qs_limit_row_write(call, &limits->limit[i], request->tenant,
							   request->name, &rows->row[i], grant->at);
}

/* One try; false if it is to be made again, at another time. */
static bool
try_take(const QsRequest *request, const QsLimits *limits, Rows *rows,
		 QsGrant *grant)
{
	bool		late = false;

	memset(grant, 0, sizeof(*grant));
	grant->at = qs_limit_clock();
	qs_permits_use(grant->at);
	for (int i = 0; i < limits->count; i++)
		if (rows->locked[i])
			/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): it was read */
			grant->at = Max(grant->at, rows->row[i].bucket.base);

	if (!request->with_permit || take_permits(request, limits, grant))
	{
		if (take_tokens(request, limits, rows, grant, &late))
		{
			fill_grant(limits, rows, grant);
			return true;
		}
		if (grant->permit != 0)
			release_permits(limits, limits->count, grant->permit);
		grant->permit = 0;
	}
	if (late)
		return false;
	look(request, limits, rows, grant);
	/* what stood in the way may be gone already */
	return grant->wait > 0;
}

/*
 * Takes what is asked for, or says how long until it could be had. A limit that
 * has its tokens in a row stays locked for the transaction.
 */
void
qs_limiter_take(QsCall *call, const QsRequest *request, QsGrant *grant)
{
	const QsLimits *found;
	QsLimits	limits;
	Rows		rows;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		found = qs_limits_find(call, request->tenant, request->name);
		check_request(request, found);
		limits = *found;
		if (!lock_rows(call, request, &limits, &rows))
			qs_limits_forget();
		else if (try_take(request, &limits, &rows, grant))
			break;
	}
	if (grant->tokens > 0)
		write_rows(call, request, &limits, &rows, grant);
}

/* Gives back so many of the tokens that were taken in this transaction. */
void
qs_limiter_give_back(QsCall *call, const QsRequest *request, QsGrant *grant,
					 int32 tokens)
{
	const QsLimits *found = qs_limits_find(call, request->tenant, request->name);
	QsLimits	limits = *found;

	for (int i = 0; i < grant->count; i++)
	{
		QsLimitRow	row;

		if (!grant->in_row[i])
			qs_buckets_return(&grant->bucket[i], &grant->take[i], tokens);
		else if (i < limits.count &&
				 qs_limit_row_lock(call, &limits.limit[i], request->tenant,
								   request->name, &row))
		{
			TimestampTz now = Max(qs_limit_clock(), row.bucket.base);

			/* nobody else took from it meanwhile */
			row.position = qs_bucket_returned(&row.bucket, row.position, now,
											  row.position, tokens);
			qs_limit_row_write(call, &limits.limit[i], request->tenant,
							   request->name, &row, now);
		}
	}
	grant->tokens -= tokens;
}

/*
 * Gives all tokens back as the transaction that took them rolls back, which
 * itself does so with rows. Cannot fail.
 */
void
qs_limiter_abort(const QsGrant *grant)
{
	for (int i = 0; i < grant->count; i++)
		if (!grant->in_row[i])
			qs_buckets_return(&grant->bucket[i], &grant->take[i], grant->tokens);
}

/*
 * What a limit has at *now, and how long until it has so many tokens, in
 * microseconds; without a lock. *now is moved to when its row was written, if it
 * is before. False if the row is gone.
 */
bool
qs_limiter_look(QsCall *call, const QsLimit *limit, const pg_uuid_t *tenant,
				const char *name, int32 tokens, TimestampTz *now,
				double *left, int64 *wait)
{
	QsLimitRow	row;

	if (!limit->in_row)
	{
		qs_buckets_look(&limit->bucket, *now, tokens, left, wait);
		return true;
	}
	if (!qs_limit_row_read(call, limit, tenant, name, &row))
		return false;
	*now = Max(*now, row.bucket.base);
	*left = qs_bucket_tokens(&row.bucket, row.position, *now);
	*wait = qs_bucket_wait(&row.bucket, row.position, *now, tokens);
	return true;
}

/*
 * How long until so many tokens are there, in microseconds, in a call that is in
 * the tables.
 */
int64
qs_limiter_wait(QsCall *call, const pg_uuid_t *tenant, const char *name,
				int32 tokens)
{
	QsLimits	limits = *qs_limits_find(call, tenant, name);
	int64		longest = 0;

	for (int i = 0; i < limits.count; i++)
	{
		TimestampTz now = qs_limit_clock();
		double		left;
		int64		wait;

		if (qs_limiter_look(call, &limits.limit[i], tenant, name, tokens, &now,
							&left, &wait))
			longest = Max(longest, wait);
	}
	return longest;
}

/* Releases a permit wherever it is held; false if it is nowhere. */
bool
qs_limiter_release(QsCall *call, const pg_uuid_t *tenant, const char *name,
				   int64 permit)
{
	const QsLimits *limits = qs_limits_find(call, tenant, name);
	bool		released = false;

	for (int i = 0; i < limits->count && qs_holders_exist(); i++)
		released |= qs_permit_release(&limits->limit[i], permit);
	return released;
}
