/*
 * stats_table.c
 *	  What happens to the entries of statistics: see stats_table.h.
 */
#include "postgres.h"

#include "access/transam.h"
#include "compat.h"
#include "miscadmin.h"
#include "stats_entries.h"
#include "utils/timestamp.h"

/*
 * This transaction has something to apply, or will have, from here on. Who takes
 * a snapshot that shows it as ended finds the mark: it is written before the
 * transaction takes itself off the list of those that run.
 */
void
qs_stats_mark(TransactionId xid)
{
	pg_atomic_write_u32(&qs_stats_memory->marks[qs_my_backend_slot()], xid);
}

/* All is applied. */
void
qs_stats_unmark(void)
{
	/* not before what was applied */
	pg_memory_barrier();
	pg_atomic_write_u32(&qs_stats_memory->marks[qs_my_backend_slot()],
						InvalidTransactionId);
}

static void
add_counts(QsStatsCounts *counts, const QsStatsCounts *change)
{
	counts->waiting += change->waiting;
	counts->processing += change->processing;
	for (int i = 0; i < QS_NEVENTS; i++)
		counts->events[i] += change->events[i];
}

static void
add_change(QsStatsEntry *entry, const QsStatsChange *change, TransactionId xid)
{
	add_counts(&entry->counts, &change->counts);
	if (entry->recounting && qs_stats_is_running(xid))
		add_counts(&qs_stats_memory->recount.since, &change->counts);
	qs_histogram_merge(&entry->wait[0], &change->wait);
	qs_histogram_merge(&entry->run[0], &change->run);
	entry->version++;
}

/* Makes an entry for the first change of a queue; NULL if there is no room. */
static QsStatsEntry *
begin_entry(QsStatsPartition *partition, const QsStatsKey *key,
			const QsStatsChange *change, TimestampTz now)
{
	QsStatsEntry *entry = qs_stats_get_entry(partition, key, now);

	if (entry != NULL && change->created != 0)
	{
		/* whoever else changed it has applied that after this */
		entry->counted = entry->totals_known = true;
		entry->triggers = change->created;
		entry->counted_at = now;
	}
	return entry;
}

/* Adds to an entry what a transaction did that has committed. */
void
qs_stats_apply(const pg_uuid_t *queue, const QsStatsChange *change,
			   TransactionId xid, TimestampTz now)
{
	QsStatsKey key;
	QsStatsPartition *partition;
	QsStatsEntry *entry;

	qs_stats_make_key(&key, queue);
	partition = qs_stats_partition_of(&key);
	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	entry = qs_stats_find(partition, &key);
	if (entry == NULL && change->any)
		entry = begin_entry(partition, &key, change, now);
	if (entry != NULL && change->any)
	{
		add_change(entry, change, xid);
		entry->changed_at = now;
		if (change->counts.events[QS_CLAIMED] > 0)
			entry->claimed_at = now;
	}
	if (entry != NULL)
	{
		entry->flushed = Max(entry->flushed, change->flushed);
		entry->promised -= change->promised;
	}
	LWLockRelease(partition->lock);
}

static bool
is_counted(const QsStatsEntry *entry, uint64 triggers)
{
	return entry != NULL && entry->counted && triggers != 0 &&
		entry->triggers == triggers;
}

/* Whether the gauges of a queue are what they should be. */
bool
qs_stats_is_counted(const pg_uuid_t *queue, uint64 triggers)
{
	LWLock	   *lock;
	bool		counted = is_counted(qs_stats_lock_entry(queue, &lock), triggers);

	LWLockRelease(lock);
	return counted;
}

/*
 * Promises a transaction that it may add so many jobs, if those that there are
 * and those that are promised are max then at most. It gives that up when what
 * it did is applied, or is rolled back.
 */
QsStatsPromise
qs_stats_promise(const pg_uuid_t *queue, int64 count, int64 max,
				 uint64 triggers)
{
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(queue, &lock);
	QsStatsPromise answer = QS_STATS_NOT_COUNTED;

	if (is_counted(entry, triggers))
	{
		int64		depth = entry->counts.waiting + entry->counts.processing +
			entry->promised + entry->promised_prepared;

		answer = depth + count <= max ? QS_STATS_PROMISED : QS_STATS_FULL;
		if (answer == QS_STATS_PROMISED)
			entry->promised += count;
	}
	LWLockRelease(lock);
	return answer;
}

