/*
 * idempotency.c
 *	  One job for each idempotency key: see idempotency.h.
 *
 * A key is a row of idempotency_keys, unique in the queue for jobs and in the
 * tenant for critical jobs. Who inserts the row makes the job; who finds it
 * waits for the inserting transaction, locks the row and then knows the job.
 * A key is taken until it expires, and in any case while its job is
 * unfinished; a key that is free is taken over by changing its row.
 *
 * At REPEATABLE READ and above, a key that another transaction took since the
 * snapshot is a serialization failure.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "idempotency.h"
#include "parents.h"
#include "quota.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

static QsStatement insert_key = {
	.sql = "INSERT INTO @idempotency_keys"
	" (tenant_id, queue_id, key, critical, job_id, expires_at, created_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
	.nargs = 7, .argtypes = {UUIDOID, UUIDOID, TEXTOID, BOOLOID, UUIDOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID}
};
static QsStatement lock_key = {
	.sql = "SELECT id, job_id, expires_at, queue_id FROM @idempotency_keys"
	" WHERE tenant_id = $1 AND queue_id = $2 AND key = $3 AND NOT critical"
	" FOR UPDATE",
	.nargs = 3, .argtypes = {UUIDOID, UUIDOID, TEXTOID}
};
static QsStatement lock_critical_key = {
	.sql = "SELECT id, job_id, expires_at, queue_id FROM @idempotency_keys"
	" WHERE tenant_id = $1 AND key = $2 AND critical"
	" FOR UPDATE",
	.nargs = 2, .argtypes = {UUIDOID, TEXTOID}
};
static QsStatement take_over_key = {
	.sql = "UPDATE @idempotency_keys"
	" SET queue_id = $2, job_id = $3, expires_at = $4, created_at = $5"
	" WHERE id = $1",
	.nargs = 5, .argtypes = {UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID}
};
static QsStatement select_unfinished = {
	.sql = "SELECT FROM @jobs WHERE id = $1 AND finished_at IS NULL"
	" UNION ALL"
	" SELECT FROM @critical_jobs WHERE id = $1 AND finished_at IS NULL",
	.nargs = 1, .argtypes = {UUIDOID}
};

/* critical_jobs_key_idx allows one */
static QsStatement select_critical_holder = {
	.sql = "SELECT id, queue_id FROM @critical_jobs"
	" WHERE tenant_id = $1 AND idempotency_key = $2 AND finished_at IS NULL",
	.nargs = 2, .argtypes = {UUIDOID, TEXTOID}
};
static QsStatement follow_key = {
	.sql = "UPDATE @idempotency_keys SET job_id = $5"
	" WHERE tenant_id = $1 AND queue_id = $2 AND key = $3 AND job_id = $4"
	" AND NOT critical",
	.nargs = 5, .argtypes = {UUIDOID, UUIDOID, TEXTOID, UUIDOID, UUIDOID}
};
static QsStatement follow_critical_key = {
	.sql = "UPDATE @idempotency_keys SET job_id = $5"
	" WHERE tenant_id = $1 AND queue_id = $2 AND key = $3 AND job_id = $4"
	" AND critical",
	.nargs = 5, .argtypes = {UUIDOID, UUIDOID, TEXTOID, UUIDOID, UUIDOID}
};

typedef struct KeyRow
{
	pg_uuid_t	id;
	pg_uuid_t	job_id;
	pg_uuid_t	queue_id;
	bool		expires;
	TimestampTz expires_at;
} KeyRow;

static Datum
expiry(QsCall *call, const QsKey *key)
{
	return key->ttl == NULL ? (Datum) 0 :
		TimestampTzGetDatum(qs_add_interval(call->now, key->ttl));
}

/* Takes the key for a new job; false if there is a row of that key. */
static bool
try_insert(QsCall *call, const QsNewJob *job, const QsKey *key,
		   const pg_uuid_t *id)
{
	Datum		args[7] = {
		UUIDPGetDatum(&call->tenant), UUIDPGetDatum(&job->queue.id),
		job->idempotency_key, BoolGetDatum(job->kind == QS_CRITICAL_JOBS),
		UUIDPGetDatum(id), expiry(call, key), TimestampTzGetDatum(call->now)
	};
	bool		inserted;

	qs_connect();
	inserted = qs_execute(&insert_key, call, SPI_OK_INSERT, args,
						  key->ttl ? NULL : "     n ", 0) == 1;
	SPI_finish();
	return inserted;
}

