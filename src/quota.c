/*
 * quota.c
 *	  What a queue takes: see quota.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "claim_tokens.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "errors.h"
#include "miscadmin.h"
#include "quota.h"
#include "statement.h"
#include "stats_note.h"
#include "stats_trigger.h"
#include "storage/lock.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Counts no further than it matters. */
static QsStatement count_unfinished = {
	.sql = "SELECT count(*) FROM ("
	"(SELECT FROM @jobs"
	" WHERE tenant_id = $1 AND queue_id = $2 AND finished_at IS NULL LIMIT $3)"
	" UNION ALL (SELECT FROM @critical_jobs"
	" WHERE tenant_id = $1 AND queue_id = $2 AND finished_at IS NULL LIMIT $3)) j",
	.nargs = 3, .argtypes = {UUIDOID, UUIDOID, INT8OID}
};

/*
 * What was counted last, and admitted since: no fewer jobs than the queue has,
 * as long as the transaction has the queue's lock.
 */
static struct
{
	TransactionId xid;
	CommandId	command;
	pg_uuid_t	queue;
	int64		depth;
}			last;

static void
refuse(const QsQueue *queue)
{
	ereport(ERROR,
			(errcode(QS_QUEUE_FULL),
			 errmsg("queue \"%s\" is full", queue->name),
			 errdetail("It may have " INT64_FORMAT " unfinished jobs.",
					   queue->max_depth)));
}

/*
 * A lock of the lock manager, as those of slots.c and groups.c, of another class;
 * two queues may share one.
 */
static void
lock_tag(QsCall *call, const QsQueue *queue, LOCKTAG *tag)
{
	uint64		hash = hash_bytes_extended(queue->id.data, UUID_LEN, 0);

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, call->cat->table[QS_DEAD_LETTER_JOBS],
					   (uint32) hash, (uint16) (hash >> 32));
}

/* The version of the triggers that count, found once as long as they stay. */
static uint64
triggers_of(const QsCatalog *cat)
{
	static uint64 generation = 0;
	static uint64 triggers;

	if (generation != cat->generation)
	{
		triggers = qs_stats_triggers(cat);
		generation = cat->generation;
	}
	return triggers;
}

/*
 * Has room promised by the statistics; false if these do not count the queue.
 */
static bool
promise(QsCall *call, const QsQueue *queue, int64 count)
{
	LOCKTAG		tag;
	uint64		triggers;
	bool		held;

	if (!qs_stats_exist())
		return false;
	triggers = triggers_of(call->cat);
	if (!qs_stats_is_counted(&queue->id, triggers))
		return false;
	lock_tag(call, queue, &tag);
	held = LockAcquire(&tag, ShareLock, false, false) == LOCKACQUIRE_ALREADY_HELD;
	switch (qs_stats_note_promise(&queue->id, count, queue->max_depth, triggers))
	{
		case QS_STATS_PROMISED:
			return true;
		case QS_STATS_FULL:
			refuse(queue);
			break;
		case QS_STATS_NOT_COUNTED:
			break;
	}
	/* others who come to count would wait for us, and we for them */
	if (!held)
		(void) LockRelease(&tag, ShareLock, false);
	return false;
}

/* How many unfinished jobs there are, with those of this transaction. */
static int64
count_jobs(QsCall *call, const QsQueue *queue)
{
	Datum		args[3] = {UUIDPGetDatum(&queue->tenant),
	UUIDPGetDatum(&queue->id), Int64GetDatum(queue->max_depth + 1)};
	int64		depth;
	bool		isnull;

	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	qs_connect();
	(void) qs_read(&count_unfinished, call, args, NULL, 1);
	depth = DatumGetInt64(qs_result(0, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	return depth;
}

static void
count_anew(QsCall *call, const QsQueue *queue)
{
	last.xid = GetTopTransactionId();
	last.queue = queue->id;
	last.depth = count_jobs(call, queue);
	last.command = GetCurrentCommandId(false);
}

/*
 * Counts, for who is to write so many jobs or, if that is 0, has written one by
 * this command.
 */
static void
count_depth(QsCall *call, const QsQueue *queue, int64 count)
{
	LOCKTAG		tag;
	bool		known;

	lock_tag(call, queue, &tag);
	known = LockAcquire(&tag, ExclusiveLock, false, false) ==
		LOCKACQUIRE_ALREADY_HELD &&
		TransactionIdEquals(last.xid, GetTopTransactionId()) &&
		memcmp(&last.queue, &queue->id, UUID_LEN) == 0;
	if (known && count == 0 && last.command != GetCurrentCommandId(false))
		last.depth++;
	if (!known || last.depth + count > queue->max_depth)
		count_anew(call, queue);
	if (last.depth + count > queue->max_depth)
		refuse(queue);
	last.depth += count;
}

/* Admits so many jobs that are not written yet; 0: one that is. */
static void
admit(QsCall *call, const QsQueue *queue, int64 count)
{
	if (queue->max_depth > 0 && !promise(call, queue, Max(count, 1)))
		count_depth(call, queue, count);
}

static void
take_tokens(QsCall *call, const QsQueue *queue, int count)
{
	int64		wait;

	if (queue->enqueue_limiter[0] == '\0' ||
		qs_tokens_take(call, queue, queue->enqueue_limiter, count, &wait))
		return;
	ereport(ERROR,
			(errcode(QS_ENQUEUE_LIMITED),
			 errmsg("queue \"%s\" takes no more jobs for now", queue->name),
			 errhint("Enqueue again in %.1f seconds.",
					 (double) wait / USECS_PER_SEC)));
}

static bool
is_replicated(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/*
 * Before so many new jobs are written: raises QS_QUEUE_FULL or
 * QS_ENQUEUE_LIMITED if the queue does not take them.
 */
void
qs_quota_enqueue(QsCall *call, const QsQueue *queue, int count)
{
	if (is_replicated())
		return;
	admit(call, queue, count);
	take_tokens(call, queue, count);
}

/* Before a job that has ended is made to wait again: QS_QUEUE_FULL. */
void
qs_quota_restart(QsCall *call, const QsQueue *queue)
{
	if (!is_replicated())
		admit(call, queue, 1);
}

static bool
is_unfinished(HeapTuple row, TupleDesc desc)
{
	return heap_attisnull(row, QS_JOB_FINISHED_AT, desc);
}

static pg_uuid_t *
queue_of(HeapTuple row, TupleDesc desc)
{
	bool		isnull;

	return DatumGetUUIDP(heap_getattr(row, QS_JOB_QUEUE_ID, desc, &isnull));
}

/*
 * After SQL inserted (old is NULL) or updated a row: the same, if it made a job
 * of the queue that was none.
 */
void
qs_quota_after_sql(FunctionCallInfo fcinfo, TupleDesc desc, HeapTuple old,
				   HeapTuple new)
{
	QsCall		call = {0};
	QsQueue		queue;

	if (is_replicated() || !is_unfinished(new, desc) ||
		(old != NULL && is_unfinished(old, desc) &&
		 memcmp(queue_of(old, desc), queue_of(new, desc), UUID_LEN) == 0))
		return;
	call.cat = qs_catalog(fcinfo);
	/* one that is not there, or another tenant's, is refused by foreign keys */
	if (!qs_queue_by_id(&call, queue_of(new, desc), &queue) ||
		(queue.max_depth == 0 && queue.enqueue_limiter[0] == '\0'))
		return;
	qs_begin(&call, fcinfo, "_queue_announce()", QS_NO_TENANT);
	admit(&call, &queue, 0);
	if (old == NULL)
		take_tokens(&call, &queue, 1);
	qs_end(&call);
}