/* What was promised was not done. */
void
qs_stats_give_up(const pg_uuid_t *queue, int64 promised)
{
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(queue, &lock);

	if (entry != NULL)
		entry->promised -= promised;
	LWLockRelease(lock);
}

void
qs_stats_note_prepared(QsStatsEntry *entry, TransactionId xid)
{
	if (!TransactionIdIsValid(entry->first_prepared))
		entry->first_prepared = entry->last_prepared = xid;
	else if (TransactionIdPrecedes(xid, entry->first_prepared))
		entry->first_prepared = xid;
	else if (TransactionIdFollows(xid, entry->last_prepared))
		entry->last_prepared = xid;
}

/* Calls change for each entry of the database. */
static void
for_all(void (*change) (QsStatsEntry *entry, TransactionId xid), TransactionId xid)
{
	for (int i = 0; i < QS_STATS_PARTITIONS; i++)
	{
		QsStatsPartition *partition = &qs_stats_memory->partitions[i];

		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		for (int32 n = 0; n < qs_stats_memory->entries; n++)
			if (partition->entries[n].used &&
				partition->entries[n].key.database == MyDatabaseId)
				change(&partition->entries[n], xid);
		LWLockRelease(partition->lock);
	}
}

/*
 * A transaction was prepared that has changed the queue, or may have changed any
 * if that is NULL. What it was promised stays so until it is known to have ended.
 */
void
qs_stats_prepared(const pg_uuid_t *queue, int64 promised, TransactionId xid)
{
	LWLock	   *lock;
	QsStatsEntry *entry;

	if (queue == NULL)
	{
		for_all(qs_stats_note_prepared, xid);
		return;
	}
	entry = qs_stats_lock_entry(queue, &lock);
	if (entry != NULL)
	{
		qs_stats_note_prepared(entry, xid);
		entry->promised -= promised;
		entry->promised_prepared += promised;
	}
	LWLockRelease(lock);
}

static void
empty(QsStatsEntry *entry, TransactionId xid pg_attribute_unused())
{
	entry->counted = false;
	entry->version++;
	if (entry->recounting)
		qs_stats_memory->recount.voided = true;
}

/* A table was emptied: no queue has what it had. */
void
qs_stats_emptied(void)
{
	for_all(empty, InvalidTransactionId);
}

static void
fill_view(const QsStatsEntry *entry, uint64 triggers, QsStatsView *view)
{
	view->queue = entry->key.queue;
	if (!is_counted(entry, triggers))
		view->state = QS_STATS_UNCOUNTED;
	else
		view->state = TransactionIdIsValid(entry->first_prepared) ?
			QS_STATS_UNCERTAIN : QS_STATS_EXACT;
	view->version = entry->version;
	view->flushed = entry->flushed;
	view->sampled = entry->sampled;
	view->first_prepared = entry->first_prepared;
	view->last_prepared = entry->last_prepared;
	view->flush_due = entry->flush_due;
	view->flush_wait = entry->flush_wait;
	view->counted_at = entry->counted_at;
	view->changed_at = entry->changed_at;
	view->claimed_at = entry->claimed_at;
	view->counts = entry->counts;
	view->totals_known = entry->totals_known;
	for (int i = 0; i < QS_NEVENTS; i++)
		view->totals[i] = entry->before[i] + entry->counts.events[i];
	view->sample = entry->marks[0];
	view->before = entry->marks[1];
	for (int i = 0; i < 2; i++)
	{
		view->wait[i] = entry->wait[i];
		view->run[i] = entry->run[i];
	}
	view->look = entry->look;
}

/*
 * What is known of a queue; false, and state QS_STATS_NONE, if nothing is.
 * triggers is the version of those that there are now.
 */
bool
qs_stats_view(const pg_uuid_t *queue, uint64 triggers, QsStatsView *view)
{
	QsStatsKey key;
	QsStatsPartition *partition;
	QsStatsEntry *entry;

	view->state = QS_STATS_NONE;
	if (qs_stats_memory == NULL)
		return false;
	qs_stats_make_key(&key, queue);
	partition = qs_stats_partition_of(&key);
	LWLockAcquire(partition->lock, LW_SHARED);
	entry = qs_stats_find(partition, &key);
	if (entry != NULL)
		fill_view(entry, triggers, view);
	LWLockRelease(partition->lock);
	return entry != NULL;
}

