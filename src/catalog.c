/*
 * catalog.c
 *	  Finds the extension's objects, by the schema of the function that is
 *	  called and never by search_path.
 *
 * What was found is kept for the session. Callbacks only mark it as stale, as
 * they may come in the middle of anything; the next call looks again. The
 * extension may so be dropped, created elsewhere, renamed into or reindexed
 * concurrently (which gives an index a new oid) without a new session.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "distributed.h"
#include "errors.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static QsCatalog current;
static bool current_valid = false;
static uint64 invalidations = 0;	/* that came, of whatever object */

static const char *const table_names[QS_NTABLES] = {
	"jobs", "critical_jobs", "dead_letter_jobs"
};
static const char *const ready_index_names[QS_NTABLES] = {
	"jobs_ready_idx", "critical_jobs_ready_idx", NULL
};

static const char *const all_table_names[QS_NALL_TABLES] = {
	"tenants", "queues", "jobs", "critical_jobs", "dead_letter_jobs",
	"idempotency_keys", "schedules", "rate_limiters", "rate_limits",
	"queue_metrics", "alert_history"
};

static void
forget_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	invalidations++;
	if (relid == InvalidOid)
		current_valid = false;
	for (int i = 0; i < QS_NALL_TABLES; i++)
		if (relid == current.all_tables[i])
			current_valid = false;
}

static void
forget_all(Datum arg pg_attribute_unused(),
		   int cacheid pg_attribute_unused(),
		   uint32 hashvalue pg_attribute_unused())
{
	invalidations++;
	current_valid = false;
}

/* Registers the callbacks; once a session. */
void
qs_catalog_init(void)
{
	CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_all, (Datum) 0);
}

/* A relation of the extension; QS_TABLE_UNSUITABLE if it is missing. */
Oid
qs_find_relation(Oid schema, const char *name)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(QS_TABLE_UNSUITABLE),
				 errmsg("relation \"%s\" of queue_service is missing", name),
				 errhint("Create the extension again, or restore what was dropped.")));
	return relid;
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The schema of the extension; InvalidOid if there is none. */
static Oid
extension_schema(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			schema = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("queue_service"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

/*
 * The schema of the called function. An update of the extension may have dropped
 * the function since the statement that calls it began; that one goes on.
 */
static Oid
called_schema(FunctionCallInfo fcinfo)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);

	return OidIsValid(schema) ? schema : extension_schema();
}

/*
 * The objects of the extension that the called function belongs to. Valid
 * until the end of the call; QS_TABLE_UNSUITABLE if one is missing,
 * QS_TABLE_DISTRIBUTED if one is on other servers.
 */
const QsCatalog *
qs_catalog(FunctionCallInfo fcinfo)
{
	Oid			schema = called_schema(fcinfo);
	QsCatalog	found = {0};
	oidvector  *no_arguments;
	char	   *quoted;
	uint64		before;

	AcceptInvalidationMessages();
	if (current_valid && current.schema == schema)
		return &current;
	before = invalidations;

	found.schema = schema;
	found.queues = qs_find_relation(schema, "queues");
	found.rate_limiters = qs_find_relation(schema, "rate_limiters");
	found.rate_limits = qs_find_relation(schema, "rate_limits");
	for (int i = 0; i < QS_NTABLES; i++)
	{
		found.table[i] = qs_find_relation(schema, table_names[i]);
		if (ready_index_names[i])
			found.ready_index[i] = qs_find_relation(schema, ready_index_names[i]);
	}
	for (int i = 0; i < QS_NALL_TABLES; i++)
		found.all_tables[i] = get_relname_relid(all_table_names[i], schema);
	qs_refuse_distributed(found.all_tables, QS_NALL_TABLES);
	found.owner = relation_owner(found.table[QS_JOBS]);
	no_arguments = buildoidvector(NULL, 0);
	found.all_tenants = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
										CStringGetDatum("_queue_all_tenants"),
										PointerGetDatum(no_arguments),
										ObjectIdGetDatum(schema));
	quoted = MemoryContextStrdup(TopMemoryContext,
								 quote_identifier(get_namespace_name(schema)));
	if (current.schema_quoted)
		pfree(unconstify(char *, current.schema_quoted));
	found.schema_quoted = quoted;
	found.generation = current.generation + 1;
	current = found;
	/* what changed while we looked is looked at again by the next call */
	current_valid = invalidations == before;
	return &current;
}

/*
 * The ready index of a table that the caller has locked for writing. It may be
 * another one than at the beginning of the call: REINDEX CONCURRENTLY replaces
 * it, and drops the old one once all have gone that had the table locked.
 */
Oid
qs_ready_index(const QsCatalog *cat, QsTableKind kind)
{
	return current_valid ? cat->ready_index[kind] :
		qs_find_relation(cat->schema, ready_index_names[kind]);
}
