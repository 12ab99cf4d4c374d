/*
 * ready_direct.c
 *	  Finds claimable jobs through index and heap: see ready_direct.h.
 *
 * What counts is the latest committed state, not a snapshot: an entry whose
 * row was deleted or moved away by a committed transaction is gone for every
 * claimer from now on, however old the snapshots are that still see the row.
 * So each index entry is looked at once, its whole HOT chain is classified as
 * VACUUM would (ready_entry.h), and runs of entries that need not be looked at
 * again go into the range cache (range_cache.h), to be jumped over by the next
 * claims.
 *
 * The scan uses SnapshotAny, which makes nbtree keep its pin on the leaf page
 * that is being read; so VACUUM cannot give a line pointer to another row
 * while we follow the entry to it.
 *
 * Rules for the ranges:
 *	 No range has the key of an entry that is not as the range says. Entries of
 *	 equal keys stand in the order of their places, so the newer version may
 *	 come first. Therefore a range ends before the key of the entry that ended
 *	 it, whatever equal ones came before, and begins after it.
 *	 A range ends at a key that an entry has, or right behind the last one.
 *
 * With ageing the scan does not follow the index from one level to the next, but
 * merges the levels (ageing.h). It takes up a level anew with a descent, and a
 * run with it, so the rules for the ranges are the same.
 *
 * At REPEATABLE READ and above a job must also be visible to the snapshot.
 * The scan takes no predicate locks; the update of the job does.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/xact.h"
#include "announce.h"
#include "catalog/pg_am.h"
#include "compat.h"
#include "fault.h"
#include "miscadmin.h"
#include "ready_direct.h"
#include "ready_entry.h"
#include "storage/bufmgr.h"
#include "table_info.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/*
 * A shorter run is not worth a range. A claim looks at (n + 3) / 2 entries in
 * the mean, and every n-th one publishes, which takes the partition's lock
 * exclusively: 3.5 entries and one in four.
 */
#define MIN_ENTRIES 4
#define MIN_STREAK 32			/* dead entries that get a range of their own */
#define PUBLISH_EVERY 256		/* entries */
#define MAX_LOOKS 3				/* at a row that changes while it is looked at */
#define MAX_RESTARTS 3			/* for rows that moved to where the scan was */
#define MAX_LEVELS 64			/* that are looked at for statistics */

/* More entries than these are not stepped over, but cost another descent. */
#define MAX_STEPS 24

/* Positions the scan at the first entry whose key is not less than from. */
static void
descend(QsDirectScan *direct, const QsRangeKey *from)
{
	static const struct
	{
		AttrNumber	column;
		StrategyNumber strategy;	/* before nbtree turns it for DESC */
		RegProcedure compare;
	}			members[3] = {
		{2, BTLessEqualStrategyNumber, F_BTINT2CMP},
		{3, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_CMP},
		{4, BTGreaterEqualStrategyNumber, F_UUID_CMP}
	};

	direct->from = *from;
	for (int i = 0; i < 3; i++)
		ScanKeyEntryInitialize(&direct->members[i],
							   SK_ROW_MEMBER | (i == 2 ? SK_ROW_END : 0),
							   members[i].column, members[i].strategy,
							   InvalidOid, InvalidOid, members[i].compare,
							   i == 0 ? Int16GetDatum(from->priority) :
							   i == 1 ? TimestampTzGetDatum(from->run_at) :
							   PointerGetDatum(direct->from.id));
	memset(&direct->keys[1], 0, sizeof(ScanKeyData));
	direct->keys[1].sk_flags = SK_ROW_HEADER;
	direct->keys[1].sk_attno = members[0].column;
	direct->keys[1].sk_strategy = members[0].strategy;
	direct->keys[1].sk_argument = PointerGetDatum(direct->members);
	index_rescan(direct->scan, direct->keys, 2, NULL, 0);
}

static void
start_run(QsDirectScan *direct, const QsRangeKey *lo)
{
	QsRun	   *run = &direct->run;

	run->range.lo = *lo;
	run->range.kind = QS_RANGE_DEAD;
	run->range.entries = 0;
	run->range.until = 0;
	run->range.xid = 0;
	run->after_range = false;
	run->any_live = false;
	run->streak = 0;
}

static void
publish(QsDirectScan *direct)
{
	if (direct->nfound > 0)
	{
		QS_FAULT_POINT("publish");
		qs_cache_publish(&direct->ticket, direct->found, direct->nfound);
	}
	direct->nfound = 0;
	direct->published_at = direct->visited;
}

