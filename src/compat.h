/*
 * compat.h
 *	  Every difference between PostgreSQL versions stands here.
 */
#ifndef QS_COMPAT_H
#define QS_COMPAT_H

#include "postgres.h"

#include "access/tableam.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "parser/parse_relation.h"
#include "rewrite/rewriteHandler.h"
#include "storage/proc.h"
#include "utils/acl.h"

/* in front of the declaration of a function that does not return */
#if PG_VERSION_NUM >= 180000
#define qs_noreturn pg_noreturn
#else
#define qs_noreturn pg_attribute_noreturn()
#endif

/* A number for each backend that can be, from 0; of its transaction. */
#if PG_VERSION_NUM >= 170000
#define qs_my_backend_slot() MyProcNumber
#define qs_local_transaction_id() (MyProc->vxid.lxid)
#else
#define qs_my_backend_slot() (MyProc->pgprocno)
#define qs_local_transaction_id() (MyProc->lxid)
#endif
#define qs_backend_slots() (MaxBackends + NUM_AUXILIARY_PROCS)

/* the file of a relation */
#if PG_VERSION_NUM >= 160000
#define qs_file_number(rel) ((rel)->rd_locator.relNumber)
#define qs_file_tablespace(rel) ((rel)->rd_locator.spcOid)
#else
#define qs_file_number(rel) ((rel)->rd_node.relNode)
#define qs_file_tablespace(rel) ((rel)->rd_node.spcNode)
#endif

/* which indexes an updated row needs new entries in */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes QsIndexUpdate;
#define QS_NO_INDEXES TU_None
#define QS_ONLY_SUMMARIZING(u) ((u) == TU_Summarizing)
#define qs_insert_index_tuples(rri, slot, estate, update, summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, update, false, NULL, NIL, summarizing)
#else
typedef bool QsIndexUpdate;
#define QS_NO_INDEXES false
#define QS_ONLY_SUMMARIZING(u) false
#define qs_insert_index_tuples(rri, slot, estate, update, summarizing) \
	((void) (summarizing), \
	 ExecInsertIndexTuples(rri, slot, estate, update, false, NULL, NIL))
#endif

#if PG_VERSION_NUM >= 160000
#define qs_may_execute(proc, role) \
	(object_aclcheck(ProcedureRelationId, proc, role, ACL_EXECUTE) == ACLCHECK_OK)
#else
#define qs_may_execute(proc, role) \
	(pg_proc_aclcheck(proc, role, ACL_EXECUTE) == ACLCHECK_OK)
#endif

/*
 * Means for triggers to find a newer version of the row. They are asked for,
 * but as the row is locked there is none.
 */
static inline void
qs_init_recheck(EPQState *recheck, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	EvalPlanQualInit(recheck, estate, NULL, NIL, -1, NIL);
#else
	EvalPlanQualInit(recheck, estate, NULL, NIL, -1);
#endif
}

static inline bool
qs_update_row_triggers(EState *estate, ResultRelInfo *rri, ItemPointer tid,
					   TupleTableSlot *slot)
{
	EPQState	recheck;

	qs_init_recheck(&recheck, estate);
#if PG_VERSION_NUM >= 180000
	return ExecBRUpdateTriggers(estate, &recheck, rri, tid, NULL, slot, NULL, NULL, false);
#elif PG_VERSION_NUM >= 160000
	return ExecBRUpdateTriggers(estate, &recheck, rri, tid, NULL, slot, NULL, NULL);
#else
	return ExecBRUpdateTriggers(estate, &recheck, rri, tid, NULL, slot, NULL);
#endif
}

static inline bool
qs_delete_row_triggers(EState *estate, ResultRelInfo *rri, ItemPointer tid)
{
	EPQState	recheck;

	qs_init_recheck(&recheck, estate);
#if PG_VERSION_NUM >= 180000
	return ExecBRDeleteTriggers(estate, &recheck, rri, tid, NULL, NULL, NULL, NULL, false);
#elif PG_VERSION_NUM >= 160000
	return ExecBRDeleteTriggers(estate, &recheck, rri, tid, NULL, NULL, NULL, NULL);
#else
	return ExecBRDeleteTriggers(estate, &recheck, rri, tid, NULL, NULL);
#endif
}

/* waits for whoever has the row, unless it is locked already */
#define qs_tuple_update(rel, tid, slot, cid, tmfd, lockmode, indexes) \
	table_tuple_update(rel, tid, slot, cid, InvalidSnapshot, InvalidSnapshot, \
					   true, tmfd, lockmode, indexes)

#if PG_VERSION_NUM >= 180000
#define qs_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define qs_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#endif

#if PG_VERSION_NUM >= 180000
#define qs_primary_key(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define qs_primary_key(rel) RelationGetPrimaryKeyIndex(rel)
#endif

#if PG_VERSION_NUM >= 170000
#define qs_interval_is_finite(i) (!INTERVAL_NOT_FINITE(i))
#else
#define qs_interval_is_finite(i) true
#endif

#if PG_VERSION_NUM >= 180000
#define qs_check_enforced(check) ((check)->ccenforced)
#define qs_is_virtual(att) ((att)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define qs_check_enforced(check) true
#define qs_is_virtual(att) false
#endif

/* what a CHECK says of columns that are in the row */
static inline Node *
qs_check_expr(Relation rel, const ConstrCheck *check)
{
	Node	   *node = stringToNode(check->ccbin);

#if PG_VERSION_NUM >= 180000
	node = expand_generated_columns_in_expr(node, rel, 1);
#endif
	(void) rel;
	return node;
}

/*
 * Makes rel the one entry of estate's range table, and returns where the
 * columns are noted that an update changes.
 */
static inline Bitmapset **
qs_init_range_table(EState *estate, Relation rel)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 160000
	{
		List	   *perminfos = NIL;
		RTEPermissionInfo *perminfo = addRTEPermissionInfo(&perminfos, rte);

#if PG_VERSION_NUM >= 180000
		ExecInitRangeTable(estate, list_make1(rte), perminfos,
						   bms_make_singleton(1));
#else
		ExecInitRangeTable(estate, list_make1(rte), perminfos);
#endif
		return &perminfo->updatedCols;
	}
#else
	ExecInitRangeTable(estate, list_make1(rte));
	return &rte->updatedCols;
#endif
}

#endif							/* QS_COMPAT_H */
