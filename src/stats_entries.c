/*
 * stats_entries.c
 *	  Shared memory for statistics, and the entries in it: see stats_entries.h.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "shmem.h"
#include "stats_entries.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define LOOKS_FOR_ROOM 8		/* entries that are looked at for one to go */
#define IDLE (10 * USECS_PER_MINUTE)	/* before an entry may go */

QsStatsMemory *qs_stats_memory = NULL;

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
	int32		entries = max_statistics / QS_STATS_PARTITIONS;

	return entries + entries / 16 + 16;
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
	return MAXALIGN(offsetof(QsStatsMemory, marks) +
					qs_backend_slots() * sizeof(pg_atomic_uint32));
}

static Size
shared_size(void)
{
	Size		entries = entries_per_partition();

	return head_size() + MAXALIGN(max_running() * sizeof(TransactionId)) +
		QS_STATS_PARTITIONS * (MAXALIGN(entries * sizeof(QsStatsEntry)) +
					  MAXALIGN(entries * sizeof(int32)));
}

static void
init_partition(QsStatsPartition *partition, LWLock *lock, char **memory)
{
	int32		entries = qs_stats_memory->entries;

	memset(partition, 0, sizeof(*partition));
	partition->lock = lock;
	partition->entries = (QsStatsEntry *) *memory;
	*memory += MAXALIGN(entries * sizeof(QsStatsEntry));
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

	qs_stats_memory = memory;
	if (found)
		return;
	memset(qs_stats_memory, 0, head_size());
	qs_stats_memory->entries = entries_per_partition();
	qs_stats_memory->bytes = shared_size();
	for (int i = 0; i < qs_backend_slots(); i++)
		pg_atomic_init_u32(&qs_stats_memory->marks[i], InvalidTransactionId);
	qs_stats_memory->recount.lock = &locks[QS_STATS_PARTITIONS].lock;
	qs_stats_memory->recount.running = (TransactionId *) rest;
	rest += MAXALIGN(max_running() * sizeof(TransactionId));
	for (int i = 0; i < QS_STATS_PARTITIONS; i++)
		init_partition(&qs_stats_memory->partitions[i], &locks[i].lock, &rest);
}

static const QsShmem part = {
	.name = "queue_service_statistics", .nlocks = QS_STATS_PARTITIONS + 1,
	.size = shared_size, .attach = attach,
	.setting = {
		"queue_service.max_statistics",
		"Queues whose statistics there is shared memory for.",
		&max_statistics, 16, 1000000, 0
	}
};

/* Asks for shared memory while the server starts; without it nothing is counted. */
void
qs_stats_table_init(void)
{
	if (qs_shmem_use(&part))
		qs_stats_recount_init();
}

bool
qs_stats_exist(void)
{
	return qs_stats_memory != NULL;
}

static uint32
hash_key(const QsStatsKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key));
}

void
qs_stats_make_key(QsStatsKey *key, const pg_uuid_t *queue)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->queue = *queue;
}

QsStatsPartition *
qs_stats_partition_of(const QsStatsKey *key)
{
	return &qs_stats_memory->partitions[hash_key(key) % QS_STATS_PARTITIONS];
}

static int32 *
chain_of(QsStatsPartition *partition, const QsStatsKey *key)
{
	return &partition->chains[hash_key(key) / QS_STATS_PARTITIONS %
							  qs_stats_memory->entries];
}

QsStatsEntry *
qs_stats_find(QsStatsPartition *partition, const QsStatsKey *key)
{
	int32		n = *chain_of(partition, key);

	while (n >= 0 && memcmp(&partition->entries[n].key, key, sizeof(*key)) != 0)
		n = partition->entries[n].next;
	return n >= 0 ? &partition->entries[n] : NULL;
}

void
qs_stats_free_entry(QsStatsPartition *partition, QsStatsEntry *entry)
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
make_room(QsStatsPartition *partition, TimestampTz now)
{
	for (int i = 0; i < LOOKS_FOR_ROOM; i++)
	{
		QsStatsEntry *entry = &partition->entries[partition->hand];

		partition->hand = (partition->hand + 1) % qs_stats_memory->entries;
		if (entry->recounting || entry->version != entry->flushed ||
			entry->promised + entry->promised_prepared > 0 ||
			now - entry->changed_at < IDLE)
			continue;
		qs_stats_free_entry(partition, entry);
		return;
	}
}

/* The entry of a queue, a new one if it has none; NULL if there is no room. */
QsStatsEntry *
qs_stats_get_entry(QsStatsPartition *partition, const QsStatsKey *key,
				   TimestampTz now)
{
	QsStatsEntry *entry = qs_stats_find(partition, key);
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

/* Locks the partition of a queue, exclusively, and finds its entry in it. */
QsStatsEntry *
qs_stats_lock_entry(const pg_uuid_t *queue, LWLock **lock)
{
	QsStatsKey key;
	QsStatsPartition *partition;

	qs_stats_make_key(&key, queue);
	partition = qs_stats_partition_of(&key);
	*lock = partition->lock;
	LWLockAcquire(*lock, LW_EXCLUSIVE);
	return qs_stats_find(partition, &key);
}
