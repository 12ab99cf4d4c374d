/*
 * stats_note.c
 *	  Notes what a transaction does to queues: see stats_note.h.
 *
 * What a transaction did is kept in a stack, an entry for each queue and level
 * of subtransactions; the deepest level is on top. Invariants:
 *	 A subtransaction that ends well hands its entries to the level above; one
 *	 that is rolled back takes them along.
 *	 What is left when the transaction has committed is applied. What is left
 *	 when it is prepared never is: its queues are marked instead.
 *
 * All writes come by here: those of table.c, which calls after each row, and
 * those of SQL through triggers on the job tables, which table.c does not fire
 * (announce.c). What happened is seen from the row before and after, whoever
 * wrote it; but a row that is gone does not tell why, so lifecycle.c does.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "fault.h"
#include "miscadmin.h"
#include "stats_note.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define CHAINS 256				/* as queues are looked for; a power of 2 */
#define MANY_NOTES 64			/* that are not kept for the next transaction */

typedef struct Note
{
	pg_uuid_t	queue;			/* all of them if it is the one with zeros only */
	int			level;
	int			below;			/* next one of the chain, or -1 */
	QsStatsChange change;
} Note;

static Note *notes = NULL;
static int	nnotes = 0;
static int	notes_allocated = 0;
static int	chains[CHAINS];		/* the topmost note of each + 1, or 0 */

/* tables were emptied, at the lowest level that did so; 0: none was */
static int	emptied_level = 0;
static bool marked = false;

/* What counts of a row. */
typedef struct Row
{
	Datum		queue;
	Datum		status;
	bool		leased;			/* token is set */
	int64		token;
	TimestampTz run_at;
	TimestampTz leased_at;		/* 0: not known, as of the next two */
	TimestampTz leased_until;
	TimestampTz finished_at;
	Datum		finish_reason;	/* 0 if there is none */
} Row;

static int *
chain_of(const pg_uuid_t *queue)
{
	/* a uuid of ours is random at its end */
	return &chains[queue->data[UUID_LEN - 1] & (CHAINS - 1)];
}

static Note *
find_note(const pg_uuid_t *queue, int level)
{
	for (int i = *chain_of(queue) - 1; i >= 0 && notes[i].level >= level;
		 i = notes[i].below)
		if (notes[i].level == level &&
			memcmp(&notes[i].queue, queue, UUID_LEN) == 0)
			return &notes[i];
	return NULL;
}

/* Puts a note on the stack that is not in a chain. */
static Note *
push(const pg_uuid_t *queue, int level)
{
	Note	   *note = &notes[nnotes];
	int		   *chain = chain_of(queue);

	note->queue = *queue;
	note->level = level;
	note->below = *chain - 1;
	*chain = ++nnotes;
	return note;
}

static void
pop(void)
{
	Note	   *note = &notes[--nnotes];

	*chain_of(&note->queue) = note->below + 1;
}

static void
mark(void)
{
	if (!marked)
		qs_stats_mark(GetTopTransactionId());
	marked = true;
}

/* What this subtransaction did to a queue so far. */
static QsStatsChange *
change_of(const pg_uuid_t *queue)
{
	int			level = GetCurrentTransactionNestLevel();
	Note	   *note = find_note(queue, level);

	if (note != NULL)
		return &note->change;
	if (nnotes == notes_allocated)
	{
		int			n = Max(4, 2 * notes_allocated);

		notes = notes == NULL ?
			MemoryContextAlloc(TopMemoryContext, n * sizeof(Note)) :
			repalloc_huge(notes, n * sizeof(Note));
		notes_allocated = n;
	}
	mark();
	note = push(queue, level);
	note->change.any = false;
	memset(&note->change.counts, 0, sizeof(note->change.counts));
	qs_histogram_clear(&note->change.wait);
	qs_histogram_clear(&note->change.run);
	note->change.promised = note->change.removed = 0;
	note->change.created = note->change.flushed = 0;
	return &note->change;
}

static void
merge(QsStatsChange *change, const QsStatsChange *other)
{
	change->any |= other->any;
	change->counts.waiting += other->counts.waiting;
	change->counts.processing += other->counts.processing;
	for (int i = 0; i < QS_NEVENTS; i++)
		change->counts.events[i] += other->counts.events[i];
	qs_histogram_merge(&change->wait, &other->wait);
	qs_histogram_merge(&change->run, &other->run);
	change->promised += other->promised;
	change->removed += other->removed;
	if (other->created != 0)
		change->created = other->created;
	change->flushed = Max(change->flushed, other->flushed);
}

