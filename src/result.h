/*
 * result.h
 *	  Rows for SQL functions to return.
 */
#ifndef QS_RESULT_H
#define QS_RESULT_H

#include "access/tupdesc.h"
#include "fmgr.h"

extern Datum qs_return_row(FunctionCallInfo fcinfo, TupleDesc *kept,
						   Datum *values, bool *nulls);
extern void qs_begin_rows(FunctionCallInfo fcinfo);
extern void qs_put_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls);

#endif							/* QS_RESULT_H */
