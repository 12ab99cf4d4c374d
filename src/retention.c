/*
 * retention.c
 *	  Tasks that delete what has been kept for long enough.
 *
 * What is kept by queue stands in an index by queue and time. With a held
 * horizon the entries of what was deleted stay there, at the low end; so a
 * session remembers for each queue how far it came, and begins there. What is
 * older is left over: rows that were locked, or that a user's foreign key or
 * trigger keeps, or of a run that was rolled back. So from time to time it
 * begins anew.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "statement.h"
#include "task.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Rows that one run deletes at most, and queues that it looks at. */
#define BATCH 1000
#define QUEUES 500
/* How long it is remembered how far a session came. */
#define BEGIN_ANEW (USECS_PER_HOUR)
/* Queues for which it is. */
#define MAX_STARTS 100000

/*
 * A key is free once it has expired, or never does, and its job has finished.
 * It may stand for another job by the time it is locked, so that is looked at
 * again.
 */
#define FREE_KEY \
	" AND NOT EXISTS (SELECT FROM @jobs j" \
	" WHERE j.id = k.job_id AND j.finished_at IS NULL)" \
	" AND NOT EXISTS (SELECT FROM @critical_jobs j" \
	" WHERE j.id = k.job_id AND j.finished_at IS NULL)"

static QsStatement lock_expired_keys = {
	.sql = "SELECT k.id, k.expires_at FROM @idempotency_keys k"
	" WHERE k.expires_at <= $1 AND k.expires_at >= $2" FREE_KEY
	" ORDER BY k.expires_at, k.id LIMIT $3 FOR UPDATE OF k SKIP LOCKED",
	.nargs = 3, .argtypes = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID}
};
static QsStatement select_lasting_keys = {
	.sql = "SELECT id FROM @idempotency_keys"
	" WHERE expires_at IS NULL AND id > $1 ORDER BY expires_at, id LIMIT $2",
	.nargs = 2, .argtypes = {UUIDOID, INT8OID}
};
static QsStatement lock_lasting_keys = {
	.sql = "SELECT k.id FROM @idempotency_keys k"
	" WHERE k.id = ANY ($1) AND k.expires_at IS NULL" FREE_KEY
	" FOR UPDATE OF k SKIP LOCKED",
	.nargs = 1, .argtypes = {UUIDARRAYOID}
};
static QsStatement delete_keys = {
	.sql = "DELETE FROM @idempotency_keys k WHERE k.id = ANY ($1)"
	" AND coalesce(k.expires_at, '-infinity') <= $2" FREE_KEY,
	.nargs = 2, .argtypes = {UUIDARRAYOID, TIMESTAMPTZOID}
};

/* where the session's next run begins */
static TimestampTz expired_from = DT_NOBEGIN;
static TimestampTz expired_anew_at = DT_NOBEGIN;
static pg_uuid_t lasting_from;

typedef struct Keys
{
	int			count;
	pg_uuid_t	values[BATCH];
} Keys;

/* The ids of the last statement's rows. */
static void
take_ids(Keys *keys)
{
	bool		isnull;

	keys->count = (int) SPI_processed;
	for (int i = 0; i < keys->count; i++)
		keys->values[i] = *DatumGetUUIDP(qs_result(i, 1, &isnull));
}

static Datum
make_array(const pg_uuid_t *values, int count)
{
	Datum	   *ids = palloc(count * sizeof(Datum));

	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(&values[i]);
	return PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false,
										   TYPALIGN_CHAR));
}

static int64
delete_batch(QsCall *call, int first, int count, void *arg)
{
	Keys	   *keys = arg;
	Datum		args[2] = {make_array(&keys->values[first], count),
	TimestampTzGetDatum(call->now)};
	int64		deleted;

	qs_connect();
	deleted = qs_execute(&delete_keys, call, SPI_OK_DELETE, args, NULL, 0);
	SPI_finish();
	return deleted;
}

