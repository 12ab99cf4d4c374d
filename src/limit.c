/*
 * limit.c
 *	  Keeps the definitions of limits for the session: see limit.h.
 *
 * As for queues (queue.c), a change reaches every session as an invalidation of
 * the relation, sent by the trigger queue_limit_changed at commit, and what is
 * read is the latest. That there is no row is remembered as well: a tenant
 * without a share asks for one with each call.
 *
 * The cache is bounded; when it is full it starts anew.
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
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MAX_CACHED 10000

/* A bucket that takes longer to fill is kept in its row. */
#define SLOW_SECONDS 60

typedef struct Entry
{
	struct
	{
		pg_uuid_t	tenant;		/* or zeros */
		char		has_tenant;
		char		name[QS_NAME_BYTES];	/* padded with zeros */
	}			key;
	QsLimits	limits;
} Entry;

static HTAB *cache = NULL;
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

static void
freshen_cache(const QsCatalog *cat)
{
	HASHCTL		ctl = {0};

	AcceptInvalidationMessages();
	if (!cache_stale && cached_limiters == cat->rate_limiters &&
		hash_get_num_entries(cache) < MAX_CACHED)
		return;
	if (cache)
		hash_destroy(cache);
	cache = NULL;
	ctl.keysize = sizeof(((Entry *) NULL)->key);
	ctl.entrysize = sizeof(Entry);
	cache = hash_create("queue_service limits", 64, &ctl, HASH_ELEM | HASH_BLOBS);
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

/*
 * Finds what binds a tenant, or with NULL the platform, who asks for a name of
 * at most QS_NAME_BYTES. Raises QS_LIMIT_UNKNOWN if nothing does, whether there
 * is something of that name for others or not. Valid until the next call of
 * this function.
 */
const QsLimits *
qs_limits_find(QsCall *call, const pg_uuid_t *tenant, const char *name)
{
	static Entry unkept;
	Entry	   *entry;

	freshen_cache(call->cat);
	memset(&unkept, 0, sizeof(unkept));
	if (tenant)
	{
		unkept.key.tenant = *tenant;
		unkept.key.has_tenant = 1;
	}
	memcpy(unkept.key.name, name, strnlen(name, QS_NAME_BYTES));
	entry = hash_search(cache, &unkept.key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		if (tenant)
			load(call, tenant, true, name, &unkept.limits);
		load(call, tenant, false, name, &unkept.limits);
		entry = &unkept;
		/* what was invalidated while it was read is used, but not kept */
		if (unkept.limits.count > 0 && !cache_stale)
		{
			entry = hash_search(cache, &unkept.key, HASH_ENTER, NULL);
			*entry = unkept;
		}
	}
	if (entry->limits.count == 0)
		ereport(ERROR,
				(errcode(QS_LIMIT_UNKNOWN),
				 errmsg("there is no limit \"%s\"", name)));
	return &entry->limits;
}
