/*
 * table_info.c
 *	  Describes a table: see table_info.h.
 *
 * Expressions that contain only built-in functions are compiled once and kept,
 * as pgoutput keeps row filters: setting up CHECK constraints would cost more
 * than a claim.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/xact.h"
#include "announce.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "distributed.h"
#include "errors.h"
#include "executor/executor.h"
#include "group_trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parents.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "stats_trigger.h"
#include "table_info.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static QsTableInfo *infos[QS_NTABLES];
static QsTableInfo *retired = NULL;
static uint64 invalidations = 0;	/* that came, of whatever relation */

static void
forget(Datum arg pg_attribute_unused(), Oid relid)
{
	invalidations++;
	for (int i = 0; i < QS_NTABLES; i++)
		if (infos[i] != NULL &&
			(relid == InvalidOid || relid == infos[i]->relid ||
			 (infos[i]->indexes != NULL &&
			  qs_indexes_include(infos[i]->indexes, relid))))
			infos[i]->valid = false;
}

static void
free_retired(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	while (retired != NULL)
	{
		QsTableInfo *next = retired->next;

		MemoryContextDelete(retired->cxt);
		retired = next;
	}
}

/* Registers the callbacks; once a session. */
void
qs_table_info_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
	RegisterXactCallback(free_retired, NULL);
}

static bool
is_user_function(Oid funcid, void *context pg_attribute_unused())
{
	return funcid >= FirstNormalObjectId;
}

/* Whether an expression has anything in it that is not built in. */
static bool
is_user_expression(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_user_function, NULL))
		return true;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_FuncExpr:
		case T_OpExpr:
		case T_ScalarArrayOpExpr:
		case T_ArrayExpr:
		case T_BoolExpr:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CaseTestExpr:
		case T_CoalesceExpr:
		case T_NullTest:
		case T_RelabelType:
		case T_List:
			break;
		default:
			return true;		/* not among what is known to be safe to keep */
	}
	if (nodeTag(node) != T_List && nodeTag(node) != T_CaseWhen &&
		exprType(node) >= FirstNormalObjectId)
		return true;
	return expression_tree_walker(node, is_user_expression, context);
}

static void
set_expr(QsTableInfo *info, QsExpr *expr, Node *node, const char *name)
{
	expr->expr = node;
	expr->name = name;
	expr->number = info->nexprs++;
	get_typlenbyval(exprType(node), &expr->length, &expr->by_value);
	if (is_user_expression(node, NULL))
		info->runs_user_code = true;
	else
		expr->kept = ExecPrepareExpr((Expr *) copyObject(node), info->estate);
}

/* What checks that a domain allows a null. It takes one of the domain's base type. */
static Node *
null_of_domain(Form_pg_attribute att)
{
	int32		typmod = att->atttypmod;
	Oid			base = getBaseTypeAndTypmod(att->atttypid, &typmod);
	Const	   *null = makeConst(base, typmod, att->attcollation, att->attlen,
								 (Datum) 0, true, att->attbyval);

	return coerce_to_domain((Node *) null, base, typmod, att->atttypid,
							COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1, false);
}

static void
describe_columns(QsTableInfo *info, Relation rel, int set_by_us)
{
	TupleDesc	desc = RelationGetDescr(rel);

	info->natts = desc->natts;
	info->generated = palloc0(desc->natts * sizeof(QsExpr));
	info->defaults = palloc0(desc->natts * sizeof(QsExpr));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		if (qs_is_virtual(att) && att->attnotnull)
			ereport(ERROR,
					(errcode(QS_TABLE_UNSUITABLE),
					 errmsg("column \"%s\" of table \"%s\" is virtual and NOT NULL",
							NameStr(att->attname), RelationGetRelationName(rel)),
					 errhint("Use a CHECK constraint.")));
		if (att->attgenerated == ATTRIBUTE_GENERATED_STORED)
			set_expr(info, &info->generated[i],
					 build_column_default(rel, i + 1), NULL);
		else if (att->attgenerated == '\0' && i >= set_by_us)
		{
			Node	   *value = build_column_default(rel, i + 1);

			/* a null, too, must be allowed by its domain */
			if (value == NULL && get_typtype(att->atttypid) == TYPTYPE_DOMAIN)
				value = null_of_domain(att);
			if (value != NULL)
				set_expr(info, &info->defaults[i], value, NULL);
		}
	}
}

