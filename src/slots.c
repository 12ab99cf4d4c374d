/*
 * slots.c
 *	  The slots of limited queues: see slots.h for the rules.
 *
 * What a transaction did to slots, or will when it commits, is kept in a list.
 * Everything is undone from the end, or done from the beginning.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "fault.h"
#include "leases.h"
#include "level_list.h"
#include "miscadmin.h"
#include "slots.h"
#include "storage/lock.h"
#include "utils/timestamp.h"
#include "waiters.h"

/* A change that nobody else need know of is noted unless there are so many. */
#define MANY_CHANGES 1024

typedef enum ChangeKind
{
	CHANGE_BEGUN,				/* a lease: its slot goes if we roll back */
	CHANGE_ENDED,				/* a lease: its slot goes if we commit */
	CHANGE_PASSED,				/* a slot, from one lease to another */
	CHANGE_NONE					/* any more */
} ChangeKind;

typedef struct Change
{
	int			level;
	ChangeKind	kind;
	bool		passed;			/* ended, and the slot went to another */
	pg_uuid_t	queue;
	QsHolder	lease;			/* begun or ended */
	QsPassed	place;			/* passed */
} Change;

static void undo(void *entry);

static QsLevelList changes = {.entry_size = sizeof(Change), .undo = undo};

/* the group that this session is filling */
static bool filling = false;
static QsHoldersKey filling_key;

static void
make_key(QsHoldersKey *key, const pg_uuid_t *queue)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->kind = QS_SLOTS;
	key->id = *queue;
}

static Change *
change_at(int n)
{
	return qs_level_list_at(&changes, n);
}

/* Notes a lease that begins or ends; there is room. */
static void
add_lease(ChangeKind kind, const pg_uuid_t *queue, const QsHolder *lease)
{
	Change		change = {.kind = kind, .queue = *queue, .lease = *lease};

	qs_level_list_add(&changes, &change);
}

static void
release(const QsHoldersKey *key, int64 token)
{
	if (qs_holders_release(key, token))
		qs_wake(&key->id);
}

/* The slot of this ended lease is not another's any more. */
static void
find_ended_again(int64 token)
{
	for (int i = changes.count - 1; i >= 0; i--)
	{
		Change	   *change = change_at(i);

		if (change->kind == CHANGE_ENDED && change->lease.token == token)
		{
			change->passed = false;
			return;
		}
	}
}

static void
undo(void *entry)
{
	const Change *change = entry;
	QsHoldersKey key;

	if (!qs_holders_any_slots())
		return;
	make_key(&key, &change->queue);
	if (change->kind == CHANGE_BEGUN)
		release(&key, change->lease.token);
	else if (change->kind == CHANGE_PASSED)
	{
		qs_holders_take_back(&key, &change->place);
		find_ended_again(change->place.from.token);
	}
}

static void
commit(void)
{
	for (int i = 0; i < changes.count && qs_holders_any_slots(); i++)
	{
		const Change *change = change_at(i);
		QsHoldersKey key;

		make_key(&key, &change->queue);
		if (change->kind == CHANGE_ENDED && !change->passed)
			release(&key, change->lease.token);
		else if (change->kind == CHANGE_PASSED)
			qs_holders_settle(&key, &change->place);
	}
}

/* Either lease may be what remains, so both have a slot. */
static void
prepare(void)
{
	for (int i = 0; i < changes.count; i++)
	{
		const Change *change = change_at(i);
		QsHoldersKey key;

		if (change->kind != CHANGE_PASSED)
			continue;
		make_key(&key, &change->queue);
		qs_holders_add(&key, &change->place.from);
	}
}

static void
stop_filling(void)
{
	if (filling)
		(void) qs_holders_fill_end(&filling_key, false);
	filling = false;
}

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			commit();
			qs_level_list_clear(&changes);
			break;
		case XACT_EVENT_PREPARE:
			prepare();
			qs_level_list_clear(&changes);
			break;
		case XACT_EVENT_ABORT:
			stop_filling();
			qs_level_list_undo(&changes);
			qs_level_list_clear(&changes);
			break;
		default:
			break;
	}
}

static void
at_sub_end(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
		   SubTransactionId parent pg_attribute_unused(),
		   void *arg pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		stop_filling();
}

/* Asks for shared memory while the server starts. */
void
qs_slots_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	RegisterXactCallback(at_end, NULL);
	qs_level_list_init(&changes);
	RegisterSubXactCallback(at_sub_end, NULL);
}

/*
 * The lock under which slots are filled or counted. Locks of objects of a class
 * that is no catalog are nobody else's. Two queues may share one.
 */
