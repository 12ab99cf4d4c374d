/*
 * ring.c
 *	  Rings of queues in shared memory: see ring.h.
 *
 * One LWLock guards all. It is held for some steps, but where a whole ring goes,
 * which is rare and takes a look at each member. Who announces a member that is
 * active takes it shared, so the count of announcements is atomic.
 *
 * Members of all rings come from one pool, found by the queue's id: a queue has
 * one name, so it is in one ring at most.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "ring.h"
#include "shmem.h"
#include "storage/procarray.h"
#include "utils/guc.h"

#define NONE (-1)
#define MEMBERS_PER_RING 16		/* on average, when the pool is full */
#define MAX_PREPARED 16			/* transactions that are remembered */

/* A ring may make room for another when it was not used for so long. */
#define UNUSED (60 * USECS_PER_SEC)
/* A clock that is behind by more was set back; a call may take some time. */
#define SET_BACK (10 * USECS_PER_SEC)
/* One that did not fit is tried again after so long. */
#define RETRY (60 * USECS_PER_SEC)

typedef enum MemberState
{
	ACTIVE,
	PARKED,
	UNCERTAIN
} MemberState;

typedef struct Member
{
	Oid			database;
	pg_uuid_t	queue;
	int32		next;			/* in its bucket, or in the list of free ones */
	int32		ring;			/* NONE: it is free */
	pg_atomic_uint32 announced;
	QsTurns		turns;
	MemberState state;
	bool		timed;			/* it is in the heap, until due */
	int64		due;
	uint64		parked;			/* number of the parking, if uncertain */
	dlist_node	sibling;		/* among all of its ring */
	dlist_node	node;			/* among those that are active, or uncertain */
	pairingheap_node timer;
} Member;

typedef struct Ring
{
	bool		used;
	int32		next;			/* in its bucket */
	Oid			database;
	char		name[QS_RING_NAME + 1];
	uint64		name_hash;
	uint32		generation;		/* another one whenever its members went */
	bool		filled;
	int64		no_room_until;
	pg_atomic_uint64 used_at;
	QsRingSource source;
	int64		clock;			/* the latest time that anybody came with */
	uint64		parked;			/* as uncertain, ever */
	int32		nactive;
	dlist_head	members;
	dlist_head	active;			/* the head has the next turn */
	dlist_head	uncertain;		/* in the order of their parking */
	pairingheap_node *timers;	/* root of the heap of those that are timed */
} Ring;

typedef struct Prepared
{
	Oid			database;
	TransactionId xid;
} Prepared;

typedef struct Shared
{
	LWLock	   *lock;
	int32		nmembers;
	int32		nrings;
	Size		bytes;
	pg_atomic_uint32 rings_used;
	pg_atomic_uint32 nprepared;
	pg_atomic_uint64 turns;
	pg_atomic_uint64 in_vain;
	bool		too_many_prepared;	/* for rings to be used ever again */
	Prepared	prepared[MAX_PREPARED];
	int32		members_used;
	int32		free;
	Member	   *members;
	int32	   *buckets;		/* as many as members */
	Ring	   *rings;
	int32	   *ring_buckets;	/* as many as rings */
} Shared;

static Shared *shared = NULL;

/* GUC: queue_service.ring_size, in kB */
static int	ring_size = 16 * 1024;

static int32
max_members(void)
{
	Size		each = sizeof(Member) + sizeof(int32) +
	(sizeof(Ring) + sizeof(int32)) / MEMBERS_PER_RING + 1;

	return (int32) (((Size) ring_size * 1024 - sizeof(Shared)) / each);
}

static int32
max_rings(void)
{
	return max_members() / MEMBERS_PER_RING;
}

