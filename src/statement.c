/*
 * statement.c
 *	  Runs kept plans through SPI: see statement.h.
 *
 * A plan is made under the pinned search_path and as the owner of the tables,
 * and always run so; it is never made anew for another caller. It is made
 * anew when the catalog (catalog.c) was looked up again.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "statement.h"

/* SPI_connect(), to be followed by SPI_finish(). */
void
qs_connect(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

static void
prepare(QsStatement *statement, const QsCatalog *cat)
{
	StringInfoData sql;
	SPIPlanPtr	plan;

	initStringInfo(&sql);
	for (const char *c = statement->sql; *c != '\0'; c++)
	{
		if (*c == '@')
			appendStringInfo(&sql, "%s.", cat->schema_quoted);
		else
			appendStringInfoChar(&sql, *c);
	}

	plan = SPI_prepare(sql.data, statement->nargs, statement->argtypes);
	if (plan == NULL)
		elog(ERROR, "could not prepare a statement: %s",
			 SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep a plan");
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	statement->plan = plan;
	statement->generation = cat->generation;
	pfree(sql.data);
}

/* Runs a statement that writes or locks (read_only false) or only reads. */
static uint64
execute(QsStatement *statement, QsCall *call, int expected, Datum *args,
		const char *nulls, long limit, bool read_only)
{
	int			result;

	qs_pin_search_path(call);
	if (statement->plan == NULL ||
		statement->generation != call->cat->generation)
		prepare(statement, call->cat);

	result = SPI_execute_plan(statement->plan, args, nulls, read_only, limit);
	if (result != expected)
		elog(ERROR, "unexpected result %s of a statement",
			 SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * Runs a statement, between qs_connect() and SPI_finish(), and returns the
 * number of rows; the rows themselves are in SPI_tuptable. nulls is as for
 * SPI_execute_plan(), limit the most rows to fetch or 0.
 */
uint64
qs_execute(QsStatement *statement, QsCall *call, int expected,
		   Datum *args, const char *nulls, long limit)
{
	return execute(statement, call, expected, args, nulls, limit, false);
}

/* The same for a query, under the call's snapshot. */
uint64
qs_read(QsStatement *statement, QsCall *call, Datum *args, const char *nulls,
		long limit)
{
	return execute(statement, call, SPI_OK_SELECT, args, nulls, limit, true);
}

/* A value of the last statement's result; column counts from 1. */
Datum
qs_result(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}