/* Keys that have expired; true if there may be more of them. */
static bool
purge_expired_keys(QsTaskRun *run, Keys *keys)
{
	TimestampTz now = run->call->now;
	Datum		args[3];
	int64		deleted;
	bool		isnull;

	if (now >= expired_anew_at || now < expired_anew_at - BEGIN_ANEW)
	{
		expired_from = DT_NOBEGIN;
		expired_anew_at = now + BEGIN_ANEW;
	}
	args[0] = TimestampTzGetDatum(now);
	args[1] = TimestampTzGetDatum(expired_from);
	args[2] = Int64GetDatum(BATCH);
	qs_connect();
	(void) qs_execute(&lock_expired_keys, run->call, SPI_OK_SELECT, args, NULL, 0);
	take_ids(keys);
	if (keys->count > 0)
		expired_from = DatumGetTimestampTz(qs_result(keys->count - 1, 2, &isnull));
	SPI_finish();
	deleted = qs_task_batch(run->call, keys->count, delete_batch, qs_task_log_failure, keys);
	run->done += deleted;
	return keys->count == BATCH && deleted > 0;
}

/*
 * Keys that are free as soon as their job has finished. The next of them are
 * looked at in each run, around and around; true if that was worth it.
 */
static bool
purge_lasting_keys(QsTaskRun *run, Keys *keys)
{
	Datum		args[2] = {UUIDPGetDatum(&lasting_from), Int64GetDatum(BATCH)};
	int			seen;
	int64		deleted = 0;

	qs_connect();
	(void) qs_execute(&select_lasting_keys, run->call, SPI_OK_SELECT, args, NULL, 0);
	take_ids(keys);
	seen = keys->count;
	if (seen > 0)
	{
		lasting_from = keys->values[seen - 1];
		args[0] = make_array(keys->values, seen);
		(void) qs_execute(&lock_lasting_keys, run->call, SPI_OK_SELECT, args,
						  NULL, 0);
		take_ids(keys);
	}
	SPI_finish();
	if (seen > 0)
		deleted = qs_task_batch(run->call, keys->count, delete_batch, qs_task_log_failure, keys);
	run->done += deleted;
	if (seen < BATCH)
		memset(&lasting_from, 0, sizeof(lasting_from));
	return seen == BATCH && deleted > 0;
}

static void
purge_keys(QsTaskRun *run)
{
	Keys	   *keys = palloc(sizeof(Keys));

	run->more = purge_expired_keys(run, keys);
	run->more |= purge_lasting_keys(run, keys);
	pfree(keys);
}

const QsTask qs_task_keys = {
	.name = "keys", .period = 60, .run = purge_keys, .rests = true
};

/* how far a session came with a queue */
typedef struct Start
{
	pg_uuid_t	queue;			/* hash key, first */
	TimestampTz at;				/* no row is older, but for what was left over */
} Start;

/* A table of which rows are kept by queue, for some time. */
typedef struct Kept
{
	QsStatement lock;			/* $1 tenant, $2 queue, $3 from, $4 before, $5 limit */
	QsStatement remove;			/* $1 ids */
	int			keep;			/* column of select_queues */

	HTAB	   *starts;
	TimestampTz anew_at;
	pg_uuid_t	next_queue;		/* the last one that was seen to the end */
} Kept;

/* No setting keeps longer than this, and no time is before the first there is. */
#define BEFORE(keep) "$3 - least(" keep ", '100 years')"

static QsStatement select_queues = {
	.sql = "SELECT id, tenant_id, " BEFORE("keep_completed") ", "
	BEFORE("keep_dead") ", " BEFORE("make_interval(secs => $4)") ", "
	BEFORE("make_interval(secs => $5)")
	" FROM @queues WHERE id > $1 ORDER BY id LIMIT $2",
	.nargs = 5, .argtypes = {UUIDOID, INT8OID, TIMESTAMPTZOID, FLOAT8OID,
	FLOAT8OID}
};

enum
{
	KEEP_COMPLETED = 3,
	KEEP_DEAD,
	KEEP_METRICS,
	KEEP_ALERTS
};

