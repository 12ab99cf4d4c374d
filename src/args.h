/*
 * args.h
 *	  Takes the arguments of SQL functions, and refuses the bad ones.
 *
 * Each function takes argument number n (from 0), which a message calls name,
 * and raises QS_ARGUMENT_NULL if it is null, QS_ARGUMENT_INVALID if it is out
 * of range. No message shows a value that could be a payload.
 */
#ifndef QS_ARGS_H
#define QS_ARGS_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#define QS_MAX_BATCH 10000		/* jobs in one call */
#define QS_JOB_TYPE_BYTES 128
#define QS_KEY_BYTES 512
#define QS_WORKER_BYTES 128
#define QS_MAX_ATTEMPTS 1000

#define QS_YEAR (INT64CONST(365) * USECS_PER_DAY)

extern void qs_args_init(void);
extern void qs_require(FunctionCallInfo fcinfo, int n, const char *name);
extern char *qs_arg_text(FunctionCallInfo fcinfo, int n, const char *name,
						 int max_bytes);
extern bool qs_arg_bool(FunctionCallInfo fcinfo, int n, const char *name);
extern int	qs_arg_int(FunctionCallInfo fcinfo, int n, const char *name,
					   int min, int max);
extern double qs_arg_double(FunctionCallInfo fcinfo, int n, const char *name,
							double min, double max);
extern pg_uuid_t *qs_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name);
extern Interval *qs_arg_interval(FunctionCallInfo fcinfo, int n,
								 const char *name, int64 min, int64 max);
extern TimestampTz qs_arg_time(FunctionCallInfo fcinfo, int n, const char *name,
							   TimestampTz now);
extern int	qs_arg_array(FunctionCallInfo fcinfo, int n, const char *name,
						 Oid element, Datum **values, bool **nulls);

extern void qs_check_json(Datum json, const char *name, int max_bytes);

extern int64 qs_interval_microseconds(const Interval *interval);
extern TimestampTz qs_add_interval(TimestampTz time, const Interval *interval);

#endif							/* QS_ARGS_H */
