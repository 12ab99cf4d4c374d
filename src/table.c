/*
 * table.c
 *	  Rows of the extension's tables: see table.h.
 *
 * The writes are those of ExecSimpleRelationUpdate() and its kin
 * (execReplication.c), with four differences. Indexes are opened only when
 * an update was not HOT, as a claim normally is, and written by indexes.c if
 * they are of the common kind. Most expressions are compiled once and kept
 * (table_info.c). A violated CHECK is reported without the row, since a payload
 * has no place in an error. And triggers of our own are not fired, but their
 * work is done at once: announcing (announce.c), and the checks of our foreign
 * keys (parents.c).
 *
 * Rows are locked before they are updated, without key, and a row that is
 * locked is its latest version. So no write below can find the row changed by
 * another transaction; if one does, that is an internal error. Only
 * qs_update_if_same() and its like write a row as it was found, as the executor
 * does: they wait for whoever has it, and refuse if it is not the same then.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "announce.h"
#include "commands/trigger.h"
#include "compat.h"
#include "errors.h"
#include "executor/executor.h"
#include "groups.h"
#include "miscadmin.h"
#include "parents.h"
#include "recent.h"
#include "slots.h"
#include "stats_note.h"
#include "table.h"
#include "table_info.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Opens a table for writing. */
static void
open_table(QsTable *table, QsJobs *jobs, QsTableKind kind)
{
	QsCall	   *call = jobs->call;
	Relation	rel = table_open(call->cat->table[kind], RowExclusiveLock);

	memset(table, 0, sizeof(*table));
	table->jobs = jobs;
	table->call = call;
	table->kind = kind;
	table->rel = rel;
	table->info = qs_table_describe(rel, kind);
	if (table->info->runs_user_code)
		qs_pin_search_path(call);

	table->cid = GetCurrentCommandId(true);
	table->old = table_slot_create(rel, NULL);
}

/* Turns off the triggers whose work is done here, in the table's own copy. */
static void
replace_triggers(QsTable *table)
{
	TriggerDesc *triggers = table->rri->ri_TrigDesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (list_member_oid(table->info->replaced, triggers->triggers[i].tgoid))
			triggers->triggers[i].tgenabled = TRIGGER_DISABLED;
}

/* Makes ready for a row to be written; not all that is searched is. */
static void
prepare_to_write(QsTable *table)
{
	Relation	rel = table->rel;
	MemoryContext caller;

	if (table->estate != NULL)
		return;
	table->estate = CreateExecutorState();
	caller = MemoryContextSwitchTo(table->estate->es_query_cxt);
	table->updated_columns = qs_init_range_table(table->estate, rel);
	table->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(table->rri, rel, 1, NULL, 0);
	replace_triggers(table);
	table->estate->es_output_cid = table->cid;
	table->new = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	table->new->tts_tableOid = RelationGetRelid(rel);
	table->formed = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
	table->values = palloc(table->info->natts * sizeof(Datum));
	table->nulls = palloc(table->info->natts * sizeof(bool));
	table->states = palloc0(table->info->nexprs * sizeof(ExprState *));
	MemoryContextSwitchTo(caller);
}

/* Starts the tables of a call; none is open yet. */
void
qs_jobs_begin(QsJobs *jobs, QsCall *call)
{
	jobs->call = call;
	jobs->after_triggers = false;
	jobs->impatient = false;
	jobs->groups_left = NIL;
	memset(jobs->open, 0, sizeof(jobs->open));
}

QsTable *
qs_jobs_table(QsJobs *jobs, QsTableKind kind)
{
	if (!jobs->open[kind])
	{
		open_table(&jobs->tables[kind], jobs, kind);
		jobs->open[kind] = true;
	}
	return &jobs->tables[kind];
}

