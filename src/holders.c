/*
 * holders.c
 *	  Who holds one of a limited number of places: see holders.h.
 *
 * A group and its holders belong to the partition of its key, whose lock
 * guards them. Holders come from one pool for all, guarded by a spinlock, so
 * that a single group may have nearly all of them. A group has two heaps, of
 * normal and of critical holders, by the time until which they hold, so that
 * the next to expire is known however many there are. No two locks are held at
 * once, but for the spinlock.
 *
 * Shared memory is at the same address in all processes, so pointers into it
 * may stand in it (as they do for lib/ilist.h and lib/pairingheap.h).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "holders.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"

#define PARTITIONS 16
#define HOLDERS_PER_GROUP 4		/* on average, when shared memory is full */
#define CLASSES 2				/* normal, critical */

typedef struct Holder
{
	pairingheap_node node;		/* in its group's heap */
	dlist_node	link;			/* in its bucket, or among the free ones */
	struct Group *group;
	QsHolder	holder;

	/* remembered as released, and in no heap, while the group is filled */
	bool		released;
	struct Holder *next_released;
} Holder;

typedef struct Group
{
	dlist_node	link;			/* in its bucket, or among the free ones */
	QsHoldersKey key;
	bool		in_use;
	bool		filled;
	bool		filling;		/* by one session */
	bool		missed;			/* something, while it was being filled */
	bool		referenced;		/* since the clock came by */
	int32		count[CLASSES];
	pairingheap_node *first[CLASSES];	/* roots of heaps */
	Holder	   *released;
} Group;

typedef struct Partition
{
	LWLock	   *lock;			/* guards all of this */
	int32		hand;			/* of the eviction clock */
	Group	   *groups;
	dlist_head	free_groups;
	dlist_head *group_buckets;	/* as many as groups */
	dlist_head *holder_buckets; /* HOLDERS_PER_GROUP times as many */
} Partition;

typedef struct Shared
{
	int32		groups;			/* in each partition */
	pg_atomic_uint32 slot_groups;
	slock_t		mutex;			/* guards the list */
	dlist_head	free_holders;
	Partition	partitions[PARTITIONS];
} Shared;

static Shared *shared = NULL;

/* GUC: queue_service.max_holders */
static int	max_holders = 32768;

static int32
groups_per_partition(void)
{
	return Max(4, max_holders / HOLDERS_PER_GROUP / PARTITIONS);
}

static Size
size(void)
{
	Size		groups = groups_per_partition();

	return MAXALIGN(sizeof(Shared)) + max_holders * sizeof(Holder) +
		PARTITIONS * groups *
		(sizeof(Group) + (1 + HOLDERS_PER_GROUP) * sizeof(dlist_head));
}

static void
init_partition(Partition *partition, LWLock *lock, char **memory)
{
	int32		groups = shared->groups;
	dlist_head *buckets;

	partition->lock = lock;
	partition->groups = (Group *) *memory;
	*memory += groups * sizeof(Group);
	memset(partition->groups, 0, groups * sizeof(Group));
	dlist_init(&partition->free_groups);
	for (int32 i = 0; i < groups; i++)
		dlist_push_tail(&partition->free_groups, &partition->groups[i].link);

	buckets = (dlist_head *) *memory;
	*memory += (Size) groups * (1 + HOLDERS_PER_GROUP) * sizeof(dlist_head);
	for (int32 i = 0; i < groups * (1 + HOLDERS_PER_GROUP); i++)
		dlist_init(&buckets[i]);
	partition->group_buckets = buckets;
	partition->holder_buckets = buckets + groups;
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	char	   *rest = (char *) memory + MAXALIGN(sizeof(Shared));
	Holder	   *holders = (Holder *) rest;

	shared = memory;
	if (found)
		return;
	memset(shared, 0, sizeof(*shared));
	shared->groups = groups_per_partition();
	pg_atomic_init_u32(&shared->slot_groups, 0);
	SpinLockInit(&shared->mutex);
	dlist_init(&shared->free_holders);
	memset(holders, 0, max_holders * sizeof(Holder));
	for (int i = 0; i < max_holders; i++)
		dlist_push_tail(&shared->free_holders, &holders[i].link);
	rest += max_holders * sizeof(Holder);
	for (int i = 0; i < PARTITIONS; i++)
		init_partition(&shared->partitions[i], &locks[i].lock, &rest);
}