/* Locks the row of the key; false if it is gone meanwhile. */
static bool
lock_row(QsCall *call, const QsNewJob *job, KeyRow *row)
{
	Datum		args[3] = {
		UUIDPGetDatum(&call->tenant), UUIDPGetDatum(&job->queue.id),
		job->idempotency_key
	};
	Datum		critical_args[2] = {args[0], args[2]};
	bool		found;

	qs_connect();
	found = job->kind == QS_CRITICAL_JOBS ?
		qs_execute(&lock_critical_key, call, SPI_OK_SELECT, critical_args, NULL, 0) == 1 :
		qs_execute(&lock_key, call, SPI_OK_SELECT, args, NULL, 0) == 1;
	if (found)
	{
		bool		isnull;

		row->id = *DatumGetUUIDP(qs_result(0, 1, &isnull));
		row->job_id = *DatumGetUUIDP(qs_result(0, 2, &isnull));
		row->expires_at = DatumGetTimestampTz(qs_result(0, 3, &isnull));
		row->expires = !isnull;
		row->queue_id = *DatumGetUUIDP(qs_result(0, 4, &isnull));
	}
	SPI_finish();
	return found;
}

static bool
is_unfinished(QsCall *call, const pg_uuid_t *job_id)
{
	Datum		args[1] = {UUIDPGetDatum(job_id)};
	bool		unfinished;

	qs_connect();
	unfinished = qs_execute(&select_unfinished, call, SPI_OK_SELECT, args,
							NULL, 1) > 0;
	SPI_finish();
	return unfinished;
}

/* Makes the key stand for this job, in this queue. */
static void
take_over(QsCall *call, const QsKey *key, const KeyRow *row,
		  const pg_uuid_t *queue_id, const pg_uuid_t *id)
{
	Datum		args[5] = {
		UUIDPGetDatum(&row->id), UUIDPGetDatum(queue_id),
		UUIDPGetDatum(id), expiry(call, key), TimestampTzGetDatum(call->now)
	};

	qs_connect();
	(void) qs_execute(&take_over_key, call, SPI_OK_UPDATE, args,
					  key->ttl ? NULL : "   n ", 0);
	SPI_finish();
}

/*
 * Replaces the job of the key if it waits; false if it does not. A debounced
 * job waits anew, but never longer in all than longest_wait.
 */
static bool
replace_waiting(QsCall *call, QsNewJob *job, const QsKey *key,
				const pg_uuid_t *job_id)
{
	QsJobs		jobs;
	QsTable    *table;
	bool		waits;

	qs_renew_snapshot();
	qs_jobs_begin(&jobs, call);
	table = qs_jobs_find(&jobs, job_id);
	waits = table != NULL &&
		qs_text_is(qs_get(table, QS_JOB_STATUS), "pending");
	if (waits)
	{
		if (key->on_conflict == QS_CONFLICT_DEBOUNCE && key->longest_wait)
		{
			TimestampTz enqueued_at =
			DatumGetTimestampTz(qs_get(table, QS_JOB_ENQUEUED_AT));

			job->run_at = Min(job->run_at,
							  qs_add_interval(enqueued_at, key->longest_wait));
		}
		qs_job_replace(table, job);
	}
	qs_jobs_end(&jobs);
	return waits;
}

/*
 * Locks the queue before anything is written, so that if it is being dropped,
 * that is found out here and not by the foreign key of the idempotency key.
 */
static void
hold_queue(QsCall *call, const QsNewJob *job)
{
	QsJobs		jobs;

	qs_jobs_begin(&jobs, call);
	qs_parents_lock(qs_jobs_table(&jobs, job->kind), &job->queue.tenant,
					&job->queue.id);
	qs_jobs_end(&jobs);
}

static void
insert_job(QsCall *call, const QsNewJob *job, const pg_uuid_t *id)
{
	QsJobs		jobs;

	qs_quota_enqueue(call, &job->queue, 1);
	qs_jobs_begin(&jobs, call);
	qs_job_insert(qs_jobs_table(&jobs, job->kind), job, id);
	qs_jobs_end(&jobs);
}

