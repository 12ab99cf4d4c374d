/*
 * guard.c
 *	  The trigger that keeps tenants from what is the platform's.
 *
 * It writes nothing and fails only for a tenant, so that a restore, which runs
 * as the owner, never meets it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "call.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(qs_queue_guard);

static const char *const platform_columns[] = {
	"weight", "max_depth", "max_concurrency", "critical_reserve", "rate_limiter",
	"enqueue_limiter"
};

/*
 * Whether a new queue leaves a platform column at its default: NULL, but for
 * these two.
 */
static bool
is_default(Relation rel, int column, HeapTuple row)
{
	const char *name = NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname);
	bool		isnull;
	Datum		value = heap_getattr(row, column, RelationGetDescr(rel), &isnull);

	if (strcmp(name, "weight") == 0)
		return !isnull && DatumGetInt32(value) == 1;
	if (strcmp(name, "critical_reserve") == 0)
		return !isnull && DatumGetInt32(value) == 0;
	return isnull;
}

static bool
is_changed(TupleDesc desc, int column, HeapTuple old, HeapTuple new)
{
	Form_pg_attribute att = TupleDescAttr(desc, column - 1);
	bool		old_null;
	bool		new_null;
	Datum		old_value = heap_getattr(old, column, desc, &old_null);
	Datum		new_value = heap_getattr(new, column, desc, &new_null);

	if (old_null || new_null)
		return old_null != new_null;
	return !datumIsEqual(old_value, new_value, att->attbyval, att->attlen);
}

static void
refuse(Relation rel, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 column ?
			 errmsg("column \"%s\" of table \"%s\" is set by the platform",
					column, RelationGetRelationName(rel)) :
			 errmsg("table \"%s\" is written by the platform",
					RelationGetRelationName(rel))));
}

/*
 * SQL: _queue_guard(), trigger for each row of queues, rate_limiters and
 * rate_limits, and for TRUNCATE
 */
Datum
qs_queue_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;
	TupleDesc	desc;
	HeapTuple	row = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger", "_queue_guard()")));
	rel = trigger->tg_relation;
	desc = RelationGetDescr(rel);
	if (!TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
			trigger->tg_newtuple : trigger->tg_trigtuple;

	if (qs_is_platform(qs_catalog(fcinfo), GetUserId()) ||
		has_privs_of_role(GetUserId(), rel->rd_rel->relowner))
		return PointerGetDatum(row);
	if (row == NULL || strcmp(RelationGetRelationName(rel), "queues") != 0)
		refuse(rel, NULL);

	for (int i = 0; i < (int) lengthof(platform_columns); i++)
	{
		const char *name = platform_columns[i];
		int			column = get_attnum(RelationGetRelid(rel), name);

		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
			is_changed(desc, column, trigger->tg_trigtuple, row) :
			!is_default(rel, column, row))
			refuse(rel, name);
	}
	return PointerGetDatum(row);
}