static void
fire_after_statement(QsTable *table)
{
	if (table->statement_triggers[CMD_INSERT])
		ExecASInsertTriggers(table->estate, table->rri, NULL);
	if (table->statement_triggers[CMD_UPDATE])
		ExecASUpdateTriggers(table->estate, table->rri, NULL);
	if (table->statement_triggers[CMD_DELETE])
		ExecASDeleteTriggers(table->estate, table->rri, NULL);
}

/* Opens a table to be looked at only, and not for longer than that. */
void
qs_look_open(QsTable *table, QsCall *call, QsTableKind kind)
{
	memset(table, 0, sizeof(*table));
	table->call = call;
	table->kind = kind;
	table->rel = table_open(call->cat->table[kind], AccessShareLock);
	table->info = qs_table_describe(table->rel, kind);
}

void
qs_look_close(QsTable *table)
{
	table_close(table->rel, AccessShareLock);
}

/* Whether a write of this call may have run something of a user's. */
bool
qs_runs_user_code(const QsJobs *jobs)
{
	for (int i = 0; i < QS_NTABLES; i++)
		if (jobs->open[i] && jobs->tables[i].info->runs_user_code)
			return true;
	return false;
}

/* Version of the announcing trigger; 0 unless every write is announced. */
uint64
qs_announcing_version(const QsTable *table)
{
	return table->info->trigger;
}

static void
close_table(QsTable *table)
{
	if (table->by_id != NULL)
	{
		index_endscan(table->by_id);
		index_close(table->pkey, NoLock);
	}
	ExecDropSingleTupleTableSlot(table->old);
	if (table->estate != NULL)
	{
		if (table->indexes != NULL)
			qs_indexes_close(table->info->indexes, table->indexes);
		if (table->indexes_open)
			ExecCloseIndices(table->rri);
		ExecDropSingleTupleTableSlot(table->new);
		ExecDropSingleTupleTableSlot(table->formed);
		ExecResetTupleTable(table->estate->es_tupleTable, false);
		FreeExecutorState(table->estate);
	}
	table_close(table->rel, NoLock);
}

/*
 * Settles groups, fires what is due after the statement, and closes the tables;
 * locks stay.
 * All tables share one queue of after triggers, which looks for each event's
 * table among the result relations of the executor state that it is given.
 */
void
qs_jobs_end(QsJobs *jobs)
{
	EState	   *estate = NULL;

	(void) qs_groups_settle(jobs);
	for (int i = 0; i < QS_NTABLES; i++)
	{
		if (!jobs->open[i] || jobs->tables[i].estate == NULL)
			continue;
		fire_after_statement(&jobs->tables[i]);
		if (estate == NULL)
			estate = jobs->tables[i].estate;
		estate->es_opened_result_relations =
			lappend(estate->es_opened_result_relations, jobs->tables[i].rri);
	}
	if (jobs->after_triggers)
		AfterTriggerEndQuery(estate);
	for (int i = 0; i < QS_NTABLES; i++)
		if (jobs->open[i])
			close_table(&jobs->tables[i]);
}

/*
 * Takes the columns of the locked row, to be read and set. What was left of the
 * table's row before, also by its triggers, is gone.
 */
void
qs_load(QsTable *table)
{
	prepare_to_write(table);
	ResetPerTupleExprContext(table->estate);
	slot_getallattrs(table->old);
	memcpy(table->values, table->old->tts_values,
		   table->info->natts * sizeof(Datum));
	memcpy(table->nulls, table->old->tts_isnull,
		   table->info->natts * sizeof(bool));
	table->changed = NULL;
	table->events = 0;
	table->goes_first = false;
}

/* Starts a row in which every column is null. */
void
qs_new_row(QsTable *table)
{
	prepare_to_write(table);
	ResetPerTupleExprContext(table->estate);
	memset(table->values, 0, table->info->natts * sizeof(Datum));
	memset(table->nulls, true, table->info->natts * sizeof(bool));
	table->goes_first = false;
}

