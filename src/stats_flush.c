/*
 * stats_flush.c
 *	  Writes statistics into the rows of queues: see stats.h. The task "flush".
 *
 * Each enqueue looks a queue up by its row. So a row is written at most once a
 * minute, only if its statistics have changed, and only if the new version has
 * room on the same page: so the indexes lead to one page, however many versions
 * there are. While the version before cannot be pruned, as somebody may see it, a
 * row is written each time after twice as long, to make the room last.
 *
 * Totals are written as they are, not added to: a flush that is rolled back, or
 * done twice, changes nothing.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "statement.h"
#include "stats.h"
#include "stats_note.h"
#include "stats_trigger.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "task.h"
#include "utils/timestamp.h"

/* Rows that one run writes at most. */
#define BATCH 500

/* What a row may grow by when columns are set that were null. */
#define GROWTH 64

#define MAX_WAIT USECS_PER_DAY

static QsStatement select_version = {
	.sql = "SELECT ctid, xmin FROM @queues WHERE id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};
static QsStatement select_totals = {
	.sql = "SELECT enqueued_total, claimed_total, completed_total,"
	" failed_total, dead_total, cancelled_total FROM @queues WHERE id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};
static QsStatement update_row = {
	.sql = "UPDATE @queues SET depth = coalesce($2, depth),"
	" delayed = coalesce($3, delayed), processing = coalesce($4, processing),"
	" oldest_claimable_at = CASE WHEN $2 IS NULL THEN oldest_claimable_at ELSE $5 END,"
	" statistics_at = CASE WHEN $2 IS NULL THEN statistics_at ELSE $6 END,"
	" enqueued_total = coalesce($7, enqueued_total),"
	" claimed_total = coalesce($8, claimed_total),"
	" completed_total = coalesce($9, completed_total),"
	" failed_total = coalesce($10, failed_total),"
	" dead_total = coalesce($11, dead_total),"
	" cancelled_total = coalesce($12, cancelled_total)"
	" WHERE id = (SELECT id FROM @queues WHERE id = $1"
	" FOR NO KEY UPDATE SKIP LOCKED)",
	.nargs = 12, .argtypes = {UUIDOID, INT8OID, INT8OID, INT8OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID}
};

/*
 * Whether another version of the row fits on its page. A wide row may move, for
 * which fillfactor leaves no room, unless the version before has to stay.
 */
static bool
has_room(Relation rel, ItemPointer tid, bool held)
{
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(tid));
	Size		length;
	Page		page;
	bool		fits;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	length = MAXALIGN(ItemIdGetLength(PageGetItemId(page,
													ItemPointerGetOffsetNumber(tid))));
	fits = PageGetHeapFreeSpace(page) >= length + GROWTH ||
		(length > BLCKSZ / 4 && !held);
	UnlockReleaseBuffer(buffer);
	return fits;
}

/* Looks at the version of a row that is to be replaced. */
static QsStatsWritten
look_at_row(QsCall *call, const pg_uuid_t *queue)
{
	Datum		args[1] = {UUIDPGetDatum(queue)};
	Relation	rel;
	TransactionId xmin;
	ItemPointerData tid;
	bool		isnull;
	bool		held;
	bool		room;

	if (qs_execute(&select_version, call, SPI_OK_SELECT, args, NULL, 1) == 0)
		return QS_STATS_GONE;
	tid = *(ItemPointer) DatumGetPointer(qs_result(0, 1, &isnull));
	xmin = DatumGetTransactionId(qs_result(0, 2, &isnull));

	/* what it replaced ended with it */
	rel = table_open(call->cat->queues, RowExclusiveLock);
	held = TransactionIdIsCurrentTransactionId(xmin) ||
		!GlobalVisTestIsRemovableXid(GlobalVisTestFor(rel), xmin);
	room = has_room(rel, &tid, held);
	table_close(rel, NoLock);
	if (!room)
		return QS_STATS_NO_ROOM;
	return held ? QS_STATS_WRITTEN_HELD : QS_STATS_WRITTEN;
}

/* Writes statistics into a queue's row, if that may be now. Within SPI. */
QsStatsWritten
qs_stats_write(QsCall *call, const pg_uuid_t *queue, const QsStatsRow *row)
{
	QsStatsWritten may = look_at_row(call, queue);
	Datum		args[12] = {UUIDPGetDatum(queue)};
	char		nulls[13] = " nnnnnnnnnnn";

	if (may != QS_STATS_WRITTEN && may != QS_STATS_WRITTEN_HELD)
		return may;
	if (row->counts != NULL)
	{
		args[1] = Int64GetDatum(Max(row->counts->waiting, 0));
		args[2] = Int64GetDatum(row->look->delayed);
		args[3] = Int64GetDatum(Max(row->counts->processing, 0));
		args[4] = TimestampTzGetDatum(row->look->oldest);
		args[5] = TimestampTzGetDatum(call->now);
		memset(&nulls[1], ' ', 5);
		if (row->look->oldest == 0)
			nulls[4] = 'n';
	}
	for (int i = 0; i < QS_NEVENTS && row->totals != NULL; i++)
	{
		args[6 + i] = Int64GetDatum(row->totals[i]);
		nulls[6 + i] = ' ';
	}
	return qs_execute(&update_row, call, SPI_OK_UPDATE, args, nulls, 0) == 1 ?
		may : QS_STATS_LOCKED;
}

/* The totals in a queue's row; false if there is none. Within SPI. */
bool
qs_stats_read_totals(QsCall *call, const pg_uuid_t *queue, int64 *totals)
{
	Datum		args[1] = {UUIDPGetDatum(queue)};

	if (qs_execute(&select_totals, call, SPI_OK_SELECT, args, NULL, 1) == 0)
		return false;
	for (int i = 0; i < QS_NEVENTS; i++)
	{
		bool		isnull;

		totals[i] = DatumGetInt64(qs_result(0, 1 + i, &isnull));
	}
	return true;
}

/* Makes sure that the entry knows what was counted before it. */
static bool
know_totals(QsCall *call, QsStatsView *view)
{
	int64		before[QS_NEVENTS];

	if (view->totals_known)
		return true;
	if (!qs_stats_read_totals(call, &view->queue, before))
		return false;
	qs_stats_set_totals(&view->queue, before);
	for (int i = 0; i < QS_NEVENTS; i++)
		view->totals[i] = before[i] + view->counts.events[i];
	return true;
}

static bool
flush_one(QsCall *call, QsStatsView *view)
{
	QsStatsRow	row = {.look = &view->look, .totals = view->totals};
	QsStatsWritten written = QS_STATS_GONE;
	int64		wait = QS_STATS_PERIOD;

	if (view->state == QS_STATS_EXACT)
		row.counts = &view->counts;
	if (know_totals(call, view))
		written = qs_stats_write(call, &view->queue, &row);
	switch (written)
	{
		case QS_STATS_GONE:
			qs_stats_remove(&view->queue);
			return false;
		case QS_STATS_LOCKED:
			return false;
		case QS_STATS_WRITTEN_HELD:
		case QS_STATS_NO_ROOM:
			wait = Min(Max(2 * view->flush_wait, 2 * QS_STATS_PERIOD), MAX_WAIT);
			break;
		case QS_STATS_WRITTEN:
			break;
	}
	qs_stats_set_flush(&view->queue, call->now + wait, wait);
	if (written == QS_STATS_NO_ROOM)
		return false;
	qs_stats_queue_flushed(&view->queue, view->version);
	return true;
}

static void
flush(QsTaskRun *run)
{
	QsCall	   *call = run->call;
	int			position = 0;
	uint64		triggers;
	QsStatsView view;

	if (!qs_stats_exist())
		return;
	triggers = qs_stats_triggers(call->cat);
	qs_connect();
	while (qs_stats_next(&position, triggers, &view))
	{
		CHECK_FOR_INTERRUPTS();
		if (view.version == view.flushed || call->now < view.flush_due)
			continue;
		if (run->done == BATCH)
		{
			run->more = true;
			break;
		}
		run->done += flush_one(call, &view);
	}
	SPI_finish();
}

const QsTask qs_task_flush = {.name = "flush", .period = 60, .run = flush};
