/*
 * fair.c
 *	  Claims that serve all tenants: see fair.h.
 *
 * Filling a ring reads all queues of the name, once after a start. One session
 * does that at a time, under a lock of the lock manager. What it reads is the
 * latest that is committed, whatever the isolation level.
 *
 * A transaction that has changed queues sees other ones than everybody else, so
 * it does without the ring.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "fair.h"
#include "fault.h"
#include "miscadmin.h"
#include "queue_note.h"
#include "ready_direct.h"
#include "statement.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* Turns in vain beyond one for each active member: others take turns, too. */
#define SPARE_TURNS 2

static QsStatement select_members = {
	.sql = "SELECT id, weight FROM @queues WHERE name || '' = $1 ORDER BY id",
	.nargs = 1, .argtypes = {TEXTOID}
};

static QsStatement select_queues = {
	.sql = "SELECT q.id FROM @queues q WHERE q.name || '' = $1 AND NOT q.paused"
	" AND (EXISTS (SELECT FROM @jobs j WHERE j.queue_id = q.id"
	" AND j.finished_at IS NULL AND NOT j.held)"
	" OR EXISTS (SELECT FROM @critical_jobs c WHERE c.queue_id = q.id"
	" AND c.finished_at IS NULL AND NOT c.held))"
	" ORDER BY q.id < $2 OR (q.id = $2 AND $3), q.id",
	.nargs = 3, .argtypes = {TEXTOID, UUIDOID, BOOLOID}
};

/* Without a ring: whose turn it is in this session, and what it has left. */
static bool turn_begun = false;
static pg_uuid_t turn_queue;
static QsTurns turn_share;
static bool turn_over;

/* Where the ring's knowledge comes from; false if it cannot be used. */
static bool
ring_source(QsCall *call, QsRingSource *source)
{
	if (!qs_ring_exists() || qs_queue_notes_any())
		return false;
	memset(source, 0, sizeof(*source));
	source->queues = qs_queue_trigger(call);
	return source->queues != 0 &&
		qs_direct_source(call, QS_JOBS, &source->jobs) &&
		qs_direct_source(call, QS_CRITICAL_JOBS, &source->critical);
}

static void
add_members(QsCall *call, const char *name, const QsRingTicket *ticket)
{
	Datum		args[1] = {CStringGetTextDatum(name)};
	bool		added = true;
	int			count;

	qs_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	count = (int) qs_read(&select_members, call, args, NULL, 0);
	PopActiveSnapshot();
	QS_FAULT_POINT("members");
	for (int i = 0; i < count && added; i++)
	{
		bool		isnull;

		added = qs_ring_add(ticket, DatumGetUUIDP(qs_result(i, 1, &isnull)),
							DatumGetInt32(qs_result(i, 2, &isnull)));
	}
	if (added)
		qs_ring_filled(ticket);
	SPI_finish();
}

/* Fills the ring, unless somebody else has done that meanwhile. */
static QsRingState
fill(QsCall *call, const char *name, const QsRingSource *source,
	 QsRingTicket *ticket)
{
	uint64		hash = qs_ring_name_hash(name);
	QsRingState state;
	LOCKTAG		tag;

	/* no catalog has objects of this class; two names may share one */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, call->cat->rate_limits, (uint32) hash,
					   (uint16) (hash >> 32));
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	state = qs_ring_open(name, source, call->now, ticket);
	if (state == QS_RING_EMPTY)
	{
		add_members(call, name, ticket);
		state = qs_ring_open(name, source, call->now, ticket);
	}
	(void) LockRelease(&tag, ExclusiveLock, false);
	return state;
}

static bool
open_ring(QsCall *call, const char *name, QsRingTicket *ticket)
{
	QsRingSource source;
	QsRingState state;

	if (!ring_source(call, &source))
		return false;
	state = qs_ring_open(name, &source, call->now, ticket);
	if (state == QS_RING_EMPTY)
		state = fill(call, name, &source, ticket);
	return state == QS_RING_FILLED;
}

/* Has the ring of a name filled, if that can be. */
void
qs_fair_know(QsCall *call, const char *name)
{
	QsRingTicket ticket;

	(void) open_ring(call, name, &ticket);
}

/*
 * Reads the queues of the name that have unfinished jobs, the one whose turn it
 * is first.
 */
