/*
 * ready_entry.c
 *	  Looks at the rows behind an entry of a ready index: see ready_entry.h.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "ready_entry.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* How long a lease is believed to go on: 250 ms, or 8 times its age. */
#define LEASE_GOES_ON (250 * INT64CONST(1000))
#define LEASE_AGES 8

/* Whether somebody has locked the row against updates, as a claim does. */
static bool
is_locked(HeapTupleHeader row)
{
	return !(row->t_infomask & HEAP_XMAX_INVALID) &&
		HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask) &&
		!HEAP_XMAX_IS_KEYSHR_LOCKED(row->t_infomask) &&
		(row->t_infomask & HEAP_XMAX_IS_MULTI ||
		 TransactionIdIsInProgress(HeapTupleHeaderGetRawXmax(row)));
}

static TimestampTz
goes_on(TimestampTz now, TimestampTz until, Datum leased_at, bool not_known)
{
	int64		age = not_known ? 0 : now - DatumGetTimestampTz(leased_at);

	/* a time that somebody made up may be any */
	age = Max(0, Min(age, USECS_PER_DAY));
	return Min(until, now + Max(LEASE_GOES_ON, LEASE_AGES * age));
}

/* Whether a lease of the row is its last, as qs_job_is_over() says. */
static bool
is_over(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;

	return DatumGetBool(heap_getattr(tuple, QS_JOB_FINAL_ATTEMPT, desc, &isnull)) ||
		DatumGetBool(heap_getattr(tuple, QS_JOB_CANCEL_REQUESTED, desc, &isnull));
}

/* What a row is that is the latest committed one, or our own. */
static void
classify_row(QsDirectScan *direct, HeapTuple tuple, QsEntry *entry)
{
	TupleDesc	desc = RelationGetDescr(direct->table->rel);
	bool		isnull;
	Datum		status = heap_getattr(tuple, QS_JOB_STATUS, desc, &isnull);
	Datum		until;
	Datum		leased_at;

	entry->tid = tuple->t_self;
	entry->state = ENTRY_CLAIMABLE;
	if (direct->looks && is_locked(tuple->t_data))
		entry->state = ENTRY_OTHER;
	if (qs_text_is(status, "pending"))
		return;
	if (!qs_text_is(status, "processing"))
	{
		/* finished in a way that left it in the index: a row of no use */
		entry->state = ENTRY_OTHER;
		return;
	}
	until = heap_getattr(tuple, QS_JOB_LEASED_UNTIL, desc, &isnull);
	entry->until = DatumGetTimestampTz(until);
	if (entry->until <= direct->table->call->now)
	{
		entry->over = direct->looks && is_over(tuple, desc);
		return;
	}
	entry->state = ENTRY_LEASED;
	leased_at = heap_getattr(tuple, QS_JOB_LEASED_AT, desc, &isnull);
	entry->goes_on = goes_on(direct->table->call->now, entry->until, leased_at,
							 isnull);
}

static bool
is_own(TransactionId xid)
{
	return TransactionIdIsCurrentTransactionId(xid);
}

/*
 * Notes if a dead row goes on under another key and did not yet when the call
 * began: it may now be where the scan has been.
 */
static void
note_move(QsDirectScan *direct, HeapTuple tuple)
{
	if (!direct->moved && !HeapTupleIsHotUpdated(tuple) &&
		!ItemPointerEquals(&tuple->t_data->t_ctid, &tuple->t_self) &&
		XidInMVCCSnapshot(HeapTupleHeaderGetUpdateXid(tuple->t_data),
						  GetActiveSnapshot()))
		direct->moved = true;
}

/*
 * Looks at one member of a chain; true if the ones after it are to be looked
 * at as well. The page is locked.
 */
static bool
classify_member(QsDirectScan *direct, HeapTuple tuple, QsEntry *entry)
{
	TransactionId dead_after;

	switch (HeapTupleSatisfiesVacuumHorizon(tuple, direct->buffer, &dead_after))
	{
		case HEAPTUPLE_DEAD:
			return true;
		case HEAPTUPLE_RECENTLY_DEAD:
			note_move(direct, tuple);
			/* without the hint its commit may not be on disk */
			if (!(tuple->t_data->t_infomask & HEAP_XMAX_COMMITTED) ||
				!GlobalVisTestIsRemovableXid(direct->horizon, dead_after))
				entry->all_dead = false;
			return true;
		case HEAPTUPLE_LIVE:
			entry->all_dead = false;
			classify_row(direct, tuple, entry);
			return false;
		case HEAPTUPLE_INSERT_IN_PROGRESS:
			entry->all_dead = false;
			entry->xid = HeapTupleHeaderGetXmin(tuple->t_data);
			if (is_own(entry->xid))
			{
				classify_row(direct, tuple, entry);
				/* our own lease ends if we roll back */
				if (entry->state == ENTRY_LEASED)
					entry->state = ENTRY_BUSY;
				return false;
			}
			entry->state = ENTRY_BUSY;
			return true;
		case HEAPTUPLE_DELETE_IN_PROGRESS:
			entry->all_dead = false;
			entry->state = ENTRY_BUSY;
			entry->xid = HeapTupleHeaderGetUpdateXid(tuple->t_data);
			return true;
	}
	return true;				/* keep compiler quiet */
}

/* Classifies all members of the HOT chain that the entry leads to. */
void
qs_classify_entry(QsDirectScan *direct, ItemPointer tid, QsEntry *entry)
{
	Relation	rel = direct->table->rel;
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	OffsetNumber offset = ItemPointerGetOffsetNumber(tid);
	TransactionId previous_xmax = InvalidTransactionId;
	bool		at_start = true;
	Page		page;

	if (!BufferIsValid(direct->buffer) ||
		BufferGetBlockNumber(direct->buffer) != block)
	{
		direct->buffer = ReleaseAndReadBuffer(direct->buffer, rel, block);
		heap_page_prune_opt(rel, direct->buffer);
	}
	LockBuffer(direct->buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(direct->buffer);
	entry->state = ENTRY_DEAD;
	entry->all_dead = true;

	for (;;)
	{
		ItemId		item;
		HeapTupleData tuple;

		if (offset < FirstOffsetNumber || offset > PageGetMaxOffsetNumber(page))
			break;
		item = PageGetItemId(page, offset);
		if (!ItemIdIsNormal(item))
		{
			if (!ItemIdIsRedirected(item) || !at_start)
				break;
			offset = ItemIdGetRedirect(item);
			at_start = false;
			continue;
		}

		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(rel);
		ItemPointerSet(&tuple.t_self, block, offset);
		if (at_start && HeapTupleIsHeapOnly(&tuple))
			break;
		if (TransactionIdIsValid(previous_xmax) &&
			!TransactionIdEquals(previous_xmax,
								 HeapTupleHeaderGetXmin(tuple.t_data)))
			break;
		if (!classify_member(direct, &tuple, entry) ||
			!HeapTupleIsHotUpdated(&tuple))
			break;
		offset = ItemPointerGetOffsetNumber(&tuple.t_data->t_ctid);
		previous_xmax = HeapTupleHeaderGetUpdateXid(tuple.t_data);
		at_start = false;
	}
	/*
	 * What a crash may still undo, the index must not forget: its page can be
	 * written before the WAL is that ended the row, or pruned it.
	 */
	if (entry->all_dead && XLogNeedsFlush(BufferGetLSNAtomic(direct->buffer)))
		entry->all_dead = false;
	LockBuffer(direct->buffer, BUFFER_LOCK_UNLOCK);
}