static void
note_change(QsTable *table, int column)
{
	MemoryContext caller = MemoryContextSwitchTo(table->estate->es_query_cxt);

	table->changed = bms_add_member(table->changed,
									column - FirstLowInvalidHeapAttributeNumber);
	MemoryContextSwitchTo(caller);
}

/* Sets a column; a value by reference must live until the row is written. */
void
qs_set(QsTable *table, int column, Datum value)
{
	table->values[column - 1] = value;
	table->nulls[column - 1] = false;
	note_change(table, column);
}

void
qs_set_null(QsTable *table, int column)
{
	table->values[column - 1] = (Datum) 0;
	table->nulls[column - 1] = true;
	note_change(table, column);
}

/* Whether the call may see the row. All our tables have tenant_id second. */
static bool
is_own(QsTable *table)
{
	bool		isnull;
	Datum		tenant;

	if (!table->call->has_tenant)
		return true;
	tenant = slot_getattr(table->old, QS_JOB_TENANT_ID, &isnull);
	return memcmp(DatumGetUUIDP(tenant), &table->call->tenant, UUID_LEN) == 0;
}

/* What the call itself wrote is visible, and may be written, from here on. */
void
qs_see_own_writes(QsJobs *jobs)
{
	qs_renew_snapshot();
	for (int i = 0; i < QS_NTABLES; i++)
	{
		QsTable    *table = &jobs->tables[i];

		if (!jobs->open[i])
			continue;
		table->cid = GetCurrentCommandId(true);
		if (table->estate != NULL)	/* it was written, not only read */
			table->estate->es_output_cid = table->cid;
	}
}

static bool
find_in_pkey(QsTable *table, const pg_uuid_t *id)
{
	ScanKeyData key;

	if (table->by_id == NULL)
	{
		table->pkey = index_open(table->info->pkey, RowExclusiveLock);
		table->by_id = qs_index_beginscan(table->rel, table->pkey,
										  GetActiveSnapshot(), 1);
	}
	table->by_id->xs_snapshot = GetActiveSnapshot();	/* qs_see_own_writes() */
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	index_rescan(table->by_id, &key, 1, NULL, 0);
	return index_getnext_slot(table->by_id, ForwardScanDirection, table->old);
}

/* Puts the row with this id into the table's slot; false if there is none. */
static bool
find_by_id(QsTable *table, const pg_uuid_t *id)
{
	return (qs_recent_find(table, id) || find_in_pkey(table, id)) &&
		is_own(table);
}

/*
 * Finds the row with this id as the call's snapshot has it, and loads its
 * columns, for qs_update_if_same() or qs_delete_if_same(). False also if the
 * row must be locked before it is written, for triggers that see it before.
 */
bool
qs_find_by_id(QsTable *table, const pg_uuid_t *id)
{
	if (table->info->sees_before || !find_by_id(table, id))
		return false;
	qs_load(table);
	return true;
}

static bool
lock_by_id(QsTable *table, const pg_uuid_t *id, LockWaitPolicy policy)
{
	while (find_by_id(table, id))
	{
		TM_FailureData tmfd;
		TM_Result	result;
		ItemPointerData tid = table->old->tts_tid;

		result = table_tuple_lock(table->rel, &tid, GetActiveSnapshot(),
								  table->old, table->cid,
								  LockTupleNoKeyExclusive, policy,
								  IsolationUsesXactSnapshot() ? 0 :
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &tmfd);
		switch (result)
		{
			case TM_Ok:
				qs_load(table);
				return true;
			case TM_SelfModified:
				/* an id that is given twice, or a trigger was there before */
				qs_see_own_writes(table->jobs);
				break;
			case TM_WouldBlock:
				return false;
			default:
				if (IsolationUsesXactSnapshot())
					qs_serialization_failure();
				if (result != TM_Deleted)
					elog(ERROR, "unexpected result %d of a row lock", result);
				return false;
		}
	}
	return false;
}

