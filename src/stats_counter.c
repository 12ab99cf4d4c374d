/*
 * stats_counter.c
 *	  The part of a recount that is in shared memory: see stats_table.h.
 *
 * Of the entry and of what is since it began, under the lock of the entry.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "stats_entries.h"
#include "utils/snapmgr.h"

/* whether the recount is this session's, and has taken its snapshot */
static bool recount_is_mine = false;
static bool recount_runs = false;

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		qs_stats_release_recount();
}

static void
at_sub_end(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
		   SubTransactionId parent pg_attribute_unused(),
		   void *arg pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		qs_stats_release_recount();
}

/* Registers the callbacks; once a session. */
void
qs_stats_recount_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_sub_end, NULL);
}

/* Whether the snapshot of the recount shows a transaction as not ended. */
bool
qs_stats_is_running(TransactionId xid)
{
	const QsStatsRecount *recount = &qs_stats_memory->recount;

	if (TransactionIdFollowsOrEquals(xid, recount->xmax))
		return true;
	for (int i = 0; i < recount->nrunning; i++)
		if (TransactionIdEquals(recount->running[i], xid))
			return true;
	return false;
}

/* The same of any transaction from first to last. */
static bool
any_is_running(TransactionId first, TransactionId last)
{
	const QsStatsRecount *recount = &qs_stats_memory->recount;

	if (TransactionIdFollowsOrEquals(last, recount->xmax))
		return true;
	for (int i = 0; i < recount->nrunning; i++)
		if (TransactionIdFollowsOrEquals(recount->running[i], first) &&
			TransactionIdPrecedesOrEquals(recount->running[i], last))
			return true;
	return false;
}

/* Becomes the one that recounts; false if somebody else does. */
bool
qs_stats_claim_recount(void)
{
	QsStatsRecount *recount = &qs_stats_memory->recount;
	bool		taken;

	LWLockAcquire(recount->lock, LW_EXCLUSIVE);
	taken = recount->taken;
	recount->taken = true;
	LWLockRelease(recount->lock);
	recount_is_mine = !taken;
	return recount_is_mine;
}

static void
stop_recounting(void)
{
	if (recount_runs)
	{
		QsStatsKey key = qs_stats_memory->recount.key;
		QsStatsPartition *partition = qs_stats_partition_of(&key);
		QsStatsEntry *entry;

		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		entry = qs_stats_find(partition, &key);
		entry->recounting = false;
		LWLockRelease(partition->lock);
	}
	recount_runs = false;
}

/* Lets others recount; what was not ended is given up. */
void
qs_stats_release_recount(void)
{
	if (!recount_is_mine)
		return;
	stop_recounting();
	LWLockAcquire(qs_stats_memory->recount.lock, LW_EXCLUSIVE);
	qs_stats_memory->recount.taken = false;
	LWLockRelease(qs_stats_memory->recount.lock);
	recount_is_mine = false;
}

/*
 * Begins a recount of a queue that has an entry, and returns the snapshot to
 * count with: the next one to be taken replaces it. The tables are locked.
 * triggers is what their triggers were after that. From first to last are the
 * transactions that were prepared before the call.
 */
Snapshot
qs_stats_recount_begin(const pg_uuid_t *queue, uint64 triggers,
					   TransactionId first_prepared,
					   TransactionId last_prepared)
{
	QsStatsRecount *recount = &qs_stats_memory->recount;
	LWLock	   *lock;
	QsStatsEntry *entry;
	Snapshot	snapshot;

	/* the first one allocates memory, which can fail */
	(void) GetLatestSnapshot();

	entry = qs_stats_lock_entry(queue, &lock);
	if (entry == NULL)
	{
		LWLockRelease(lock);
		return InvalidSnapshot;
	}
	snapshot = GetLatestSnapshot();
	qs_stats_make_key(&recount->key, queue);
	recount->triggers = triggers;
	recount->voided = false;
	memset(&recount->since, 0, sizeof(recount->since));
	recount->xmax = snapshot->xmax;
	recount->nrunning = snapshot->xcnt;
	memcpy(recount->running, snapshot->xip,
		   snapshot->xcnt * sizeof(TransactionId));
	if (entry->counted_at == 0 && TransactionIdIsValid(first_prepared))
	{
		qs_stats_note_prepared(entry, first_prepared);
		qs_stats_note_prepared(entry, last_prepared);
	}
	entry->recounting = recount_runs = true;
	LWLockRelease(lock);
	return snapshot;
}

/*
 * A transaction that the snapshot shows as ended, and that may have something
 * to apply yet; none if all have.
 */
TransactionId
qs_stats_recount_awaits(void)
{
	for (int i = 0; i < qs_backend_slots(); i++)
	{
		TransactionId xid = pg_atomic_read_u32(&qs_stats_memory->marks[i]);

		if (TransactionIdIsValid(xid) && !qs_stats_is_running(xid) &&
			i != qs_my_backend_slot())
			return xid;
	}
	/* what they applied is seen after this */
	pg_memory_barrier();
	return InvalidTransactionId;
}

/*
 * Ends the recount that found so many jobs waiting and processing, and what it
 * saw beside. False if it was in vain.
 */
bool
qs_stats_recount_end(const QsStatsCounts *counted, const QsStatsLook *look)
{
	QsStatsRecount *recount = &qs_stats_memory->recount;
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(&recount->key.queue, &lock);
	bool		valid = !recount->voided;

	if (valid)
	{
		entry->counts.waiting = counted->waiting + recount->since.waiting;
		entry->counts.processing = counted->processing + recount->since.processing;
		entry->counted = true;
		entry->counted_at = look->at;
		entry->look = *look;
		entry->triggers = recount->triggers;
		entry->version++;
		if (TransactionIdIsValid(entry->first_prepared) &&
			!any_is_running(entry->first_prepared, entry->last_prepared))
		{
			entry->first_prepared = entry->last_prepared = InvalidTransactionId;
			entry->promised_prepared = 0;
		}
	}
	entry->recounting = recount_runs = false;
	LWLockRelease(lock);
	qs_stats_release_recount();
	return valid;
}