static Size
shared_size(void)
{
	return MAXALIGN(sizeof(Shared)) +
		MAXALIGN(max_members() * sizeof(Member)) +
		MAXALIGN(max_members() * sizeof(int32)) +
		MAXALIGN(max_rings() * sizeof(Ring)) +
		MAXALIGN(max_rings() * sizeof(int32));
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	char	   *rest = (char *) memory + MAXALIGN(sizeof(Shared));

	shared = memory;
	if (found)
		return;
	memset(shared, 0, shared_size());
	shared->lock = &locks[0].lock;
	shared->nmembers = max_members();
	shared->nrings = max_rings();
	shared->bytes = shared_size();
	pg_atomic_init_u32(&shared->rings_used, 0);
	pg_atomic_init_u32(&shared->nprepared, 0);
	pg_atomic_init_u64(&shared->turns, 0);
	pg_atomic_init_u64(&shared->in_vain, 0);
	shared->members = (Member *) rest;
	rest += MAXALIGN(shared->nmembers * sizeof(Member));
	shared->buckets = (int32 *) rest;
	rest += MAXALIGN(shared->nmembers * sizeof(int32));
	shared->rings = (Ring *) rest;
	rest += MAXALIGN(shared->nrings * sizeof(Ring));
	shared->ring_buckets = (int32 *) rest;
	for (int32 i = 0; i < shared->nmembers; i++)
	{
		shared->members[i].ring = NONE;
		shared->members[i].next = i + 1 < shared->nmembers ? i + 1 : NONE;
		pg_atomic_init_u32(&shared->members[i].announced, 0);
		shared->buckets[i] = NONE;
	}
	for (int32 i = 0; i < shared->nrings; i++)
	{
		pg_atomic_init_u64(&shared->rings[i].used_at, 0);
		shared->ring_buckets[i] = NONE;
	}
}

static const QsShmem part = {
	.name = "queue_service_rings", .nlocks = 1,
	.size = shared_size, .attach = attach,
	.setting = {
		"queue_service.ring_size",
		"Shared memory for the turns of tenants.",
		&ring_size, 64, 1024 * 1024, GUC_UNIT_KB
	}
};

/* Asks for shared memory while the server starts; without it there are no rings. */
void
qs_ring_init(void)
{
	(void) qs_shmem_use(&part);
}

bool
qs_ring_exists(void)
{
	return shared != NULL;
}

static int32 *
bucket_of(Oid database, const pg_uuid_t *queue)
{
	uint32		hash = hash_combine(hash_bytes(queue->data, UUID_LEN), database);

	return &shared->buckets[hash % shared->nmembers];
}

static Member *
find_member(const pg_uuid_t *queue)
{
	int32		n = *bucket_of(MyDatabaseId, queue);

	for (; n != NONE; n = shared->members[n].next)
	{
		Member	   *member = &shared->members[n];

		if (member->database == MyDatabaseId &&
			memcmp(&member->queue, queue, UUID_LEN) == 0)
			return member;
	}
	return NULL;
}

static int32 *
ring_bucket_of(Oid database, uint64 name_hash)
{
	return &shared->ring_buckets[(name_hash + database) % shared->nrings];
}

static Ring *
find_ring(const char *name)
{
	int32		n = *ring_bucket_of(MyDatabaseId, qs_ring_name_hash(name));

	while (n != NONE && (shared->rings[n].database != MyDatabaseId ||
						 strcmp(shared->rings[n].name, name) != 0))
		n = shared->rings[n].next;
	return n != NONE ? &shared->rings[n] : NULL;
}

/* The heap of a ring's timed members, the first that is due at its root. */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b,
			void *arg pg_attribute_unused())
{
	int64		due_a = pairingheap_const_container(Member, timer, a)->due;
	int64		due_b = pairingheap_const_container(Member, timer, b)->due;

	return due_a < due_b ? 1 : due_a > due_b ? -1 : 0;
}

static void
start_timer(Ring *ring, Member *member, int64 due)
{
	pairingheap heap = {compare_due, NULL, ring->timers};

	member->due = due;
	member->timed = true;
	pairingheap_add(&heap, &member->timer);
	ring->timers = heap.ph_root;
}

static void
stop_timer(Ring *ring, Member *member)
{
	pairingheap heap = {compare_due, NULL, ring->timers};

	if (!member->timed)
		return;
	pairingheap_remove(&heap, &member->timer);
	ring->timers = heap.ph_root;
	member->timed = false;
}

