/*
 * limit.c
 *	  Keeps the definitions of limits for the session: see limit.h.
 *
 * As for queues (queue.c), a change reaches every session as an invalidation of
 * the relation, sent by the trigger queue_limit_changed at commit, and what is
 * read is the latest. That there is no row is remembered as well: a tenant
 * without a share asks for one with each call.
 *
 * What is known stands in two generations of at most so many limits as there
 * may be buckets in shared memory. What is used moves to the younger one; when
 * that is full, it becomes the older one, and the older one is forgotten. So a
 * session that uses no more than that many reads no row twice, and one that uses
 * more keeps those that it used last.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "args.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "errors.h"
#include "limit.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A bucket that takes longer to fill is kept in its row. */
#define SLOW_SECONDS 60

/* What binds those who ask for a name. */
typedef struct Definition
{
	bool		has_tenant;
	uint8		name_length;
	uint8		count;			/* of limits */
	pg_uuid_t	tenant;
	QsLimit		limit[FLEXIBLE_ARRAY_MEMBER];	/* then the name */
} Definition;

/* By the key of who asks, which two may share; then one is known. */
typedef struct Entry
{
	QsBucketKey key;
	Definition *definition;
} Entry;

/* All of it is in one memory context. */
typedef struct Generation
{
	MemoryContext cxt;
	HTAB	   *definitions;
} Generation;

static Generation young = {NULL, NULL};
static Generation old = {NULL, NULL};
static Oid	cached_limiters = InvalidOid;
static Oid	cached_limits = InvalidOid;
static bool cache_stale = true;

/* the columns that are read */
enum Column
{
	COLUMN_TENANT_ID,
	COLUMN_MAX_TOKENS,
	COLUMN_REFILL,
	COLUMN_MAX_CONCURRENT,
	COLUMN_MAX_HOLD,
	COLUMN_TOKENS,
	COLUMN_REFILLED_AT,
	NCOLUMNS
};

static const struct
{
	const char *name;
	Oid			type;
}			columns[NCOLUMNS] = {
	{"tenant_id", UUIDOID}, {"max_tokens", FLOAT8OID},
	{"refill_per_second", FLOAT8OID}, {"max_concurrent", INT4OID},
	{"max_hold", INTERVALOID}, {"tokens_available", FLOAT8OID},
	{"last_refill_at", TIMESTAMPTZOID}
};

static void
forget(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == cached_limiters || relid == cached_limits)
		cache_stale = true;
}

/* Registers the callback; once a session. */
void
qs_limit_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

/* Has the next look read the rows, if what is known turned out to be old. */
void
qs_limits_forget(void)
{
	cache_stale = true;
}

