/*
 * waiters.c
 *	  Sessions that wait for work: see waiters.h.
 *
 * A session waits for one queue, or, if it serves all tenants, for all queues
 * of a name. Who makes a job claimable notes that, and wakes one waiter for
 * each job when his transaction has committed. Nothing is lost in between:
 *	 A waiter is in the list before it looks for work.
 *	 A transaction looks at the list after its commit is visible.
 * A wake-up for what another session then claims does no harm. What is
 * committed by COMMIT PREPARED wakes nobody; waiters look again by themselves.
 *
 * The lock of the list guards all of it, but the number of waiters, which is
 * read without it so that a commit costs nothing while nobody waits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "compat.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "waiters.h"

#define MAX_NOTES 64			/* queues that one transaction wakes apart */

typedef struct WaitKey
{
	Oid			database;
	bool		by_name;
	pg_uuid_t	queue;			/* or a hash of the name */
} WaitKey;

typedef struct Waiter
{
	dlist_node	node;
	bool		listed;
	WaitKey		key;
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
	WaitKey		key;
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

static const QsShmem part = {"queue_service_waiters", 1, waiters_size, attach};

static void
make_key(WaitKey *key, const pg_uuid_t *queue, const char *name)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	if (queue != NULL)
		key->queue = *queue;
	else
	{
		uint64		hash = hash_bytes_extended((const unsigned char *) name,
											   strlen(name), 0);

		key->by_name = true;
		memcpy(&key->queue, &hash, sizeof(hash));
	}
}

/* Removes a waiter from the list; the lock is held. */
static void
unlist(Waiter *waiter)
{
	dlist_delete(&waiter->node);
	waiter->listed = false;
	pg_atomic_fetch_sub_u32(&waiters->count, 1);
}

/* Wakes up to jobs waiters for the key, or all of the database if it is NULL. */
static void
wake(const WaitKey *key, int jobs)
{
	dlist_mutable_iter iter;

	LWLockAcquire(waiters->lock, LW_EXCLUSIVE);
	dlist_foreach_modify(iter, &waiters->list)
	{
		Waiter	   *waiter = dlist_container(Waiter, node, iter.cur);

		if (key == NULL ? waiter->key.database != MyDatabaseId :
			memcmp(&waiter->key, key, sizeof(*key)) != 0)
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
				wake(&notes[i].key, notes[i].jobs);
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
	make_key(&waiter->key, queue, name);
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

/* Wakes one waiter for the queue, for what is claimable at once. */
void
qs_wake(const pg_uuid_t *queue)
{
	WaitKey		key;

	/* pairs with the atomic increment in qs_waiter_begin() */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&waiters->count) == 0)
		return;
	make_key(&key, queue, NULL);
	wake(&key, 1);
}

static void
note(const WaitKey *key)
{
	for (int i = 0; i < nnotes; i++)
		if (memcmp(&notes[i].key, key, sizeof(*key)) == 0)
		{
			notes[i].jobs++;
			return;
		}
	if (nnotes == MAX_NOTES)
	{
		too_many_notes = true;
		return;
	}
	notes[nnotes].key = *key;
	notes[nnotes++].jobs = 1;
}

/* This transaction makes a job of the queue claimable, if it commits. */
void
qs_note_work(const pg_uuid_t *queue)
{
	WaitKey		key;

	if (waiters == NULL)
		return;
	make_key(&key, queue, NULL);
	note(&key);
}

/* The same for those who wait for all queues of a name. */
void
qs_note_work_name(const char *name)
{
	WaitKey		key;

	if (waiters == NULL)
		return;
	make_key(&key, NULL, name);
	note(&key);
}
