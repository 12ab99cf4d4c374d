/*
 * distributed.c
 *	  Refuses tables whose rows are on other servers: see distributed.h.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_namespace.h"
#include "distributed.h"
#include "errors.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* The first of the tables that Citus lists, or InvalidOid. */
static Oid
find_distributed(const Oid *tables, int count)
{
	Oid			listing = get_relname_relid("pg_dist_partition",
											PG_CATALOG_NAMESPACE);
	Oid			found = InvalidOid;
	AttrNumber	column;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(listing))
		return InvalidOid;
	column = get_attnum(listing, "logicalrelid");
	rel = table_open(listing, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!OidIsValid(found) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Oid			relid = DatumGetObjectId(heap_getattr(tuple, column,
														  RelationGetDescr(rel),
														  &isnull));

		for (int i = 0; i < count; i++)
			if (OidIsValid(tables[i]) && tables[i] == relid)
				found = relid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* QS_TABLE_DISTRIBUTED if Citus has one of the tables; some may be invalid. */
void
qs_refuse_distributed(const Oid *tables, int count)
{
	Oid			found = find_distributed(tables, count);

	if (OidIsValid(found))
		ereport(ERROR,
				(errcode(QS_TABLE_DISTRIBUTED),
				 errmsg("table \"%s\" is distributed by Citus",
						get_rel_name(found)),
				 errdetail("Jobs are read and written on this server, where such a table is empty."),
				 errhint("Use undistribute_table(). To use several servers, keep each tenant whole on one of them: see doc/scale.md.")));
}
