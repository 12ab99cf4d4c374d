/*
 * stats_recount.c
 *	  Counts the jobs of queues whose statistics are not exact. The task
 *	  "recount".
 *
 * One queue in each run, by one query over its unfinished jobs. If there are
 * statistics in shared memory, what is found goes there (stats_table.h says how
 * that becomes exact while others go on); else into the queue's row.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fault.h"
#include "miscadmin.h"
#include "resume.h"
#include "statement.h"
#include "stats.h"
#include "stats_trigger.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "task.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/*
 * Queues that one run comes by to find one to count, in batches; and entries,
 * if the last run found a queue without one: there may be many of these.
 */
#define BATCH 100
#define BATCHES 50
#define SOME_ENTRIES 1000

/* How old a count in a row may be, and one in shared memory. */
#define ROW_AGE (5 * USECS_PER_MINUTE)
#define ENTRY_AGE USECS_PER_DAY

/* How long to wait for those who are about to apply, in milliseconds. */
#define MAX_WAIT 10000

static QsStatement count_jobs = {
	.sql = "SELECT count(*) FILTER (WHERE status = 'pending'),"
	" count(*) FILTER (WHERE status = 'processing'),"
	" count(*) FILTER (WHERE status = 'pending' AND run_at > $3),"
	" min(run_at) FILTER (WHERE run_at <= $3 AND NOT held"
	" AND (status = 'pending' OR leased_until <= $3))"
	" FROM (SELECT status, run_at, held, leased_until FROM @jobs"
	" WHERE tenant_id = $1 AND queue_id = $2 AND finished_at IS NULL"
	" UNION ALL SELECT status, run_at, held, leased_until FROM @critical_jobs"
	" WHERE tenant_id = $1 AND queue_id = $2 AND finished_at IS NULL) j",
	.nargs = 3, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID}
};
static QsStatement select_tenant = {
	.sql = "SELECT tenant_id FROM @queues WHERE id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};
static QsStatement select_queues = {
	.sql = "SELECT id, tenant_id, statistics_at FROM @queues WHERE id > $1"
	" ORDER BY id LIMIT $2",
	.nargs = 2, .argtypes = {UUIDOID, INT8OID}
};
static QsStatement select_prepared = {
	.sql = "SELECT transaction FROM pg_prepared_xacts"
	" WHERE database = current_database()"
};

typedef struct Prepared
{
	int			count;
	TransactionId *xids;
} Prepared;

/* a queue that is to be counted */
typedef struct Queue
{
	pg_uuid_t	id;
	pg_uuid_t	tenant;
} Queue;

static void
find_prepared(QsCall *call, Prepared *prepared)
{
	prepared->count = (int) qs_execute(&select_prepared, call, SPI_OK_SELECT,
									   NULL, NULL, 0);
	prepared->xids = palloc((prepared->count + 1) * sizeof(TransactionId));
	for (int i = 0; i < prepared->count; i++)
	{
		bool		isnull;

		prepared->xids[i] = DatumGetTransactionId(qs_result(i, 1, &isnull));
	}
}

/* The first and the last of them; invalid if there is none. */
static void
prepared_range(const Prepared *prepared, TransactionId *first,
			   TransactionId *last)
{
	*first = *last = InvalidTransactionId;
	for (int i = 0; i < prepared->count; i++)
	{
		TransactionId xid = prepared->xids[i];

		if (!TransactionIdIsValid(*first) || TransactionIdPrecedes(xid, *first))
			*first = xid;
		if (!TransactionIdIsValid(*last) || TransactionIdFollows(xid, *last))
			*last = xid;
	}
}

/* Whether what makes an entry uncertain may still go either way. */
static bool
is_undecided(const QsStatsView *view, const Prepared *prepared)
{
	for (int i = 0; i < prepared->count; i++)
		if (TransactionIdFollowsOrEquals(prepared->xids[i], view->first_prepared) &&
			TransactionIdPrecedesOrEquals(prepared->xids[i], view->last_prepared))
			return true;
	return false;
}

/* Counts under the active snapshot. */
static void
count(QsCall *call, const Queue *queue, QsStatsCounts *counts,
	  QsStatsLook *look)
{
	Datum		args[3] = {UUIDPGetDatum(&queue->tenant),
		UUIDPGetDatum(&queue->id), TimestampTzGetDatum(call->now)};
	Datum		oldest;
	bool		isnull;

	(void) qs_read(&count_jobs, call, args, NULL, 1);
	memset(counts, 0, sizeof(*counts));
	counts->waiting = DatumGetInt64(qs_result(0, 1, &isnull));
	counts->processing = DatumGetInt64(qs_result(0, 2, &isnull));
	look->at = call->now;
	look->delayed = DatumGetInt64(qs_result(0, 3, &isnull));
	oldest = qs_result(0, 4, &isnull);
	look->oldest = isnull ? 0 : DatumGetTimestampTz(oldest);
}

/* Waits for those whose changes were counted, and are not applied yet. */
static bool
wait_for_others(void)
{
	for (int i = 0; i < MAX_WAIT; i++)
	{
		if (!TransactionIdIsValid(qs_stats_recount_awaits()))
			return true;
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return false;
}

/*
 * Counts a queue that has an entry. The snapshot does not show what this
 * transaction wrote, which is applied when it ends.
 */
static bool
recount(QsCall *call, const Queue *queue)
{
	Prepared	prepared;
	TransactionId first;
	TransactionId last;
	Snapshot	snapshot;
	QsStatsCounts counts;
	QsStatsLook look;

	if (!qs_stats_claim_recount())
		return false;
	find_prepared(call, &prepared);
	prepared_range(&prepared, &first, &last);
	LockRelationOid(call->cat->table[QS_JOBS], AccessShareLock);
	LockRelationOid(call->cat->table[QS_CRITICAL_JOBS], AccessShareLock);
	snapshot = qs_stats_recount_begin(&queue->id, qs_stats_triggers(call->cat),
									  first, last);
	if (snapshot == InvalidSnapshot)
	{
		qs_stats_release_recount();
		return false;
	}
	PushCopiedSnapshot(snapshot);
	GetActiveSnapshot()->curcid = FirstCommandId;
	count(call, queue, &counts, &look);
	PopActiveSnapshot();
	QS_FAULT_POINT("counted");
	if (wait_for_others())
		return qs_stats_recount_end(&counts, &look);
	qs_stats_release_recount();
	return false;
}

/* Counts a queue that has no entry, into its row. */
static bool
count_into_row(QsCall *call, const Queue *queue)
{
	QsStatsCounts counts;
	QsStatsLook look;
	QsStatsRow	row = {.counts = &counts, .look = &look};
	QsStatsWritten written;

	qs_advance_snapshot();
	count(call, queue, &counts, &look);
	written = qs_stats_write(call, &queue->id, &row);
	return written == QS_STATS_WRITTEN || written == QS_STATS_WRITTEN_HELD;
}

static bool
find_tenant(QsCall *call, Queue *queue)
{
	Datum		args[1] = {UUIDPGetDatum(&queue->id)};
	bool		isnull;

	if (qs_execute(&select_tenant, call, SPI_OK_SELECT, args, NULL, 1) == 0)
		return false;
	queue->tenant = *DatumGetUUIDP(qs_result(0, 1, &isnull));
	return true;
}

/* Between two times, whichever is later: the clock may have been set back. */
static int64
distance(TimestampTz a, TimestampTz b)
{
	return Max(a, b) - Min(a, b);
}

/* Whether an entry is to be counted now. */
static bool
is_due(QsCall *call, const QsStatsView *view, Prepared *prepared)
{
	if (view->state == QS_STATS_EXACT)
		return distance(call->now, view->counted_at) >= ENTRY_AGE;
	if (view->state != QS_STATS_UNCERTAIN)
		return true;
	if (prepared->xids == NULL)
		find_prepared(call, prepared);
	return !is_undecided(view, prepared);
}

/*
 * Finds an entry that is not exact, or has not been looked after for long, among
 * so many from where the session's last run ended, around and around.
 */
static bool
find_entry(QsCall *call, uint64 triggers, int limit, Queue *queue)
{
	static int	position = 0;
	int			begun = position;
	bool		again = false;
	Prepared	prepared = {0};
	QsStatsView view;

	while (limit-- > 0)
	{
		if (!qs_stats_next(&position, triggers, &view))
		{
			position = 0;
			if (again)
				return false;
			again = true;
			continue;
		}
		if (again && position > begun)
			return false;
		CHECK_FOR_INTERRUPTS();
		if (!is_due(call, &view, &prepared))
			continue;
		queue->id = view.queue;
		if (find_tenant(call, queue))
			return true;
		qs_stats_remove(&view.queue);
	}
	return false;
}

/* How a batch ended. */
typedef enum Walked
{
	WALKED_ON,
	WALKED_TO_END,
	WALKED_TO_COUNT
} Walked;

/*
 * Counts a queue that a walk came by, if it has no entry or the walk has no
 * other place for what it counts.
 */
static bool
count_if_due(QsTaskRun *run, bool counts_live, const Queue *queue, bool never,
			 TimestampTz at)
{
	QsStatsView view;

	if (counts_live && qs_stats_view(&queue->id, 0, &view))
		return false;
	if (counts_live && qs_stats_reserve(&queue->id, run->call->now))
		run->done += recount(run->call, queue);
	else if (never || distance(run->call->now, at) >= ROW_AGE)
		run->done += count_into_row(run->call, queue);
	else
		return false;
	return true;
}

/* Looks at the next queues for one without an entry, and counts it. */
static Walked
walk(QsTaskRun *run, bool counts_live)
{
	pg_uuid_t	after = qs_resume_after(QS_WALK_RECOUNT);
	Datum		args[2] = {UUIDPGetDatum(&after), Int64GetDatum(BATCH)};
	int			found = (int) qs_execute(&select_queues, run->call, SPI_OK_SELECT,
										 args, NULL, 0);
	SPITupleTable *rows = SPI_tuptable;
	Walked		walked = found == BATCH ? WALKED_ON : WALKED_TO_END;

	for (int i = 0; i < found && walked != WALKED_TO_COUNT; i++)
	{
		HeapTuple	row = rows->vals[i];
		Queue		queue;
		bool		isnull;
		bool		never;
		Datum		at = SPI_getbinval(row, rows->tupdesc, 3, &never);

		queue.id = *DatumGetUUIDP(SPI_getbinval(row, rows->tupdesc, 1, &isnull));
		queue.tenant = *DatumGetUUIDP(SPI_getbinval(row, rows->tupdesc, 2, &isnull));
		after = queue.id;
		if (count_if_due(run, counts_live, &queue, never, DatumGetTimestampTz(at)))
			walked = WALKED_TO_COUNT;
	}
	if (walked == WALKED_TO_END)
		memset(&after, 0, sizeof(after));
	qs_resume_note_after(QS_WALK_RECOUNT, &after);
	SPI_freetuptable(rows);
	return walked;
}

static void
run_recount(QsTaskRun *run)
{
	static bool walking = false;
	QsCall	   *call = run->call;
	uint64		triggers = qs_stats_exist() ? qs_stats_triggers(call->cat) : 0;
	Walked		walked = WALKED_ON;
	Queue		queue;

	qs_connect();
	if (triggers != 0 &&
		find_entry(call, triggers, walking ? SOME_ENTRIES : PG_INT32_MAX, &queue))
	{
		run->done = recount(call, &queue);
		run->more = run->done > 0;
	}
	else
	{
		for (int i = 0; i < BATCHES && walked == WALKED_ON; i++)
		{
			CHECK_FOR_INTERRUPTS();
			walked = walk(run, triggers != 0);
		}
		walking = run->more = walked == WALKED_TO_COUNT;
	}
	SPI_finish();
}

const QsTask qs_task_recount = {.name = "recount", .period = 10, .run = run_recount};