/* Takes a member from wherever it is in its ring. */
static void
unlink_member(Ring *ring, Member *member)
{
	if (member->state != PARKED)
		dlist_delete(&member->node);
	if (member->state == ACTIVE)
		ring->nactive--;
	stop_timer(ring, member);
}

static void
make_active(Ring *ring, Member *member)
{
	member->state = ACTIVE;
	qs_turns_begin(&member->turns, member->turns.weight);
	dlist_push_tail(&ring->active, &member->node);
	ring->nactive++;
}

static void
activate(Member *member)
{
	Ring	   *ring = &shared->rings[member->ring];

	if (member->state == ACTIVE)
		return;
	unlink_member(ring, member);
	make_active(ring, member);
}

static void
free_member(Member *member)
{
	int32		n = member - shared->members;
	int32	   *link = bucket_of(member->database, &member->queue);

	unlink_member(&shared->rings[member->ring], member);
	dlist_delete(&member->sibling);
	while (*link != n)
		link = &shared->members[*link].next;
	*link = member->next;
	member->ring = NONE;
	member->next = shared->free;
	shared->free = n;
	shared->members_used--;
}

/* A ring without members, to be filled. */
static void
empty_ring(Ring *ring)
{
	while (!dlist_is_empty(&ring->members))
		free_member(dlist_head_element(Member, sibling, &ring->members));
	ring->filled = false;
	ring->generation++;
}

static void
free_ring(Ring *ring)
{
	int32	   *link = ring_bucket_of(ring->database, ring->name_hash);

	empty_ring(ring);
	while (*link != ring - shared->rings)
		link = &shared->rings[*link].next;
	*link = ring->next;
	ring->used = false;
	pg_atomic_fetch_sub_u32(&shared->rings_used, 1);
}

/* Frees the ring that was not used for longest, if any was unused for a while. */
static bool
evict_ring(int64 now, const Ring *spare)
{
	Ring	   *oldest = NULL;

	for (int32 i = 0; i < shared->nrings; i++)
	{
		Ring	   *ring = &shared->rings[i];

		/* cppcheck-suppress nullPointerRedundantCheck; it is spare that may be NULL */
		if (ring->used && ring != spare &&
			(oldest == NULL || pg_atomic_read_u64(&ring->used_at) <
			 pg_atomic_read_u64(&oldest->used_at)))
			oldest = ring;
	}
	if (oldest == NULL ||
		now - (int64) pg_atomic_read_u64(&oldest->used_at) < UNUSED)
		return false;
	free_ring(oldest);
	return true;
}

/* A ring for the name, which has none; NULL if there is no room. */
static Ring *
new_ring(const char *name, int64 now)
{
	int32	   *bucket = ring_bucket_of(MyDatabaseId, qs_ring_name_hash(name));
	int32		n = 0;
	Ring	   *ring;

	if (pg_atomic_read_u32(&shared->rings_used) == (uint32) shared->nrings &&
		!evict_ring(now, NULL))
		return NULL;
	while (shared->rings[n].used)
		n++;
	ring = &shared->rings[n];
	ring->used = true;
	ring->database = MyDatabaseId;
	strlcpy(ring->name, name, sizeof(ring->name));
	ring->name_hash = qs_ring_name_hash(name);
	ring->generation++;
	ring->filled = false;
	ring->no_room_until = PG_INT64_MIN;
	ring->clock = PG_INT64_MIN;
	ring->parked = 0;
	ring->nactive = 0;
	dlist_init(&ring->members);
	dlist_init(&ring->active);
	dlist_init(&ring->uncertain);
	ring->timers = NULL;
	ring->next = *bucket;
	*bucket = n;
	pg_atomic_fetch_add_u32(&shared->rings_used, 1);
	return ring;
}

/* A ring that does not fit. */
static void
give_up(Ring *ring)
{
	empty_ring(ring);
	ring->no_room_until = (int64) pg_atomic_read_u64(&ring->used_at) + RETRY;
}