/*
 * Ends the run before hi, and keeps it if it is worth that: if it has some
 * entries, or closes the gap between two known ranges, in which may be no entry
 * any more. With ageing every claim comes by the first entries of all levels,
 * so that any is worth it.
 */
static void
end_run(QsDirectScan *direct, const QsRangeKey *hi, bool before_range)
{
	QsRange    *range = &direct->run.range;

	range->hi = *hi;
	if (qs_key_compare(&range->lo, hi) >= 0 || direct->nfound == QS_MAX_FOUND)
		return;
	if (range->entries >= (direct->levels.ageing > 0 ? 1 : MIN_ENTRIES) ||
		(before_range && direct->run.after_range))
		direct->found[direct->nfound++] = *range;
}

/* Ends the run right behind its last entry. */
static void
end_run_behind(QsDirectScan *direct)
{
	QsRangeKey	end = direct->run.last;

	if (direct->run.range.entries > 0)
	{
		(void) qs_key_next(&end);
		end_run(direct, &end, false);
	}
	start_run(direct, &end);
}

/* Where a run may start that has the key, or else right behind it. */
static void
restart_run_at(QsDirectScan *direct, const QsRangeKey *key)
{
	QsRangeKey	lo = *key;

	if (direct->run.any_live &&
		qs_key_compare(&direct->run.last_live, key) == 0)
		(void) qs_key_next(&lo);
	start_run(direct, &lo);
}

static bool
ends_close(TimestampTz now, TimestampTz a, TimestampTz b)
{
	TimestampTz sooner = Min(a, b) - now;
	TimestampTz later = Max(a, b) - now;

	return later - sooner <= 2 * USECS_PER_SEC || later / 2 <= sooner;
}

/* Whether an entry that is leased or busy may join the run as it is. */
static bool
may_join(QsDirectScan *direct, const QsEntry *entry)
{
	const QsRange *range = &direct->run.range;

	if (range->kind == QS_RANGE_DEAD)
		return range->entries < MIN_STREAK;
	if (entry->state == ENTRY_BUSY)
		return range->kind == QS_RANGE_GUARDED &&
			(TransactionId) range->xid == entry->xid;
	/* leases of many lengths would else make runs too short for ranges */
	return range->kind == QS_RANGE_TIMED &&
		(range->entries < MIN_STREAK ||
		 (range->entries < QS_TIMED_ENTRIES &&
		  ends_close(direct->ticket.now, range->until, entry->goes_on)));
}

static void
join(QsRange *range, const QsEntry *entry)
{
	if (entry->state == ENTRY_LEASED)
	{
		range->until = range->kind == QS_RANGE_TIMED ?
			Min(range->until, entry->goes_on) : entry->goes_on;
		range->kind = QS_RANGE_TIMED;
	}
	else if (entry->state == ENTRY_BUSY)
	{
		range->kind = QS_RANGE_GUARDED;
		range->xid = entry->xid;
	}
	range->entries++;
}

/*
 * Adds a dead entry. Many in a row are dead for ever, and so get a range of
 * their own, instead of one that is only for a while.
 */
static void
join_dead(QsDirectScan *direct, const QsRangeKey *key)
{
	QsRun	   *run = &direct->run;
	int			streak;

	run->range.entries++;
	if (run->range.kind == QS_RANGE_DEAD ||
		qs_key_compare(&run->last_live, key) == 0)
		return;
	if (run->streak++ == 0)
		run->streak_key = *key;
	if (run->streak < MIN_STREAK)
		return;
	streak = run->streak;
	run->range.entries -= streak;
	end_run(direct, &run->streak_key, false);
	start_run(direct, &run->streak_key);
	run->range.entries = streak;
}

/* Adds what was seen of an entry to the run, or ends it there. */
static void
note_entry(QsDirectScan *direct, const QsEntry *entry)
{
	QsRun	   *run = &direct->run;
	QsRangeKey	after = entry->key;

	if (!direct->cached)
		return;
	switch (entry->state)
	{
		case ENTRY_DEAD:
			join_dead(direct, &entry->key);
			break;

		case ENTRY_LEASED:
		case ENTRY_BUSY:
			if (!may_join(direct, entry))
			{
				end_run(direct, &entry->key, false);
				restart_run_at(direct, &entry->key);
			}
			if (qs_key_compare(&run->range.lo, &entry->key) <= 0)
				join(&run->range, entry);
			run->any_live = true;
			run->last_live = entry->key;
			run->streak = 0;
			break;

		default:
			end_run(direct, &entry->key, false);
			(void) qs_key_next(&after);
			start_run(direct, &after);
			break;
	}
	run->last = entry->key;
}

