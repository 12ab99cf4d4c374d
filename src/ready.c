/*
 * ready.c
 *	  Finds and locks claimable jobs: see ready.h.
 *
 * A job is claimable when its run_at has come and it is pending, or its lease
 * has expired. The ready index has all unfinished jobs that are not held, by
 * queue, priority (the higher first), run_at and id.
 *
 * Invariants:
 *	 Two scans never return the same row: a row is returned locked, in its
 *	 latest version, and the claim that follows makes it unclaimable before
 *	 the lock goes.
 *	 A row that somebody else has locked is passed over, not waited for.
 *	 No row is locked that is not returned. So a row that changed since the
 *	 snapshot is not locked in its newer version to be looked at; the scan
 *	 begins anew under a new snapshot instead, if it ends without having found
 *	 enough. At REPEATABLE READ and above that row is a serialization failure.
 *	 Within one priority run_at ascends, so the first that is in the future
 *	 ends the level: the scan descends anew at the next lower one.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "ready.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MAX_RESTARTS 3

static void
descend(QsReadyScan *ready, int16 priority)
{
	ready->keys[1].sk_argument = Int16GetDatum(priority);
	index_rescan(ready->scan, ready->keys, 2, NULL, 0);
}

static void
begin_scan(QsReadyScan *ready)
{
	ready->scan = qs_index_beginscan(ready->table->rel, ready->index,
									 GetActiveSnapshot(), 2);
	descend(ready, PG_INT16_MAX);
	ready->missed = false;
}

/* Begins a scan over a queue's rows of a table that is open for writing. */
void
qs_ready_begin(QsReadyScan *ready, QsTable *table, const pg_uuid_t *queue_id)
{
	Oid			index = qs_ready_index(table->call->cat, table->kind);

	ready->is_direct = qs_direct_possible(table);
	if (ready->is_direct)
	{
		qs_direct_begin(&ready->direct, table, queue_id);
		return;
	}
	ready->table = table;
	ready->index = index_open(index, RowExclusiveLock);
	ready->now = table->call->now;
	ready->restarts = 0;
	ScanKeyInit(&ready->keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(queue_id));
	ScanKeyInit(&ready->keys[1], 2, BTLessEqualStrategyNumber, F_INT2LE,
				Int16GetDatum(PG_INT16_MAX));
	begin_scan(ready);
}

static bool
begin_anew(QsReadyScan *ready)
{
	if (!ready->missed || ready->restarts++ == MAX_RESTARTS)
		return false;
	index_endscan(ready->scan);
	qs_advance_snapshot();
	begin_scan(ready);
	return true;
}

/* Whether the row in slot, which is due, is claimable. */
static bool
is_claimable(QsReadyScan *ready, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		status = slot_getattr(slot, QS_JOB_STATUS, &isnull);
	Datum		leased_until;

	if (qs_text_is(status, "pending"))
		return true;
	leased_until = slot_getattr(slot, QS_JOB_LEASED_UNTIL, &isnull);
	return DatumGetTimestampTz(leased_until) <= ready->now;
}

/* Locks the row in the table's slot, unless somebody else has it. */
static bool
try_lock(QsReadyScan *ready)
{
	QsTable    *table = ready->table;
	ItemPointerData tid = table->old->tts_tid;
	TM_FailureData tmfd;

	switch (table_tuple_lock(table->rel, &tid, GetActiveSnapshot(), table->old,
							 table->cid, LockTupleNoKeyExclusive,
							 LockWaitSkip, 0, &tmfd))
	{
		case TM_Ok:
			return true;
		case TM_Updated:
		case TM_Deleted:
			if (IsolationUsesXactSnapshot())
				qs_serialization_failure();
			ready->missed = true;
			return false;
		default:				/* somebody has it, or this call did it before */
			return false;
	}
}

/*
 * Finds the next claimable row, locks it and loads its columns. False if there
 * is none left. The caller writes the row before it asks for the next, or
 * leaves it as it is, locked until the transaction ends.
 */
bool
qs_ready_next(QsReadyScan *ready)
{
	TupleTableSlot *slot;

	if (ready->is_direct)
		return qs_direct_next(&ready->direct);
	slot = ready->table->old;
	for (;;)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (!index_getnext_slot(ready->scan, ForwardScanDirection, slot))
		{
			if (begin_anew(ready))
				continue;
			return false;
		}

		if (DatumGetTimestampTz(slot_getattr(slot, QS_JOB_RUN_AT, &isnull)) > ready->now)
		{
			int16		priority = DatumGetInt16(slot_getattr(slot, QS_JOB_PRIORITY, &isnull));

			if (priority > PG_INT16_MIN)
			{
				descend(ready, priority - 1);
				continue;
			}
			if (begin_anew(ready))
				continue;
			return false;
		}
		if (is_claimable(ready, slot) && try_lock(ready))
		{
			qs_load(ready->table);
			return true;
		}
	}
}

void
qs_ready_end(QsReadyScan *ready)
{
	if (ready->is_direct)
	{
		qs_direct_end(&ready->direct);
		return;
	}
	index_endscan(ready->scan);
	index_close(ready->index, NoLock);
	ExecClearTuple(ready->table->old);
}
