/*
 * result.c
 *	  Rows for SQL functions to return: see result.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "result.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

/*
 * Makes the one row that the function returns. *kept is a static variable of
 * the function: the row's type, which is the same for all calls in a session.
 */
Datum
qs_return_row(FunctionCallInfo fcinfo, TupleDesc *kept,
			  Datum *values, bool *nulls)
{
	if (*kept == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc	desc;

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		*kept = BlessTupleDesc(CreateTupleDescCopy(desc));
		MemoryContextSwitchTo(caller);
	}
	return HeapTupleGetDatum(heap_form_tuple(*kept, values, nulls));
}

/* Starts the rows of a set-returning function, of which there may be none. */
void
qs_begin_rows(FunctionCallInfo fcinfo)
{
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
}

void
qs_put_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}