/* Hands what was done at a level to the one above. */
static void
hand_up(int level)
{
	int			end = nnotes;

	while (nnotes > 0 && notes[nnotes - 1].level >= level)
		pop();
	for (int i = nnotes; i < end; i++)
	{
		Note	   *above = find_note(&notes[i].queue, level - 1);

		if (above != NULL)
			merge(&above->change, &notes[i].change);
		else
		{
			pg_uuid_t	queue = notes[i].queue;

			/* to where this one is, or one that was handed up */
			notes[nnotes].change = notes[i].change;
			(void) push(&queue, level - 1);
		}
	}
}

static void
forget_from(int level)
{
	while (nnotes > 0 && notes[nnotes - 1].level >= level)
		pop();
	if (emptied_level >= level)
		emptied_level = 0;
}

static void
forget_all(void)
{
	forget_from(0);
	if (notes_allocated > MANY_NOTES)
	{
		pfree(notes);
		notes = NULL;
		notes_allocated = 0;
	}
	if (marked)
		qs_stats_unmark();
	marked = false;
}

/* Gives up what was promised at a level and below. */
static void
give_up_from(int level)
{
	for (int i = nnotes - 1; i >= 0 && notes[i].level >= level; i--)
		if (notes[i].change.promised > 0)
			qs_stats_give_up(&notes[i].queue, notes[i].change.promised);
}

static void
apply(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	TimestampTz now = GetCurrentTransactionStopTimestamp();

	QS_FAULT_POINT("apply");
	for (int i = 0; i < nnotes; i++)
		qs_stats_apply(&notes[i].queue, &notes[i].change, xid, now);
	if (emptied_level > 0)
		qs_stats_emptied();
}

/* Nothing tells when a prepared transaction ends. */
static void
prepare(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();

	for (int i = 0; i < nnotes; i++)
		if (notes[i].change.any || notes[i].change.promised > 0)
			qs_stats_prepared(&notes[i].queue, notes[i].change.promised, xid);
	if (emptied_level > 0)
		qs_stats_prepared(NULL, 0, xid);
}

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (!marked)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			apply();
			forget_all();
			break;
		case XACT_EVENT_PREPARE:
			prepare();
			forget_all();
			break;
		case XACT_EVENT_ABORT:
			give_up_from(0);
			forget_all();
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
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		give_up_from(level);
		forget_from(level);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		hand_up(level);
		if (emptied_level == level)
			emptied_level = level - 1;
	}
}

/* Registers the callbacks, if there are statistics; once a session. */
void
qs_stats_note_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_sub_end, NULL);
}

static bool
is_waiting(const Row *row)
{
	return qs_text_is(row->status, "pending");
}

static bool
is_processing(const Row *row)
{
	return qs_text_is(row->status, "processing");
}

static bool
is_unfinished(const Row *row)
{
	return is_waiting(row) || is_processing(row);
}

static void
count_row(QsStatsChange *change, const Row *row, int n)
{
	if (is_waiting(row))
		change->counts.waiting += n;
	else if (is_processing(row))
		change->counts.processing += n;
}

static void
count_event(QsStatsChange *change, QsStatsEvent event)
{
	change->counts.events[event]++;
}

/* A job was claimed that was due since run_at, or when its last lease ended. */
static void
count_claim(QsStatsChange *change, const Row *old, const Row *new)
{
	TimestampTz due = new->run_at;

	if (is_processing(old))
		due = Max(due, old->leased_until);
	count_event(change, QS_CLAIMED);
	if (new->leased_at != 0)
		qs_histogram_add(&change->wait, new->leased_at - due);
}

static void
count_completion(QsStatsChange *change, const Row *row, TimestampTz finished_at)
{
	count_event(change, QS_COMPLETED);
	if (row->leased_at != 0)
		qs_histogram_add(&change->run, finished_at - row->leased_at);
}