static void
read_queues(QsFair *fair)
{
	Datum		args[3] = {
		CStringGetTextDatum(fair->name), UUIDPGetDatum(&turn_queue),
		BoolGetDatum(turn_over)
	};
	MemoryContext caller = CurrentMemoryContext;
	int			first = 0;

	qs_connect();
	fair->count = (int) qs_execute(&select_queues, fair->call, SPI_OK_SELECT,
								   args, NULL, 0);
	fair->queues = MemoryContextAlloc(caller,
									  (fair->count + 1) * sizeof(pg_uuid_t));
	if (!turn_begun && fair->count > 1)
		first = (int) pg_prng_uint64_range(&pg_global_prng_state, 0,
										   fair->count - 1);
	for (int i = 0; i < fair->count; i++)
	{
		bool		isnull;

		fair->queues[i] = *DatumGetUUIDP(qs_result((first + i) % fair->count,
												   1, &isnull));
	}
	SPI_finish();
}

/* Begins a claim from the queues of a name. */
void
qs_fair_begin(QsFair *fair, QsCall *call, const char *name)
{
	memset(fair, 0, sizeof(*fair));
	fair->call = call;
	fair->name = name;
	fair->left = -1;
	fair->in_ring = open_ring(call, name, &fair->ticket);
	if (!fair->in_ring)
		read_queues(fair);
}

/*
 * Whether the member that has the turn may be claimed from. What the session
 * knows may be old, so whoever is parked for his definition has it read anew.
 */
static bool
is_served(QsFair *fair, QsQueue *queue)
{
	if (qs_queue_by_id(fair->call, &fair->turn.queue, queue) &&
		strcmp(queue->name, fair->name) == 0 && !queue->paused)
		return true;
	QS_FAULT_POINT("served");
	if (!qs_queue_read(fair->call, &fair->turn.queue, queue) ||
		strcmp(queue->name, fair->name) != 0)
		qs_ring_remove(&fair->ticket, &fair->turn);
	else if (queue->paused)
		qs_ring_park(&fair->ticket, &fair->turn, PG_INT64_MAX, true);
	else
		return true;
	return false;
}

static int
next_in_ring(QsFair *fair, int wanted, QsQueue *queue)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (fair->left == 0)
		{
			if (fair->recalled || qs_ring_recall(&fair->ticket) == 0)
				return 0;
			fair->recalled = true;
			fair->left = -1;
		}
		if (!qs_ring_turn(&fair->ticket, fair->call->now, wanted, &fair->turn))
		{
			fair->left = 0;
			continue;
		}
		if (fair->left < 0)
			fair->left = fair->turn.active + SPARE_TURNS;
		fair->left--;
		if (is_served(fair, queue))
			return fair->turn.jobs;
	}
}

static int
next_by_itself(QsFair *fair, int wanted, QsQueue *queue)
{
	for (;;)
	{
		const pg_uuid_t *id;

		if (fair->next == fair->count)
		{
			fair->count = fair->kept;
			fair->next = fair->kept = 0;
		}
		if (fair->count == 0)
			return 0;
		id = &fair->queues[fair->next];
		if (!qs_queue_by_id(fair->call, id, queue))
		{
			fair->next++;
			continue;
		}
		if (!turn_begun || memcmp(id, &turn_queue, UUID_LEN) != 0)
			qs_turns_begin(&turn_share, queue->weight);
		else
			qs_turns_change(&turn_share, queue->weight);
		turn_begun = true;
		turn_queue = *id;
		return qs_turns_take(&turn_share, wanted, fair->count == 1, &turn_over);
	}
}

/*
 * The queue that is next to be claimed from, and how many jobs at most, of
 * those that are wanted; 0 if there is none. The caller says what became of it
 * before he asks for the next.
 */
int
qs_fair_next(QsFair *fair, int wanted, QsQueue *queue)
{
	fair->jobs = fair->in_ring ? next_in_ring(fair, wanted, queue) :
		next_by_itself(fair, wanted, queue);
	return fair->jobs;
}

/* So many jobs were claimed; if those are not all that might be, this is why. */
void
qs_fair_claimed(QsFair *fair, int jobs, const QsOutlook *outlook)
{
	bool		had_all = jobs == fair->jobs;

	if (!fair->in_ring)
	{
		/* a queue that had nothing left is left out of the next round */
		if (had_all && turn_over)
			fair->queues[fair->kept++] = fair->queues[fair->next];
		turn_over = turn_over || !had_all;
		if (turn_over)
			fair->next++;
		return;
	}
	if (had_all)
		fair->left = -1;
	else if (outlook->certain)
		qs_ring_park(&fair->ticket, &fair->turn, outlook->due, true);
	else
		qs_ring_park(&fair->ticket, &fair->turn,
					 Min(outlook->due, fair->call->now + QS_RING_AGAIN), false);
}
