/*
 * level_list.c
 *	  What a transaction did, in its order: see level_list.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "level_list.h"
#include "utils/memutils.h"

#define MANY_ENTRIES 1024		/* that are not kept for the next transaction */

static int *
level_of(const QsLevelList *list, int n)
{
	return qs_level_list_at(list, n);
}

static void
undo_from(QsLevelList *list, int level)
{
	while (list->count > 0 && *level_of(list, list->count - 1) >= level)
	{
		list->count--;
		if (list->undo != NULL)
			list->undo(qs_level_list_at(list, list->count));
	}
}

static void
hand_up(QsLevelList *list, int level)
{
	for (int i = list->count - 1; i >= 0 && *level_of(list, i) >= level; i--)
		*level_of(list, i) = level - 1;
}

static void
at_sub_end(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
		   SubTransactionId parent pg_attribute_unused(), void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		undo_from(arg, GetCurrentTransactionNestLevel());
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		hand_up(arg, GetCurrentTransactionNestLevel());
}

/* Follows the subtransactions of this session from now on; once a list. */
void
qs_level_list_init(QsLevelList *list)
{
	RegisterSubXactCallback(at_sub_end, list);
}

/* Makes sure that the next qs_level_list_add() cannot fail. */
void
qs_level_list_reserve(QsLevelList *list)
{
	int			n = Max(16, 2 * list->allocated);

	if (list->count < list->allocated)
		return;
	list->entries = list->entries == NULL ?
		MemoryContextAlloc(TopMemoryContext, n * list->entry_size) :
		repalloc_huge(list->entries, n * list->entry_size);
	list->allocated = n;
}

/* Adds an entry, for which there is room, at the present level. */
void
qs_level_list_add(QsLevelList *list, const void *entry)
{
	int			n = list->count++;

	memcpy(qs_level_list_at(list, n), entry, list->entry_size);
	*level_of(list, n) = GetCurrentTransactionNestLevel();
}

/* Undoes all, from the last to the first, as the transaction is rolled back. */
void
qs_level_list_undo(QsLevelList *list)
{
	undo_from(list, 0);
}

/* Forgets all without undoing it. */
void
qs_level_list_clear(QsLevelList *list)
{
	list->count = 0;
	if (list->allocated <= MANY_ENTRIES)
		return;
	pfree(list->entries);
	list->entries = NULL;
	list->allocated = 0;
}
