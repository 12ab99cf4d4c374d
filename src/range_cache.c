/*
 * range_cache.c
 *	  Ranges of keys in shared memory: see range_cache.h.
 *
 * Shared memory is cut into partitions by the hash of the queue. All of a
 * partition is guarded by its LWLock: the heads (one for each queue that was
 * claimed from), the ranges of their sets, and the ring of announcements. The
 * lock is held for some comparisons, and over a look at the process array (is
 * a transaction running?), whose lock comes after it. That look is the only
 * thing that can fail; a set is whole whenever it happens.
 *
 * The ring holds announcements for any queue of the partition, whether it has
 * a head or not. So a head may be evicted at any time: a claimer that
 * registered before publishes into a new head under the same rule.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "range_cache.h"
#include "shmem.h"
#include "storage/procarray.h"
#include "utils/guc.h"

#define PARTITIONS 16
#define RING 512				/* announcements that a partition remembers */
#define RANGES_PER_HEAD 3		/* on average, when the cache is full */
#define CLASSES 32				/* of entries visited, by powers of two */
#define FULL_SCANS 9			/* the first class of long ones: from 2^8 on */

typedef struct Head
{
	QsCacheKey	key;
	QsCacheSource source;
	int32		set;			/* of ranges */
	int64		idle_until;		/* nothing is claimable before, unless announced */
	int32		next;			/* in its bucket, or in the list of free ones */
	bool		in_use;
	bool		referenced;		/* since the clock came by */
} Head;

typedef struct Announcement
{
	uint32		hash;			/* of the queue */
	QsRangeKey	key;
	uint64		xid;
} Announcement;

typedef struct Partition
{
	LWLock	   *lock;			/* guards all of this */
	uint64		announced;		/* how many there ever were */
	uint64		evicted;
	QsRangePool pool;
	int32		heads_used;
	int32		free_head;
	int32		hand;			/* of the eviction clock */
	Head	   *heads;
	int32	   *buckets;		/* as many as heads */
	Announcement ring[RING];
} Partition;

typedef struct Shared
{
	int32		heads;			/* in each partition */
	int32		ranges;
	Size		bytes;
	pg_atomic_uint64 claims;
	pg_atomic_uint64 visited;
	pg_atomic_uint64 visited_max;
	pg_atomic_uint64 classes[CLASSES];
	pg_atomic_uint64 jumps;
	pg_atomic_uint64 published;
	pg_atomic_uint64 refused;
	Partition	partitions[PARTITIONS];
} Shared;

static Shared *shared = NULL;

/* GUC: queue_service.cache_size, in kB */
static int	cache_size = 32 * 1024;

static int32
heads_per_partition(void)
{
	Size		fixed = sizeof(Shared);
	Size		size = (Size) cache_size * 1024;
	Size		each = sizeof(Head) + sizeof(int32) + RANGES_PER_HEAD * sizeof(QsRange);

	return size < fixed + (Size) PARTITIONS * 16 * each ? 16 :
		(int32) ((size - fixed) / (PARTITIONS * each));
}

static Size
shared_size(void)
{
	Size		heads = heads_per_partition();

	return MAXALIGN(sizeof(Shared)) + PARTITIONS *
		(MAXALIGN(heads * sizeof(Head)) + MAXALIGN(heads * sizeof(int32)) +
		 MAXALIGN(heads * RANGES_PER_HEAD * sizeof(QsRange)));
}

static void
init_partition(Partition *partition, LWLock *lock, char **memory)
{
	int32		heads = shared->heads;

	memset(partition, 0, sizeof(*partition));
	partition->lock = lock;
	partition->heads = (Head *) *memory;
	*memory += MAXALIGN(heads * sizeof(Head));
	partition->buckets = (int32 *) *memory;
	*memory += MAXALIGN(heads * sizeof(int32));
	for (int32 i = 0; i < heads; i++)
	{
		partition->heads[i].in_use = false;
		partition->heads[i].next = i + 1 < heads ? i + 1 : -1;
		partition->buckets[i] = -1;
	}
	partition->free_head = 0;
	qs_pool_init(&partition->pool, (QsRange *) *memory, shared->ranges);
	*memory += MAXALIGN(shared->ranges * sizeof(QsRange));
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	char	   *rest = (char *) memory + MAXALIGN(sizeof(Shared));

	shared = memory;
	if (found)
		return;
	memset(shared, 0, sizeof(*shared));
	shared->heads = heads_per_partition();
	shared->ranges = shared->heads * RANGES_PER_HEAD;
	shared->bytes = shared_size();
	pg_atomic_init_u64(&shared->claims, 0);
	pg_atomic_init_u64(&shared->visited, 0);
	pg_atomic_init_u64(&shared->visited_max, 0);
	for (int i = 0; i < CLASSES; i++)
		pg_atomic_init_u64(&shared->classes[i], 0);
	pg_atomic_init_u64(&shared->jumps, 0);
	pg_atomic_init_u64(&shared->published, 0);
	pg_atomic_init_u64(&shared->refused, 0);
	for (int i = 0; i < PARTITIONS; i++)
		init_partition(&shared->partitions[i], &locks[i].lock, &rest);
}