/*
 * The columns, as the executor counts them, that decide what an expression
 * says. NULL if something else does too, or it is not known which.
 */
static Bitmapset *
columns_read(Relation rel, Node *expr)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Bitmapset  *columns = NULL;
	int			member = -1;

	if (contain_mutable_functions(expr))
		return NULL;
	pull_varattnos(expr, 1, &columns);
	while ((member = bms_next_member(columns, member)) >= 0)
	{
		int			column = member + FirstLowInvalidHeapAttributeNumber;

		if (column <= 0 ||
			TupleDescAttr(desc, column - 1)->attgenerated != '\0')
			return NULL;
	}
	return columns;
}

static void
describe_checks(QsTableInfo *info, Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	if (constr == NULL)
		return;
	info->checks = palloc0(constr->num_check * sizeof(QsExpr));
	for (int i = 0; i < constr->num_check; i++)
	{
		ConstrCheck *check = &constr->check[i];
		QsExpr	   *expr = &info->checks[info->nchecks];
		Node	   *node;

		if (!qs_check_enforced(check))
			continue;
		node = qs_check_expr(rel, check);
		set_expr(info, expr, node, pstrdup(check->ccname));
		/* a user's function may say anything, and rows need not meet it yet */
		if (check->ccvalid && expr->kept != NULL)
			expr->reads = columns_read(rel, node);
		info->nchecks++;
	}
}

/* The types of our columns, by number. */
static const Oid job_types[QS_JOB_NCOLUMNS] = {
	UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
	INT2OID, BOOLOID, BOOLOID, INT4OID, BOOLOID, TIMESTAMPTZOID, TEXTOID,
	INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID,
	JSONBOID, JSONBOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID, TEXTOID,
	UUIDOID
};
static const Oid dead_types[QS_DEAD_NCOLUMNS] = {
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT2OID, TEXTOID,
	JSONBOID, JSONBOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TEXTOID, JSONBOID, TIMESTAMPTZOID, UUIDOID
};

/* Columns are used by number, so a table must have ours, whatever follows. */
static void
check_columns(Relation rel, const Oid *types, int count)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < count; i++)
		if (i >= desc->natts || TupleDescAttr(desc, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid != types[i])
			ereport(ERROR,
					(errcode(QS_TABLE_UNSUITABLE),
					 errmsg("column %d of table \"%s\" is not as queue_service made it",
							i + 1, RelationGetRelationName(rel)),
					 errhint("Add columns, but keep the type of those that are there.")));
}

/*
 * Whether an update may need to fire triggers after the row because of this
 * one: it is one, or it may change the row before. The triggers of our own keys
 * to tenants and queues never do by themselves, as no update changes those.
 */
static bool
may_fire(Relation rel, const Trigger *trigger)
{
	Oid			schema = RelationGetNamespace(rel);

	if (!TRIGGER_FOR_ROW(trigger->tgtype) ||
		!TRIGGER_FOR_UPDATE(trigger->tgtype))
		return false;
	return RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_FK ||
		(trigger->tgconstrrelid != get_relname_relid("tenants", schema) &&
		 trigger->tgconstrrelid != get_relname_relid("queues", schema));
}

static void
describe_triggers(QsTableInfo *info, Relation rel)
{
	/* catalogs are read below, and the relcache may free its own meanwhile */
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);
	uint64		ignored;

	info->sees_before = triggers != NULL &&
		(triggers->trig_update_before_row || triggers->trig_delete_before_row);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgoldtable != NULL || trigger->tgnewtable != NULL)
			ereport(ERROR,
					(errcode(QS_TABLE_UNSUITABLE),
					 errmsg("trigger \"%s\" of table \"%s\" uses a transition table",
							trigger->tgname, RelationGetRelationName(rel)),
					 errhint("Use a trigger for each row.")));
		if (qs_is_announcing(rel, trigger, &info->trigger) ||
			qs_is_counting(rel, trigger, &ignored) ||
			qs_is_grouping(rel, trigger))
		{
			info->replaced = lappend_oid(info->replaced, trigger->tgoid);
			continue;
		}
		if (RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_NONE)
			info->runs_user_code = true;
		if (may_fire(rel, trigger))
			info->update_row_triggers = true;
	}
}

