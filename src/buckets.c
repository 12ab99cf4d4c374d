/*
 * buckets.c
 *	  Token buckets in shared memory: see buckets.h.
 *
 * Shared memory is cut into partitions by the hash of the key, each with a
 * LWLock. Who holds it, shared, may find an entry and read all of it, and
 * moves its position by compare-and-swap: so takers do not wait for each
 * other. Whatever else changes (which entries there are, what a bucket is, what
 * was given back) changes under the exclusive lock.
 *
 * A bucket that has no entry was not used since the server started, or since
 * an entry of its partition was last evicted. It was not below empty then; so a
 * new entry is empty as of that time, and evicting one never adds tokens. Only
 * what its row says of a later time is better known. A server that was promoted
 * does not know what the one that it followed granted, and what its rows say is
 * older than that: there, a new entry is empty as of the first use.
 *
 * An entry is what the last caller said that the bucket is. Sessions that do
 * not agree, as one has not yet heard of a change, replace it in turn, and each
 * time the tokens are carried over.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "buckets.h"
#include "common/hashfn.h"
#include "limit_clock.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "shmem.h"
#include "utils/guc.h"

#define PARTITIONS 32

typedef struct Entry
{
	QsLiveBucket live;			/* what made the bucket */
	QsBucket	bucket;
	pg_atomic_uint64 position;
	uint64		incarnation;	/* another one when the bucket is replaced */
	int64		returned;		/* units that were given back */
	int32		next;			/* in the chain of its hash, or of free ones */
	bool		in_row;			/* so are later takes; it is only a bound */
	bool		referenced;		/* since the hand of the eviction came by */
} Entry;

typedef struct Partition
{
	LWLock	   *lock;
	TimestampTz empty_since;	/* buckets without an entry */
	uint64		incarnations;	/* how many there were */
	uint64		evicted;
	int32		used;
	int32		free;			/* first free entry, or -1 */
	int32		hand;
	Entry	   *entries;
	int32	   *chains;			/* as many as entries */
} Partition;

typedef struct Shared
{
	int32		entries;		/* in each partition */
	Size		bytes;
	bool		followed;		/* began as a standby */
	pg_atomic_uint64 first_use; /* since it is none; 0: not yet */
	Partition	partitions[PARTITIONS];
} Shared;

static Shared *shared = NULL;

/* GUC: queue_service.max_buckets */
static int	max_buckets = 16384;

/* Some more than a part of all, as hashes do not spread evenly. */
static int32
entries_per_partition(void)
{
	return max_buckets / PARTITIONS + max_buckets / PARTITIONS / 16 + 32;
}

static Size
shared_size(void)
{
	Size		entries = entries_per_partition();

	return MAXALIGN(sizeof(Shared)) + PARTITIONS *
		(MAXALIGN(entries * sizeof(Entry)) + MAXALIGN(entries * sizeof(int32)));
}

static void
init_partition(Partition *partition, LWLock *lock, TimestampTz now,
			   char **memory)
{
	int32		entries = shared->entries;

	memset(partition, 0, sizeof(*partition));
	partition->lock = lock;
	partition->empty_since = now;
	partition->entries = (Entry *) *memory;
	*memory += MAXALIGN(entries * sizeof(Entry));
	partition->chains = (int32 *) *memory;
	*memory += MAXALIGN(entries * sizeof(int32));
	for (int32 i = 0; i < entries; i++)
	{
		Entry	   *entry = &partition->entries[i];

		memset(entry, 0, sizeof(*entry));
		pg_atomic_init_u64(&entry->position, 0);
		entry->next = i + 1 < entries ? i + 1 : -1;
		partition->chains[i] = -1;
	}
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	char	   *rest = (char *) memory + MAXALIGN(sizeof(Shared));
	TimestampTz now = qs_limit_clock();

	shared = memory;
	if (found)
		return;
	memset(shared, 0, sizeof(*shared));
	shared->entries = entries_per_partition();
	shared->bytes = shared_size();
	/* the promotion removes them */
	shared->followed = access(STANDBY_SIGNAL_FILE, F_OK) == 0 ||
		access(RECOVERY_SIGNAL_FILE, F_OK) == 0;
	pg_atomic_init_u64(&shared->first_use, 0);
	for (int i = 0; i < PARTITIONS; i++)
		init_partition(&shared->partitions[i], &locks[i].lock, now, &rest);
}