/*
 * Moves the scan to the first entry from a key on that is not known to be
 * unclaimable.
 */
static void
move_to(QsDirectScan *direct, const QsRangeKey *key)
{
	QsRangeKey	from = *key;
	bool		jumped = direct->cached &&
	qs_cache_jump(&direct->ticket, &from, &direct->jump);

	descend(direct, &from);
	direct->stepping = false;
	start_run(direct, &from);
	direct->run.after_range = jumped;
}

/*
 * In a long scan, publishes what was found so far. What is published must have
 * been looked at after the registration, which is renewed with it; so the scan
 * reads anew from key on, from the index as well.
 */
static bool
publish_midway(QsDirectScan *direct, const QsRangeKey *key)
{
	if (!direct->cached ||
		qs_key_compare(&direct->run.range.lo, key) >= 0 ||
		(direct->nfound < QS_MAX_FOUND - 1 &&
		 direct->visited - direct->published_at < PUBLISH_EVERY))
		return false;
	end_run(direct, key, false);
	publish(direct);
	move_to(direct, key);
	return true;
}

/* Jumps over the known range that key is in; false if it is in none. */
static bool
jump_over(QsDirectScan *direct, const QsRangeKey *key)
{
	QsRangeKey	from = *key;

	if (!direct->jump.has_next ||
		qs_key_compare(&direct->jump.next_lo, key) > 0 ||
		!qs_cache_jump(&direct->ticket, &from, &direct->jump))
		return false;
	end_run(direct, key, true);
	if (direct->jump.entries > MAX_STEPS)
		descend(direct, &from);
	else
	{
		direct->step_to = from;
		direct->stepping = true;
	}
	start_run(direct, &from);
	direct->run.after_range = true;
	return true;
}

/* Whether an entry is one of those that are stepped over. */
static bool
step_over(QsDirectScan *direct, const QsRangeKey *key)
{
	if (direct->stepping && qs_key_compare(key, &direct->step_to) >= 0)
		direct->stepping = false;
	return direct->stepping;
}

static void
entry_key(QsDirectScan *direct, QsRangeKey *key)
{
	IndexTuple	tuple = direct->scan->xs_itup;
	TupleDesc	desc = direct->scan->xs_itupdesc;
	bool		isnull;

	key->priority = DatumGetInt16(index_getattr(tuple, 2, desc, &isnull));
	key->run_at = DatumGetTimestampTz(index_getattr(tuple, 3, desc, &isnull));
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): it is NOT NULL */
	memcpy(key->id, DatumGetUUIDP(index_getattr(tuple, 4, desc, &isnull)),
		   UUID_LEN);
}

/* Whether the snapshot sees the row, which only matters if it lasts. */
static bool
is_visible(QsDirectScan *direct, const QsEntry *entry)
{
	HeapTupleData tuple;
	ItemId		item;
	Page		page;
	bool		visible;

	if (!IsolationUsesXactSnapshot())
		return true;
	LockBuffer(direct->buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(direct->buffer);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(&entry->tid));
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple.t_len = ItemIdGetLength(item);
	tuple.t_tableOid = RelationGetRelid(direct->table->rel);
	tuple.t_self = entry->tid;
	visible = ItemIdIsNormal(item) &&
		HeapTupleSatisfiesVisibility(&tuple, GetActiveSnapshot(), direct->buffer);
	LockBuffer(direct->buffer, BUFFER_LOCK_UNLOCK);
	return visible;
}

/*
 * Looks at the row that an entry leads to, and locks it if it is claimable.
 * What changes between the look and the lock is looked at again.
 */
static void
look_at(QsDirectScan *direct, ItemPointer tid, QsEntry *entry)
{
	QsTable    *table = direct->table;

	for (int looks = 0; looks < MAX_LOOKS; looks++)
	{
		TM_FailureData tmfd;
		TM_Result	result;

		qs_classify_entry(direct, tid, entry);
		if (entry->state != ENTRY_CLAIMABLE || direct->looks)
			return;
		if (!is_visible(direct, entry))
			break;
		QS_FAULT_POINT("take");
		result = table_tuple_lock(table->rel, &entry->tid, GetActiveSnapshot(),
								  table->old, table->cid,
								  LockTupleNoKeyExclusive, LockWaitSkip, 0,
								  &tmfd);
		if (result == TM_Ok)
			return;
		if (result != TM_Updated && result != TM_Deleted)
			break;
		if (IsolationUsesXactSnapshot())
			qs_serialization_failure();
	}
	entry->state = ENTRY_OTHER;
}