/* What is seen of an update. */
static void
count_update(QsStatsChange *change, const Row *old, const Row *new)
{
	if (is_processing(new) && new->leased &&
		(!is_processing(old) || !old->leased || old->token != new->token))
		count_claim(change, old, new);
	if (qs_text_is(new->status, "completed") &&
		!qs_text_is(old->status, "completed"))
		count_completion(change, new, new->finished_at);
	if (qs_text_is(new->status, "failed") && !qs_text_is(old->status, "failed"))
		count_event(change, new->finish_reason != 0 &&
					qs_text_is(new->finish_reason, "cancelled") ?
					QS_ENDED_CANCELLED : QS_DIED);
}

/* A row was inserted (old is NULL), updated, or deleted (new is NULL). */
static void
note_write(const Row *old, const Row *new, int events, TimestampTz now)
{
	const Row  *row = new != NULL ? new : old;
	QsStatsChange *change;
	bool		moved;

	Assert(row != NULL);
	change = change_of(DatumGetUUIDP(row->queue));
	change->any = true;
	if (new != NULL)
		count_row(change, new, 1);
	if (old == NULL)
	{
		if (is_unfinished(new))
			count_event(change, QS_ENQUEUED);
		return;
	}
	if (new != NULL)
		count_update(change, old, new);
	for (int event = 0; event < QS_NEVENTS; event++)
		if (events & 1 << event)
		{
			if (event == QS_COMPLETED)
				count_completion(change, old, now);
			else
				count_event(change, event);
		}

	/* it may have been another queue's */
	moved = new != NULL &&
		memcmp(DatumGetUUIDP(old->queue), DatumGetUUIDP(new->queue), UUID_LEN) != 0;
	if (moved)
	{
		change = change_of(DatumGetUUIDP(old->queue));
		change->any = true;
	}
	count_row(change, old, -1);
	if (is_unfinished(old) && (new == NULL || moved || !is_unfinished(new)))
		change->removed++;
}

/* The row that was found. */
static void
old_row(QsTable *table, Row *row)
{
	const Datum *values = table->old->tts_values;
	const bool *nulls = table->old->tts_isnull;

	slot_getsomeattrs(table->old, QS_JOB_FINISH_REASON);
	row->queue = values[QS_JOB_QUEUE_ID - 1];
	row->status = values[QS_JOB_STATUS - 1];
	row->leased = !nulls[QS_JOB_LEASE_TOKEN - 1];
	row->token = row->leased ? DatumGetInt64(values[QS_JOB_LEASE_TOKEN - 1]) : 0;
	row->run_at = DatumGetTimestampTz(values[QS_JOB_RUN_AT - 1]);
	row->leased_at = nulls[QS_JOB_LEASED_AT - 1] ? 0 :
		DatumGetTimestampTz(values[QS_JOB_LEASED_AT - 1]);
	row->leased_until = nulls[QS_JOB_LEASED_UNTIL - 1] ? 0 :
		DatumGetTimestampTz(values[QS_JOB_LEASED_UNTIL - 1]);
	row->finished_at = nulls[QS_JOB_FINISHED_AT - 1] ? 0 :
		DatumGetTimestampTz(values[QS_JOB_FINISHED_AT - 1]);
	row->finish_reason = nulls[QS_JOB_FINISH_REASON - 1] ? 0 :
		values[QS_JOB_FINISH_REASON - 1];
}

static TimestampTz
time_or_0(QsTable *table, int column)
{
	return qs_is_null(table, column) ? 0 : DatumGetTimestampTz(qs_get(table, column));
}

/* The row that was written. */
static void
new_row(QsTable *table, Row *row)
{
	row->queue = qs_get(table, QS_JOB_QUEUE_ID);
	row->status = qs_get(table, QS_JOB_STATUS);
	row->leased = !qs_is_null(table, QS_JOB_LEASE_TOKEN);
	row->token = row->leased ? DatumGetInt64(qs_get(table, QS_JOB_LEASE_TOKEN)) : 0;
	row->run_at = DatumGetTimestampTz(qs_get(table, QS_JOB_RUN_AT));
	row->leased_at = time_or_0(table, QS_JOB_LEASED_AT);
	row->leased_until = time_or_0(table, QS_JOB_LEASED_UNTIL);
	row->finished_at = time_or_0(table, QS_JOB_FINISHED_AT);
	row->finish_reason = qs_is_null(table, QS_JOB_FINISH_REASON) ? 0 :
		qs_get(table, QS_JOB_FINISH_REASON);
}