static const QsShmem part = {
	.name = "queue_service_buckets", .nlocks = PARTITIONS,
	.size = shared_size, .attach = attach,
	.setting = {
		"queue_service.max_buckets",
		"Token buckets that there is shared memory for.",
		&max_buckets, 64, 10000000, 0
	}
};

/* Asks for shared memory while the server starts, after the limits' clock. */
void
qs_buckets_init(void)
{
	(void) qs_shmem_use(&part);
}

bool
qs_buckets_exist(void)
{
	return shared != NULL;
}

/* How many buckets there is shared memory for, where there is some. */
int
qs_buckets_max(void)
{
	return max_buckets;
}

static uint32
hash_key(const QsBucketKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key));
}

static int32 *
chain_of(Partition *partition, uint32 hash)
{
	return &partition->chains[hash / PARTITIONS % shared->entries];
}

static Entry *
find(Partition *partition, const QsLiveBucket *live, uint32 hash)
{
	int32		n = *chain_of(partition, hash);

	while (n >= 0 && memcmp(&partition->entries[n].live.key, &live->key,
							sizeof(live->key)) != 0)
		n = partition->entries[n].next;
	return n >= 0 ? &partition->entries[n] : NULL;
}

static bool
is_current(const Entry *entry, const QsLiveBucket *live)
{
	return entry->live.capacity == live->capacity &&
		entry->live.rate == live->rate;
}

/* Frees the entry that was not used for longest, about; all are in use. */
static void
evict_one(Partition *partition)
{
	/* the second time around, none is referenced any more */
	for (;;)
	{
		int32		n = partition->hand;
		Entry	   *entry = &partition->entries[n];
		int32	   *link;

		partition->hand = (n + 1) % shared->entries;
		if (entry->referenced)
		{
			entry->referenced = false;
			continue;
		}
		link = chain_of(partition, hash_key(&entry->live.key));
		while (*link != n)
			link = &partition->entries[*link].next;
		*link = entry->next;
		entry->next = partition->free;
		partition->free = n;
		partition->used--;
		partition->evicted++;
		partition->empty_since = qs_limit_clock();
		return;
	}
}

/* When buckets of the partition that have no entry were not below empty. */
static TimestampTz
empty_since(const Partition *partition, TimestampTz now)
{
	uint64		first_use = 0;

	if (!shared->followed)
		return partition->empty_since;
	if (RecoveryInProgress())
		return now;
	if (pg_atomic_compare_exchange_u64(&shared->first_use, &first_use,
									   (uint64) now))
		first_use = (uint64) now;
	return Max(partition->empty_since, (TimestampTz) first_use);
}

/*
 * A bucket without an entry, that was empty at a time. Returns its position.
 */
static int64
begin_bucket(QsBucket *bucket, const QsLiveBucket *live, TimestampTz empty_since,
			 TimestampTz now)
{
	bool		known = live->tokens_at > empty_since;

	qs_bucket_init(bucket, live->capacity, live->rate,
				   known ? Min(live->tokens_at, now) : empty_since);
	return qs_bucket_position(bucket, known ? live->tokens : 0);
}

/*
 * The bucket of an entry by another definition, or back from its row, as of a
 * time that is not before its base. Returns its position.
 */
