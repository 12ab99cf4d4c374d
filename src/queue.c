/*
 * queue.c
 *	  Keeps queue definitions for the session, so that a call does not read
 *	  the table queues.
 *
 * A change of a definition reaches every session as an invalidation of the
 * relation queues, sent by the trigger queue_changed at commit and undone at
 * rollback, as for any catalog. Definitions are read under the latest
 * snapshot, also at REPEATABLE READ: an older one could put back into the
 * cache what an invalidation has just thrown out of it.
 *
 * The cache is bounded; when it is full it starts anew.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "announce.h"
#include "args.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "errors.h"
#include "queue.h"
#include "queue_note.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MAX_CACHED 10000

typedef struct NameKey
{
	pg_uuid_t	tenant;
	char		name[QS_NAME_BYTES];	/* padded with zeros */
} NameKey;

typedef struct NameEntry
{
	NameKey		key;
	pg_uuid_t	id;
} NameEntry;

static HTAB *by_id = NULL;
static HTAB *by_name = NULL;
static Oid	cached_relid = InvalidOid;
static bool cache_stale = true;

/* of the trigger on queues, since the cache was started */
static bool trigger_known = false;
static uint64 trigger_version;

/* the columns that are read, and their numbers */
enum Column
{
	COLUMN_ID,
	COLUMN_TENANT_ID,
	COLUMN_NAME,
	COLUMN_PAUSED,
	COLUMN_DEAD_LETTERS,
	COLUMN_KEEP_COMPLETED,
	COLUMN_MAX_ATTEMPTS,
	COLUMN_MAX_DEPTH,
	COLUMN_MAX_PAYLOAD,
	COLUMN_MAX_CONCURRENCY,
	COLUMN_CRITICAL_RESERVE,
	COLUMN_RATE_LIMITER,
	COLUMN_ENQUEUE_LIMITER,
	COLUMN_WEIGHT,
	COLUMN_AGEING,
	COLUMN_GROUP_CONCURRENCY,
	COLUMN_GROUP_ON_FAILURE,
	COLUMN_DEFAULT_LEASE,
	COLUMN_BACKOFF_BASE,
	COLUMN_BACKOFF_MAX,
	COLUMN_BACKOFF_FACTOR,
	COLUMN_BACKOFF_JITTER,
	NCOLUMNS
};

static const struct
{
	const char *name;
	Oid			type;
}			columns[NCOLUMNS] = {
	{"id", UUIDOID}, {"tenant_id", UUIDOID}, {"name", TEXTOID},
	{"paused", BOOLOID}, {"dead_letters", BOOLOID},
	{"keep_completed", INTERVALOID}, {"max_attempts", INT4OID},
	{"max_depth", INT8OID}, {"max_payload", INT4OID},
	{"max_concurrency", INT4OID}, {"critical_reserve", INT4OID},
	{"rate_limiter", TEXTOID}, {"enqueue_limiter", TEXTOID},
	{"weight", INT4OID}, {"ageing", INTERVALOID},
	{"group_concurrency", INT4OID}, {"group_on_failure", TEXTOID},
	{"default_lease", INTERVALOID},
	{"backoff_base", INTERVALOID}, {"backoff_max", INTERVALOID},
	{"backoff_factor", FLOAT8OID}, {"backoff_jitter", FLOAT8OID}
};

static AttrNumber numbers[NCOLUMNS];

PG_FUNCTION_INFO_V1(qs_queue_changed);

static void
forget(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == cached_relid)
		cache_stale = true;
}

/* Registers the callback; once a session. */
void
qs_queue_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

