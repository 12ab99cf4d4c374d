/*
 * group_trigger.c
 *	  Groups of jobs that SQL writes: see group_trigger.h.
 *
 * None fires for a job without a group. One that SQL inserts is held before its
 * row is written, one that SQL takes away lets in the next after that. Both are
 * off where rows are replicated: they come as they are.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "group_trigger.h"
#include "groups.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

PG_FUNCTION_INFO_V1(qs_queue_group);
PG_FUNCTION_INFO_V1(qs_queue_group_left);

/* Whether a trigger of the table is one of those. */
bool
qs_is_grouping(Relation rel, const Trigger *trigger)
{
	char	   *name = get_func_name(trigger->tgfoid);

	return name != NULL &&
		(strcmp(name, "_queue_group") == 0 ||
		 strcmp(name, "_queue_group_left") == 0) &&
		get_func_namespace(trigger->tgfoid) == RelationGetNamespace(rel);
}

static void
take_group(const TriggerData *trigger, int key, QsGroup *group)
{
	HeapTuple	row = trigger->tg_trigtuple;
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;

	/* NOLINTBEGIN(clang-analyzer-core.NullDereference): the caller knows that they are not null */
	group->tenant = *DatumGetUUIDP(heap_getattr(row, QS_JOB_TENANT_ID, desc, &isnull));
	group->queue = *DatumGetUUIDP(heap_getattr(row, QS_JOB_QUEUE_ID, desc, &isnull));
	/* NOLINTEND(clang-analyzer-core.NullDereference) */
	group->key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(heap_getattr(row, key, desc, &isnull)));
}

/* Whether a column that the triggers need is null: a constraint will refuse it. */
static bool
is_incomplete(const TriggerData *trigger)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	return heap_attisnull(trigger->tg_trigtuple, QS_JOB_TENANT_ID, desc) ||
		heap_attisnull(trigger->tg_trigtuple, QS_JOB_QUEUE_ID, desc) ||
		heap_attisnull(trigger->tg_trigtuple, QS_JOB_GROUP_KEY, desc);
}

/*
 * Whether row-level security is about to refuse the row. Nobody is to wait for
 * the lock of a group of another tenant's, and find out that it is busy.
 */
static bool
is_foreign(Relation rel, const QsGroup *group)
{
	const char *setting = GetConfigOption("app.current_tenant", true, false);
	pg_uuid_t	tenant;

	return check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED &&
		(setting == NULL || !qs_parse_tenant(setting, &tenant) ||
		 memcmp(&tenant, &group->tenant, UUID_LEN) != 0);
}

static HeapTuple
hold(const TriggerData *trigger)
{
	int			column = QS_JOB_HELD;
	Datum		held = BoolGetDatum(true);
	bool		isnull = false;

	return heap_modify_tuple_by_cols(trigger->tg_trigtuple,
									 RelationGetDescr(trigger->tg_relation),
									 1, &column, &held, &isnull);
}

/* SQL: _queue_group(), trigger on jobs and critical_jobs */
Datum
qs_queue_group(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	QsCall		call = {0};
	QsGroup		group;
	QsQueue		queue;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger before an insert",
						"_queue_group()")));
	if (is_incomplete(trigger))
		return PointerGetDatum(trigger->tg_trigtuple);
	take_group(trigger, QS_JOB_GROUP_KEY, &group);
	if (is_foreign(trigger->tg_relation, &group))
		return PointerGetDatum(trigger->tg_trigtuple);
	call.cat = qs_catalog(fcinfo);
	if (!qs_queue_by_id(&call, &group.queue, &queue) ||
		memcmp(&queue.tenant, &group.tenant, UUID_LEN) != 0 ||
		!qs_group_must_hold(&call, &queue, &group))
		return PointerGetDatum(trigger->tg_trigtuple);
	return PointerGetDatum(hold(trigger));
}

/* SQL: _queue_group_left(), trigger on jobs, critical_jobs and dead_letter_jobs */
Datum
qs_queue_group_left(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	QsCall		call;
	QsJobs		jobs;
	QsGroup		group;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		  TRIGGER_FIRED_BY_DELETE(trigger->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger after an update or delete",
						"_queue_group_left()")));
	take_group(trigger,
			   strcmp(RelationGetRelationName(trigger->tg_relation),
					  "dead_letter_jobs") == 0 ? QS_DEAD_GROUP_KEY : QS_JOB_GROUP_KEY,
			   &group);
	qs_begin(&call, fcinfo, "_queue_group_left()", QS_NO_TENANT);
	call.has_tenant = true;
	call.tenant = group.tenant;
	qs_jobs_begin(&jobs, &call);
	qs_group_note_left(&jobs, &group, 1);
	qs_jobs_end(&jobs);
	qs_end(&call);
	return PointerGetDatum(NULL);
}
