/*
 * batches.h
 *	  The frame of a procedure that does much work in transactions of its own,
 *	  one for each batch. Whenever it ends, what it committed stays, and who calls
 *	  it again goes on with the rest.
 */
#ifndef QS_BATCHES_H
#define QS_BATCHES_H

#include "call.h"

typedef struct QsBatches
{
	FunctionCallInfo fcinfo;
	const char *verb;			/* as errors and notices call it */
	QsScope		scope;
	QsCall		call;			/* the batch's, anew after each commit */
	int			size;			/* of a batch */
	int64		done;
	int64		total;			/* negative: not known */
	TimestampTz told_at;
} QsBatches;

extern void qs_batches_begin(QsBatches *batches, FunctionCallInfo fcinfo,
							 const char *verb, QsScope scope, int size_arg);
extern void qs_batches_show(QsBatches *batches, const pg_uuid_t *tenant,
							const char *queue, int64 total);
extern void qs_batches_commit(QsBatches *batches, int64 done);
extern void qs_batches_end(QsBatches *batches);

#endif							/* QS_BATCHES_H */