#define KEPT(table, column, condition, keeps) \
	{ \
		.lock = { \
			.sql = "SELECT id, " column " FROM @" table \
			" WHERE tenant_id = $1 AND queue_id = $2 AND " column " >= $3" \
			" AND " column " < $4" condition \
			" ORDER BY " column " LIMIT $5 FOR UPDATE SKIP LOCKED", \
			.nargs = 5, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID, \
			TIMESTAMPTZOID, INT8OID} \
		}, \
		.remove = { \
			.sql = "DELETE FROM @" table " WHERE id = ANY ($1)", \
			.nargs = 1, .argtypes = {UUIDARRAYOID} \
		}, \
		.keep = keeps \
	}

static Kept kept_jobs = KEPT("jobs", "finished_at", "", KEEP_COMPLETED);
static Kept kept_critical_jobs = KEPT("critical_jobs", "finished_at", "", KEEP_COMPLETED);
static Kept kept_dead = KEPT("dead_letter_jobs", "died_at", "", KEEP_DEAD);
static Kept kept_metrics = KEPT("queue_metrics", "sampled_at", "", KEEP_METRICS);
static Kept kept_alerts = KEPT("alert_history", "raised_at",
							   " AND resolved_at IS NOT NULL", KEEP_ALERTS);

static int	keep_metrics;		/* seconds */
static int	keep_alerts;

void
qs_retention_init(void)
{
	DefineCustomIntVariable("queue_service.keep_metrics",
							"How long samples of queue_metrics are kept.",
							NULL, &keep_metrics, 7 * SECS_PER_DAY, 60,
							PG_INT32_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL,
							NULL);
	DefineCustomIntVariable("queue_service.keep_alerts",
							"How long alerts are kept that were resolved.",
							NULL, &keep_alerts, 90 * SECS_PER_DAY, 60,
							PG_INT32_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL,
							NULL);
}

/* a queue of a run */
typedef struct Candidate
{
	pg_uuid_t	id;
	pg_uuid_t	tenant;
	TimestampTz before;			/* what is older goes */
} Candidate;

/* what a run deletes */
typedef struct Purge
{
	Kept	   *kept;
	int			count;
	Datum		ids[BATCH];
	pg_uuid_t	values[BATCH];
} Purge;

/* Begins anew where that is due, or the clock is another one. */
static void
prepare_starts(Kept *kept, TimestampTz now)
{
	HASHCTL		ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Start),
		.hcxt = TopMemoryContext};

	if (kept->starts != NULL &&
		(now >= kept->anew_at || now < kept->anew_at - BEGIN_ANEW ||
		 hash_get_num_entries(kept->starts) >= MAX_STARTS))
	{
		hash_destroy(kept->starts);
		kept->starts = NULL;
	}
	if (kept->starts == NULL)
	{
		kept->starts = hash_create("queue_service retention", 64, &ctl,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		kept->anew_at = now + BEGIN_ANEW;
	}
}

/* The next queues, in the caller's memory. Returns how many. */
static int
list_queues(QsCall *call, const Kept *kept, Candidate *queues)
{
	Datum		args[5] = {UUIDPGetDatum(&kept->next_queue),
		Int64GetDatum(QUEUES), TimestampTzGetDatum(call->now),
	Float8GetDatum(keep_metrics), Float8GetDatum(keep_alerts)};
	int			count;

	count = (int) qs_execute(&select_queues, call, SPI_OK_SELECT, args, NULL, 0);
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		queues[i].id = *DatumGetUUIDP(qs_result(i, 1, &isnull));
		queues[i].tenant = *DatumGetUUIDP(qs_result(i, 2, &isnull));
		queues[i].before = DatumGetTimestampTz(qs_result(i, kept->keep, &isnull));
	}
	return count;
}