static const QsShmem part = {
	.name = "queue_service_holders", .nlocks = PARTITIONS,
	.size = size, .attach = attach,
	.setting = {
		"queue_service.max_holders",
		"Permits and slots that can be held at once.",
		&max_holders, 64, 10 * 1000 * 1000, 0
	}
};

/* Asks for shared memory while the server starts. */
void
qs_holders_init(void)
{
	(void) qs_shmem_use(&part);
}

bool
qs_holders_exist(void)
{
	return shared != NULL;
}

/*
 * Whether there is a group of slots of any queue. Who wrote a lease before he
 * asks is seen by whoever fills a group that he does not see.
 */
bool
qs_holders_any_slots(void)
{
	pg_memory_barrier();
	return pg_atomic_read_u32(&shared->slot_groups) > 0;
}

static uint32
hash_key(const QsHoldersKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key));
}

/* The partition of a key, locked. */
static Partition *
lock_partition(uint32 hash)
{
	Partition  *partition = &shared->partitions[hash % PARTITIONS];

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	return partition;
}

static dlist_head *
group_bucket(Partition *partition, uint32 hash)
{
	return &partition->group_buckets[(hash / PARTITIONS) % shared->groups];
}

/* Tokens are random. */
static dlist_head *
holder_bucket(Group *group, int64 token)
{
	uint32		hash = hash_key(&group->key);
	Partition  *partition = &shared->partitions[hash % PARTITIONS];

	return &partition->holder_buckets[((uint64) token ^ hash) %
									  ((uint64) shared->groups * HOLDERS_PER_GROUP)];
}

static Group *
find_group(Partition *partition, const QsHoldersKey *key, uint32 hash)
{
	dlist_iter	iter;

	dlist_foreach(iter, group_bucket(partition, hash))
	{
		Group	   *group = dlist_container(Group, link, iter.cur);

		if (memcmp(&group->key, key, sizeof(*key)) == 0)
		{
			group->referenced = true;
			return group;
		}
	}
	return NULL;
}

/* The group of a key, or NULL, with its partition locked. */
static Group *
lock_group(const QsHoldersKey *key, Partition **partition)
{
	uint32		hash = hash_key(key);

	*partition = lock_partition(hash);
	return find_group(*partition, key, hash);
}

static Holder *
find_holder(Group *group, int64 token)
{
	dlist_iter	iter;

	dlist_foreach(iter, holder_bucket(group, token))
	{
		Holder	   *holder = dlist_container(Holder, link, iter.cur);

		if (holder->holder.token == token && holder->group == group)
			return holder;
	}
	return NULL;
}

/* NULL if all are in use. */
static Holder *
allocate(void)
{
	Holder	   *holder = NULL;

	SpinLockAcquire(&shared->mutex);
	if (!dlist_is_empty(&shared->free_holders))
		holder = dlist_container(Holder, link,
								 dlist_pop_head_node(&shared->free_holders));
	SpinLockRelease(&shared->mutex);
	return holder;
}

/* Takes it out of its bucket; it is in no heap. */
static void
discard(Holder *holder)
{
	dlist_delete(&holder->link);
	SpinLockAcquire(&shared->mutex);
	dlist_push_head(&shared->free_holders, &holder->link);
	SpinLockRelease(&shared->mutex);
}

/* The first in a heap is who expires first. */
static int
compare(const pairingheap_node *a, const pairingheap_node *b,
		void *arg pg_attribute_unused())
{
	int64		first = pairingheap_const_container(Holder, node, a)->holder.until;
	int64		second = pairingheap_const_container(Holder, node, b)->holder.until;

	return first < second ? 1 : first > second ? -1 : 0;
}

static void
enter_heap(Holder *holder)
{
	Group	   *group = holder->group;
	int			class = holder->holder.critical;
	pairingheap heap = {compare, NULL, group->first[class]};

	pairingheap_add(&heap, &holder->node);
	group->first[class] = heap.ph_root;
	group->count[class]++;
}

static void
leave_heap(Holder *holder)
{
	Group	   *group = holder->group;
	int			class = holder->holder.critical;
	pairingheap heap = {compare, NULL, group->first[class]};

	pairingheap_remove(&heap, &holder->node);
	group->first[class] = heap.ph_root;
	group->count[class]--;
}

