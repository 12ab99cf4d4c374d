/*
 * retention.c
 *	  Tasks that delete what has been kept for long enough.
 *
 * What is kept by queue stands in an index by queue and time. With a held
 * horizon the entries of what was deleted stay there, at the low end; so it is
 * remembered of each queue how far a run came, and the next one begins there.
 * What is older is left over: rows that were locked, or that a user's foreign
 * key or trigger keeps, or of a run that was rolled back, or of a transaction
 * that was open for long. So from time to time it begins anew (resume.h).
 *
 * It is also remembered how old the oldest row is that stays, so that a queue is
 * not looked at before that one is to go.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "resume.h"
#include "statement.h"
#include "task.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Rows that one run deletes at most. */
#define BATCH 1000
/* Queues that it comes by, and those of which it looks at rows. */
#define QUEUES 2000
#define LOOKS 500
/*
 * For so long after its time a row may come to be seen, as its transaction goes
 * on; and a queue that has none is not looked at again.
 */
#define LATE (5 * USECS_PER_MINUTE)

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

/* those of all queues are walked over together */
static const pg_uuid_t all_queues;

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
	QsResume	resume = qs_resume(QS_WALK_KEYS, &all_queues, now);
	Datum		args[3] = {TimestampTzGetDatum(now),
	TimestampTzGetDatum(resume.from), Int64GetDatum(BATCH)};
	int64		deleted;
	bool		isnull;

	qs_connect();
	(void) qs_execute(&lock_expired_keys, run->call, SPI_OK_SELECT, args, NULL, 0);
	take_ids(keys);
	if (keys->count > 0)
	{
		resume.from = DatumGetTimestampTz(qs_result(keys->count - 1, 2, &isnull));
		qs_resume_note(QS_WALK_KEYS, &all_queues, &resume, now);
	}
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
	pg_uuid_t	last = qs_resume_after(QS_WALK_KEYS);
	Datum		args[2] = {UUIDPGetDatum(&last), Int64GetDatum(BATCH)};
	int			seen;
	int64		deleted = 0;

	qs_connect();
	(void) qs_execute(&select_lasting_keys, run->call, SPI_OK_SELECT, args, NULL, 0);
	take_ids(keys);
	seen = keys->count;
	if (seen > 0)
	{
		last = keys->values[seen - 1];
		args[0] = make_array(keys->values, seen);
		(void) qs_execute(&lock_lasting_keys, run->call, SPI_OK_SELECT, args,
						  NULL, 0);
		take_ids(keys);
	}
	SPI_finish();
	if (seen > 0)
		deleted = qs_task_batch(run->call, keys->count, delete_batch, qs_task_log_failure, keys);
	run->done += deleted;
	qs_resume_note_after(QS_WALK_KEYS, seen < BATCH ? &all_queues : &last);
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

/* A table of which rows are kept by queue, for some time. */
typedef struct Kept
{
	QsStatement lock;			/* $1 tenant, $2 queue, $3 from, $4 before, $5 limit */
	QsStatement oldest;			/* $1 tenant, $2 queue, $3 from */
	QsStatement remove;			/* $1 ids */
	QsWalk		walk;
	int			keep;			/* column of select_queues */
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

#define KEPT(table, column, condition, walks, keeps) \
	{ \
		.lock = { \
			.sql = "SELECT id, " column " FROM @" table \
			" WHERE tenant_id = $1 AND queue_id = $2 AND " column " >= $3" \
			" AND " column " < $4" condition \
			" ORDER BY " column " LIMIT $5 FOR UPDATE SKIP LOCKED", \
			.nargs = 5, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID, \
			TIMESTAMPTZOID, INT8OID} \
		}, \
		.oldest = { \
			.sql = "SELECT " column " FROM @" table \
			" WHERE tenant_id = $1 AND queue_id = $2 AND " column " >= $3" \
			condition " ORDER BY " column " LIMIT 1", \
			.nargs = 3, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID} \
		}, \
		.remove = { \
			.sql = "DELETE FROM @" table " WHERE id = ANY ($1)", \
			.nargs = 1, .argtypes = {UUIDARRAYOID} \
		}, \
		.walk = (walks), \
		.keep = (keeps) \
	}

static Kept kept_jobs = KEPT("jobs", "finished_at", "", QS_WALK_JOBS,
							 KEEP_COMPLETED);
static Kept kept_critical_jobs = KEPT("critical_jobs", "finished_at", "",
									  QS_WALK_CRITICAL_JOBS, KEEP_COMPLETED);
