/*
 * tenants.c
 *		Recognizes the CREATE TABLE that the extension's own table tenants
 *		gives way to.
 *
 * Restoring a dump runs CREATE EXTENSION, which brings a table tenants, before
 * the CREATE TABLE of the tenants that were dumped.  An event trigger then asks
 * here what the statement is.  Nothing is kept between calls.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "parser/parse_type.h"
#include "tcop/pquery.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(qs_creates_tenants);

/*
 * Returns the CREATE TABLE that the client runs, or NULL if it runs something
 * else.
 *
 * The portal knows the one statement that is under way, where the text of the
 * query may hold several.  A CREATE TABLE inside a function or DO block is not
 * found: its portal runs the outer statement.
 */
static CreateStmt *
current_create_table(void)
{
	PlannedStmt *pstmt;

	if (ActivePortal == NULL || list_length(ActivePortal->stmts) != 1)
		return NULL;
	pstmt = linitial_node(PlannedStmt, ActivePortal->stmts);
	if (pstmt->utilityStmt == NULL || !IsA(pstmt->utilityStmt, CreateStmt))
		return NULL;
	return (CreateStmt *) pstmt->utilityStmt;
}

/* Returns the schema that an unqualified or qualified new table goes to. */
static Oid
creation_schema(RangeVar *relation)
{
	List	   *path;
	Oid			schema;

	if (relation->schemaname != NULL)
		return get_namespace_oid(relation->schemaname, true);
	path = fetch_search_path(false);
	schema = path == NIL ? InvalidOid : linitial_oid(path);
	list_free(path);
	return schema;
}

/* Says whether a relation has a column id of type uuid. */
static bool
relation_has_id(Oid relid)
{
	return OidIsValid(relid) &&
		get_atttype(relid, get_attnum(relid, "id")) == UUIDOID;
}

/*
 * Says whether the new table gets a column id of type uuid: one of its own, or
 * one from a table or type that it takes its columns from.
 */
static bool
gets_id(CreateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->tableElts)
	{
		Node	   *element = lfirst(lc);

		if (IsA(element, ColumnDef))
		{
			ColumnDef  *column = (ColumnDef *) element;

			/* A column of a typed table or partition may have no type here. */
			if (strcmp(column->colname, "id") == 0 && column->typeName != NULL)
				return LookupTypeNameOid(NULL, column->typeName, true) == UUIDOID;
		}
		else if (IsA(element, TableLikeClause))
		{
			RangeVar   *source = ((TableLikeClause *) element)->relation;

			if (relation_has_id(RangeVarGetRelid(source, NoLock, true)))
				return true;
		}
	}
	foreach(lc, stmt->inhRelations)
	{
		if (relation_has_id(RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true)))
			return true;
	}
	if (stmt->ofTypename != NULL)
	{
		Oid			type = LookupTypeNameOid(NULL, stmt->ofTypename, true);

		return OidIsValid(type) && relation_has_id(typeOrDomainTypeRelid(type));
	}
	return false;
}

/*
 * Says whether the client's statement creates a permanent table tenants, with
 * a column id of type uuid, in the extension's schema.
 *
 * Looks at the caller's search_path, which so must be in force.  Errors in the
 * names of the statement may be raised here; the statement has them as well.
 */
Datum
qs_creates_tenants(PG_FUNCTION_ARGS)
{
	CreateStmt *stmt = current_create_table();

	PG_RETURN_BOOL(stmt != NULL &&
				   strcmp(stmt->relation->relname, "tenants") == 0 &&
				   stmt->relation->relpersistence == RELPERSISTENCE_PERMANENT &&
				   creation_schema(stmt->relation) ==
				   get_func_namespace(fcinfo->flinfo->fn_oid) &&
				   gets_id(stmt));
}
