/*
 * stats_trigger.c
 *	  Hears of what SQL removes: see stats_trigger.h.
 *
 * They must be enabled ALWAYS, as the announcing one; table.c does their work
 * itself. Rows that have finished are in no gauge, so that retention need not
 * fire a trigger for each.
 */
#include "postgres.h"

#include "access/table.h"
#include "announce.h"
#include "catalog/pg_trigger.h"
#include "common/hashfn.h"
#include "stats_note.h"
#include "stats_trigger.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(qs_queue_removed);

/*
 * Whether a trigger of the table is one of those. If it is in order, *version is
 * set: another one means that it may have been off meanwhile.
 */
bool
qs_is_counting(Relation rel, const Trigger *trigger, uint64 *version)
{
	char	   *name = get_func_name(trigger->tgfoid);

	if (name == NULL || strcmp(name, "_queue_removed") != 0 ||
		get_func_namespace(trigger->tgfoid) != RelationGetNamespace(rel))
		return false;
	if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
		TRIGGER_FOR_AFTER(trigger->tgtype))
		*version = qs_trigger_version(RelationGetRelid(rel), trigger->tgname);
	return true;
}

/* The version of all triggers of a table; 0 if one is not in order. */
static uint64
version_of(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);
	uint64		announced = 0;
	uint64		deleted = 0;
	uint64		truncated = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!qs_is_announcing(rel, trigger, &announced))
			(void) qs_is_counting(rel, trigger,
								  TRIGGER_FOR_TRUNCATE(trigger->tgtype) ?
								  &truncated : &deleted);
	}
	table_close(rel, AccessShareLock);
	if (announced == 0 || deleted == 0 || truncated == 0)
		return 0;
	return hash_combine64(hash_combine64(announced, deleted), truncated);
}

/*
 * The version of the triggers that statistics need on both job tables; 0 if not
 * all that is written is seen.
 */
uint64
qs_stats_triggers(const QsCatalog *cat)
{
	uint64		versions[2] = {
		version_of(cat->table[QS_JOBS]), version_of(cat->table[QS_CRITICAL_JOBS])
	};

	if (versions[0] == 0 || versions[1] == 0)
		return 0;
	return hash_combine64(versions[0], versions[1]);
}

/* SQL: _queue_removed(), trigger on jobs and critical_jobs */
Datum
qs_queue_removed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ?
		  TRIGGER_FIRED_BY_DELETE(trigger->tg_event) :
		  TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger after a delete or truncate",
						"_queue_removed()")));
	if (!qs_stats_exist())
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		qs_stats_after_sql(RelationGetDescr(trigger->tg_relation),
						   trigger->tg_trigtuple, NULL);
	else
		qs_stats_after_truncate();
	return PointerGetDatum(NULL);
}