static const QsShmem part = {
	.name = "queue_service", .nlocks = PARTITIONS,
	.size = shared_size, .attach = attach,
	.setting = {
		"queue_service.cache_size",
		"Shared memory for what claims need not look at.",
		&cache_size, 1024, 1024 * 1024, GUC_UNIT_KB
	}
};

/* Asks for shared memory while the server starts; without it there is no cache. */
void
qs_cache_init(void)
{
	(void) qs_shmem_use(&part);
}

bool
qs_cache_exists(void)
{
	return shared != NULL;
}

static uint32
hash_key(const QsCacheKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key));
}

static Partition *
partition_of(uint32 hash)
{
	return &shared->partitions[hash % PARTITIONS];
}

static int32 *
bucket_of(Partition *partition, uint32 hash)
{
	return &partition->buckets[(hash / PARTITIONS) % shared->heads];
}

static Head *
find_head(Partition *partition, const QsCacheKey *key, uint32 hash)
{
	int32		n = *bucket_of(partition, hash);

	while (n >= 0 &&
		   memcmp(&partition->heads[n].key, key, sizeof(*key)) != 0)
		n = partition->heads[n].next;
	return n >= 0 ? &partition->heads[n] : NULL;
}

static void
evict(Partition *partition, Head *head)
{
	int32		n = head - partition->heads;
	int32	   *link = bucket_of(partition, hash_key(&head->key));

	while (*link != n)
		link = &partition->heads[*link].next;
	*link = head->next;
	qs_ranges_clear(&partition->pool, &head->set);
	head->in_use = false;
	head->next = partition->free_head;
	partition->free_head = n;
	partition->heads_used--;
}

/* Frees the head that was not used for longest, about. */
static void
evict_one(Partition *partition)
{
	/* the second time around, none is referenced any more */
	for (int32 i = 0; i < 2 * shared->heads; i++)
	{
		Head	   *head = &partition->heads[partition->hand];

		partition->hand = (partition->hand + 1) % shared->heads;
		if (!head->in_use)
			continue;
		if (head->referenced)
		{
			head->referenced = false;
			continue;
		}
		evict(partition, head);
		partition->evicted++;
		return;
	}
}

/* The head of a queue, a new one if need be, with what its source allows. */
static Head *
get_head(Partition *partition, const QsCacheTicket *ticket)
{
	Head	   *head = find_head(partition, &ticket->key, ticket->hash);

	if (head == NULL)
	{
		int32	   *bucket = bucket_of(partition, ticket->hash);
		int32		n;

		if (partition->free_head < 0)
			evict_one(partition);
		n = partition->free_head;
		head = &partition->heads[n];
		partition->free_head = head->next;
		partition->heads_used++;
		head->key = ticket->key;
		head->source = ticket->source;
		head->set = QS_NO_RANGE;
		head->idle_until = PG_INT64_MIN;
		head->in_use = true;
		head->next = *bucket;
		*bucket = n;
	}
	else if (memcmp(&head->source, &ticket->source, sizeof(head->source)) != 0)
	{
		qs_ranges_clear(&partition->pool, &head->set);
		head->idle_until = PG_INT64_MIN;
		head->source = ticket->source;
	}
	head->referenced = true;
	return head;
}