static Holder *
first_of(Group *group, int class)
{
	return group->first[class] == NULL ? NULL :
		pairingheap_container(Holder, node, group->first[class]);
}

/* The holder is in its group from here on, whatever the limit; false: no room. */
static bool
insert(Group *group, const QsHolder *new)
{
	Holder	   *holder = allocate();

	if (holder == NULL)
		return false;
	holder->group = group;
	holder->holder = *new;
	holder->released = false;
	dlist_push_head(holder_bucket(group, new->token), &holder->link);
	enter_heap(holder);
	return true;
}

/* Who holds goes on as this. */
static void
change(Holder *holder, const QsHolder *new)
{
	leave_heap(holder);
	if (holder->holder.token != new->token)
	{
		dlist_delete(&holder->link);
		dlist_push_head(holder_bucket(holder->group, new->token), &holder->link);
	}
	holder->holder = *new;
	enter_heap(holder);
}

/* A time only becomes later. */
static void
prolong(Holder *holder, int64 until)
{
	QsHolder	new = holder->holder;

	if (until <= new.until)
		return;
	new.until = until;
	change(holder, &new);
}

static void
reap(Group *group, int64 now)
{
	for (int class = 0; class < CLASSES; class++)
	{
		Holder	   *holder;

		while ((holder = first_of(group, class)) != NULL &&
			   holder->holder.until <= now)
		{
			leave_heap(holder);
			discard(holder);
		}
	}
}

static void
forget_released(Group *group)
{
	while (group->released != NULL)
	{
		Holder	   *holder = group->released;

		group->released = holder->next_released;
		discard(holder);
	}
}

/* Frees the group that was not used for longest, about, and holds nothing. */
static void
evict_one(Partition *partition, int64 now)
{
	/* the second time around, none is referenced any more */
	for (int32 i = 0; i < 2 * shared->groups; i++)
	{
		Group	   *group = &partition->groups[partition->hand];

		partition->hand = (partition->hand + 1) % shared->groups;
		reap(group, now);
		if (group->filling || group->count[0] + group->count[1] > 0)
			continue;
		if (group->referenced)
		{
			group->referenced = false;
			continue;
		}
		if (group->key.kind == QS_SLOTS)
			pg_atomic_fetch_sub_u32(&shared->slot_groups, 1);
		dlist_delete(&group->link);
		group->in_use = false;
		dlist_push_head(&partition->free_groups, &group->link);
		return;
	}
}

/* The group of a key, a new one if need be. NULL if there is no room. */
static Group *
get_group(Partition *partition, const QsHoldersKey *key, uint32 hash, int64 now)
{
	Group	   *group = find_group(partition, key, hash);

	if (group != NULL)
		return group;
	if (dlist_is_empty(&partition->free_groups))
		evict_one(partition, now);
	if (dlist_is_empty(&partition->free_groups))
		return NULL;
	group = dlist_container(Group, link,
							dlist_pop_head_node(&partition->free_groups));
	memset(group, 0, sizeof(*group));
	group->key = *key;
	group->in_use = true;
	group->referenced = true;
	group->filled = key->kind != QS_SLOTS;
	dlist_push_head(group_bucket(partition, hash), &group->link);
	if (key->kind == QS_SLOTS)
		pg_atomic_fetch_add_u32(&shared->slot_groups, 1);
	return group;
}

static bool
fits(const Group *group, const QsHoldersLimit *limit, bool critical)
{
	return group->count[0] + group->count[1] < limit->all &&
		(critical || group->count[0] < limit->normal);
}

/* When, at the earliest, there will be a place if nobody releases one. */
static int64
next_free(Group *group, const QsHoldersLimit *limit, bool critical)
{
	Holder	   *normal = first_of(group, 0);
	Holder	   *other = first_of(group, 1);
	int64		first_normal = normal ? normal->holder.until : PG_INT64_MAX;
	int64		first_other = other ? other->holder.until : PG_INT64_MAX;

	if (limit->all <= 0 || (!critical && limit->normal <= 0))
		return PG_INT64_MAX;
	if (!critical && group->count[0] >= limit->normal)
		return first_normal;
	return Min(first_normal, first_other);
}

static QsHoldersAnswer
take(Group *group, const QsHoldersLimit *limit, const QsHolder *holder,
	 int64 now, int64 *free_at)
{
	if (!fits(group, limit, holder->critical))
		reap(group, now);
	if (!fits(group, limit, holder->critical))
	{
		*free_at = next_free(group, limit, holder->critical);
		return QS_FULL;
	}
	return insert(group, holder) ? QS_GRANTED : QS_NO_ROOM;
}

