/*
 * level_list.h
 *	  What a transaction did, in its order, to be undone or told when it ends.
 *
 * An entry begins with an int: the level of the subtransaction that it is of. One
 * that ends well hands its entries to the level above; those of one that is
 * rolled back are undone, from the last to the first, and dropped. What remains
 * is for the callback of the transaction's end, which clears the list.
 */
#ifndef QS_LEVEL_LIST_H
#define QS_LEVEL_LIST_H

typedef struct QsLevelList
{
	Size		entry_size;
	void		(*undo) (void *entry);	/* may not fail; NULL: nothing is to be done */
	char	   *entries;
	int			count;
	int			allocated;
} QsLevelList;

extern void qs_level_list_init(QsLevelList *list);
extern void qs_level_list_reserve(QsLevelList *list);
extern void qs_level_list_add(QsLevelList *list, const void *entry);
extern void qs_level_list_undo(QsLevelList *list);
extern void qs_level_list_clear(QsLevelList *list);

/* An entry; it moves when others are added. */
static inline void *
qs_level_list_at(const QsLevelList *list, int n)
{
	return list->entries + n * list->entry_size;
}

#endif							/* QS_LEVEL_LIST_H */
