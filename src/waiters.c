/*
 * waiters.c
 *	  Sessions that wait for work: see waiters.h.
 *
 * A session waits for one queue, or, if it serves all tenants, for all queues
 * of a name. Who makes a job claimable notes that, and wakes one waiter for
 * each job when his transaction has committed, whichever of the two: who came
 * first. He knows the queue; its name is known to the ring that it is in (ring.h),
 * or was noted with it. Nothing is lost in between:
 *	 A waiter is in the list before it looks for work.
 *	 A transaction looks at the list after its commit is visible, and then at
 *	 the ring. Who waits for a name has put its queues there after he is in the
 *	 list, and before he looks for work.
 * A wake-up for what another session then claims does no harm. What is
 * committed by COMMIT PREPARED wakes nobody; waiters look again by themselves.
 *
 * The lock of the list guards all of it, but the number of waiters, which is
 * read without it so that a commit costs nothing while nobody waits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "ring.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "waiters.h"

#define MAX_NOTES 64			/* queues that one transaction wakes apart */

typedef struct Waiter
{
	dlist_node	node;
	bool		listed;
	Oid			database;
	bool		by_name;
	pg_uuid_t	queue;			/* unless by_name */
	uint64		name_hash;		/* if by_name */
	Latch	   *latch;
} Waiter;

typedef struct Waiters
{
	LWLock	   *lock;
	pg_atomic_uint32 count;
	dlist_head	list;			/* who came first is woken first */
	Waiter		slots[FLEXIBLE_ARRAY_MEMBER];	/* by backend */
} Waiters;

typedef struct Note
{
	pg_uuid_t	queue;
	bool		named;
	uint64		name_hash;		/* if named */
	int			jobs;
} Note;

static Waiters *waiters = NULL;
static Note notes[MAX_NOTES];
static int	nnotes = 0;
static bool too_many_notes = false;

static Size
waiters_size(void)
{
	return offsetof(Waiters, slots) + qs_backend_slots() * sizeof(Waiter);
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	waiters = memory;
	if (found)
		return;
	memset(waiters, 0, waiters_size());
	waiters->lock = &locks[0].lock;
	pg_atomic_init_u32(&waiters->count, 0);
	dlist_init(&waiters->list);
}

static const QsShmem part = {
	.name = "queue_service_waiters", .nlocks = 1,
	.size = waiters_size, .attach = attach
};

/* Removes a waiter from the list; the lock is held. */
static void
unlist(Waiter *waiter)
{
	dlist_delete(&waiter->node);
	waiter->listed = false;
	pg_atomic_fetch_sub_u32(&waiters->count, 1);
}

/* Whether the waiter waits for what was noted; NULL is anything. */
static bool
is_for(const Waiter *waiter, const Note *note)
{
	if (waiter->database != MyDatabaseId)
		return false;
	if (note == NULL)
		return true;
	return waiter->by_name ?
		note->named && waiter->name_hash == note->name_hash :
		memcmp(&waiter->queue, &note->queue, UUID_LEN) == 0;
}

/* Wakes up to so many waiters for what was noted. */
static void
wake(Note *note, int jobs)
{
	dlist_mutable_iter iter;

	if (note != NULL && !note->named)
		note->named = qs_ring_name_of(&note->queue, &note->name_hash);
	LWLockAcquire(waiters->lock, LW_EXCLUSIVE);
	dlist_foreach_modify(iter, &waiters->list)
	{
		Waiter	   *waiter = dlist_container(Waiter, node, iter.cur);

		if (!is_for(waiter, note))
			continue;
		unlist(waiter);
		SetLatch(waiter->latch);
		if (--jobs == 0)
			break;
	}
	LWLockRelease(waiters->lock);
}

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT && (nnotes > 0 || too_many_notes))
	{
		/* pairs with the atomic increment in qs_waiter_begin() */
		pg_memory_barrier();
		if (pg_atomic_read_u32(&waiters->count) > 0)
		{
			for (int i = 0; i < nnotes; i++)
				wake(&notes[i], notes[i].jobs);
			if (too_many_notes)
				wake(NULL, -1);
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
	{
		nnotes = 0;
		too_many_notes = false;
	}
}

/* Asks for shared memory while the server starts; without it waiters poll. */
void
qs_waiters_init(void)
{
	if (qs_shmem_use(&part))
		RegisterXactCallback(at_end, NULL);
}

bool
qs_waiters_exist(void)
{
	return waiters != NULL;
}

static void
leave_at_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	qs_waiter_end();
}

/*
 * Puts this session into the list, to be woken through its latch: for a queue,
 * or with queue NULL for a name. It is to look for work after that.
 */
void
qs_waiter_begin(const pg_uuid_t *queue, const char *name)
{
	static bool registered = false;
	Waiter	   *waiter = &waiters->slots[qs_my_backend_slot()];

	if (!registered)
	{
		before_shmem_exit(leave_at_exit, (Datum) 0);
		registered = true;
	}
	LWLockAcquire(waiters->lock, LW_EXCLUSIVE);
	if (waiter->listed)
		unlist(waiter);
	waiter->database = MyDatabaseId;
	waiter->by_name = queue == NULL;
	if (queue != NULL)
		waiter->queue = *queue;
	else
		waiter->name_hash = qs_ring_name_hash(name);
	waiter->latch = MyLatch;
	waiter->listed = true;
	dlist_push_tail(&waiters->list, &waiter->node);
	pg_atomic_fetch_add_u32(&waiters->count, 1);
	LWLockRelease(waiters->lock);
}

/* Takes this session out of the list, if it is in it. */
void
qs_waiter_end(void)
{
	Waiter	   *waiter = &waiters->slots[qs_my_backend_slot()];

	LWLockAcquire(waiters->lock, LW_EXCLUSIVE);
	if (waiter->listed)
		unlist(waiter);
	LWLockRelease(waiters->lock);
}

/* Announces to its ring, and wakes one waiter, what is claimable at once. */
void
qs_wake(const pg_uuid_t *queue)
{
	Note		note = {.queue = *queue};

	qs_ring_announce(queue);
	/* pairs with the atomic increment in qs_waiter_begin() */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&waiters->count) == 0)
		return;
	wake(&note, 1);
}

static Note *
find_note(const pg_uuid_t *queue)
{
	int			n = nnotes - 1;

	while (n >= 0 && memcmp(&notes[n].queue, queue, UUID_LEN) != 0)
		n--;
	return n >= 0 ? &notes[n] : NULL;
}

/* This transaction makes a job of the queue claimable, if it commits. */
void
qs_note_work(const pg_uuid_t *queue)
{
	Note	   *note = find_note(queue);

	if (waiters == NULL)
		return;
	if (note == NULL && nnotes == MAX_NOTES)
	{
		too_many_notes = true;
		return;
	}
	if (note == NULL)
	{
		note = &notes[nnotes++];
		note->queue = *queue;
		note->named = false;
		note->jobs = 0;
	}
	note->jobs++;
}

/* What was noted is work for those who wait for all queues of this name, too. */
void
qs_note_name(const pg_uuid_t *queue, const char *name)
{
	Note	   *note = find_note(queue);

	if (note == NULL || note->named)
		return;
	note->named = true;
	note->name_hash = qs_ring_name_hash(name);
}
