/*
 * batches.c
 *	  Procedures that commit each batch: see batches.h.
 *
 * A NOTICE says every few seconds how far it is, for who called it; the view
 * queue_progress does so for others. What is to outlive a commit is allocated
 * after qs_batches_begin(), in memory that is the procedure's.
 */
#include "postgres.h"

#include "args.h"
#include "batches.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "progress.h"
#include "utils/timestamp.h"

#define TELL_EVERY (5 * USECS_PER_SEC)
#define MAX_BATCH 100000

static bool
is_atomic(FunctionCallInfo fcinfo)
{
	return fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic;
}

/* Begins the procedure and its first batch; size_arg is which argument has the size. */
void
qs_batches_begin(QsBatches *batches, FunctionCallInfo fcinfo, const char *verb,
				 QsScope scope, int size_arg)
{
	memset(batches, 0, sizeof(*batches));
	if (is_atomic(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s commits, and cannot run in a transaction block or a function",
						verb)));
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	batches->fcinfo = fcinfo;
	batches->verb = verb;
	batches->scope = scope;
	batches->size = qs_arg_int(fcinfo, size_arg, "batch", 1, MAX_BATCH);
	batches->total = -1;
	batches->told_at = GetCurrentTimestamp();
	qs_begin(&batches->call, fcinfo, verb, scope);
}

/* Begins to show how far it is. tenant and queue may be NULL, and total negative. */
void
qs_batches_show(QsBatches *batches, const pg_uuid_t *tenant, const char *queue,
				int64 total)
{
	batches->total = total;
	qs_progress_begin(batches->verb, tenant, queue, total);
}

static void
tell(QsBatches *batches)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - batches->told_at < TELL_EVERY)
		return;
	batches->told_at = now;
	if (batches->total >= 0)
		ereport(NOTICE,
				(errmsg("%s: " INT64_FORMAT " of " INT64_FORMAT, batches->verb,
						batches->done, batches->total)));
	else
		ereport(NOTICE,
				(errmsg("%s: " INT64_FORMAT, batches->verb, batches->done)));
}

/* Commits a batch that did so much, and begins the next. */
void
qs_batches_commit(QsBatches *batches, int64 done)
{
	qs_end(&batches->call);
	SPI_commit();
	batches->done += done;
	qs_progress_add(batches->verb, done);
	tell(batches);
	CHECK_FOR_INTERRUPTS();
	qs_begin(&batches->call, batches->fcinfo, batches->verb, batches->scope);
}

/* Ends the last batch, which has done nothing, and the procedure. */
void
qs_batches_end(QsBatches *batches)
{
	qs_end(&batches->call);
	qs_progress_end(batches->verb);
	ereport(NOTICE,
			(errmsg("%s: " INT64_FORMAT ", and that is all", batches->verb,
					batches->done)));
	SPI_finish();
}