static int64
carry_over(Entry *entry, const QsLiveBucket *live, TimestampTz now,
		   QsBucket *bucket)
{
	int64		position = (int64) pg_atomic_read_u64(&entry->position);

	qs_bucket_init(bucket, live->capacity, live->rate, now);
	position = qs_bucket_carried(&entry->bucket, position, bucket);
	if (entry->in_row)
	{
		QsBucket	row;
		int64		in_row = begin_bucket(&row, live, entry->bucket.base, now);

		position = Max(position, qs_bucket_carried(&row, in_row, bucket));
	}
	return position;
}

/* Makes an entry what the caller says that it is. */
static void
replace(Partition *partition, Entry *entry, const QsLiveBucket *live,
		const QsBucket *bucket, int64 position)
{
	entry->live = *live;
	entry->bucket = *bucket;
	pg_atomic_write_u64(&entry->position, (uint64) position);
	entry->incarnation = ++partition->incarnations;
	entry->returned = 0;
	entry->in_row = false;
}

/*
 * The entry of the bucket, made or changed to what the caller says that it is;
 * unless the caller is late.
 */
static Entry *
get_entry(Partition *partition, const QsLiveBucket *live, uint32 hash,
		  TimestampTz now)
{
	Entry	   *entry = find(partition, live, hash);
	QsBucket	bucket;
	int64		position;

	if (entry == NULL)
	{
		int32	   *chain = chain_of(partition, hash);
		int32		n;

		/* who makes room for this bucket is another one */
		position = begin_bucket(&bucket, live, empty_since(partition, now), now);
		if (partition->free < 0)
			evict_one(partition);
		n = partition->free;
		entry = &partition->entries[n];
		partition->free = entry->next;
		partition->used++;
		entry->next = *chain;
		*chain = n;
	}
	else if (now < entry->bucket.base ||
			 (is_current(entry, live) && !entry->in_row))
		return entry;
	else
		position = carry_over(entry, live, now, &bucket);
	replace(partition, entry, live, &bucket, position);
	return entry;
}

/* Takes from an entry that stands still, but for its position. */
static void
take_from(Entry *entry, TimestampTz now, int32 least, int32 most,
		  QsBucketTake *take)
{
	const QsBucket *bucket = &entry->bucket;
	uint64		position = pg_atomic_read_u64(&entry->position);
	int64		behind;

	memset(take, 0, sizeof(*take));
	take->late = now < bucket->base;
	if (take->late)
		return;
	do
	{
		int32		tokens = most;

		behind = (int64) position;
		if (least < most)
			tokens = (int32) Max(least, Min(most, qs_bucket_whole(bucket, behind, now)));
		take->tokens = qs_bucket_take(bucket, &behind, now, tokens) ? tokens : 0;
	} while (take->tokens > 0 &&
			 !pg_atomic_compare_exchange_u64(&entry->position, &position,
											 (uint64) behind));
	take->left = qs_bucket_tokens(bucket, behind, now);
	if (take->tokens == 0)
		take->wait = qs_bucket_wait(bucket, behind, now, least);
	take->incarnation = entry->incarnation;
	take->behind = behind;
	take->returned = entry->returned;
}

/*
 * Takes as many tokens as there are, from least to most, or none. now is a
 * reading of the limits' clock; if it is from before the bucket became what it
 * is, nothing is taken, and the caller reads the clock again.
 */
void
qs_buckets_take(const QsLiveBucket *live, TimestampTz now, int32 least,
				int32 most, QsBucketTake *take)
{
	uint32		hash = hash_key(&live->key);
	Partition  *partition = &shared->partitions[hash % PARTITIONS];
	Entry	   *entry;

	LWLockAcquire(partition->lock, LW_SHARED);
	entry = find(partition, live, hash);
	if (entry == NULL || !is_current(entry, live) || entry->in_row)
	{
		LWLockRelease(partition->lock);
		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		entry = get_entry(partition, live, hash, now);
	}
	if (!entry->referenced)
		entry->referenced = true;
	take_from(entry, now, least, most, take);
	LWLockRelease(partition->lock);
}

/*
 * Gives back so many of the tokens of a take, or what is still missing of them.
 * Nothing if the bucket was changed or evicted since.
 */