/* Reaps what has expired in any group. */
static void
make_room(int64 now)
{
	for (int i = 0; i < PARTITIONS; i++)
	{
		Partition  *partition = lock_partition(i);

		for (int32 n = 0; n < shared->groups; n++)
			if (partition->groups[n].in_use)
				reap(&partition->groups[n], now);
		LWLockRelease(partition->lock);
	}
}

static QsHoldersAnswer
try_take(const QsHoldersKey *key, const QsHoldersLimit *limit,
		 const QsHolder *holder, bool extends, int64 now, int64 *free_at)
{
	uint32		hash = hash_key(key);
	Partition  *partition = lock_partition(hash);
	Group	   *group = key->kind == QS_SLOTS ?
	find_group(partition, key, hash) : get_group(partition, key, hash, now);
	Holder	   *old;
	QsHoldersAnswer answer;

	if (group == NULL)
		answer = key->kind == QS_SLOTS ? QS_NOT_FILLED : QS_NO_ROOM;
	else if (!group->filled)
		answer = QS_NOT_FILLED;
	else if (extends && (old = find_holder(group, holder->token)) != NULL)
	{
		prolong(old, holder->until);
		answer = QS_GRANTED;
	}
	else
		answer = take(group, limit, holder, now, free_at);
	LWLockRelease(partition->lock);
	return answer;
}

/* The same, after making room if need be. */
static QsHoldersAnswer
take_or_extend(const QsHoldersKey *key, const QsHoldersLimit *limit,
			   const QsHolder *holder, bool extends, int64 now, int64 *free_at)
{
	QsHoldersAnswer answer = try_take(key, limit, holder, extends, now, free_at);

	if (answer != QS_NO_ROOM)
		return answer;
	make_room(now);
	return try_take(key, limit, holder, extends, now, free_at);
}

/*
 * Takes a place for a holder whose token no other one has. If all are held,
 * *free_at becomes when the first of them expires that would do.
 */
QsHoldersAnswer
qs_holders_take(const QsHoldersKey *key, const QsHoldersLimit *limit,
				const QsHolder *holder, int64 now, int64 *free_at)
{
	return take_or_extend(key, limit, holder, false, now, free_at);
}

/*
 * Holds on for longer, whatever the limit is by now; or takes a place anew, if
 * its own was lost after it had expired.
 */
QsHoldersAnswer
qs_holders_extend(const QsHoldersKey *key, const QsHoldersLimit *limit,
				  const QsHolder *holder, int64 now)
{
	int64		free_at;

	return take_or_extend(key, limit, holder, true, now, &free_at);
}

/* Gives the place back; false if the token had none. */
bool
qs_holders_release(const QsHoldersKey *key, int64 token)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);
	Holder	   *holder = group ? find_holder(group, token) : NULL;
	bool		held = holder != NULL && !holder->released;

	if (held)
		leave_heap(holder);
	if (group != NULL && group->filling)
	{
		if (holder == NULL && (holder = allocate()) != NULL)
		{
			holder->group = group;
			holder->holder.token = token;
			holder->released = false;
			dlist_push_head(holder_bucket(group, token), &holder->link);
		}
		if (holder == NULL)
			group->missed = true;
		else if (!holder->released)
		{
			holder->released = true;
			holder->next_released = group->released;
			group->released = holder;
		}
	}
	else if (held)
		discard(holder);
	LWLockRelease(partition->lock);
	return held;
}

/* Whether a place would be granted, and what the group looks like. */
QsHoldersAnswer
qs_holders_look(const QsHoldersKey *key, const QsHoldersLimit *limit,
				bool critical, int64 now, QsHoldersState *state)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);
	QsHoldersAnswer answer;

	state->normal = state->critical = 0;
	state->free_at = PG_INT64_MAX;
	if (group == NULL)
		answer = key->kind == QS_SLOTS ? QS_NOT_FILLED :
			limit->all > 0 && (critical || limit->normal > 0) ?
			QS_GRANTED : QS_FULL;
	else
	{
		reap(group, now);
		state->normal = group->count[0];
		state->critical = group->count[1];
		state->free_at = next_free(group, limit, critical);
		answer = !group->filled ? QS_NOT_FILLED :
			fits(group, limit, critical) ? QS_GRANTED : QS_FULL;
	}
	LWLockRelease(partition->lock);
	return answer;
}