static bool
is_counted(QsTable *table)
{
	return qs_stats_exist() && table->kind != QS_DEAD_LETTER_JOBS;
}

/* After an insert of table.c. */
void
qs_stats_after_insert(QsTable *table)
{
	Row			new;

	if (!is_counted(table))
		return;
	new_row(table, &new);
	note_write(NULL, &new, 0, 0);
}

/* After an update of table.c. */
void
qs_stats_after_update(QsTable *table)
{
	Row			old;
	Row			new;

	if (!is_counted(table))
		return;
	old_row(table, &old);
	new_row(table, &new);
	note_write(&old, &new, table->events, table->call->now);
	table->events = 0;
}

/* After a delete of table.c. */
void
qs_stats_after_delete(QsTable *table)
{
	Row			old;

	if (!is_counted(table))
		return;
	old_row(table, &old);
	note_write(&old, NULL, table->events, table->call->now);
	table->events = 0;
}

static void
row_of_tuple(TupleDesc desc, HeapTuple tuple, Row *row)
{
	static const int times[] = {
		QS_JOB_RUN_AT, QS_JOB_LEASED_AT, QS_JOB_LEASED_UNTIL, QS_JOB_FINISHED_AT
	};
	TimestampTz *members[] = {
		&row->run_at, &row->leased_at, &row->leased_until, &row->finished_at
	};
	Datum		token;
	bool		isnull;

	row->queue = heap_getattr(tuple, QS_JOB_QUEUE_ID, desc, &isnull);
	row->status = heap_getattr(tuple, QS_JOB_STATUS, desc, &isnull);
	token = heap_getattr(tuple, QS_JOB_LEASE_TOKEN, desc, &isnull);
	row->leased = !isnull;
	row->token = isnull ? 0 : DatumGetInt64(token);
	for (int i = 0; i < (int) lengthof(times); i++)
	{
		Datum		time = heap_getattr(tuple, times[i], desc, &isnull);

		*members[i] = isnull ? 0 : DatumGetTimestampTz(time);
	}
	row->finish_reason = heap_getattr(tuple, QS_JOB_FINISH_REASON, desc, &isnull);
	if (isnull)
		row->finish_reason = 0;
}

/* After SQL inserted (old is NULL), updated or deleted (new is NULL) a row. */
void
qs_stats_after_sql(TupleDesc desc, HeapTuple old, HeapTuple new)
{
	Row			rows[2];

	if (old != NULL)
		row_of_tuple(desc, old, &rows[0]);
	if (new != NULL)
		row_of_tuple(desc, new, &rows[1]);
	note_write(old ? &rows[0] : NULL, new ? &rows[1] : NULL, 0, 0);
}

/* After SQL emptied a table. */
void
qs_stats_after_truncate(void)
{
	int			level = GetCurrentTransactionNestLevel();

	mark();
	if (emptied_level == 0 || emptied_level > level)
		emptied_level = level;
}

/*
 * Promises this subtransaction that it may add so many jobs to a queue that has
 * at most max of them. Those that it has removed need not be there: whatever is
 * rolled back of that takes along what is promised now.
 */
QsStatsPromise
qs_stats_note_promise(const pg_uuid_t *queue, int64 count, int64 max,
					  uint64 triggers)
{
	QsStatsChange *change = change_of(queue);
	QsStatsPromise answer;

	for (int i = *chain_of(queue) - 1; i >= 0; i = notes[i].below)
		if (memcmp(&notes[i].queue, queue, UUID_LEN) == 0)
			max += notes[i].change.removed;
	answer = qs_stats_promise(queue, count, max, triggers);
	if (answer == QS_STATS_PROMISED)
		change->promised += count;
	return answer;
}

/* A queue was created, under triggers of this version. */
void
qs_stats_queue_created(const pg_uuid_t *queue, uint64 triggers)
{
	QsStatsChange *change;

	if (!qs_stats_exist())
		return;
	change = change_of(queue);
	change->any = true;
	change->created = triggers;
}

/* The statistics of a queue were written to its row, as of a version. */
void
qs_stats_queue_flushed(const pg_uuid_t *queue, uint64 version)
{
	change_of(queue)->flushed = version;
}