static Kept kept_dead = KEPT("dead_letter_jobs", "died_at", "", QS_WALK_DEAD,
							 KEEP_DEAD);
static Kept kept_metrics = KEPT("queue_metrics", "sampled_at", "",
								QS_WALK_METRICS, KEEP_METRICS);
static Kept kept_alerts = KEPT("alert_history", "raised_at",
							   " AND resolved_at IS NOT NULL",
							   QS_WALK_ALERT_HISTORY, KEEP_ALERTS);

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

/* The queues after one, in the caller's memory. Returns how many. */
static int
list_queues(QsCall *call, const Kept *kept, const pg_uuid_t *after,
			Candidate *queues)
{
	Datum		args[5] = {UUIDPGetDatum(after),
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

/* Takes what is to be deleted, and says of when the last of it is. */
static void
take_rows(Purge *purge, int count, TimestampTz *last)
{
	bool		isnull;

	for (int i = 0; i < count; i++)
	{
		pg_uuid_t  *id = &purge->values[purge->count];

		*id = *DatumGetUUIDP(qs_result(i, 1, &isnull));
		purge->ids[purge->count++] = UUIDPGetDatum(id);
	}
	if (count > 0)
		*last = DatumGetTimestampTz(qs_result(count - 1, 2, &isnull));
}

/*
 * Looks for the oldest row from a time on. If it need not go yet, notes what is
 * known by that, and returns false.
 */
static bool
any_is_to_go(QsCall *call, Kept *kept, const Candidate *queue, TimestampTz at,
			 QsResume *resume)
{
	Datum		args[3] = {UUIDPGetDatum(&queue->tenant),
	UUIDPGetDatum(&queue->id), TimestampTzGetDatum(at)};
	TimestampTz from = call->now - LATE;
	bool		isnull;

	resume->seen = Max(from, queue->before + LATE);
	if (qs_read(&kept->oldest, call, args, NULL, 1) > 0)
	{
		resume->seen = DatumGetTimestampTz(qs_result(0, 1, &isnull));
		from = Min(from, resume->seen);
	}
	if (resume->seen < queue->before)
		return true;
	resume->from = Max(resume->from, from);
	return false;
}

/* Locks what is to be deleted of a queue. True if that was all. */
static bool
lock_rows(QsCall *call, Purge *purge, const Candidate *queue, QsResume *resume)
{
	Kept	   *kept = purge->kept;
	int			limit = BATCH - purge->count;
	bool		all = true;

	if (any_is_to_go(call, kept, queue, resume->from, resume))
	{
		Datum		args[5] = {UUIDPGetDatum(&queue->tenant),
			UUIDPGetDatum(&queue->id), TimestampTzGetDatum(resume->from),
		TimestampTzGetDatum(queue->before), Int64GetDatum(limit)};
		int			count = (int) qs_execute(&kept->lock, call, SPI_OK_SELECT,
											 args, NULL, 0);

		/* others of the time of the last one may be left */
		take_rows(purge, count, &resume->from);
		all = count < limit;
		resume->seen = resume->from;
		if (all)
			(void) any_is_to_go(call, kept, queue, queue->before, resume);
	}
	qs_resume_note(kept->walk, &queue->id, resume, call->now);
	return all;
}

/* Locks rows of some queues. Returns how many queues have none left. */
static int
lock_batch(QsCall *call, Purge *purge, const Candidate *queues, int count)
{
	int			looks = 0;
	int			i;

	for (i = 0; i < count && looks < LOOKS; i++)
	{
		QsResume	resume = qs_resume(purge->kept->walk, &queues[i].id, call->now);

		CHECK_FOR_INTERRUPTS();
		if (queues[i].before <= resume.seen)
			continue;
		looks++;
		if (!lock_rows(call, purge, &queues[i], &resume))
			break;
	}
	return i;
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
	pg_uuid_t	after = qs_resume_after(kept->walk);
	int			count;
	int			seen;
	int64		deleted;
	bool		all;

	purge->kept = kept;
	purge->count = 0;
	qs_connect();
	count = list_queues(call, kept, &after, queues);
	seen = lock_batch(call, purge, queues, count);
	SPI_finish();
	deleted = qs_task_batch(call, purge->count, delete_rows, qs_task_log_failure,
							purge);
	/* rows that cannot be deleted keep no other queue */
	if (purge->count == BATCH && deleted == 0)
		seen++;
	all = seen == count && count < QUEUES;
	if (all)
		after = all_queues;
	else if (seen > 0)
		after = queues[seen - 1].id;
	qs_resume_note_after(kept->walk, &after);
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