/*
 * Finds the row with this id, locks its latest version, waiting for whoever
 * has it, and loads its columns. False if there is none, or none any more, or
 * it is another tenant's: such a row is not locked either. At REPEATABLE READ
 * and above a row that changed since the snapshot is a serialization failure.
 */
bool
qs_lock_by_id(QsTable *table, const pg_uuid_t *id)
{
	return lock_by_id(table, id, LockWaitBlock);
}

/* The same without waiting; false also if another transaction has the row. */
bool
qs_try_lock_by_id(QsTable *table, const pg_uuid_t *id)
{
	return lock_by_id(table, id, LockWaitSkip);
}

void
qs_serialization_failure(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

/* Compiled for this call. */
static ExprState *
compiled(QsTable *table, QsExpr *expr)
{
	ExprState **state = &table->states[expr->number];

	if (*state == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(table->estate->es_query_cxt);

		*state = ExecPrepareExpr((Expr *) copyObject(expr->expr), table->estate);
		if (table->context == NULL)
			table->context = CreateExprContext(table->estate);
		MemoryContextSwitchTo(caller);
	}
	return *state;
}

/*
 * Evaluates an expression of the table for the new row. The value lives as
 * long as that row, in the per-tuple context of the table's executor state; so
 * may what a trigger made of the row, so it is not evaluated there.
 */
static Datum
evaluate(QsTable *table, QsExpr *expr, bool *isnull)
{
	ExprState  *state = expr->kept ? expr->kept : compiled(table, expr);
	ExprContext *context = expr->kept ?
	GetPerTupleExprContext(table->info->estate) : table->context;
	Datum		value;

	context->ecxt_scantuple = table->new;
	value = ExecEvalExprSwitchContext(state, context, isnull);
	if (!*isnull && !expr->by_value)
	{
		MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(table->estate));

		value = datumCopy(value, expr->by_value, expr->length);
		MemoryContextSwitchTo(caller);
	}
	context->ecxt_scantuple = NULL;
	ResetExprContext(context);
	return value;
}

/* Puts the columns that were set into the new row. */
static void
store_new(QsTable *table)
{
	ExecClearTuple(table->new);
	memcpy(table->new->tts_values, table->values,
		   table->info->natts * sizeof(Datum));
	memcpy(table->new->tts_isnull, table->nulls,
		   table->info->natts * sizeof(bool));
	ExecStoreVirtualTuple(table->new);
}

static void
fill_columns(QsTable *table, QsExpr *exprs)
{
	for (int i = 0; i < table->info->natts; i++)
		if (exprs[i].expr != NULL)
			table->new->tts_values[i] = evaluate(table, &exprs[i],
												 &table->new->tts_isnull[i]);
}

/*
 * After the triggers before the row: what the table's definition demands. A
 * CHECK that reads none of the changed columns still says what it said of the
 * row as it was. changed is NULL if there was none, or a trigger may have
 * changed anything.
 */
static void
finish_new(QsTable *table, const Bitmapset *changed)
{
	TupleDesc	desc = RelationGetDescr(table->rel);

	slot_getallattrs(table->new);
	fill_columns(table, table->info->generated);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attnotnull && table->new->tts_isnull[i])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
							NameStr(att->attname),
							RelationGetRelationName(table->rel)),
					 errtablecol(table->rel, i + 1)));
	}
	for (int i = 0; i < table->info->nchecks; i++)
	{
		QsExpr	   *check = &table->info->checks[i];
		bool		isnull;

		if (changed != NULL && check->reads != NULL &&
			!bms_overlap(check->reads, changed))
			continue;
		if (!DatumGetBool(evaluate(table, check, &isnull)) && !isnull)
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("new row for relation \"%s\" violates check constraint \"%s\"",
							RelationGetRelationName(table->rel), check->name),
					 errtableconstraint(table->rel, check->name)));
	}
	memcpy(table->values, table->new->tts_values,
		   table->info->natts * sizeof(Datum));
	memcpy(table->nulls, table->new->tts_isnull,
		   table->info->natts * sizeof(bool));
}

