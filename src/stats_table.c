/*
 * stats_table.c
 *	  Statistics of queues in shared memory: see stats_table.h.
 *
 * The table is cut into partitions by the hash of the key, each with a LWLock
 * that guards all of its entries. One recount runs at a time in the server: the
 * last lock guards whose it is. The rest of the recount is guarded by the
 * lock of the partition that its queue is in, while it runs.
 *
 * A queue for which there is no room is not counted. An entry makes room for
 * another once nothing has changed it for a while, and its row has all.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "shmem.h"
#include "stats_table.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define PARTITIONS 16
#define LOOKS_FOR_ROOM 8		/* entries that are looked at for one to go */
#define IDLE (10 * USECS_PER_MINUTE)	/* before an entry may go */

typedef struct Key
{
	Oid			database;
	pg_uuid_t	queue;
} Key;

typedef struct Entry
{
	Key			key;
	int32		next;			/* in the chain of its hash, or of free ones */
	bool		used;
	bool		recounting;		/* it is the queue of the recount */
	bool		counted;		/* the gauges are what they should be */
	bool		totals_known;
	uint64		triggers;		/* under which that is so */

	/* jobs that may be added to the gauges, by those that run, or are prepared */
	int64		promised;
	int64		promised_prepared;

	/* transactions that were prepared with changes; the gauges have none */
	TransactionId first_prepared;
	TransactionId last_prepared;

	uint64		version;
	uint64		flushed;
	uint64		sampled;
	TimestampTz flush_due;
	int64		flush_wait;
	TimestampTz counted_at;
	TimestampTz changed_at;
	TimestampTz claimed_at;		/* of the last claim */
	QsStatsCounts counts;
	int64		before[QS_NEVENTS]; /* events that the row has from before */
	QsStatsMark marks[2];		/* the last sample, and the one before */
	QsHistogram wait[2];
	QsHistogram run[2];
	QsStatsLook look;
} Entry;

typedef struct Partition
{
	LWLock	   *lock;
	uint64		refused;
	int32		used;
	int32		free;			/* first free entry, or -1 */
	int32		hand;
	Entry	   *entries;
	int32	   *chains;			/* as many as entries */
} Partition;

typedef struct Recount
{
	LWLock	   *lock;
	bool		taken;			/* by a session, under this lock */

	Key			key;
	uint64		triggers;
	bool		voided;			/* a table was emptied since */
	QsStatsCounts since;		/* only the gauges */

	/* the snapshot */
	TransactionId xmax;
	int			nrunning;
	TransactionId *running;
} Recount;

typedef struct Shared
{
	int32		entries;		/* in each partition */
	Size		bytes;
	Recount		recount;
	Partition	partitions[PARTITIONS];
	pg_atomic_uint32 marks[FLEXIBLE_ARRAY_MEMBER];	/* by backend: its xid, or 0 */
} Shared;

static Shared *shared = NULL;

/* whether the recount is this session's, and has taken its snapshot */
static bool recount_is_mine = false;
static bool recount_runs = false;

/* GUC: queue_service.max_statistics */
static int	max_statistics = 4096;

/* Queues that there may be, if there are no more than was expected. */
int
qs_stats_queues_max(void)
{
	return max_statistics;
}

/* Some more than a part of all, as hashes do not spread evenly. */
static int32
entries_per_partition(void)
{
	return max_statistics / PARTITIONS + max_statistics / PARTITIONS / 16 + 16;
}

/* Transactions that a snapshot may show as running. */
static int
max_running(void)
{
	return qs_backend_slots() + max_prepared_xacts;
}

static Size
head_size(void)
{
	return MAXALIGN(offsetof(Shared, marks) +
					qs_backend_slots() * sizeof(pg_atomic_uint32));
}

static Size
shared_size(void)
{
	Size		entries = entries_per_partition();

	return head_size() + MAXALIGN(max_running() * sizeof(TransactionId)) +
		PARTITIONS * (MAXALIGN(entries * sizeof(Entry)) +
					  MAXALIGN(entries * sizeof(int32)));
}

