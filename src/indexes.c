/*
 * indexes.c
 *	  Puts rows into indexes: see indexes.h.
 *
 * This is ExecInsertIndexTuples() for the indexes that our tables normally
 * have: B-trees on columns, unique at once or not at all, with predicates that
 * are safe to keep compiled. The executor sets all of it up again for each
 * statement, which costs more than the entries. A table with any other index
 * is left to the executor.
 *
 * What is known of a table's indexes is kept until one of them, or the table,
 * is invalidated. A lock on the table is held from before that is looked at,
 * so no index can be missed: who builds one waits for such locks.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "indexes.h"
#include "utils/rel.h"

typedef struct QsIndex
{
	Oid			relid;
	IndexInfo  *info;			/* its predicate compiled */
	bool		unique;
	bool		complete;		/* every row has an entry */
} QsIndex;

struct QsIndexes
{
	EState	   *estate;			/* to evaluate predicates in */
	Bitmapset  *generated;		/* columns, as the executor counts them */
	int			count;
	QsIndex    *each;
};

/*
 * Describes a table's indexes, in the current context and with estate to
 * evaluate their predicates, all of which are safe to keep. NULL if they must
 * be left to the executor.
 */
QsIndexes *
qs_indexes_describe(Relation rel, EState *estate)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *oids = RelationGetIndexList(rel);
	QsIndexes  *indexes = palloc0(sizeof(QsIndexes));
	bool		plain = true;
	ListCell   *cell;

	indexes->estate = estate;
	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attgenerated != '\0')
			indexes->generated =
				bms_add_member(indexes->generated,
							   i + 1 - FirstLowInvalidHeapAttributeNumber);
	indexes->each = palloc0(list_length(oids) * sizeof(QsIndex));
	foreach(cell, oids)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		IndexInfo  *info = BuildIndexInfo(index);
		QsIndex    *entry = &indexes->each[indexes->count++];

		if (index->rd_rel->relam != BTREE_AM_OID ||
			info->ii_Expressions != NIL || info->ii_ExclusionOps != NULL ||
			(index->rd_index->indisunique && !index->rd_index->indimmediate))
			plain = false;
		entry->relid = RelationGetRelid(index);
		entry->info = info;
		entry->unique = index->rd_index->indisunique;
		entry->complete = index->rd_index->indisvalid &&
			info->ii_Predicate == NIL;
		if (info->ii_Predicate != NIL)
			info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, estate);
		index_close(index, AccessShareLock);
	}
	list_free(oids);
	return plain ? indexes : NULL;
}

/* Whether relid is one of the indexes. */
bool
qs_indexes_include(const QsIndexes *indexes, Oid relid)
{
	for (int i = 0; i < indexes->count; i++)
		if (indexes->each[i].relid == relid)
			return true;
	return false;
}

/* Starts to use the indexes; each is opened when it first gets an entry. */
Relation *
qs_indexes_open(const QsIndexes *indexes)
{
	return palloc0(indexes->count * sizeof(Relation));
}

/* Whether an index has an entry for the row in slot. */
static bool
is_wanted(const QsIndexes *indexes, const IndexInfo *info, TupleTableSlot *slot)
{
	ExprContext *context = GetPerTupleExprContext(indexes->estate);
	bool		wanted;

	if (!info->ii_ReadyForInserts)
		return false;
	if (info->ii_PredicateState == NULL)
		return true;
	context->ecxt_scantuple = slot;
	wanted = ExecQualAndReset(info->ii_PredicateState, context);
	context->ecxt_scantuple = NULL;
	return wanted;
}

/* Whether an update left all columns of an index as they were. */
static bool
is_unchanged(const QsIndexes *indexes, const IndexInfo *info,
			 const Bitmapset *changed)
{
	if (changed == NULL)
		return false;
	for (int i = 0; i < info->ii_NumIndexKeyAttrs; i++)
	{
		int			column = info->ii_IndexAttrNumbers[i] -
			FirstLowInvalidHeapAttributeNumber;

		if (bms_is_member(column, changed) ||
			bms_is_member(column, indexes->generated))
			return false;
	}
	return true;
}

/*
 * Makes an entry for the row in slot in each index whose predicate it meets.
 * changed has the columns that an update sets, as the executor counts them;
 * NULL if the row is new, or anything in it may have changed.
 *
 * A unique key that did not change is not looked for again: the version before
 * has it, and is ours until we commit. Who inserts the same key meanwhile finds
 * that one, waits for us, and then finds this. That needs an entry of the
 * version before, which a predicate may have kept out, or a build that goes on.
 */
void
qs_indexes_insert(const QsIndexes *indexes, Relation *open, Relation rel,
				  TupleTableSlot *slot, const Bitmapset *changed)
{
	for (int i = 0; i < indexes->count; i++)
	{
		const QsIndex *index = &indexes->each[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];
		bool		unchanged;

		if (!is_wanted(indexes, index->info, slot))
			continue;
		if (open[i] == NULL)
			open[i] = index_open(index->relid, RowExclusiveLock);
		FormIndexDatum(index->info, slot, indexes->estate, values, nulls);
		unchanged = is_unchanged(indexes, index->info, changed);
		index_insert(open[i], values, nulls, &slot->tts_tid, rel,
					 index->unique && !(unchanged && index->complete) ?
					 UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
					 unchanged, index->info);
	}
}

void
qs_indexes_close(const QsIndexes *indexes, Relation *open)
{
	for (int i = 0; i < indexes->count; i++)
		if (open[i] != NULL)
			index_close(open[i], NoLock);
}