/*
 * The new row as the heap takes it. (What is virtual, the heap would copy first
 * and form then.)
 */
static TupleTableSlot *
form_new(QsTable *table)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(table->rel),
										table->new->tts_values,
										table->new->tts_isnull);

	return ExecStoreHeapTuple(tuple, table->formed, true);
}

/*
 * Puts the new row into the indexes. changed has the columns that an update
 * sets, as the executor counts them; NULL if it may have changed anything.
 */
static List *
insert_index_entries(QsTable *table, bool update, bool summarizing,
					 const Bitmapset *changed)
{
	QsIndexes  *indexes = table->info->indexes;

	if (indexes != NULL)
	{
		if (table->indexes == NULL)
			table->indexes = qs_indexes_open(indexes);
		qs_indexes_insert(indexes, table->indexes, table->rel, table->new,
						  changed);
		return NIL;
	}
	if (!table->indexes_open)
	{
		MemoryContext caller = MemoryContextSwitchTo(table->estate->es_query_cxt);

		ExecOpenIndices(table->rri, false);
		MemoryContextSwitchTo(caller);
		table->indexes_open = true;
	}
	return qs_insert_index_tuples(table->rri, table->new, table->estate,
								  update, summarizing);
}

/* Before the first row of a command: its triggers for the statement. */
static void
begin_command(QsTable *table, CmdType command)
{
	TriggerDesc *triggers = table->rri->ri_TrigDesc;

	table->estate->es_snapshot = GetActiveSnapshot();
	if (!table->jobs->after_triggers)
	{
		AfterTriggerBeginQuery();
		table->jobs->after_triggers = true;
	}
	if (table->statement_triggers[command])
		return;
	table->statement_triggers[command] = true;
	CheckCmdReplicaIdentity(table->rel, command);
	if (triggers == NULL)
		return;
	if (command == CMD_INSERT)
		ExecBSInsertTriggers(table->estate, table->rri);
	else if (command == CMD_UPDATE)
		ExecBSUpdateTriggers(table->estate, table->rri);
	else
		ExecBSDeleteTriggers(table->estate, table->rri);
}

static void
check_written(QsTable *table, TM_Result result)
{
	if (result == TM_Ok)
		return;
	if (result == TM_SelfModified)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg("a row of \"%s\" was already modified by a trigger for the same change",
						RelationGetRelationName(table->rel))));
	elog(ERROR, "unexpected result %d of writing a locked row", result);
}

/*
 * Writes the columns that were set; false if a trigger said that they should
 * not be. *result says whether the row was still there to be written: a locked
 * one is. Afterwards the columns are those of the new version.
 */
static bool
write_update(QsTable *table, TM_Result *result)
{
	TriggerDesc *triggers = table->rri->ri_TrigDesc;
	ItemPointer tid = &table->old->tts_tid;
	const Bitmapset *changed;
	List	   *recheck = NIL;
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	QsIndexUpdate update_indexes = QS_NO_INDEXES;

	qs_group_before_update(table);
	changed = table->changed;
	*table->updated_columns = table->changed;
	begin_command(table, CMD_UPDATE);
	store_new(table);
	if (triggers != NULL && triggers->trig_update_before_row)
	{
		if (!qs_update_row_triggers(table->estate, table->rri, tid, table->new))
			return false;
		changed = NULL;
	}
	finish_new(table, changed);

	*result = qs_tuple_update(table->rel, tid, form_new(table), table->cid,
							  &tmfd, &lockmode, &update_indexes);
	if (*result != TM_Ok)
		return true;
	table->new->tts_tid = table->formed->tts_tid;
	if (update_indexes != QS_NO_INDEXES)
		recheck = insert_index_entries(table, true,
									   QS_ONLY_SUMMARIZING(update_indexes),
									   changed);
	qs_announce_update(table, update_indexes != QS_NO_INDEXES);
	qs_slots_after_update(table);
	qs_stats_after_update(table);
	qs_group_after_update(table);
	if (table->info->update_row_triggers || recheck != NIL)
		ExecARUpdateTriggers(table->estate, table->rri, NULL, NULL, tid, NULL,
							 table->new, recheck, NULL, false);
	return true;
}