static void
start_cache(const QsCatalog *cat)
{
	HASHCTL		ctl = {0};

	if (by_id)
		hash_destroy(by_id);
	if (by_name)
		hash_destroy(by_name);
	by_id = by_name = NULL;

	ctl.keysize = sizeof(pg_uuid_t);
	ctl.entrysize = sizeof(QsQueue);
	by_id = hash_create("queue_service queues", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	ctl.keysize = sizeof(NameKey);
	ctl.entrysize = sizeof(NameEntry);
	by_name = hash_create("queue_service queue names", 64, &ctl,
						  HASH_ELEM | HASH_BLOBS);
	cached_relid = cat->queues;
	cache_stale = false;
	trigger_known = false;
}

static void
freshen_cache(const QsCatalog *cat)
{
	AcceptInvalidationMessages();
	if (cache_stale || cached_relid != cat->queues || by_name == NULL ||
		hash_get_num_entries(by_id) >= MAX_CACHED)
		start_cache(cat);
}

static void
make_name_key(NameKey *key, const pg_uuid_t *tenant, const char *name)
{
	memset(key, 0, sizeof(*key));
	key->tenant = *tenant;
	memcpy(key->name, name, strnlen(name, QS_NAME_BYTES));
}

static void
find_columns(Oid relid)
{
	for (int i = 0; i < NCOLUMNS; i++)
	{
		numbers[i] = get_attnum(relid, columns[i].name);
		if (numbers[i] == InvalidAttrNumber ||
			get_atttype(relid, numbers[i]) != columns[i].type)
			ereport(ERROR,
					(errcode(QS_TABLE_UNSUITABLE),
					 errmsg("column \"%s\" of table \"queues\" is not as queue_service made it",
							columns[i].name)));
	}
}

static Datum
get(Relation rel, HeapTuple row, enum Column column, bool *isnull)
{
	return heap_getattr(row, numbers[column], RelationGetDescr(rel), isnull);
}

/* An interval's length, 0 if it is null. */
static int64
get_microseconds(Relation rel, HeapTuple row, enum Column column)
{
	bool		isnull;
	Datum		value = get(rel, row, column, &isnull);

	return isnull ? 0 : qs_interval_microseconds(DatumGetIntervalP(value));
}

/* A name, empty if it is null. */
static void
get_name(Relation rel, HeapTuple row, enum Column column,
		 char name[QS_NAME_BYTES + 1])
{
	bool		isnull;
	Datum		value = get(rel, row, column, &isnull);

	strlcpy(name, isnull ? "" : TextDatumGetCString(value), QS_NAME_BYTES + 1);
}

static void
read_definition(Relation rel, HeapTuple row, QsQueue *queue)
{
	bool		isnull;
	Datum		max_depth;
	Datum		max_payload;
	Datum		max_concurrency;
	Datum		group_concurrency;

	memset(queue, 0, sizeof(*queue));
	/* NOLINTBEGIN(clang-analyzer-core.NullDereference): of columns that are NOT NULL */
	queue->id = *DatumGetUUIDP(get(rel, row, COLUMN_ID, &isnull));
	queue->tenant = *DatumGetUUIDP(get(rel, row, COLUMN_TENANT_ID, &isnull));
	get_name(rel, row, COLUMN_NAME, queue->name);
	queue->paused = DatumGetBool(get(rel, row, COLUMN_PAUSED, &isnull));
	queue->dead_letters = DatumGetBool(get(rel, row, COLUMN_DEAD_LETTERS, &isnull));
	queue->keeps_completed = get_microseconds(rel, row, COLUMN_KEEP_COMPLETED) > 0;
	queue->max_attempts = DatumGetInt32(get(rel, row, COLUMN_MAX_ATTEMPTS, &isnull));
	max_depth = get(rel, row, COLUMN_MAX_DEPTH, &isnull);
	queue->max_depth = isnull ? 0 : DatumGetInt64(max_depth);
	max_payload = get(rel, row, COLUMN_MAX_PAYLOAD, &isnull);
	queue->max_payload = isnull ? 0 : DatumGetInt32(max_payload);
	max_concurrency = get(rel, row, COLUMN_MAX_CONCURRENCY, &isnull);
	queue->max_concurrency = isnull ? 0 : DatumGetInt32(max_concurrency);
	queue->critical_reserve =
		DatumGetInt32(get(rel, row, COLUMN_CRITICAL_RESERVE, &isnull));
	get_name(rel, row, COLUMN_RATE_LIMITER, queue->rate_limiter);
	get_name(rel, row, COLUMN_ENQUEUE_LIMITER, queue->enqueue_limiter);
	queue->weight = DatumGetInt32(get(rel, row, COLUMN_WEIGHT, &isnull));
	queue->ageing = get_microseconds(rel, row, COLUMN_AGEING);
	group_concurrency = get(rel, row, COLUMN_GROUP_CONCURRENCY, &isnull);
	queue->group_concurrency = isnull ? 0 : DatumGetInt32(group_concurrency);
	queue->group_blocks =
		strcmp(TextDatumGetCString(get(rel, row, COLUMN_GROUP_ON_FAILURE, &isnull)),
			   "block") == 0;
	queue->default_lease =
		*DatumGetIntervalP(get(rel, row, COLUMN_DEFAULT_LEASE, &isnull));
	/* NOLINTEND(clang-analyzer-core.NullDereference) */
	queue->backoff_base = get_microseconds(rel, row, COLUMN_BACKOFF_BASE);
	queue->backoff_max = get_microseconds(rel, row, COLUMN_BACKOFF_MAX);
	queue->backoff_factor = DatumGetFloat8(get(rel, row, COLUMN_BACKOFF_FACTOR, &isnull));
	queue->backoff_jitter = DatumGetFloat8(get(rel, row, COLUMN_BACKOFF_JITTER, &isnull));
}

static void
keep(const QsQueue *queue)
{
	NameKey		key;
	NameEntry  *entry;

	*(QsQueue *) hash_search(by_id, &queue->id, HASH_ENTER, NULL) = *queue;
	make_name_key(&key, &queue->tenant, queue->name);
	entry = hash_search(by_name, &key, HASH_ENTER, NULL);
	entry->id = queue->id;
}

/*
 * Reads the row of queues that the keys find, by columns of the table, and
 * keeps it. False if there is none. No lock stays, as none does of a catalog.
 */
static bool
load(QsCall *call, const char *index_name, int nkeys, ScanKey keys,
	 QsQueue *queue)
{
	Relation	rel = table_open(call->cat->queues, AccessShareLock);
	Oid			index = get_relname_relid(index_name, call->cat->schema);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	HeapTuple	row;
	bool		found;

	find_columns(call->cat->queues);
	scan = systable_beginscan(rel, index, OidIsValid(index), snapshot,
							  nkeys, keys);
	row = systable_getnext(scan);
	found = HeapTupleIsValid(row);
	if (found)
		read_definition(rel, row, queue);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);

	/* what was invalidated while it was read is used, but not kept */
	if (found && !cache_stale)
		keep(queue);
	return found;
}