static void
init_partition(Partition *partition, LWLock *lock, char **memory)
{
	int32		entries = shared->entries;

	memset(partition, 0, sizeof(*partition));
	partition->lock = lock;
	partition->entries = (Entry *) *memory;
	*memory += MAXALIGN(entries * sizeof(Entry));
	partition->chains = (int32 *) *memory;
	*memory += MAXALIGN(entries * sizeof(int32));
	for (int32 i = 0; i < entries; i++)
	{
		partition->entries[i].used = false;
		partition->entries[i].next = i + 1 < entries ? i + 1 : -1;
		partition->chains[i] = -1;
	}
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	char	   *rest = (char *) memory + head_size();

	shared = memory;
	if (found)
		return;
	memset(shared, 0, head_size());
	shared->entries = entries_per_partition();
	shared->bytes = shared_size();
	for (int i = 0; i < qs_backend_slots(); i++)
		pg_atomic_init_u32(&shared->marks[i], InvalidTransactionId);
	shared->recount.lock = &locks[PARTITIONS].lock;
	shared->recount.running = (TransactionId *) rest;
	rest += MAXALIGN(max_running() * sizeof(TransactionId));
	for (int i = 0; i < PARTITIONS; i++)
		init_partition(&shared->partitions[i], &locks[i].lock, &rest);
}

static const QsShmem part = {
	"queue_service_statistics", PARTITIONS + 1, shared_size, attach
};

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

/* Asks for shared memory while the server starts; without it nothing is counted. */
void
qs_stats_table_init(void)
{
	bool		preloaded = process_shared_preload_libraries_in_progress;

	/* without preload it has no effect, but may stand in a file all the same */
	DefineCustomIntVariable("queue_service.max_statistics",
							"Queues whose statistics there is shared memory for.",
							NULL, &max_statistics, 4096, 16, 1000000,
							preloaded ? PGC_POSTMASTER : PGC_SIGHUP,
							0, NULL, NULL, NULL);
	if (!qs_shmem_use(&part))
		return;
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_sub_end, NULL);
}

bool
qs_stats_exist(void)
{
	return shared != NULL;
}

static uint32
hash_key(const Key *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key));
}

static void
make_key(Key *key, const pg_uuid_t *queue)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->queue = *queue;
}

static Partition *
partition_of(const Key *key)
{
	return &shared->partitions[hash_key(key) % PARTITIONS];
}

static int32 *
chain_of(Partition *partition, const Key *key)
{
	return &partition->chains[hash_key(key) / PARTITIONS % shared->entries];
}

static Entry *
find(Partition *partition, const Key *key)
{
	int32		n = *chain_of(partition, key);

	while (n >= 0 && memcmp(&partition->entries[n].key, key, sizeof(*key)) != 0)
		n = partition->entries[n].next;
	return n >= 0 ? &partition->entries[n] : NULL;
}

static void
free_entry(Partition *partition, Entry *entry)
{
	int32		n = entry - partition->entries;
	int32	   *link = chain_of(partition, &entry->key);

	while (*link != n)
		link = &partition->entries[*link].next;
	*link = entry->next;
	entry->used = false;
	entry->next = partition->free;
	partition->free = n;
	partition->used--;
}

/* Frees an entry that need not stay, if one of the next few is such. */
static void
make_room(Partition *partition, TimestampTz now)
{
	for (int i = 0; i < LOOKS_FOR_ROOM; i++)
	{
		Entry	   *entry = &partition->entries[partition->hand];

		partition->hand = (partition->hand + 1) % shared->entries;
		if (entry->recounting || entry->version != entry->flushed ||
			entry->promised + entry->promised_prepared > 0 ||
			now - entry->changed_at < IDLE)
			continue;
		free_entry(partition, entry);
		return;
	}
}