/*
 * Where the last scan's knowledge of each table came from. It holds while the
 * table's description does, which ends with any change of the ready index or
 * the announcing trigger.
 */
static struct
{
	uint64		version;
	QsCacheSource source;
}			sources[QS_NTABLES];

static void
keep_source(QsTable *table, const QsCacheSource *source)
{
	sources[table->kind].version =
		qs_table_version(table->kind, RelationGetRelid(table->rel));
	sources[table->kind].source = *source;
}

static void
begin(QsDirectScan *direct, QsTable *table, const pg_uuid_t *queue_id,
	  int64 ageing, bool looks)
{
	QsRangeKey	first;
	QsCacheKey	key;
	QsCacheSource source;

	direct->table = table;
	direct->index = index_open(qs_ready_index(table->call->cat, table->kind),
							   looks ? AccessShareLock : RowExclusiveLock);
	direct->looks = looks;
	qs_levels_begin(&direct->levels, ageing);
	direct->horizon = GlobalVisTestFor(table->rel);
	direct->buffer = InvalidBuffer;
	direct->visited = 0;
	direct->moved = false;
	direct->restarts = 0;
	direct->published_at = 0;
	direct->nfound = 0;
	memset(&direct->jump, 0, sizeof(direct->jump));
	direct->jump.until = PG_INT64_MAX;
	direct->open = false;
	direct->at_end = false;
	direct->stepping = false;
	direct->cached = qs_cache_source(table, direct->index, &source);
	if (direct->cached)
	{
		qs_cache_key(table->kind, queue_id, &key);
		qs_cache_register(&key, &source, table->call->now, &direct->ticket);
		direct->announced = direct->ticket.announced;
		keep_source(table, &source);
	}

	/* after the registration: whatever was announced before it is seen */
	direct->scan = qs_index_beginscan(table->rel, direct->index, SnapshotAny, 2);
	direct->scan->xs_want_itup = true;
	ScanKeyInit(&direct->keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(queue_id));
	qs_key_first_of_level(&first, PG_INT16_MAX);
	move_to(direct, &first);
}

/* Where scans of a table learn from; false if the cache is not used. */
bool
qs_direct_source(QsCall *call, QsTableKind kind, QsCacheSource *source)
{
	uint64		version = qs_table_version(kind, call->cat->table[kind]);
	QsTable		table;
	Relation	index;
	bool		cached;

	if (version != 0 && version == sources[kind].version)
	{
		*source = sources[kind].source;
		return true;
	}
	qs_look_open(&table, call, kind);
	index = index_open(qs_ready_index(call->cat, kind), AccessShareLock);
	cached = qs_cache_source(&table, index, source);
	if (cached)
		keep_source(&table, source);
	index_close(index, AccessShareLock);
	qs_look_close(&table);
	return cached;
}

/*
 * The time before which the queue has nothing claimable in a table, so that it
 * need not be opened; long past if that is not known.
 */
TimestampTz
qs_direct_idle_until(const QsCall *call, QsTableKind kind,
					 const pg_uuid_t *queue_id)
{
	uint64		version = qs_table_version(kind, call->cat->table[kind]);
	QsCacheKey	key;

	if (version == 0 || version != sources[kind].version)
		return PG_INT64_MIN;
	qs_cache_key(kind, queue_id, &key);
	return qs_cache_idle_until(&key, &sources[kind].source);
}

/*
 * Begins a scan over a queue's rows of a heap that is open for writing. ageing
 * is that of ageing.h.
 */
void
qs_direct_begin(QsDirectScan *direct, QsTable *table, const pg_uuid_t *queue_id,
				int64 ageing)
{
	begin(direct, table, queue_id, ageing, false);
}

/*
 * Begins a scan that only looks, over a table that is open for that. It finds
 * what is claimable in the order of the index, also with ageing.
 */
void
qs_direct_begin_look(QsDirectScan *direct, QsTable *table,
					 const pg_uuid_t *queue_id)
{
	begin(direct, table, queue_id, 0, true);
}

/* Goes on to the next level if there is one. */
static bool
next_level(QsDirectScan *direct, const QsRangeKey *key)
{
	QsRangeKey	first;

	end_run(direct, key, false);
	if (key->priority == PG_INT16_MIN)
		return false;
	qs_key_first_of_level(&first, key->priority - 1);
	move_to(direct, &first);
	return true;
}

