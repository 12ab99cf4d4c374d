/*
 * queue_note.c
 *	  What a transaction does to queues: see queue_note.h.
 *
 * Those of a subtransaction that is rolled back are dropped. The rest is told, in
 * its order, when the transaction has committed and its rows are visible. If there are very many,
 * the rings of the database are void instead.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "level_list.h"
#include "miscadmin.h"
#include "queue.h"
#include "queue_note.h"
#include "ring.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "waiters.h"

#define MAX_NOTES 10000

typedef struct Note
{
	int			level;
	pg_uuid_t	queue;
	int32		weight;
	char		name[QS_NAME_BYTES + 1];	/* empty: it is gone */
} Note;

static QsLevelList notes = {.entry_size = sizeof(Note)};
static bool too_many_notes = false;

static void
tell(void)
{
	if (too_many_notes)
		qs_ring_void();
	for (int i = 0; i < notes.count; i++)
	{
		const Note *note = qs_level_list_at(&notes, i);
		bool		gone = note->name[0] == '\0';

		qs_ring_queue_is(&note->queue, gone ? NULL : note->name, note->weight);
		if (!gone)
			qs_wake(&note->queue);
	}
}

static void
forget(void)
{
	qs_level_list_clear(&notes);
	too_many_notes = false;
}

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (!qs_queue_notes_any())
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			qs_ring_prepared(GetTopTransactionId());
			break;
		case XACT_EVENT_COMMIT:
			tell();
			forget();
			break;
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			forget();
			break;
		default:
			break;
	}
}

/* Registers the callbacks, if there will be shared memory. */
void
qs_queue_note_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	RegisterXactCallback(at_end, NULL);
	qs_level_list_init(&notes);
}

static Datum
get(Relation queues, HeapTuple row, const char *column, bool *isnull)
{
	AttrNumber	number = get_attnum(RelationGetRelid(queues), column);

	if (number == InvalidAttrNumber)
		elog(ERROR, "column \"%s\" of table \"queues\" is missing", column);
	return heap_getattr(row, number, RelationGetDescr(queues), isnull);
}

static void
add(const Note *note)
{
	if (notes.count == MAX_NOTES)
	{
		too_many_notes = true;
		return;
	}
	qs_level_list_reserve(&notes);
	qs_level_list_add(&notes, note);
}

static void
note_of(Relation queues, HeapTuple row, Note *note)
{
	bool		isnull;

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it is NOT NULL */
	note->queue = *DatumGetUUIDP(get(queues, row, "id", &isnull));
	note->weight = DatumGetInt32(get(queues, row, "weight", &isnull));
	strlcpy(note->name, TextDatumGetCString(get(queues, row, "name", &isnull)),
			sizeof(note->name));
}

/* A row of queues was inserted (old is NULL), updated or deleted (new is NULL). */
void
qs_queue_note_row(Relation queues, HeapTuple old, HeapTuple new)
{
	Note		before;
	Note		after;

	if (!qs_ring_exists())
		return;
	if (new != NULL)
		note_of(queues, new, &after);
	if (old != NULL)
	{
		note_of(queues, old, &before);
		if (new == NULL || memcmp(&before.queue, &after.queue, UUID_LEN) != 0)
		{
			before.name[0] = '\0';
			add(&before);
		}
	}
	if (new != NULL)
		add(&after);
}

/* Whether this transaction has changed queues, so that it sees others ones. */
bool
qs_queue_notes_any(void)
{
	return notes.count > 0 || too_many_notes;
}