/*
 * Passes a place on, until qs_holders_settle() or qs_holders_take_back() says
 * which of the two has it. Meanwhile it is held as long as either would, and
 * counts as normal if either is.
 */
bool
qs_holders_pass(const QsHoldersKey *key, const QsHoldersLimit *limit,
				int64 from, const QsHolder *to, QsPassed *passed)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);
	Holder	   *holder = group && group->filled ? find_holder(group, from) : NULL;
	bool		done = false;

	if (holder != NULL &&
		group->count[0] + group->count[1] <= limit->all &&
		(to->critical ||
		 group->count[0] + holder->holder.critical <= limit->normal))
	{
		QsHolder	new = *to;

		passed->from = holder->holder;
		passed->to = *to;
		new.until = passed->held_until = Max(to->until, holder->holder.until);
		new.critical = to->critical && holder->holder.critical;
		change(holder, &new);
		done = true;
	}
	LWLockRelease(partition->lock);
	return done;
}

static void
end_pass(const QsHoldersKey *key, const QsPassed *passed, const QsHolder *owner)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);
	Holder	   *holder = group ? find_holder(group, passed->to.token) : NULL;

	if (holder != NULL && !holder->released)
	{
		QsHolder	new = *owner;

		/* it may have been extended since */
		if (owner == &passed->to && holder->holder.until != passed->held_until)
			new.until = holder->holder.until;
		change(holder, &new);
	}
	LWLockRelease(partition->lock);
}

/* The place is now of whom it was passed to. */
void
qs_holders_settle(const QsHoldersKey *key, const QsPassed *passed)
{
	end_pass(key, passed, &passed->to);
}

/* The place is again of who had it. */
void
qs_holders_take_back(const QsHoldersKey *key, const QsPassed *passed)
{
	end_pass(key, passed, &passed->from);
}

/* Enters or prolongs a holder, whatever the limit; false if there is no room. */
static bool
enter(Group *group, const QsHolder *new)
{
	Holder	   *holder = find_holder(group, new->token);

	if (holder == NULL)
		return insert(group, new);
	if (!holder->released)
		prolong(holder, new->until);
	return true;
}

/* Who holds without having taken, if the group is there. */
void
qs_holders_add(const QsHoldersKey *key, const QsHolder *holder)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);

	if (group != NULL && !enter(group, holder))
	{
		group->filled = false;
		group->missed = true;
	}
	LWLockRelease(partition->lock);
}

bool
qs_holders_has(const QsHoldersKey *key, int64 token)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);
	Holder	   *holder = group ? find_holder(group, token) : NULL;
	bool		found = holder != NULL && !holder->released;

	LWLockRelease(partition->lock);
	return found;
}

/* The group has not all leases any more: it is to be filled anew. */
void
qs_holders_void(const QsHoldersKey *key)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);

	if (group != NULL)
		group->filled = false;
	LWLockRelease(partition->lock);
}

/*
 * Begins to fill a group, which nobody else does meanwhile. False if there is
 * no room for it. What was written before is to be found by who fills it; what
 * is written from here on is told to the group.
 */
bool
qs_holders_fill_begin(const QsHoldersKey *key, int64 now)
{
	uint32		hash = hash_key(key);
	Partition  *partition = lock_partition(hash);
	Group	   *group = get_group(partition, key, hash, now);

	if (group != NULL)
	{
		group->filling = true;
		group->missed = false;
	}
	LWLockRelease(partition->lock);
	return group != NULL;
}

/* Adds what was found, unless it was released meanwhile; false: no room. */
bool
qs_holders_fill_add(const QsHoldersKey *key, const QsHolder *holder)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);
	bool		entered = enter(group, holder);

	LWLockRelease(partition->lock);
	return entered;
}

/* Ends it, complete or not; true if the group is filled now. */
bool
qs_holders_fill_end(const QsHoldersKey *key, bool complete)
{
	Partition  *partition;
	Group	   *group = lock_group(key, &partition);

	group->filling = false;
	forget_released(group);
	group->filled = complete && !group->missed;
	complete = group->filled;
	LWLockRelease(partition->lock);
	return complete;
}