void
qs_buckets_return(const QsLiveBucket *live, const QsBucketTake *take,
				  int32 tokens)
{
	uint32		hash = hash_key(&live->key);
	Partition  *partition = &shared->partitions[hash % PARTITIONS];
	Entry	   *entry;

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	entry = find(partition, live, hash);
	if (entry != NULL && entry->incarnation == take->incarnation)
	{
		int64		position = (int64) pg_atomic_read_u64(&entry->position);
		int64		behind = take->behind - (entry->returned - take->returned);

		/* read now, the clock is behind no taker's */
		behind = qs_bucket_returned(&entry->bucket, position, qs_limit_clock(),
									behind, tokens);
		entry->returned += position - behind;
		pg_atomic_write_u64(&entry->position, (uint64) behind);
	}
	LWLockRelease(partition->lock);
}

/*
 * What the bucket has, and how long until so many tokens are there. Changes
 * nothing.
 */
void
qs_buckets_look(const QsLiveBucket *live, TimestampTz now, int32 wanted,
				double *tokens, int64 *wait)
{
	uint32		hash = hash_key(&live->key);
	Partition  *partition = &shared->partitions[hash % PARTITIONS];
	QsBucket	bucket;
	int64		position;
	Entry	   *entry;

	LWLockAcquire(partition->lock, LW_SHARED);
	entry = find(partition, live, hash);
	if (entry == NULL)
		position = begin_bucket(&bucket, live, empty_since(partition, now), now);
	else if (is_current(entry, live) && !entry->in_row)
	{
		bucket = entry->bucket;
		position = (int64) pg_atomic_read_u64(&entry->position);
	}
	else
		position = carry_over(entry, live, Max(now, entry->bucket.base), &bucket);
	LWLockRelease(partition->lock);
	*tokens = qs_bucket_tokens(&bucket, position, now);
	*wait = qs_bucket_wait(&bucket, position, now, wanted);
}

/*
 * For a bucket that is kept in its row: how many tokens it can have at most,
 * by what was taken before it was; false if nothing is known of that.
 */
bool
qs_buckets_bound(const QsLiveBucket *live, TimestampTz now, double *tokens)
{
	uint32		hash = hash_key(&live->key);
	Partition  *partition = &shared->partitions[hash % PARTITIONS];
	Entry	   *entry;

	LWLockAcquire(partition->lock, LW_SHARED);
	entry = find(partition, live, hash);
	if (entry != NULL && !(entry->in_row && is_current(entry, live)))
	{
		LWLockRelease(partition->lock);
		LWLockAcquire(partition->lock, LW_EXCLUSIVE);
		entry = find(partition, live, hash);
		if (entry != NULL)
		{
			QsBucket	bucket;
			TimestampTz at = Max(now, entry->bucket.base);
			int64		position = (int64) pg_atomic_read_u64(&entry->position);

			qs_bucket_init(&bucket, live->capacity, live->rate, at);
			position = qs_bucket_carried(&entry->bucket, position, &bucket);
			replace(partition, entry, live, &bucket, position);
			entry->in_row = true;
		}
	}
	if (entry != NULL)
		*tokens = qs_bucket_tokens(&entry->bucket,
								   (int64) pg_atomic_read_u64(&entry->position),
								   now);
	LWLockRelease(partition->lock);
	return entry != NULL;
}

void
qs_buckets_statistics(QsBucketStatistics *statistics)
{
	memset(statistics, 0, sizeof(*statistics));
	statistics->buckets_max = (uint64) shared->entries * PARTITIONS;
	statistics->bytes = shared->bytes;
	for (int i = 0; i < PARTITIONS; i++)
	{
		Partition  *partition = &shared->partitions[i];

		LWLockAcquire(partition->lock, LW_SHARED);
		statistics->buckets += partition->used;
		statistics->evicted += partition->evicted;
		LWLockRelease(partition->lock);
	}
}