/*
 * The queue becomes a member, active, or it is one already. False if there is no
 * room.
 */
static bool
add_member(Ring *ring, const pg_uuid_t *queue, int32 weight)
{
	Member	   *member = find_member(queue);
	int32	   *bucket = bucket_of(MyDatabaseId, queue);

	if (member != NULL)
		return true;
	while (shared->free == NONE)
		if (!evict_ring((int64) pg_atomic_read_u64(&ring->used_at), ring))
			return false;
	member = &shared->members[shared->free];
	shared->free = member->next;
	shared->members_used++;
	member->database = MyDatabaseId;
	member->queue = *queue;
	member->ring = ring - shared->rings;
	member->timed = false;
	qs_turns_begin(&member->turns, weight);
	/* a turn of whoever was here before is not one of this member */
	pg_atomic_fetch_add_u32(&member->announced, 1);
	member->next = *bucket;
	*bucket = member - shared->members;
	dlist_push_tail(&ring->members, &member->sibling);
	make_active(ring, member);
	return true;
}

/* All rings of the database are to be filled anew. */
static void
void_rings(void)
{
	for (int32 n = 0; n < shared->nrings; n++)
		if (shared->rings[n].used && shared->rings[n].database == MyDatabaseId)
			empty_ring(&shared->rings[n]);
}

/*
 * Whether a prepared transaction keeps the database's rings from being used. The
 * lock is held. Of those that have ended all rings are void.
 */
static bool
any_prepared(void)
{
	bool		any = shared->too_many_prepared;
	bool		ended = false;
	int			left = 0;

	for (uint32 i = 0; i < pg_atomic_read_u32(&shared->nprepared); i++)
	{
		Prepared	prepared = shared->prepared[i];

		if (prepared.database != MyDatabaseId)
			shared->prepared[left++] = prepared;
		else if (TransactionIdIsInProgress(prepared.xid))
		{
			any = true;
			shared->prepared[left++] = prepared;
		}
		else
			ended = true;
	}
	pg_atomic_write_u32(&shared->nprepared, left);
	if (ended)
		void_rings();
	return any;
}

/*
 * Finds the ring of a name, a new one if need be, and what its source allows. If
 * it is to be filled, whoever does reads the queues after this, all that are
 * committed, qs_ring_add()s each and says qs_ring_filled().
 */
QsRingState
qs_ring_open(const char *name, const QsRingSource *source, int64 now,
			 QsRingTicket *ticket)
{
	QsRingState state = QS_RING_UNUSABLE;
	Ring	   *ring;

	LWLockAcquire(shared->lock, LW_SHARED);
	ring = find_ring(name);
	if (ring == NULL || !ring->filled ||
		pg_atomic_read_u32(&shared->nprepared) > 0 ||
		shared->too_many_prepared ||
		memcmp(&ring->source, source, sizeof(*source)) != 0)
	{
		LWLockRelease(shared->lock);
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		if (any_prepared())
			ring = NULL;
		else if ((ring = find_ring(name)) == NULL)
			ring = new_ring(name, now);
		if (ring != NULL &&
			memcmp(&ring->source, source, sizeof(*source)) != 0)
		{
			empty_ring(ring);
			ring->source = *source;
		}
	}
	if (ring != NULL)
	{
		ticket->ring = ring - shared->rings;
		ticket->generation = ring->generation;
		ticket->parked = ring->parked;
		pg_atomic_write_u64(&ring->used_at, now);
		state = ring->filled ? QS_RING_FILLED :
			now < ring->no_room_until ? QS_RING_UNUSABLE : QS_RING_EMPTY;
	}
	LWLockRelease(shared->lock);
	return state;
}

/* The ring that is meant, if it is the same; the lock is held. */
static Ring *
ring_of(const QsRingTicket *ticket)
{
	Ring	   *ring = &shared->rings[ticket->ring];

	return ring->used && ring->generation == ticket->generation ? ring : NULL;
}