/* Locks what is to be deleted of a queue. True if that was all. */
static bool
lock_rows(QsCall *call, Purge *purge, const Candidate *queue)
{
	Kept	   *kept = purge->kept;
	int			limit = BATCH - purge->count;
	bool		found;
	Start	   *start = hash_search(kept->starts, &queue->id, HASH_FIND, &found);
	Datum		args[5] = {UUIDPGetDatum(&queue->tenant),
		UUIDPGetDatum(&queue->id),
		TimestampTzGetDatum(found ? start->at : DT_NOBEGIN),
		TimestampTzGetDatum(queue->before), Int64GetDatum(limit)};
	int			count;
	bool		isnull;

	count = (int) qs_execute(&kept->lock, call, SPI_OK_SELECT, args, NULL, 0);
	for (int i = 0; i < count; i++)
	{
		pg_uuid_t  *id = &purge->values[purge->count];

		*id = *DatumGetUUIDP(qs_result(i, 1, &isnull));
		purge->ids[purge->count++] = UUIDPGetDatum(id);
	}
	if (count > 0)
	{
		start = hash_search(kept->starts, &queue->id, HASH_ENTER, NULL);
		/* others of that time may be left */
		start->at = DatumGetTimestampTz(qs_result(count - 1, 2, &isnull));
	}
	return count < limit;
}

static int64
delete_rows(QsCall *call, int first, int count, void *arg)
{
	Purge	   *purge = arg;
	Datum		args[1] = {PointerGetDatum(construct_array(&purge->ids[first], count,
														   UUIDOID, UUID_LEN,
														   false, TYPALIGN_CHAR))};
	int64		deleted;

	qs_connect();
	deleted = qs_execute(&purge->kept->remove, call, SPI_OK_DELETE, args, NULL, 0);
	SPI_finish();
	return deleted;
}

/* Deletes a batch; true if nothing is left of any queue. */
static bool
purge_batch(QsTaskRun *run, Kept *kept)
{
	QsCall	   *call = run->call;
	Purge	   *purge = palloc(sizeof(Purge));
	Candidate  *queues = palloc(QUEUES * sizeof(Candidate));
	int			seen = 0;
	int			count;
	int64		deleted;
	bool		all;

	purge->kept = kept;
	purge->count = 0;
	prepare_starts(kept, call->now);
	qs_connect();
	count = list_queues(call, kept, queues);
	while (seen < count && lock_rows(call, purge, &queues[seen]))
	{
		CHECK_FOR_INTERRUPTS();
		kept->next_queue = queues[seen++].id;
	}
	SPI_finish();
	all = seen == count && count < QUEUES;
	if (all)
		memset(&kept->next_queue, 0, sizeof(kept->next_queue));
	deleted = qs_task_batch(call, purge->count, delete_rows, qs_task_log_failure, purge);
	/* rows that cannot be deleted keep no other queue */
	if (deleted == 0 && seen < count)
		kept->next_queue = queues[seen].id;
	run->done += deleted;
	pfree(queues);
	pfree(purge);
	return all;
}

static void
purge_finished(QsTaskRun *run)
{
	run->more = !purge_batch(run, &kept_jobs);
	run->more |= !purge_batch(run, &kept_critical_jobs);
}

static void
purge_dead(QsTaskRun *run)
{
	run->more = !purge_batch(run, &kept_dead);
}

static void
purge_metrics(QsTaskRun *run)
{
	run->more = !purge_batch(run, &kept_metrics);
}

/* those of the whole server are few */
static QsStatement delete_server_alerts = {
	.sql = "DELETE FROM @alert_history WHERE tenant_id IS NULL"
	" AND raised_at < $1 AND resolved_at IS NOT NULL",
	.nargs = 1, .argtypes = {TIMESTAMPTZOID}
};

static void
purge_alerts(QsTaskRun *run)
{
	Datum		args[1] = {TimestampTzGetDatum(run->call->now -
											   keep_alerts * USECS_PER_SEC)};

	run->more = !purge_batch(run, &kept_alerts);
	qs_connect();
	run->done += qs_execute(&delete_server_alerts, run->call, SPI_OK_DELETE,
							args, NULL, 0);
	SPI_finish();
}

const QsTask qs_task_finished = {
	.name = "finished", .period = 60, .run = purge_finished, .rests = true
};
const QsTask qs_task_dead = {
	.name = "dead", .period = 60, .run = purge_dead, .rests = true
};
const QsTask qs_task_metrics = {
	.name = "metrics", .period = 600, .run = purge_metrics, .rests = true
};
const QsTask qs_task_alert_history = {
	.name = "alert_history", .period = 600, .run = purge_alerts, .rests = true
};