static Generation
new_generation(void)
{
	Generation	generation;
	HASHCTL		ctl = {0};
	MemoryContext cxt = GenerationContextCreate(TopMemoryContext,
												"queue_service limits",
												ALLOCSET_DEFAULT_SIZES);

	ctl.keysize = sizeof(QsBucketKey);
	ctl.entrysize = sizeof(Entry);
	ctl.hcxt = cxt;
	generation.cxt = cxt;
	generation.definitions = hash_create("queue_service limits", 64, &ctl,
										 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return generation;
}

static void
forget_generation(Generation *generation)
{
	if (generation->cxt)
		MemoryContextDelete(generation->cxt);
	generation->cxt = NULL;
	generation->definitions = NULL;
}

static void
freshen_cache(const QsCatalog *cat)
{
	AcceptInvalidationMessages();
	if (!cache_stale && cached_limiters == cat->rate_limiters)
		return;
	forget_generation(&young);
	forget_generation(&old);
	young = new_generation();
	cached_limiters = cat->rate_limiters;
	cached_limits = cat->rate_limits;
	cache_stale = false;
}

/* Whether a bucket takes so long to fill that it may not begin empty. */
bool
qs_limit_is_slow(double capacity, double rate)
{
	return capacity / rate > SLOW_SECONDS;
}

/*
 * The key of a tenant's bucket, or of a service's with tenant NULL. It stays
 * the same if the row is deleted and made again.
 */
void
qs_limit_key(QsBucketKey *key, const pg_uuid_t *tenant, const char *name)
{
	unsigned char bytes[UUID_LEN + QS_NAME_BYTES];
	int			length = strnlen(name, QS_NAME_BYTES);
	uint64		hash[2];

	if (tenant)
		memcpy(bytes, tenant, UUID_LEN);
	memcpy(bytes + UUID_LEN, name, length);
	for (int i = 0; i < 2; i++)
		hash[i] = tenant ? hash_bytes_extended(bytes, UUID_LEN + length, i) :
			hash_bytes_extended(bytes + UUID_LEN, length, 2 + i);
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	memcpy(key->id, hash, sizeof(key->id));
}

static Datum
get(Relation rel, HeapTuple row, enum Column column, bool *isnull)
{
	AttrNumber	number = get_attnum(RelationGetRelid(rel), columns[column].name);

	if (number == InvalidAttrNumber ||
		TupleDescAttr(RelationGetDescr(rel), number - 1)->atttypid != columns[column].type)
		ereport(ERROR,
				(errcode(QS_TABLE_UNSUITABLE),
				 errmsg("column \"%s\" of table \"%s\" is not as queue_service made it",
						columns[column].name, RelationGetRelationName(rel))));
	return heap_getattr(row, number, RelationGetDescr(rel), isnull);
}

/* Whether a service is this tenant's; one that is nobody's is everybody's. */
static bool
is_for(Relation rel, HeapTuple row, const pg_uuid_t *tenant)
{
	bool		isnull;
	Datum		owner = get(rel, row, COLUMN_TENANT_ID, &isnull);

	return isnull || tenant == NULL ||
		memcmp(DatumGetUUIDP(owner), tenant, UUID_LEN) == 0;
}

static void
read_definition(Relation rel, HeapTuple row, const pg_uuid_t *share_of,
				const char *name, QsLimit *limit)
{
	QsLiveBucket *bucket = &limit->bucket;
	bool		isnull;
	Datum		max_concurrent;

	memset(limit, 0, sizeof(*limit));
	limit->is_share = share_of != NULL;
	qs_limit_key(&bucket->key, share_of, name);
	bucket->capacity = DatumGetFloat8(get(rel, row, COLUMN_MAX_TOKENS, &isnull));
	bucket->rate = DatumGetFloat8(get(rel, row, COLUMN_REFILL, &isnull));
	bucket->tokens = DatumGetFloat8(get(rel, row, COLUMN_TOKENS, &isnull));
	bucket->tokens_at = DatumGetTimestampTz(get(rel, row, COLUMN_REFILLED_AT, &isnull));
	max_concurrent = get(rel, row, COLUMN_MAX_CONCURRENT, &isnull);
	limit->max_concurrent = isnull ? 0 : DatumGetInt32(max_concurrent);
	limit->max_hold = qs_interval_microseconds(
		DatumGetIntervalP(get(rel, row, COLUMN_MAX_HOLD, &isnull)));
	limit->in_row = !qs_buckets_exist() ||
		qs_limit_is_slow(bucket->capacity, bucket->rate);
}

/* Adds the limit of a name to limits: the tenant's share, or the service's. */
static void
load(QsCall *call, const pg_uuid_t *tenant, bool share, const char *name,
	 QsLimits *limits)
{
	Oid			relid = share ? call->cat->rate_limits : call->cat->rate_limiters;
	Relation	rel = table_open(relid, AccessShareLock);
	Oid			index = get_relname_relid(share ? "rate_limits_tenant_id_name_key" :
										  "rate_limiters_pkey", call->cat->schema);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[2];
	int			nkeys = 0;
	SysScanDesc scan;
	HeapTuple	row;

	if (share)
		ScanKeyInit(&keys[nkeys++], get_attnum(relid, "tenant_id"),
					BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(tenant));
	ScanKeyInit(&keys[nkeys], get_attnum(relid, share ? "name" : "service_name"),
				BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	keys[nkeys++].sk_collation = DEFAULT_COLLATION_OID;
	scan = systable_beginscan(rel, index, OidIsValid(index), snapshot,
							  nkeys, keys);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row) && (share || is_for(rel, row, tenant)))
		read_definition(rel, row, share ? tenant : NULL, name,
						&limits->limit[limits->count++]);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

/* What is known for who asks for a name, or NULL. */
static const Definition *
look_up(const Generation *generation, const QsBucketKey *key,
		const pg_uuid_t *tenant, const char *name, int name_length)
{
	const Definition *definition;
	const Entry *entry = generation->definitions ?
		hash_search(generation->definitions, key, HASH_FIND, NULL) : NULL;

	if (entry == NULL)
		return NULL;
	definition = entry->definition;
	if (definition->has_tenant != (tenant != NULL) ||
		(tenant && memcmp(&definition->tenant, tenant, UUID_LEN) != 0) ||
		definition->name_length != name_length ||
		memcmp(&definition->limit[definition->count], name, name_length) != 0)
		return NULL;
	return definition;
}

static void
keep(const QsBucketKey *key, const pg_uuid_t *tenant, const char *name,
	 int name_length, const QsLimits *limits)
{
	Size		bytes = offsetof(Definition, limit) + limits->count * sizeof(QsLimit);
	Definition *definition;

	if (hash_get_num_entries(young.definitions) >= qs_buckets_max())
	{
		Generation	next = new_generation();

		forget_generation(&old);
		old = young;
		young = next;
	}
	definition = MemoryContextAllocZero(young.cxt, bytes + name_length);
	definition->has_tenant = tenant != NULL;
	if (tenant)
		definition->tenant = *tenant;
	definition->name_length = name_length;
	definition->count = limits->count;
	memcpy(definition->limit, limits->limit, limits->count * sizeof(QsLimit));
	memcpy(&definition->limit[limits->count], name, name_length);
	((Entry *) hash_search(young.definitions, key, HASH_ENTER, NULL))->definition =
		definition;
}

/*
 * Finds what binds a tenant, or with NULL the platform, who asks for a name of
 * at most QS_NAME_BYTES. Raises QS_LIMIT_UNKNOWN if nothing does, whether there
 * is something of that name for others or not. Valid until the next call of
 * this function.
 */
const QsLimits *
qs_limits_find(QsCall *call, const pg_uuid_t *tenant, const char *name)
{
	static QsLimits limits;
	int			name_length = strnlen(name, QS_NAME_BYTES);
	const Definition *definition;
	bool		is_young;
	QsBucketKey key;

	freshen_cache(call->cat);
	qs_limit_key(&key, tenant, name);
	definition = look_up(&young, &key, tenant, name, name_length);
	is_young = definition != NULL;
	if (!is_young)
		definition = look_up(&old, &key, tenant, name, name_length);

	memset(&limits, 0, sizeof(limits));
	if (definition != NULL)
	{
		limits.count = definition->count;
		memcpy(limits.limit, definition->limit, limits.count * sizeof(QsLimit));
	}
	else
	{
		if (tenant)
			load(call, tenant, true, name, &limits);
		load(call, tenant, false, name, &limits);
	}
	if (limits.count == 0)
		ereport(ERROR,
				(errcode(QS_LIMIT_UNKNOWN),
				 errmsg("there is no limit \"%s\"", name)));
	/* what was invalidated while it was read is used, but not kept */
	if (!is_young && !cache_stale)
		keep(&key, tenant, name, name_length, &limits);
	return &limits;
}