/* xid with its epoch, so that it never means another transaction. */
static uint64
full_xid(TransactionId xid)
{
	FullTransactionId next;
	uint32		epoch;

	if (!TransactionIdIsNormal(xid))
		return 0;
	next = ReadNextFullTransactionId();
	epoch = EpochFromFullTransactionId(next);
	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

static bool
is_running(uint64 xid)
{
	FullTransactionId next = ReadNextFullTransactionId();

	return xid != 0 && U64FromFullTransactionId(next) - xid < PG_INT32_MAX &&
		TransactionIdIsInProgress((TransactionId) xid);
}

/* A transaction may claim what it wrote itself, so it looks there. */
static bool
is_running_elsewhere(uint64 xid)
{
	return !TransactionIdIsCurrentTransactionId((TransactionId) xid) &&
		is_running(xid);
}

/*
 * Fills a ticket, to be had before the scan begins. The key is zeroed
 * where it has padding.
 */
void
qs_cache_register(const QsCacheKey *key, const QsCacheSource *source,
				  int64 now, QsCacheTicket *ticket)
{
	Partition  *partition;

	ticket->key = *key;
	ticket->source = *source;
	ticket->hash = hash_key(key);
	ticket->now = now;
	partition = partition_of(ticket->hash);
	LWLockAcquire(partition->lock, LW_SHARED);
	ticket->announced = partition->announced;
	LWLockRelease(partition->lock);
}

/* See qs_ranges_jump(). */
bool
qs_cache_jump(const QsCacheTicket *ticket, QsRangeKey *key,
			  QsRangeJump *jump)
{
	Partition  *partition = partition_of(ticket->hash);
	QsRangeClock clock = {ticket->now, is_running_elsewhere};
	Head	   *head;
	bool		jumped = false;

	jump->has_next = false;
	LWLockAcquire(partition->lock, LW_SHARED);
	head = find_head(partition, &ticket->key, ticket->hash);
	if (head != NULL &&
		memcmp(&head->source, &ticket->source, sizeof(head->source)) == 0)
	{
		head->referenced = true;
		jumped = qs_ranges_jump(&partition->pool, head->set, &clock, key, jump);
	}
	LWLockRelease(partition->lock);
	if (jumped)
		pg_atomic_fetch_add_u64(&shared->jumps, 1);
	return jumped;
}

/*
 * Adds the ranges that a scan found, less what was announced since it
 * registered, and registers anew. xid in ranges is without its epoch.
 */
void
qs_cache_publish(QsCacheTicket *ticket, const QsRange *ranges, int count)
{
	Partition  *partition = partition_of(ticket->hash);
	QsRangeClock clock = {ticket->now, is_running};
	bool		late;

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	late = partition->announced - ticket->announced > RING;
	if (!late)
	{
		Head	   *head;

		if (partition->pool.free == QS_NO_RANGE)
			evict_one(partition);
		head = get_head(partition, ticket);

		for (int i = 0; i < count; i++)
		{
			QsRange		range = ranges[i];

			range.xid = full_xid((TransactionId) range.xid);
			qs_ranges_add(&partition->pool, &head->set, &clock, &range);
		}
		for (uint64 n = ticket->announced; n < partition->announced; n++)
		{
			Announcement *announcement = &partition->ring[n % RING];

			if (announcement->hash == ticket->hash)
				qs_ranges_cut(&partition->pool, &head->set, &announcement->key,
							  announcement->xid);
		}
	}
	ticket->announced = partition->announced;
	LWLockRelease(partition->lock);
	pg_atomic_fetch_add_u64(late ? &shared->refused : &shared->published, count);
}

/*
 * Says that the queue has nothing that is claimable before a time, as a scan
 * found that registered when there were so many announcements.
 */
void
qs_cache_publish_idle(const QsCacheTicket *ticket, uint64 since, int64 until)
{
	Partition  *partition = partition_of(ticket->hash);
	uint64		n = since;

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	if (partition->announced - since <= RING)
	{
		while (n < partition->announced &&
			   partition->ring[n % RING].hash != ticket->hash)
			n++;
		if (n == partition->announced)
			get_head(partition, ticket)->idle_until = until;
	}
	LWLockRelease(partition->lock);
}

/* The time before which the queue has nothing claimable, if that is known. */
int64
qs_cache_idle_until(const QsCacheKey *key, const QsCacheSource *source)
{
	uint32		hash = hash_key(key);
	Partition  *partition = partition_of(hash);
	Head	   *head;
	int64		until = PG_INT64_MIN;

	LWLockAcquire(partition->lock, LW_SHARED);
	head = find_head(partition, key, hash);
	if (head != NULL &&
		memcmp(&head->source, source, sizeof(*source)) == 0)
	{
		head->referenced = true;
		until = head->idle_until;
	}
	LWLockRelease(partition->lock);
	return until;
}

/*
 * Says that an entry with this key is new in the ready index, or claimable
 * earlier than it was. The entry is in the index, its transaction (or
 * subtransaction) xid runs.
 */
void
qs_cache_announce(const QsCacheKey *key, const QsRangeKey *range_key,
				  TransactionId xid)
{
	uint32		hash = hash_key(key);
	Partition  *partition = partition_of(hash);
	uint64		full = full_xid(xid);
	Announcement *announcement;
	Head	   *head;

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	announcement = &partition->ring[partition->announced % RING];
	announcement->hash = hash;
	announcement->key = *range_key;
	announcement->xid = full;
	partition->announced++;
	head = find_head(partition, key, hash);
	if (head != NULL)
	{
		qs_ranges_cut(&partition->pool, &head->set, range_key, full);
		head->idle_until = PG_INT64_MIN;
	}
	LWLockRelease(partition->lock);
}

/* Counts a claim that looked at so many index entries. */
void
qs_cache_count_claim(uint64 visited)
{
	uint64		max = pg_atomic_read_u64(&shared->visited_max);

	pg_atomic_fetch_add_u64(&shared->claims, 1);
	pg_atomic_fetch_add_u64(&shared->visited, visited);
	while (visited > max &&
		   !pg_atomic_compare_exchange_u64(&shared->visited_max, &max, visited))
		;
	pg_atomic_fetch_add_u64(&shared->classes[visited == 0 ? 0 :
											 Min(pg_leftmost_one_pos64(visited) + 1,
												 CLASSES - 1)], 1);
}

static uint64
percentile_99(void)
{
	uint64		count[CLASSES];
	uint64		total = 0;
	uint64		below = 0;
	int			i;

	for (i = 0; i < CLASSES; i++)
		total += count[i] = pg_atomic_read_u64(&shared->classes[i]);
	for (i = 0; i < CLASSES - 1; i++)
	{
		below += count[i];
		if (below * 100 >= total * 99)
			break;
	}
	return i == 0 ? 0 : (UINT64CONST(1) << i) - 1;
}

static uint64
count_full_scans(void)
{
	uint64		count = 0;

	for (int i = FULL_SCANS; i < CLASSES; i++)
		count += pg_atomic_read_u64(&shared->classes[i]);
	return count;
}

static int32
count_ranges(Partition *partition)
{
	int32		count = 0;

	for (int32 i = 0; i < shared->heads; i++)
		if (partition->heads[i].in_use)
			for (int32 n = partition->heads[i].set; n != QS_NO_RANGE;
				 n = partition->pool.ranges[n].next)
				count++;
	return count;
}

/* All zero without shared memory. */
void
qs_cache_statistics(QsCacheStatistics *statistics)
{
	memset(statistics, 0, sizeof(*statistics));
	if (shared == NULL)
		return;
	statistics->claims = pg_atomic_read_u64(&shared->claims);
	statistics->visited = pg_atomic_read_u64(&shared->visited);
	statistics->visited_max = pg_atomic_read_u64(&shared->visited_max);
	statistics->visited_p99 = percentile_99();
	statistics->full_scans = count_full_scans();
	statistics->jumps = pg_atomic_read_u64(&shared->jumps);
	statistics->published = pg_atomic_read_u64(&shared->published);
	statistics->refused = pg_atomic_read_u64(&shared->refused);
	statistics->queues_max = (uint64) shared->heads * PARTITIONS;
	statistics->ranges_max = (uint64) shared->ranges * PARTITIONS;
	statistics->bytes = shared->bytes;
	for (int i = 0; i < PARTITIONS; i++)
	{
		Partition  *partition = &shared->partitions[i];

		LWLockAcquire(partition->lock, LW_SHARED);
		statistics->announced += partition->announced;
		statistics->evicted += partition->evicted;
		statistics->queues += partition->heads_used;
		statistics->ranges += count_ranges(partition);
		LWLockRelease(partition->lock);
	}
}