/* The entry of a queue, a new one if it has none; NULL if there is no room. */
static Entry *
get_entry(Partition *partition, const Key *key, TimestampTz now)
{
	Entry	   *entry = find(partition, key);
	int32	   *link = chain_of(partition, key);
	int32		n;

	if (entry != NULL)
		return entry;
	if (partition->free < 0)
		make_room(partition, now);
	n = partition->free;
	if (n < 0)
	{
		partition->refused++;
		return NULL;
	}
	entry = &partition->entries[n];
	partition->free = entry->next;
	partition->used++;
	memset(entry, 0, sizeof(*entry));
	entry->key = *key;
	entry->used = true;
	entry->marks[0].at = entry->marks[1].at = now;
	entry->next = *link;
	*link = n;
	return entry;
}

/*
 * This transaction has something to apply, or will have, from here on. Who takes
 * a snapshot that shows it as ended finds the mark: it is written before the
 * transaction takes itself off the list of those that run.
 */
void
qs_stats_mark(TransactionId xid)
{
	pg_atomic_write_u32(&shared->marks[qs_my_backend_slot()], xid);
}

/* All is applied. */
void
qs_stats_unmark(void)
{
	/* not before what was applied */
	pg_memory_barrier();
	pg_atomic_write_u32(&shared->marks[qs_my_backend_slot()],
						InvalidTransactionId);
}

