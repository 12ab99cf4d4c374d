/*
 * resume.c
 *	  Where tasks go on: see resume.h.
 *
 * What is known of queues is kept in an array, each in one of a few places from
 * the hash of its key on. Who finds all of them taken takes the one that
 * was there for longest. One lock guards all that is shared.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "resume.h"
#include "shmem.h"
#include "stats_table.h"
#include "utils/memutils.h"

/* How long what was noted of a queue counts. */
#define BEGIN_ANEW USECS_PER_HOUR
/* Places where a queue can be. */
#define WAYS 8
/* Databases whose walks over queues are remembered. */
#define DATABASES 64

typedef struct Key
{
	Oid			database;		/* invalid: the place is free */
	pg_uuid_t	queue;
} Key;

typedef struct Queue
{
	Key			key;
	TimestampTz begun;
	QsResume	walks[QS_WALK_KEYS + 1];
} Queue;

/* the last queues that were done with in a database, none if all are 0 */
typedef struct Database
{
	Oid			id;
	pg_uuid_t	after[QS_NWALKS];
} Database;

typedef struct Memory
{
	uint32		size;			/* of queues */
	int			hand;			/* the next database to give way */
	Database	databases[DATABASES];
	Queue		queues[FLEXIBLE_ARRAY_MEMBER];
} Memory;

static Memory *memory = NULL;
static LWLock *lock = NULL;		/* NULL: the memory is the session's */

/* Twice as many as need be, so that they rarely take each other's place. */
static uint32
queues(void)
{
	return 2 * qs_stats_queues_max() + WAYS;
}

static Size
size(void)
{
	return offsetof(Memory, queues) + queues() * sizeof(Queue);
}

static void
attach(void *shared, LWLockPadded *locks, bool found)
{
	memory = shared;
	lock = &locks->lock;
	if (found)
		return;
	memset(memory, 0, size());
	memory->size = queues();
}

static const QsShmem part = {
	.name = "queue_service_resume", .nlocks = 1,
	.size = size, .attach = attach
};

void
qs_resume_init(void)
{
	(void) qs_shmem_use(&part);
}

static void
acquire(LWLockMode mode)
{
	if (lock != NULL)
		LWLockAcquire(lock, mode);
	else if (memory == NULL)
	{
		memory = MemoryContextAllocExtended(TopMemoryContext, size(),
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		memory->size = queues();
	}
}

static void
release(void)
{
	if (lock != NULL)
		LWLockRelease(lock);
}

/* The first of the places where a queue can be. */
static Queue *
places_of(const pg_uuid_t *queue, Key *key)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->queue = *queue;
	return &memory->queues[hash_bytes((const unsigned char *) key, sizeof(*key)) %
						   (memory->size - WAYS + 1)];
}

/* A clock that was set back is another one. */
static bool
counts(const Queue *queue, TimestampTz now)
{
	return now >= queue->begun && now - queue->begun < BEGIN_ANEW;
}

static Queue *
find(const pg_uuid_t *queue, TimestampTz now)
{
	Key			key;
	Queue	   *places = places_of(queue, &key);

	for (int i = 0; i < WAYS; i++)
		if (memcmp(&places[i].key, &key, sizeof(key)) == 0)
			return counts(&places[i], now) ? &places[i] : NULL;
	return NULL;
}

/* The place of a queue that is not found. */
static Queue *
begin(const pg_uuid_t *queue, TimestampTz now)
{
	Key			key;
	Queue	   *places = places_of(queue, &key);
	Queue	   *place = &places[0];

	for (int i = 0; i < WAYS; i++)
	{
		if (memcmp(&places[i].key, &key, sizeof(key)) == 0)
		{
			place = &places[i];
			break;
		}
		if (places[i].begun < place->begun)
			place = &places[i];
	}
	place->key = key;
	place->begun = now;
	for (int i = 0; i < (int) lengthof(place->walks); i++)
		place->walks[i].from = place->walks[i].seen = DT_NOBEGIN;
	return place;
}

/* How far a walk came with a queue; from the beginning of time on if not at all. */
QsResume
qs_resume(QsWalk walk, const pg_uuid_t *queue, TimestampTz now)
{
	QsResume	resume = {DT_NOBEGIN, DT_NOBEGIN};
	const Queue *place;

	acquire(LW_SHARED);
	place = find(queue, now);
	if (place != NULL)
		resume = place->walks[walk];
	release();
	return resume;
}

void
qs_resume_note(QsWalk walk, const pg_uuid_t *queue, const QsResume *resume,
			   TimestampTz now)
{
	Queue	   *place;

	acquire(LW_EXCLUSIVE);
	place = find(queue, now);
	if (place == NULL)
		place = begin(queue, now);
	place->walks[walk] = *resume;
	release();
}

static Database *
find_database(void)
{
	for (int i = 0; i < DATABASES; i++)
		if (memory->databases[i].id == MyDatabaseId)
			return &memory->databases[i];
	return NULL;
}

/* The last queue that a walk was done with; zeros to begin with the first one. */
pg_uuid_t
qs_resume_after(QsWalk walk)
{
	pg_uuid_t	queue = {{0}};
	const Database *database;

	acquire(LW_SHARED);
	database = find_database();
	if (database != NULL)
		queue = database->after[walk];
	release();
	return queue;
}

void
qs_resume_note_after(QsWalk walk, const pg_uuid_t *queue)
{
	Database   *database;

	acquire(LW_EXCLUSIVE);
	database = find_database();
	if (database == NULL)
	{
		database = &memory->databases[memory->hand];
		memory->hand = (memory->hand + 1) % DATABASES;
		memset(database, 0, sizeof(*database));
		database->id = MyDatabaseId;
	}
	database->after[walk] = *queue;
	release();
}