/* A queue of the ring's name; false if there is no use in going on. */
bool
qs_ring_add(const QsRingTicket *ticket, const pg_uuid_t *queue, int32 weight)
{
	bool		added;
	Ring	   *ring;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	ring = ring_of(ticket);
	added = ring != NULL && add_member(ring, queue, weight);
	if (ring != NULL && !added)
		give_up(ring);
	LWLockRelease(shared->lock);
	return added;
}

/* All queues of the name are in the ring. */
void
qs_ring_filled(const QsRingTicket *ticket)
{
	Ring	   *ring;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	ring = ring_of(ticket);
	if (ring != NULL)
		ring->filled = true;
	LWLockRelease(shared->lock);
}

/* Makes active who is due; everybody, if the clock was set back. */
static void
wake_due(Ring *ring, int64 now)
{
	bool		set_back = now + SET_BACK < ring->clock;

	ring->clock = set_back ? now : Max(ring->clock, now);
	while (ring->timers != NULL)
	{
		Member	   *member = pairingheap_container(Member, timer, ring->timers);

		if (member->due > now && !set_back)
			break;
		activate(member);
	}
}

/*
 * Hands out a turn: a member may have so many jobs of those that are wanted.
 * False if none is active, or the ring is gone.
 */
bool
qs_ring_turn(const QsRingTicket *ticket, int64 now, int32 wanted,
			 QsRingTurn *turn)
{
	Ring	   *ring;
	bool		found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	ring = ring_of(ticket);
	if (ring != NULL)
		wake_due(ring, now);
	if (ring != NULL && ring->nactive > 0)
	{
		Member	   *member = dlist_head_element(Member, node, &ring->active);
		bool		over;

		found = true;
		turn->queue = member->queue;
		turn->member = member - shared->members;
		turn->announced = pg_atomic_read_u32(&member->announced);
		turn->active = ring->nactive;
		turn->jobs = qs_turns_take(&member->turns, wanted, ring->nactive == 1,
								   &over);
		if (over)
		{
			dlist_delete(&member->node);
			dlist_push_tail(&ring->active, &member->node);
		}
	}
	LWLockRelease(shared->lock);
	if (found)
		pg_atomic_fetch_add_u64(&shared->turns, 1);
	return found;
}

/*
 * Makes members active that are uncertain since before the ring was opened;
 * returns how many there were. The others have had a turn since.
 */
int32
qs_ring_recall(const QsRingTicket *ticket)
{
	Ring	   *ring;
	int32		count = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	ring = ring_of(ticket);
	for (; ring != NULL && !dlist_is_empty(&ring->uncertain); count++)
	{
		Member	   *member = dlist_head_element(Member, node, &ring->uncertain);

		if (member->parked > ticket->parked)
			break;
		activate(member);
	}
	LWLockRelease(shared->lock);
	return count;
}

/*
 * The member that had the turn, if nothing was announced since, and nobody else
 * has parked it; the lock is held.
 */
static Member *
unchanged(const QsRingTicket *ticket, const QsRingTurn *turn)
{
	Member	   *member = &shared->members[turn->member];

	return ring_of(ticket) != NULL && member->ring == ticket->ring &&
		memcmp(&member->queue, &turn->queue, UUID_LEN) == 0 &&
		member->state == ACTIVE &&
		pg_atomic_read_u32(&member->announced) == turn->announced ?
		member : NULL;
}

/*
 * Parks who had nothing left in his turn, until a time (the maximum: none), or
 * an announcement. If that is not certain, only for a short time.
 */
void
qs_ring_park(const QsRingTicket *ticket, const QsRingTurn *turn, int64 until,
			 bool certain)
{
	Member	   *member;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	member = unchanged(ticket, turn);
	if (member != NULL)
	{
		Ring	   *ring = &shared->rings[member->ring];

		unlink_member(ring, member);
		member->state = certain ? PARKED : UNCERTAIN;
		if (!certain)
		{
			dlist_push_tail(&ring->uncertain, &member->node);
			member->parked = ++ring->parked;
		}
		if (until < PG_INT64_MAX)
			start_timer(ring, member, until);
	}
	LWLockRelease(shared->lock);
	pg_atomic_fetch_add_u64(&shared->in_vain, 1);
}