/* Leaves out what follows at the priority of what qs_direct_next() found. */
bool
qs_direct_next_level(QsDirectScan *direct)
{
	QsRangeKey	key = direct->at;

	return next_level(direct, &key);
}

/* Begins anew if a row moved meanwhile, which shows a few times at most. */
static bool
begin_anew(QsDirectScan *direct)
{
	QsRangeKey	first;

	if (!direct->moved || IsolationUsesXactSnapshot() || direct->looks ||
		direct->restarts++ == MAX_RESTARTS)
		return false;
	direct->moved = false;
	qs_advance_snapshot();
	if (direct->cached)
		publish(direct);
	qs_levels_seek(&direct->levels);
	qs_key_first_of_level(&first, PG_INT16_MAX);
	move_to(direct, &first);
	return true;
}

/*
 * Goes on where a level has no more that is claimable, from an entry with the
 * key on or with all that is left (NULL). False if there is nothing left.
 */
static bool
leave_level(QsDirectScan *direct, const QsRangeKey *key)
{
	QsLevels   *levels = &direct->levels;

	if (levels->ageing == 0 || levels->seeking)
	{
		if (key != NULL && next_level(direct, key))
			return true;
		levels->seeking = false;
	}
	else
	{
		if (key != NULL)
			end_run(direct, key, false);
		qs_levels_drop(levels);
	}
	if (levels->count > 0)
	{
		move_to(direct, &levels->heap[0].from);
		return true;
	}
	return begin_anew(direct);
}

/* With ageing, whether the entry is behind the level that the scan is in. */
static bool
is_behind_level(const QsDirectScan *direct, const QsRangeKey *key)
{
	const QsLevels *levels = &direct->levels;

	return levels->ageing > 0 && !levels->seeking &&
		key->priority != levels->heap[0].from.priority;
}

/* With ageing, whether the entry was visited already, when its level was left. */
static bool
is_first_of_level(const QsDirectScan *direct, const QsRangeKey *key)
{
	const QsLevels *levels = &direct->levels;

	return levels->ageing > 0 && !levels->seeking &&
		qs_key_compare(key, &levels->heap[0].key) == 0;
}

/*
 * Whether the entry is the next one to look at. If not, notes it as the first
 * one of its level that is left, and moves the scan to where it goes on.
 */
static bool
is_turn(QsDirectScan *direct, const QsRangeKey *key)
{
	QsLevels   *levels = &direct->levels;

	if (levels->ageing == 0)
		return true;
	if (levels->seeking)
	{
		QsRangeKey	from;

		/* the run may have begun in a level above */
		qs_key_first_of_level(&from, key->priority);
		if (qs_key_compare(&from, &direct->run.range.lo) < 0)
			from = direct->run.range.lo;
		qs_levels_add(levels, &from, key);
		(void) leave_level(direct, key);
		return false;
	}
	if (qs_levels_is_turn(levels, key))
		return true;
	end_run(direct, key, false);
	qs_levels_put_back(levels, key);
	move_to(direct, &levels->heap[0].from);
	return false;
}

/*
 * Finds the next claimable row, locks it and loads its columns. False if there
 * is none left. The caller writes the row before it asks for the next.
 */
bool
qs_direct_next(QsDirectScan *direct)
{
	for (;;)
	{
		ItemPointer tid;
		QsEntry		entry;

		CHECK_FOR_INTERRUPTS();
		tid = index_getnext_tid(direct->scan, ForwardScanDirection);
		if (tid != NULL)
		{
			QS_FAULT_POINT("leaf");
			memset(&entry, 0, sizeof(entry));
			entry_key(direct, &entry.key);
		}
		if (tid == NULL || is_behind_level(direct, &entry.key))
		{
			end_run_behind(direct);
			if (leave_level(direct, NULL))
				continue;
			direct->at_end = true;
			return false;
		}
		if (step_over(direct, &entry.key))
			continue;
		if (publish_midway(direct, &entry.key) ||
			jump_over(direct, &entry.key))
			continue;
		direct->visited += !is_first_of_level(direct, &entry.key);
		if (entry.key.run_at > direct->table->call->now)
		{
			direct->jump.until = Min(direct->jump.until, entry.key.run_at);
			if (leave_level(direct, &entry.key))
				continue;
			direct->at_end = true;
			return false;
		}
		if (!is_turn(direct, &entry.key))
			continue;
		look_at(direct, tid, &entry);
		direct->scan->kill_prior_tuple = entry.state == ENTRY_DEAD &&
			entry.all_dead && !direct->scan->xactStartedInRecovery;
		note_entry(direct, &entry);
		if (entry.state == ENTRY_CLAIMABLE)
		{
			direct->open = true;
			direct->at = entry.key;
			direct->at_over = entry.over;
			if (!direct->looks)
				qs_load(direct->table);
			return true;
		}
		if (entry.state == ENTRY_LEASED)
			direct->jump.until = Min(direct->jump.until, entry.until);
		else if (entry.state != ENTRY_DEAD)
			direct->open = true;
	}
}

