/*
 * leases.c
 *	  The leases that there are of a queue: see leases.h.
 *
 * A job that is leased is in its ready index, so a walk over the queue's
 * entries finds all leases, also those of transactions in progress: with a
 * dirty snapshot each version of a row is seen that was not ended by a
 * committed transaction or by our own. A lease may so be found more than once,
 * under one token.
 *
 * A row that moves to another place of the index while the walk is on its way
 * may be missed. Who moved it knows that, see slots.h.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "fault.h"
#include "leases.h"
#include "miscadmin.h"
#include "table.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static void
look_at(QsTableKind kind, TupleTableSlot *row, TimestampTz now,
		QsLeaseFound found, void *arg)
{
	QsHolder	lease = {.critical = kind == QS_CRITICAL_JOBS};
	bool		isnull;

	if (!qs_text_is(slot_getattr(row, QS_JOB_STATUS, &isnull), "processing"))
		return;
	lease.until = DatumGetTimestampTz(slot_getattr(row, QS_JOB_LEASED_UNTIL, &isnull));
	if (isnull || lease.until <= now)
		return;
	lease.token = DatumGetInt64(slot_getattr(row, QS_JOB_LEASE_TOKEN, &isnull));
	if (!isnull)
		found(&lease, arg);
}

static void
walk(QsCall *call, QsTableKind kind, const pg_uuid_t *queue,
	 QsLeaseFound found, void *arg)
{
	Relation	rel = table_open(call->cat->table[kind], AccessShareLock);
	Relation	index = index_open(qs_ready_index(call->cat, kind), AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	TimestampTz now = GetCurrentTimestamp();
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData key;

	InitDirtySnapshot(dirty);
	scan = qs_index_beginscan(rel, index, &dirty, 1);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(queue));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		call->visited++;
		QS_FAULT_POINT("walk");
		look_at(kind, row, now, found, arg);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/* Calls found for each unexpired lease of the queue. */
void
qs_leases_walk(QsCall *call, const pg_uuid_t *queue, QsLeaseFound found,
			   void *arg)
{
	walk(call, QS_JOBS, queue, found, arg);
	walk(call, QS_CRITICAL_JOBS, queue, found, arg);
}