static void
describe_indexes(QsTableInfo *info, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	bool		safe = true;
	ListCell   *cell;

	info->pkey = qs_primary_key(rel);
	if (!OidIsValid(info->pkey))
		ereport(ERROR,
				(errcode(QS_TABLE_UNSUITABLE),
				 errmsg("table \"%s\" has no primary key",
						RelationGetRelationName(rel))));
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_user_expression((Node *) RelationGetIndexExpressions(index), NULL) ||
			is_user_expression((Node *) RelationGetIndexPredicate(index), NULL))
			safe = false;
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (safe)
		info->indexes = qs_indexes_describe(rel, info->estate);
	else
		info->runs_user_code = true;
}

/*
 * What is known of the table, which must be locked. QS_TABLE_UNSUITABLE or
 * QS_TABLE_DISTRIBUTED if it is not one that table.c can write.
 */
QsTableInfo *
qs_table_describe(Relation rel, QsTableKind kind)
{
	static uint64 descriptions = 0;
	QsTableInfo *info = infos[kind];
	uint64		before = invalidations;
	MemoryContext cxt;
	MemoryContext caller;

	if (info != NULL && info->valid && info->relid == RelationGetRelid(rel))
		return info;
	if (info != NULL)
	{
		info->next = retired;
		retired = info;
		infos[kind] = NULL;
	}

	/* claims read the heap's own pages (see ready_direct.c) */
	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_tableam != GetHeapamTableAmRoutine())
		ereport(ERROR,
				(errcode(QS_TABLE_UNSUITABLE),
				 errmsg("\"%s\" is not a plain table of access method heap",
						RelationGetRelationName(rel))));
	qs_refuse_distributed(&RelationGetRelid(rel), 1);

	if (kind == QS_DEAD_LETTER_JOBS)
		check_columns(rel, dead_types, QS_DEAD_NCOLUMNS);
	else
		check_columns(rel, job_types, QS_JOB_NCOLUMNS);

	/* the writes here are no statements that a rule could rewrite */
	if (rel->rd_rules != NULL)
		ereport(ERROR,
				(errcode(QS_TABLE_UNSUITABLE),
				 errmsg("table \"%s\" has rules", RelationGetRelationName(rel)),
				 errhint("Use triggers.")));

	/* under the call's context until all went well */
	cxt = AllocSetContextCreate(CurrentMemoryContext, "queue_service table",
								ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(cxt);
	info = palloc0(sizeof(QsTableInfo));
	info->relid = RelationGetRelid(rel);
	info->version = ++descriptions;
	info->cxt = cxt;
	info->estate = CreateExecutorState();
	describe_columns(info, rel,
					 kind == QS_DEAD_LETTER_JOBS ? QS_DEAD_NCOLUMNS : QS_JOB_NCOLUMNS);
	describe_checks(info, rel);
	describe_triggers(info, rel);
	describe_indexes(info, rel);
	info->parents = qs_parents_describe(rel);
	if (!info->runs_user_code)
		info->replaced = list_concat(info->replaced,
									 qs_parents_triggers(info->parents));
	MemoryContextSwitchTo(caller);

	/* NOLINTNEXTLINE(readability-suspicious-call-argument): the child is first */
	MemoryContextSetParent(cxt, CacheMemoryContext);
	/* what changed while we looked is looked at again by the next call */
	info->valid = invalidations == before;
	infos[kind] = info;
	return info;
}

/*
 * Version of the description of a table, as long as nothing has changed that
 * it describes, which includes the table's indexes; 0 otherwise.
 */
uint64
qs_table_version(QsTableKind kind, Oid relid)
{
	const QsTableInfo *info = infos[kind];

	return info != NULL && info->valid && info->relid == relid &&
		info->indexes != NULL ? info->version : 0;
}