/* Ends the scan, and publishes what it found out. */
void
qs_direct_end(QsDirectScan *direct)
{
	index_endscan(direct->scan);
	index_close(direct->index, direct->looks ? AccessShareLock : NoLock);
	if (BufferIsValid(direct->buffer))
		ReleaseBuffer(direct->buffer);
	qs_levels_end(&direct->levels);
	direct->idle = direct->at_end && !direct->open && !direct->moved &&
		!direct->jump.guarded;
	if (direct->cached)
	{
		publish(direct);
		if (direct->idle)
			qs_cache_publish_idle(&direct->ticket, direct->announced,
								  direct->jump.until);
	}
	direct->table->call->visited += direct->visited;
}

/*
 * Whether the queue has a claimable row in a table that is open to be looked
 * at. If not, *next_due becomes the time at which a row becomes claimable that
 * was seen on the way, unless it is earlier already.
 */
bool
qs_direct_look(QsTable *table, const pg_uuid_t *queue_id, TimestampTz *next_due)
{
	QsDirectScan direct;
	bool		found;

	qs_direct_begin_look(&direct, table, queue_id);
	found = qs_direct_next(&direct);
	*next_due = Min(*next_due, direct.jump.until);
	qs_direct_end(&direct);
	return found;
}

/*
 * Whether the queue has a claimable row in a table that is open to be looked
 * at; *oldest becomes the run_at of the one that is due for longest, unless it
 * is earlier already. Looks at the first of each priority, of the highest ones
 * if there are very many.
 */
bool
qs_direct_oldest(QsTable *table, const pg_uuid_t *queue_id, TimestampTz *oldest)
{
	QsDirectScan direct;
	bool		found = false;

	qs_direct_begin_look(&direct, table, queue_id);
	for (int level = 0; level < MAX_LEVELS && qs_direct_next(&direct); level++)
	{
		found = true;
		*oldest = Min(*oldest, direct.at.run_at);
		if (!qs_direct_next_level(&direct))
			break;
	}
	qs_direct_end(&direct);
	return found;
}

/* Whether the snapshot sees a waiting row behind the entry that was read. */
static bool
is_seen_waiting(IndexScanDesc scan, TupleTableSlot *row)
{
	bool		isnull;

	return index_fetch_heap(scan, row) &&
		qs_text_is(slot_getattr(row, QS_JOB_STATUS, &isnull), "pending");
}

/*
 * How many rows of the queue wait for a time to come, up to most: reads what is
 * behind now in each priority.
 */
int64
qs_direct_delayed(QsTable *table, const pg_uuid_t *queue_id, int64 most)
{
	TupleTableSlot *row = table_slot_create(table->rel, NULL);
	QsDirectScan direct;
	QsRangeKey	key;
	int64		delayed = 0;
	int			descents = 0;

	memset(&direct, 0, sizeof(direct));
	direct.table = table;
	direct.index = index_open(qs_ready_index(table->call->cat, table->kind),
							  AccessShareLock);
	direct.scan = qs_index_beginscan(table->rel, direct.index,
									 GetActiveSnapshot(), 2);
	direct.scan->xs_want_itup = true;
	ScanKeyInit(&direct.keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(queue_id));
	qs_key_first_of_level(&key, PG_INT16_MAX);
	descend(&direct, &key);
	while (delayed < most &&
		   index_getnext_tid(direct.scan, ForwardScanDirection) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		table->call->visited++;
		entry_key(&direct, &key);
		if (key.run_at > table->call->now)
			delayed += is_seen_waiting(direct.scan, row);
		else if (++descents <= MAX_LEVELS)
		{
			key.run_at = table->call->now + 1;
			memset(key.id, 0, sizeof(key.id));
			descend(&direct, &key);
		}
		else
			break;
	}
	index_endscan(direct.scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(direct.index, AccessShareLock);
	return delayed;
}