/* The queue that had the turn is gone, or has another name. */
void
qs_ring_remove(const QsRingTicket *ticket, const QsRingTurn *turn)
{
	Member	   *member;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	member = unchanged(ticket, turn);
	if (member != NULL)
		free_member(member);
	LWLockRelease(shared->lock);
	pg_atomic_fetch_add_u64(&shared->in_vain, 1);
}

/*
 * Something of the queue became claimable, or will when a transaction commits
 * that has an entry for it in a ready index.
 */
void
qs_ring_announce(const pg_uuid_t *queue)
{
	Member	   *member;
	bool		parked;

	/* without a ring, whoever makes one looks at the queue after this */
	if (shared == NULL || pg_atomic_read_u32(&shared->rings_used) == 0)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	member = find_member(queue);
	if (member != NULL)
		pg_atomic_fetch_add_u32(&member->announced, 1);
	parked = member != NULL && member->state != ACTIVE;
	LWLockRelease(shared->lock);
	if (!parked)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	member = find_member(queue);
	if (member != NULL)
		activate(member);
	LWLockRelease(shared->lock);
}

/*
 * The queue has this name and weight, as was committed; with name NULL there is
 * no such queue any more. What else is new in its definition is to be announced.
 */
void
qs_ring_queue_is(const pg_uuid_t *queue, const char *name, int32 weight)
{
	Member	   *member;
	Ring	   *ring;

	if (shared == NULL || pg_atomic_read_u32(&shared->rings_used) == 0)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	ring = name != NULL ? find_ring(name) : NULL;
	member = find_member(queue);
	if (member != NULL && member->ring != (ring ? ring - shared->rings : NONE))
	{
		free_member(member);
		member = NULL;
	}
	if (member != NULL)
		qs_turns_change(&member->turns, weight);
	else if (ring != NULL && !add_member(ring, queue, weight))
		give_up(ring);
	LWLockRelease(shared->lock);
}

/* More queues than can be told have changed, as was committed. */
void
qs_ring_void(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	void_rings();
	LWLockRelease(shared->lock);
}

/* A transaction that changed queues is about to be prepared. */
void
qs_ring_prepared(TransactionId xid)
{
	uint32		n;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	n = pg_atomic_read_u32(&shared->nprepared);
	if (n == MAX_PREPARED)
		shared->too_many_prepared = true;
	else
	{
		shared->prepared[n].database = MyDatabaseId;
		shared->prepared[n].xid = xid;
		pg_atomic_write_u32(&shared->nprepared, n + 1);
	}
	LWLockRelease(shared->lock);
}

uint64
qs_ring_name_hash(const char *name)
{
	return hash_bytes_extended((const unsigned char *) name, strlen(name), 0);
}

/* The hash of the queue's name, if it is a member of a ring. */
bool
qs_ring_name_of(const pg_uuid_t *queue, uint64 *name_hash)
{
	Member	   *member;

	if (shared == NULL || pg_atomic_read_u32(&shared->rings_used) == 0)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	member = find_member(queue);
	if (member != NULL)
		*name_hash = shared->rings[member->ring].name_hash;
	LWLockRelease(shared->lock);
	return member != NULL;
}

/* All zero without shared memory. */
void
qs_ring_statistics(QsRingStatistics *statistics)
{
	memset(statistics, 0, sizeof(*statistics));
	if (shared == NULL)
		return;
	statistics->turns = pg_atomic_read_u64(&shared->turns);
	statistics->in_vain = pg_atomic_read_u64(&shared->in_vain);
	statistics->queues_max = shared->nmembers;
	statistics->bytes = shared->bytes;
	LWLockAcquire(shared->lock, LW_SHARED);
	statistics->queues = shared->members_used;
	LWLockRelease(shared->lock);
}