/*
 * Writes the columns that were set to the locked row; false if a trigger said
 * that it should not be.
 */
bool
qs_try_update(QsTable *table)
{
	TM_Result	result;

	if (!write_update(table, &result))
		return false;
	check_written(table, result);
	return true;
}

static void
suppressed(QsTable *table, const char *what)
{
	ereport(ERROR,
			(errcode(QS_TABLE_UNSUITABLE),
			 errmsg("a trigger on \"%s\" suppressed %s that cannot be left out",
					RelationGetRelationName(table->rel), what)));
}

/* Like qs_try_update(), where a suppressed update is an error. */
void
qs_update(QsTable *table)
{
	if (!qs_try_update(table))
		suppressed(table, "an update");
}

/*
 * Inserts the row that qs_new_row() began. QS_QUEUE_UNKNOWN if its queue was
 * dropped meanwhile.
 */
void
qs_insert(QsTable *table)
{
	TriggerDesc *triggers = table->rri->ri_TrigDesc;
	List	   *recheck;

	qs_parents_lock(table, DatumGetUUIDP(qs_get(table, QS_JOB_TENANT_ID)),
					DatumGetUUIDP(qs_get(table, QS_JOB_QUEUE_ID)));
	begin_command(table, CMD_INSERT);
	store_new(table);
	fill_columns(table, table->info->defaults);
	if (triggers != NULL && triggers->trig_insert_before_row &&
		!ExecBRInsertTriggers(table->estate, table->rri, table->new))
		suppressed(table, "an insert");
	qs_group_before_insert(table);
	finish_new(table, NULL);
	table_tuple_insert(table->rel, form_new(table), table->cid, 0, NULL);
	table->new->tts_tid = table->formed->tts_tid;
	recheck = insert_index_entries(table, false, false, NULL);
	qs_announce_insert(table);
	qs_stats_after_insert(table);
	ExecARInsertTriggers(table->estate, table->rri, table->new, recheck, NULL);
}

static TM_Result
write_delete(QsTable *table)
{
	TriggerDesc *triggers = table->rri->ri_TrigDesc;
	ItemPointer tid = &table->old->tts_tid;
	TM_FailureData tmfd;
	TM_Result	result;

	begin_command(table, CMD_DELETE);
	if (triggers != NULL && triggers->trig_delete_before_row &&
		!qs_delete_row_triggers(table->estate, table->rri, tid))
		suppressed(table, "a delete");
	result = table_tuple_delete(table->rel, tid, table->cid,
								table->estate->es_snapshot,
								InvalidSnapshot, true, &tmfd, false);
	if (result == TM_Ok)
	{
		qs_slots_after_delete(table);
		qs_stats_after_delete(table);
		qs_group_after_delete(table);
		ExecARDeleteTriggers(table->estate, table->rri, tid, NULL, NULL, false);
	}
	return result;
}

/* Deletes the locked row. */
void
qs_delete(QsTable *table)
{
	check_written(table, write_delete(table));
}

/*
 * Writes the row that qs_find_by_id() found. False if it is not the same any
 * more, and then nothing was written: it is to be found anew, and locked.
 */
bool
qs_update_if_same(QsTable *table)
{
	TM_Result	result;

	return write_update(table, &result) && result == TM_Ok;
}

/* The same, and deletes it. */
bool
qs_delete_if_same(QsTable *table)
{
	return write_delete(table) == TM_Ok;
}