static void
init_key(ScanKey key, QsCall *call, const char *column, RegProcedure equal,
		 Datum value)
{
	ScanKeyInit(key, get_attnum(call->cat->queues, column),
				BTEqualStrategyNumber, equal, value);
	key->sk_collation = equal == F_TEXTEQ ? DEFAULT_COLLATION_OID : InvalidOid;
}

/*
 * Finds a queue of the call's tenant. Raises QS_QUEUE_UNKNOWN if it has none
 * of that name, whether another tenant has one or not.
 */
void
qs_queue_by_name(QsCall *call, const char *name, QsQueue *queue)
{
	NameKey		key;
	NameEntry  *entry;
	ScanKeyData keys[2];

	Assert(call->has_tenant);
	freshen_cache(call->cat);
	make_name_key(&key, &call->tenant, name);
	entry = hash_search(by_name, &key, HASH_FIND, NULL);
	if (entry != NULL)
	{
		QsQueue    *cached = hash_search(by_id, &entry->id, HASH_FIND, NULL);

		if (cached != NULL)
		{
			*queue = *cached;
			return;
		}
	}

	init_key(&keys[0], call, "tenant_id", F_UUID_EQ, UUIDPGetDatum(&call->tenant));
	init_key(&keys[1], call, "name", F_TEXTEQ, CStringGetTextDatum(name));
	if (!load(call, "queues_tenant_id_name_key", 2, keys, queue))
		qs_queue_unknown(name);
}

void
qs_queue_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(QS_QUEUE_UNKNOWN),
			 errmsg("queue \"%s\" does not exist", name)));
}

/* Finds a queue by its id; false if there is none. Does not look at its tenant. */
bool
qs_queue_by_id(QsCall *call, const pg_uuid_t *id, QsQueue *queue)
{
	QsQueue    *cached;

	freshen_cache(call->cat);
	cached = hash_search(by_id, id, HASH_FIND, NULL);
	if (cached == NULL)
		return qs_queue_read(call, id, queue);
	*queue = *cached;
	return true;
}

/* The same, as it is committed now, whatever the session knows. */
bool
qs_queue_read(QsCall *call, const pg_uuid_t *id, QsQueue *queue)
{
	ScanKeyData key;

	init_key(&key, call, "id", F_UUID_EQ, UUIDPGetDatum(id));
	return load(call, "queues_pkey", 1, &key, queue);
}

/* The version of the trigger on queues; 0 if not all changes are told. */
static uint64
find_trigger(Relation queues)
{
	TriggerDesc *triggers = CopyTriggerDesc(queues->trigdesc);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (strcmp(trigger->tgname, "queue_changed") == 0)
			return trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
				TRIGGER_FOR_ROW(trigger->tgtype) ?
				qs_trigger_version(RelationGetRelid(queues), trigger->tgname) : 0;
	}
	return 0;
}

/* The same, of the call's queues; looked up once after each change. */
uint64
qs_queue_trigger(QsCall *call)
{
	freshen_cache(call->cat);
	if (!trigger_known)
	{
		Relation	queues = table_open(call->cat->queues, AccessShareLock);

		trigger_version = find_trigger(queues);
		table_close(queues, AccessShareLock);
		trigger_known = !cache_stale;
	}
	return trigger_version;
}

/* SQL: _queue_changed(), trigger on queues, rate_limiters and rate_limits */
Datum
qs_queue_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger", "_queue_changed()")));
	trigger = (TriggerData *) fcinfo->context;
	CacheInvalidateRelcache(trigger->tg_relation);
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		qs_queue_note_row(trigger->tg_relation,
						  TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ? NULL :
						  trigger->tg_trigtuple,
						  TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ?
						  trigger->tg_trigtuple : trigger->tg_newtuple);
	return PointerGetDatum(NULL);
}