static void
lock_tag(const QsSlots *slots, LOCKTAG *tag)
{
	uint64		hash = hash_bytes_extended(slots->key.id.data, UUID_LEN, 0);

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, slots->call->cat->queues,
					   (uint32) hash, (uint16) (hash >> 32));
}

static void
lock_queue(QsSlots *slots)
{
	LOCKTAG		tag;

	lock_tag(slots, &tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	slots->call->now = GetCurrentTimestamp();
}

static void
unlock_queue(QsSlots *slots)
{
	LOCKTAG		tag;

	lock_tag(slots, &tag);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

typedef struct Fill
{
	QsSlots    *slots;
	bool		complete;
} Fill;

static void
fill_one(const QsHolder *lease, void *arg)
{
	Fill	   *fill = arg;

	if (fill->complete)
		fill->complete = qs_holders_fill_add(&fill->slots->key, lease);
}

/* Whether this lease of a queue has ended, and still has its slot. */
static bool
has_ended_in(const Change *change, const pg_uuid_t *queue)
{
	return change->kind == CHANGE_ENDED && !change->passed &&
		memcmp(&change->queue, queue, UUID_LEN) == 0;
}

/*
 * Fills the group, under the lock. A lease that we ended ourselves is not seen
 * any more, but has its slot until we commit.
 */
static bool
fill_group(QsSlots *slots)
{
	Fill		fill = {slots, true};
	bool		filled;

	if (!qs_holders_fill_begin(&slots->key, slots->call->now))
		return false;
	filling_key = slots->key;
	filling = true;
	QS_FAULT_POINT("fill");
	qs_leases_walk(slots->call, &slots->key.id, fill_one, &fill);
	for (int i = 0; i < changes.count; i++)
	{
		const Change *change = change_at(i);

		if (has_ended_in(change, &slots->key.id))
			fill_one(&change->lease, &fill);
	}
	filling = false;
	filled = qs_holders_fill_end(&slots->key, fill.complete);
	slots->call->now = GetCurrentTimestamp();
	return filled;
}

typedef struct Count
{
	QsSlots    *slots;
	QsHoldersState *state;
} Count;

static void
count_one(const QsHolder *lease, void *arg)
{
	Count	   *count = arg;
	QsHoldersState *state = count->state;

	/* those of the group are counted together */
	if (qs_holders_exist() && qs_holders_has(&count->slots->key, lease->token))
		return;
	if (lease->critical)
		state->critical++;
	else
		state->normal++;
	state->free_at = Min(state->free_at, lease->until);
}

/*
 * Counts the leases. The group, which need not have all, has also those whose
 * rows are about to be written.
 */
static void
count_leases(QsSlots *slots, QsHoldersState *state)
{
	/* cppcheck-suppress ctuuninitvar; where the state is, not what */
	Count		count = {slots, state};
	QsHoldersState group = {0, 0, PG_INT64_MAX};

	memset(state, 0, sizeof(*state));
	state->free_at = PG_INT64_MAX;
	qs_leases_walk(slots->call, &slots->key.id, count_one, &count);
	if (qs_holders_exist())
		(void) qs_holders_look(&slots->key, &slots->limit, true,
							   slots->call->now, &group);
	state->normal += group.normal;
	state->critical += group.critical;
	state->free_at = Min(state->free_at, group.free_at);
}

static bool
fits(const QsHoldersState *state, const QsHoldersLimit *limit, bool critical)
{
	return state->normal + state->critical < limit->all &&
		(critical || state->normal < limit->normal);
}

/* Does without the group, under the lock, which stays. */
static void
do_without(QsSlots *slots)
{
	if (qs_holders_exist())
		qs_holders_void(&slots->key);
	count_leases(slots, &slots->state);
	slots->call->now = GetCurrentTimestamp();
	slots->counted = true;
	slots->quiet = true;
}

static bool
is_filled(QsSlots *slots)
{
	QsHoldersState state;

	return qs_holders_look(&slots->key, &slots->limit, true, slots->call->now,
						   &state) != QS_NOT_FILLED;
}

static void
init(QsSlots *slots, QsCall *call, const QsQueue *queue)
{
	slots->call = call;
	slots->limited = queue->max_concurrency > 0;
	slots->counted = false;
	slots->quiet = false;
	make_key(&slots->key, &queue->id);
	slots->limit.all = queue->max_concurrency;
	slots->limit.normal = queue->max_concurrency - queue->critical_reserve;
}

/*
 * Makes ready to take or extend slots of a queue. May wait, and sets the call's
 * clock anew then.
 */
void
qs_slots_begin(QsSlots *slots, QsCall *call, const QsQueue *queue)
{
	init(slots, call, queue);
	if (!slots->limited || (qs_holders_exist() && is_filled(slots)))
		return;
	lock_queue(slots);
	if (qs_holders_exist() && (is_filled(slots) || fill_group(slots)))
		unlock_queue(slots);
	else
		do_without(slots);
}

/* Passes on a slot of a lease that this transaction has ended. */
static bool
take_own(QsSlots *slots, const QsHolder *lease)
{
	Change		passed = {.kind = CHANGE_PASSED, .queue = slots->key.id};

	qs_level_list_reserve(&changes);
	for (int i = 0; i < changes.count; i++)
	{
		Change	   *change = change_at(i);

		if (!has_ended_in(change, &slots->key.id) ||
			!qs_holders_pass(&slots->key, &slots->limit, change->lease.token,
							 lease, &passed.place))
			continue;
		change->passed = true;
		slots->change = changes.count;
		qs_level_list_add(&changes, &passed);
		return true;
	}
	return false;
}

/*
 * Takes a slot for a lease that is about to be written. False if there is none,
 * also if shared memory has no room for it and we may not wait now.
 */
bool
qs_slots_take(QsSlots *slots, const QsHolder *lease, bool may_wait)
{
	int64		free_at;

	if (!slots->limited)
		return true;
	if (slots->counted)
	{
		if (!fits(&slots->state, &slots->limit, lease->critical))
			return false;
		if (lease->critical)
			slots->state.critical++;
		else
			slots->state.normal++;
		return true;
	}

	qs_level_list_reserve(&changes);
	switch (qs_holders_take(&slots->key, &slots->limit, lease,
							slots->call->now, &free_at))
	{
		case QS_GRANTED:
			slots->change = changes.count;
			add_lease(CHANGE_BEGUN, &slots->key.id, lease);
			return true;
		case QS_FULL:
			return take_own(slots, lease);
		default:
			slots->quiet = true;
			if (!may_wait)
				return false;
			lock_queue(slots);
			do_without(slots);
			return qs_slots_take(slots, lease, false);
	}
}

/*
 * Gives back what was taken last, and not used. Somebody else need only hear of
 * that if there was none left meanwhile.
 */
void
qs_slots_give_back(QsSlots *slots, const QsHolder *lease)
{
	if (!slots->limited)
		return;
	if (!slots->counted)
	{
		Change	   *change = change_at(slots->change);
		QsHoldersState state;

		if (change->kind == CHANGE_PASSED ||
			qs_holders_look(&slots->key, &slots->limit, false,
							slots->call->now, &state) == QS_FULL)
			undo(change);
		else
			(void) qs_holders_release(&slots->key, lease->token);
		change->kind = CHANGE_NONE;
	}
	else if (lease->critical)
		slots->state.critical--;
	else
		slots->state.normal--;
}

/*
 * Whether a lease may be prolonged: its slot is, or is taken anew, or the lease
 * has none and need not any more. leased_until is as the locked row says.
 */
bool
qs_slots_extend(QsSlots *slots, const QsHolder *lease, TimestampTz leased_until)
{
	if (!slots->limited)
		return true;
	if (slots->counted)
		return leased_until > slots->call->now ||
			fits(&slots->state, &slots->limit, lease->critical);
	switch (qs_holders_extend(&slots->key, &slots->limit, lease,
							  slots->call->now))
	{
		case QS_GRANTED:
			return true;
		case QS_FULL:
			return false;
		default:
			lock_queue(slots);
			do_without(slots);
			return qs_slots_extend(slots, lease, leased_until);
	}
}

/*
 * Whether a claim would get a slot. If not, *next_due becomes when one expires,
 * unless it is earlier already.
 */
bool
qs_slots_look(QsCall *call, const QsQueue *queue, bool critical,
			  TimestampTz *next_due)
{
	QsSlots		slots;
	QsHoldersState state;
	bool		free;

	init(&slots, call, queue);
	if (!slots.limited)
		return true;
	if (qs_holders_exist() && is_filled(&slots))
		free = qs_holders_look(&slots.key, &slots.limit, critical, call->now,
							   &state) != QS_FULL;
	else
	{
		count_leases(&slots, &state);
		free = fits(&state, &slots.limit, critical);
	}
	if (!free)
		*next_due = Min(*next_due, state.free_at);
	return free;
}

static void
tell(const pg_uuid_t *queue, const QsHolder *lease)
{
	QsHoldersKey key;

	QS_FAULT_POINT("tell");
	if (!qs_holders_any_slots())
		return;
	make_key(&key, queue);
	qs_holders_add(&key, lease);
}

/* Whether the row that was found is leased. */
static bool
old_lease(QsTable *table, QsHolder *lease)
{
	bool		isnull;

	lease->critical = table->kind == QS_CRITICAL_JOBS;
	if (!qs_text_is(slot_getattr(table->old, QS_JOB_STATUS, &isnull), "processing"))
		return false;
	lease->until = DatumGetTimestampTz(slot_getattr(table->old, QS_JOB_LEASED_UNTIL,
													&isnull));
	if (isnull)
		return false;
	lease->token = DatumGetInt64(slot_getattr(table->old, QS_JOB_LEASE_TOKEN,
											  &isnull));
	return !isnull;
}

/* Whether the row that was written is. */
static bool
new_lease(QsTable *table, QsHolder *lease)
{
	lease->critical = table->kind == QS_CRITICAL_JOBS;
	if (!qs_text_is(qs_get(table, QS_JOB_STATUS), "processing") ||
		qs_is_null(table, QS_JOB_LEASE_TOKEN) ||
		qs_is_null(table, QS_JOB_LEASED_UNTIL))
		return false;
	lease->token = DatumGetInt64(qs_get(table, QS_JOB_LEASE_TOKEN));
	lease->until = DatumGetTimestampTz(qs_get(table, QS_JOB_LEASED_UNTIL));
	return true;
}

/*
 * Whether a slot was taken for this lease, or passed on to it: that was noted
 * last, but for leases that ended on the way.
 */
static bool
has_slot(const QsHolder *lease)
{
	const Change *change;
	int			i = changes.count - 1;

	while (i >= 0 && change_at(i)->kind == CHANGE_ENDED)
		i--;
	if (i < 0)
		return false;
	change = change_at(i);
	return (change->kind == CHANGE_BEGUN && change->lease.token == lease->token) ||
		(change->kind == CHANGE_PASSED && change->place.to.token == lease->token);
}

/*
 * Notes a lease that ends or begins, whether the queue is limited or not: it
 * may be by the time of the commit. If there are many in a transaction, only
 * those that have a slot by now.
 */
static void
note_change(ChangeKind kind, const pg_uuid_t *queue, const QsHolder *lease)
{
	QsHoldersKey key;

	make_key(&key, queue);
	if (changes.count >= MANY_CHANGES && !qs_holders_has(&key, lease->token))
		return;
	qs_level_list_reserve(&changes);
	add_lease(kind, queue, lease);
}

/* A row was written: what it was before, if leased, and what it is now. */
static void
note_write(const pg_uuid_t *queue, const QsHolder *before, const QsHolder *after)
{
	bool		same = before && after && before->token == after->token;

	if (after && !same && !has_slot(after))
		note_change(CHANGE_BEGUN, queue, after);
	if (before && !same)
		note_change(CHANGE_ENDED, queue, before);
	if (after)
		tell(queue, after);
}

/* After an update of table.c. */
void
qs_slots_after_update(QsTable *table)
{
	QsHolder	before;
	QsHolder	after;

	if (!qs_holders_exist() || table->kind == QS_DEAD_LETTER_JOBS)
		return;
	note_write(DatumGetUUIDP(qs_get(table, QS_JOB_QUEUE_ID)),
			   old_lease(table, &before) ? &before : NULL,
			   new_lease(table, &after) ? &after : NULL);
}

/* After a delete of table.c. */
void
qs_slots_after_delete(QsTable *table)
{
	QsHolder	before;

	if (qs_holders_exist() && table->kind != QS_DEAD_LETTER_JOBS &&
		old_lease(table, &before))
		note_write(DatumGetUUIDP(qs_get(table, QS_JOB_QUEUE_ID)), &before, NULL);
}

/* Whether a row is leased. */
static bool
is_leased(QsTableKind kind, TupleDesc desc, HeapTuple row, QsHolder *lease)
{
	bool		isnull[2];

	lease->critical = kind == QS_CRITICAL_JOBS;
	if (!qs_text_is(heap_getattr(row, QS_JOB_STATUS, desc, &isnull[0]), "processing"))
		return false;
	lease->token = DatumGetInt64(heap_getattr(row, QS_JOB_LEASE_TOKEN, desc,
											  &isnull[0]));
	lease->until = DatumGetTimestampTz(heap_getattr(row, QS_JOB_LEASED_UNTIL, desc,
													&isnull[1]));
	return !isnull[0] && !isnull[1];
}

/* After SQL inserted a row (old is NULL), or updated it. */
void
qs_slots_after_sql(QsTableKind kind, TupleDesc desc, HeapTuple old, HeapTuple new)
{
	QsHolder	before;
	QsHolder	after;
	bool		isnull;

	note_write(DatumGetUUIDP(heap_getattr(new, QS_JOB_QUEUE_ID, desc, &isnull)),
			   old && is_leased(kind, desc, old, &before) ? &before : NULL,
			   is_leased(kind, desc, new, &after) ? &after : NULL);
}