/* Finds the unfinished critical job that has the key, whatever its row says. */
static bool
find_critical_holder(QsCall *call, const pg_uuid_t *tenant, Datum key,
					 pg_uuid_t *id, pg_uuid_t *queue_id)
{
	Datum		args[2] = {UUIDPGetDatum(tenant), key};
	bool		found;

	qs_connect();
	found = qs_execute(&select_critical_holder, call, SPI_OK_SELECT, args,
					   NULL, 1) == 1;
	if (found)
	{
		bool		isnull;

		*id = *DatumGetUUIDP(qs_result(0, 1, &isnull));
		*queue_id = *DatumGetUUIDP(qs_result(0, 2, &isnull));
	}
	SPI_finish();
	return found;
}

/*
 * Whether a job that has ended may run again under its key: not if that is the
 * key of a critical job that is unfinished.
 */
bool
qs_key_is_free(QsCall *call, QsTableKind kind, const pg_uuid_t *tenant,
			   Datum key)
{
	pg_uuid_t	id;
	pg_uuid_t	queue_id;

	return kind != QS_CRITICAL_JOBS ||
		!find_critical_holder(call, tenant, key, &id, &queue_id);
}

void
qs_key_taken(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(QS_KEY_TAKEN),
			 errmsg("the idempotency key is taken"),
			 id ? errdetail("It stands for job %s.",
							DatumGetCString(DirectFunctionCall1(uuid_out,
																UUIDPGetDatum(id)))) : 0));
}

/* Lets the job's key, if it still is its own, stand for the job that replaces it. */
void
qs_key_follow(QsCall *call, const QsNewJob *job, const pg_uuid_t *old,
			  const pg_uuid_t *new)
{
	Datum		args[5] = {
		UUIDPGetDatum(&job->queue.tenant), UUIDPGetDatum(&job->queue.id),
		job->idempotency_key, UUIDPGetDatum(old), UUIDPGetDatum(new)
	};

	qs_connect();
	(void) qs_execute(job->kind == QS_CRITICAL_JOBS ?
					  &follow_critical_key : &follow_key,
					  call, SPI_OK_UPDATE, args, NULL, 0);
	SPI_finish();
}

/*
 * Enqueues the job unless its key is taken. *id is the job that the key stands
 * for; true if it was made now. QS_KEY_TAKEN if the key is taken and that is to
 * be rejected, or a critical job of another queue has it.
 */
bool
qs_enqueue_once(QsCall *call, QsNewJob *job, const QsKey *key, pg_uuid_t *id)
{
	KeyRow		row;
	bool		inserted;

	qs_uuid7(id);
	hold_queue(call, job);
	do
		inserted = try_insert(call, job, key, id);
	while (!inserted && !lock_row(call, job, &row));

	if (inserted ||
		((!row.expires || row.expires_at <= call->now) &&
		 !is_unfinished(call, &row.job_id)))
	{
		pg_uuid_t	holder;
		pg_uuid_t	queue_id;

		if (job->kind != QS_CRITICAL_JOBS ||
			!find_critical_holder(call, &call->tenant, job->idempotency_key,
								  &holder, &queue_id))
		{
			if (!inserted)
				take_over(call, key, &row, &job->queue.id, id);
			insert_job(call, job, id);
			return true;
		}
		/* inserted by SQL, or sent back when the row of its key was gone */
		if (inserted && !lock_row(call, job, &row))
			elog(ERROR, "an idempotency key disappeared");
		take_over(call, key, &row, &queue_id, &holder);
		row.job_id = holder;
		row.queue_id = queue_id;
	}
	if (key->on_conflict == QS_CONFLICT_REJECT ||
		memcmp(&row.queue_id, &job->queue.id, UUID_LEN) != 0)
		qs_key_taken(&row.job_id);
	if (key->on_conflict != QS_CONFLICT_RETURN &&
		!replace_waiting(call, job, key, &row.job_id) &&
		key->on_conflict == QS_CONFLICT_DEBOUNCE)
	{
		/* what it debounces may have been too late for the job that runs */
		take_over(call, key, &row, &job->queue.id, id);
		insert_job(call, job, id);
		return true;
	}
	*id = row.job_id;
	return false;
}