/* Whether the snapshot of the recount shows a transaction as not ended. */
static bool
is_running(TransactionId xid)
{
	const Recount *recount = &shared->recount;

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
	const Recount *recount = &shared->recount;

	if (TransactionIdFollowsOrEquals(last, recount->xmax))
		return true;
	for (int i = 0; i < recount->nrunning; i++)
		if (TransactionIdFollowsOrEquals(recount->running[i], first) &&
			TransactionIdPrecedesOrEquals(recount->running[i], last))
			return true;
	return false;
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
add_change(Entry *entry, const QsStatsChange *change, TransactionId xid)
{
	add_counts(&entry->counts, &change->counts);
	if (entry->recounting && is_running(xid))
		add_counts(&shared->recount.since, &change->counts);
	qs_histogram_merge(&entry->wait[0], &change->wait);
	qs_histogram_merge(&entry->run[0], &change->run);
	entry->version++;
}

/* Makes an entry for the first change of a queue; NULL if there is no room. */
static Entry *
begin_entry(Partition *partition, const Key *key, const QsStatsChange *change,
			TimestampTz now)
{
	Entry	   *entry = get_entry(partition, key, now);

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
	Key			key;
	Partition  *partition;
	Entry	   *entry;

	make_key(&key, queue);
	partition = partition_of(&key);
	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	entry = find(partition, &key);
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

/* Locks the partition of a queue, exclusively, and finds its entry in it. */
static Entry *
lock_entry(const pg_uuid_t *queue, LWLock **lock)
{
	Key			key;
	Partition  *partition;

	make_key(&key, queue);
	partition = partition_of(&key);
	*lock = partition->lock;
	LWLockAcquire(*lock, LW_EXCLUSIVE);
	return find(partition, &key);
}

static bool
is_counted(const Entry *entry, uint64 triggers)
{
	return entry != NULL && entry->counted && triggers != 0 &&
		entry->triggers == triggers;
}

/* Whether the gauges of a queue are what they should be. */
bool
qs_stats_is_counted(const pg_uuid_t *queue, uint64 triggers)
{
	LWLock	   *lock;
	bool		counted = is_counted(lock_entry(queue, &lock), triggers);

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
	Entry	   *entry = lock_entry(queue, &lock);
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
	Entry	   *entry = lock_entry(queue, &lock);

	if (entry != NULL)
		entry->promised -= promised;
	LWLockRelease(lock);
}

static void
note_prepared(Entry *entry, TransactionId xid)
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
for_all(void (*change) (Entry *entry, TransactionId xid), TransactionId xid)
{
	for (int i = 0; i < PARTITIONS; i++)
	{
		Partition  *partition = &shared->partitions[i];

		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		for (int32 n = 0; n < shared->entries; n++)
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
	Entry	   *entry;

	if (queue == NULL)
	{
		for_all(note_prepared, xid);
		return;
	}
	entry = lock_entry(queue, &lock);
	if (entry != NULL)
	{
		note_prepared(entry, xid);
		entry->promised -= promised;
		entry->promised_prepared += promised;
	}
	LWLockRelease(lock);
}

static void
empty(Entry *entry, TransactionId xid pg_attribute_unused())
{
	entry->counted = false;
	entry->version++;
	if (entry->recounting)
		shared->recount.voided = true;
}

/* A table was emptied: no queue has what it had. */
void
qs_stats_emptied(void)
{
	for_all(empty, InvalidTransactionId);
}

static void
fill_view(const Entry *entry, uint64 triggers, QsStatsView *view)
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
	Key			key;
	Partition  *partition;
	Entry	   *entry;

	view->state = QS_STATS_NONE;
	if (shared == NULL)
		return false;
	make_key(&key, queue);
	partition = partition_of(&key);
	LWLockAcquire(partition->lock, LW_SHARED);
	entry = find(partition, &key);
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
	while (shared != NULL && *position < PARTITIONS * shared->entries)
	{
		Partition  *partition = &shared->partitions[*position / shared->entries];
		bool		found = false;

		LWLockAcquire(partition->lock, LW_SHARED);
		do
		{
			const Entry *entry = &partition->entries[(*position)++ % shared->entries];

			found = entry->used && entry->key.database == MyDatabaseId;
			if (found)
				fill_view(entry, triggers, view);
		} while (!found && *position % shared->entries != 0);
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
	Entry	   *entry = lock_entry(queue, &lock);

	if (entry != NULL && !entry->recounting)
		free_entry(partition_of(&entry->key), entry);
	LWLockRelease(lock);
}

/* How many events there were before the entry, unless that is known. */
void
qs_stats_set_totals(const pg_uuid_t *queue, const int64 *before)
{
	LWLock	   *lock;
	Entry	   *entry = lock_entry(queue, &lock);

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
	Entry	   *entry = lock_entry(queue, &lock);

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
	Entry	   *entry = lock_entry(queue, &lock);

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
	use->queues_max = (uint64) PARTITIONS * shared->entries;
	use->bytes = shared->bytes;
	for (int i = 0; i < PARTITIONS; i++)
	{
		Partition  *partition = &shared->partitions[i];

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
	Key			key;
	Partition  *partition;
	bool		reserved;

	make_key(&key, queue);
	partition = partition_of(&key);
	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	reserved = get_entry(partition, &key, now) != NULL;
	LWLockRelease(partition->lock);
	return reserved;
}

/* Becomes the one that recounts; false if somebody else does. */
bool
qs_stats_claim_recount(void)
{
	Recount    *recount = &shared->recount;
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
		Key			key = shared->recount.key;
		Partition  *partition = partition_of(&key);
		Entry	   *entry;

		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		entry = find(partition, &key);
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
	LWLockAcquire(shared->recount.lock, LW_EXCLUSIVE);
	shared->recount.taken = false;
	LWLockRelease(shared->recount.lock);
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
	Recount    *recount = &shared->recount;
	LWLock	   *lock;
	Entry	   *entry;
	Snapshot	snapshot;

	/* the first one allocates memory, which can fail */
	(void) GetLatestSnapshot();

	entry = lock_entry(queue, &lock);
	if (entry == NULL)
	{
		LWLockRelease(lock);
		return InvalidSnapshot;
	}
	snapshot = GetLatestSnapshot();
	make_key(&recount->key, queue);
	recount->triggers = triggers;
	recount->voided = false;
	memset(&recount->since, 0, sizeof(recount->since));
	recount->xmax = snapshot->xmax;
	recount->nrunning = snapshot->xcnt;
	memcpy(recount->running, snapshot->xip,
		   snapshot->xcnt * sizeof(TransactionId));
	if (entry->counted_at == 0 && TransactionIdIsValid(first_prepared))
	{
		note_prepared(entry, first_prepared);
		note_prepared(entry, last_prepared);
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
		TransactionId xid = pg_atomic_read_u32(&shared->marks[i]);

		if (TransactionIdIsValid(xid) && !is_running(xid) &&
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
	Recount    *recount = &shared->recount;
	LWLock	   *lock;
	Entry	   *entry = lock_entry(&recount->key.queue, &lock);
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