/*
 * The next entry of the database from a position on, which begins at 0 and is
 * moved behind it; false if there is none.
 */
bool
qs_stats_next(int *position, uint64 triggers, QsStatsView *view)
{
	int32		entries = qs_stats_memory == NULL ? 0 : qs_stats_memory->entries;

	Assert(*position >= 0);
	while (*position < QS_STATS_PARTITIONS * entries)
	{
		QsStatsPartition *partition = &qs_stats_memory->partitions[*position / entries];
		bool		found = false;

		LWLockAcquire(partition->lock, LW_SHARED);
		do
		{
			const QsStatsEntry *entry = &partition->entries[(*position)++ % entries];

			found = entry->used && entry->key.database == MyDatabaseId;
			if (found)
				fill_view(entry, triggers, view);
		} while (!found && *position % entries != 0);
		LWLockRelease(partition->lock);
		if (found)
			return true;
	}
	return false;
}

/* Forgets a queue that is not there any more. */
void
qs_stats_remove(const pg_uuid_t *queue)
{
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(queue, &lock);

	if (entry != NULL && !entry->recounting)
		qs_stats_free_entry(qs_stats_partition_of(&entry->key), entry);
	LWLockRelease(lock);
}

/* How many events there were before the entry, unless that is known. */
void
qs_stats_set_totals(const pg_uuid_t *queue, const int64 *before)
{
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(queue, &lock);

	if (entry != NULL && !entry->totals_known)
	{
		memcpy(entry->before, before, sizeof(entry->before));
		entry->totals_known = true;
	}
	LWLockRelease(lock);
}

void
qs_stats_set_flush(const pg_uuid_t *queue, TimestampTz due, int64 wait)
{
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(queue, &lock);

	if (entry != NULL)
	{
		entry->flush_due = due;
		entry->flush_wait = wait;
	}
	LWLockRelease(lock);
}

/*
 * Takes a sample: what was seen of the queue, and what there was since the last
 * one; view shows it as the last.
 */
bool
qs_stats_sample(const pg_uuid_t *queue, uint64 triggers,
				const QsStatsLook *look, QsStatsView *view)
{
	LWLock	   *lock;
	QsStatsEntry *entry = qs_stats_lock_entry(queue, &lock);

	if (entry != NULL)
	{
		entry->marks[1] = entry->marks[0];
		entry->marks[0].at = look->at;
		memcpy(entry->marks[0].events, entry->counts.events,
			   sizeof(entry->counts.events));
		entry->wait[1] = entry->wait[0];
		entry->run[1] = entry->run[0];
		qs_histogram_clear(&entry->wait[0]);
		qs_histogram_clear(&entry->run[0]);
		entry->look = *look;
		entry->sampled = entry->version;
		fill_view(entry, triggers, view);
	}
	LWLockRelease(lock);
	return entry != NULL;
}

void
qs_stats_use(QsStatsUse *use)
{
	memset(use, 0, sizeof(*use));
	use->queues_max = (uint64) QS_STATS_PARTITIONS * qs_stats_memory->entries;
	use->bytes = qs_stats_memory->bytes;
	for (int i = 0; i < QS_STATS_PARTITIONS; i++)
	{
		QsStatsPartition *partition = &qs_stats_memory->partitions[i];

		LWLockAcquire(partition->lock, LW_SHARED);
		use->queues += partition->used;
		use->refused += partition->refused;
		LWLockRelease(partition->lock);
	}
}

/* Sees to it that a queue has an entry; false if there is no room for it. */
bool
qs_stats_reserve(const pg_uuid_t *queue, TimestampTz now)
{
	QsStatsKey key;
	QsStatsPartition *partition;
	bool		reserved;

	qs_stats_make_key(&key, queue);
	partition = qs_stats_partition_of(&key);
	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	reserved = qs_stats_get_entry(partition, &key, now) != NULL;
	LWLockRelease(partition->lock);
	return reserved;
}
