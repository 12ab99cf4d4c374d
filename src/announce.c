/*
 * announce.c
 *	  Tells the range cache of entries: see announce.h, and range_cache.h for
 *	  why that must be.
 *
 * What SQL inserts or updates is announced by a trigger after the row, whoever
 * runs it: INSERT, COPY, a subscription. It must be enabled ALWAYS, else
 * replicas' rows would be missed; while it is not, or is not there, claims use
 * no ranges. The writes of table.c do not fire it and call qs_announce_insert()
 * and qs_announce_update() instead.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "announce.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "fault.h"
#include "miscadmin.h"
#include "quota.h"
#include "ring.h"
#include "slots.h"
#include "stats_note.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "waiters.h"

PG_FUNCTION_INFO_V1(qs_queue_announce);

/* Of a trigger's row in pg_trigger: changes with each change of the row. */
uint64
qs_trigger_version(Oid relid, const char *name)
{
	Relation	triggers = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	row;
	uint64		version = 0;

	ScanKeyInit(&keys[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(triggers, TriggerRelidNameIndexId, true, NULL,
							  2, keys);
	row = systable_getnext(scan);
	/* one transaction may change it twice, hence its command as well */
	if (HeapTupleIsValid(row))
		version = (uint64) HeapTupleHeaderGetRawXmin(row->t_data) << 32 |
			HeapTupleHeaderGetRawCommandId(row->t_data);
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return version;
}

/*
 * Whether a trigger of the table is the announcing one. If it is in order,
 * *version is set: another one means that it may have been off meanwhile.
 */
bool
qs_is_announcing(Relation rel, const Trigger *trigger, uint64 *version)
{
	char	   *name = get_func_name(trigger->tgfoid);

	if (name == NULL || strcmp(name, "_queue_announce") != 0 ||
		get_func_namespace(trigger->tgfoid) != RelationGetNamespace(rel))
		return false;
	if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS && trigger->tgnattr == 0 &&
		trigger->tgqual == NULL &&
		TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_AFTER(trigger->tgtype) &&
		TRIGGER_FOR_INSERT(trigger->tgtype) && TRIGGER_FOR_UPDATE(trigger->tgtype))
		*version = qs_trigger_version(RelationGetRelid(rel), trigger->tgname);
	return true;
}

/* Where knowledge about the index comes from; false if the cache is not used. */
bool
qs_cache_source(const QsTable *table, Relation index, QsCacheSource *source)
{
	if (!qs_cache_exists() ||
		qs_announcing_version(table) == 0)
		return false;
	memset(source, 0, sizeof(*source));
	source->tablespace = qs_file_tablespace(index);
	source->file = qs_file_number(index);
	source->trigger = qs_announcing_version(table);
	return true;
}

void
qs_cache_key(QsTableKind kind, const pg_uuid_t *queue, QsCacheKey *key)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->kind = kind;
	key->queue = *queue;
}

static void
announce(QsTableKind kind, Datum queue, int16 priority, int64 run_at, Datum id,
		 TransactionId xid)
{
	QsCacheKey	key;
	QsRangeKey	range_key;

	qs_cache_key(kind, DatumGetUUIDP(queue), &key);
	memset(&range_key, 0, sizeof(range_key));
	range_key.priority = priority;
	range_key.run_at = run_at;
	memcpy(range_key.id, DatumGetUUIDP(id), UUID_LEN);
	QS_FAULT_POINT("announce");
	qs_cache_announce(&key, &range_key, xid);
	qs_ring_announce(&key.queue);
	qs_note_work(&key.queue);
}

/* Whether there is a cache, and the row that was written in the ready index. */
static bool
is_ready(QsTable *table)
{
	return qs_cache_exists() && table->kind != QS_DEAD_LETTER_JOBS &&
		qs_is_null(table, QS_JOB_FINISHED_AT) &&
		!DatumGetBool(qs_get(table, QS_JOB_HELD));
}

static void
announce_row(QsTable *table)
{
	announce(table->kind, qs_get(table, QS_JOB_QUEUE_ID),
			 DatumGetInt16(qs_get(table, QS_JOB_PRIORITY)),
			 DatumGetTimestampTz(qs_get(table, QS_JOB_RUN_AT)),
			 qs_get(table, QS_JOB_ID), GetCurrentTransactionId());
}

/* After an insert of table.c, with its index entries. */
void
qs_announce_insert(QsTable *table)
{
	if (is_ready(table))
		announce_row(table);
}

/* Whether the row is leased, and not for less long than before the update. */
static bool
stays_leased(QsTable *table)
{
	bool		isnull;
	Datum		before = slot_getattr(table->old, QS_JOB_LEASED_UNTIL, &isnull);

	return qs_text_is(qs_get(table, QS_JOB_STATUS), "processing") &&
		(isnull || DatumGetTimestampTz(before) <=
		 DatumGetTimestampTz(qs_get(table, QS_JOB_LEASED_UNTIL)));
}

/*
 * After an update of table.c: announces the row if it is in the ready index,
 * and has new entries, or may be claimable earlier than it was. Our verbs move
 * a lease only later while it lasts; a trigger of the user's may do otherwise.
 */
void
qs_announce_update(QsTable *table, bool new_entries)
{
	if (is_ready(table) && (new_entries || !stays_leased(table)))
		announce_row(table);
}

/* SQL: _queue_announce(), trigger on jobs and critical_jobs */
Datum
qs_queue_announce(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	old;
	HeapTuple	row;
	TupleDesc	desc;
	QsTableKind kind;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger after a row",
						"_queue_announce()")));

	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
	desc = RelationGetDescr(trigger->tg_relation);
	old = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_trigtuple : NULL;
	qs_quota_after_sql(fcinfo, desc, old, row);
	if (!qs_cache_exists())
		return PointerGetDatum(NULL);

	kind = strcmp(RelationGetRelationName(trigger->tg_relation), "jobs") == 0 ?
		QS_JOBS : QS_CRITICAL_JOBS;
	qs_slots_after_sql(kind, desc, old, row);
	qs_stats_after_sql(desc, old, row);
	(void) heap_getattr(row, QS_JOB_FINISHED_AT, desc, &isnull);
	if (!isnull || DatumGetBool(heap_getattr(row, QS_JOB_HELD, desc, &isnull)))
		return PointerGetDatum(NULL);
	announce(kind,
			 heap_getattr(row, QS_JOB_QUEUE_ID, desc, &isnull),
			 DatumGetInt16(heap_getattr(row, QS_JOB_PRIORITY, desc, &isnull)),
			 DatumGetTimestampTz(heap_getattr(row, QS_JOB_RUN_AT, desc, &isnull)),
			 heap_getattr(row, QS_JOB_ID, desc, &isnull),
			 GetCurrentTransactionId());
	return PointerGetDatum(NULL);
}
