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

#include "args.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "errors.h"
#include "queue.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
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

#define DEFINITION "id, tenant_id, name, paused, dead_letters, " \
	"keep_completed > '0', max_attempts, coalesce(max_payload, 0), " \
	"default_lease, backoff_base, backoff_max, backoff_factor, backoff_jitter"

static QsStatement select_by_name = {
	.sql = "SELECT " DEFINITION " FROM @queues WHERE tenant_id = $1 AND name = $2",
	.nargs = 2, .argtypes = {UUIDOID, TEXTOID}
};
static QsStatement select_by_id = {
	.sql = "SELECT " DEFINITION " FROM @queues WHERE id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};

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

static int64
microseconds(Datum interval)
{
	return qs_interval_microseconds(DatumGetIntervalP(interval));
}

/* Reads the row that a statement finds, and keeps it. False if there is none. */
static bool
load(QsCall *call, QsStatement *statement, Datum *args, QsQueue *queue)
{
	bool		found;

	qs_connect();
	found = qs_read_latest(statement, call, args, 1) == 1;
	if (found)
	{
		bool		isnull;

		memset(queue, 0, sizeof(*queue));
		queue->id = *DatumGetUUIDP(qs_result(0, 1, &isnull));
		queue->tenant = *DatumGetUUIDP(qs_result(0, 2, &isnull));
		strlcpy(queue->name, TextDatumGetCString(qs_result(0, 3, &isnull)),
				sizeof(queue->name));
		queue->paused = DatumGetBool(qs_result(0, 4, &isnull));
		queue->dead_letters = DatumGetBool(qs_result(0, 5, &isnull));
		queue->keeps_completed = DatumGetBool(qs_result(0, 6, &isnull));
		queue->max_attempts = DatumGetInt32(qs_result(0, 7, &isnull));
		queue->max_payload = DatumGetInt32(qs_result(0, 8, &isnull));
		queue->default_lease = *DatumGetIntervalP(qs_result(0, 9, &isnull));
		queue->backoff_base = microseconds(qs_result(0, 10, &isnull));
		queue->backoff_max = microseconds(qs_result(0, 11, &isnull));
		queue->backoff_factor = DatumGetFloat8(qs_result(0, 12, &isnull));
		queue->backoff_jitter = DatumGetFloat8(qs_result(0, 13, &isnull));
	}
	SPI_finish();

	/* what was invalidated while it was read is used, but not kept */
	if (found && !cache_stale)
	{
		NameKey		key;
		NameEntry  *entry;

		*(QsQueue *) hash_search(by_id, &queue->id, HASH_ENTER, NULL) = *queue;
		make_name_key(&key, &queue->tenant, queue->name);
		entry = hash_search(by_name, &key, HASH_ENTER, NULL);
		entry->id = queue->id;
	}
	return found;
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
	Datum		args[2];

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

	args[0] = UUIDPGetDatum(&call->tenant);
	args[1] = CStringGetTextDatum(name);
	if (!load(call, &select_by_name, args, queue))
		ereport(ERROR,
				(errcode(QS_QUEUE_UNKNOWN),
				 errmsg("queue \"%s\" does not exist", name)));
}

/* Finds a queue by its id; false if there is none. Does not look at its tenant. */
bool
qs_queue_by_id(QsCall *call, const pg_uuid_t *id, QsQueue *queue)
{
	QsQueue    *cached;
	Datum		args[1];

	freshen_cache(call->cat);
	cached = hash_search(by_id, id, HASH_FIND, NULL);
	if (cached != NULL)
	{
		*queue = *cached;
		return true;
	}
	args[0] = UUIDPGetDatum(id);
	return load(call, &select_by_id, args, queue);
}

/* SQL: _queue_changed(), trigger on queues */
Datum
qs_queue_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s was not called as a trigger", "_queue_changed()")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
