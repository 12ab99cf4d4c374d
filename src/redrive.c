/*
 * redrive.c
 *	  Sends many dead letters back: in the caller's transaction, or batch by batch
 *	  in transactions of its own.
 *
 * Invariants:
 *	 A letter is looked at once, in the order in which they died; so those that
 *	 cannot be sent back keep none of the others, and end no batch early.
 *	 The pace goes on from batch to batch.
 */
#include "postgres.h"

#include "args.h"
#include "batches.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "miscadmin.h"
#include "queue.h"
#include "repair.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define PATTERN_BYTES 10000

PG_FUNCTION_INFO_V1(queue_redrive);
PG_FUNCTION_INFO_V1(queue_redrive_all);

/* what is sent back, and how far that is; its memory is the caller's */
typedef struct Redrive
{
	Datum		args[7];		/* of select_dead; the last two are where it is */
	char		nulls[8];
	double		per_second;		/* 0: all at once */
	TimestampTz begun;
	int64		redriven;
	TimestampTz died_at;		/* of the last letter that was looked at */
	pg_uuid_t	id;				/* its id */
} Redrive;

#define LETTERS \
	" FROM @dead_letter_jobs" \
	" WHERE tenant_id = $1 AND queue_id = $2 AND redriven_at IS NULL" \
	" AND reason <> 'cancelled' AND ($3 IS NULL OR last_error LIKE $3)" \
	" AND ($4 IS NULL OR died_at >= $4) AND ($5 IS NULL OR died_at < $5)" \
	" AND (died_at, id) > ($6, $7)"
#define LETTER_TYPES \
	{UUIDOID, UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, \
	UUIDOID}

static QsStatement select_dead = {
	.sql = "SELECT id, died_at" LETTERS " ORDER BY died_at, id",
	.nargs = 7, .argtypes = LETTER_TYPES
};
static QsStatement count_dead = {
	.sql = "SELECT count(*)" LETTERS,
	.nargs = 7, .argtypes = LETTER_TYPES
};

/* The ids of up to limit (0: all) dead letters, copied out of SPI's memory. */
static uint64
find_dead_letters(QsCall *call, Redrive *redrive, long limit, pg_uuid_t **ids)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64		count;
	bool		isnull;

	redrive->args[5] = TimestampTzGetDatum(redrive->died_at);
	redrive->args[6] = UUIDPGetDatum(&redrive->id);
	qs_connect();
	count = qs_execute(&select_dead, call, SPI_OK_SELECT, redrive->args,
					   redrive->nulls, limit);
	*ids = MemoryContextAllocHuge(caller, (count + 1) * sizeof(pg_uuid_t));
	for (uint64 i = 0; i < count; i++)
		(*ids)[i] = *DatumGetUUIDP(qs_result((int) i, 1, &isnull));
	if (count > 0)
	{
		redrive->id = (*ids)[count - 1];
		redrive->died_at = DatumGetTimestampTz(qs_result((int) count - 1, 2, &isnull));
	}
	SPI_finish();
	return count;
}

/* Sends up to limit (0: all) letters back. Returns how many it looked at. */
static uint64
redrive_some(QsCall *call, Redrive *redrive, long limit)
{
	QsJobs		jobs;
	pg_uuid_t  *ids;
	uint64		count = find_dead_letters(call, redrive, limit, &ids);

	qs_renew_snapshot();
	qs_jobs_begin(&jobs, call);
	for (uint64 i = 0; i < count; i++)
	{
		TimestampTz run_at = call->now;

		CHECK_FOR_INTERRUPTS();
		if (redrive->per_second > 0)
			run_at = redrive->begun +
				(TimestampTz) (redrive->redriven / redrive->per_second * USECS_PER_SEC);
		if (qs_redrive_letter(&jobs, &ids[i], run_at))
			redrive->redriven++;
	}
	qs_jobs_end(&jobs);
	pfree(ids);
	return count;
}

/* Refuses a LIKE pattern that is huge, or ends in the middle of an escape. */
static void
check_pattern(text *pattern)
{
	const char *c = VARDATA_ANY(pattern);
	const char *end = c + VARSIZE_ANY_EXHDR(pattern);

	if (end - c > PATTERN_BYTES)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("error_like must be at most %d bytes long", PATTERN_BYTES)));
	for (; c < end; c++)
		if (*c == '\\' && ++c == end)
			ereport(ERROR,
					(errcode(QS_ARGUMENT_INVALID),
					 errmsg("error_like must not end with an escape character")));
}

/* Takes the arguments error_like, died_after, died_before and per_second. */
static void
take_arguments(FunctionCallInfo fcinfo, QsCall *call, QsQueue *queue,
			   Redrive *redrive)
{
	memset(redrive, 0, sizeof(*redrive));
	qs_queue_by_name(call, qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES), queue);
	memset(redrive->nulls, ' ', sizeof(redrive->nulls) - 1);
	redrive->args[0] = PointerGetDatum(memcpy(palloc(UUID_LEN), &call->tenant, UUID_LEN));
	redrive->args[1] = PointerGetDatum(memcpy(palloc(UUID_LEN), &queue->id, UUID_LEN));
	if (!PG_ARGISNULL(2))
	{
		check_pattern(PG_GETARG_TEXT_PP(2));
		redrive->args[2] = PointerGetDatum(PG_GETARG_TEXT_P_COPY(2));
	}
	redrive->args[3] = PG_GETARG_DATUM(3);
	redrive->args[4] = PG_GETARG_DATUM(4);
	for (int i = 2; i < 5; i++)
		redrive->nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	if (!PG_ARGISNULL(5))
	{
		redrive->per_second = PG_GETARG_FLOAT8(5);
		if (!(redrive->per_second >= 0.001 && redrive->per_second <= 1e6))
			ereport(ERROR,
					(errcode(QS_ARGUMENT_INVALID),
					 errmsg("per_second must be between 0.001 and 1000000")));
	}
	redrive->begun = call->now;
	redrive->died_at = DT_NOBEGIN;
}

/*
 * SQL: queue_redrive(queue, max_jobs, error_like, died_after, died_before,
 * per_second)
 */
Datum
queue_redrive(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsQueue		queue;
	Redrive		redrive;
	int			limit;

	qs_begin(&call, fcinfo, "queue_redrive()", QS_ONE_TENANT);
	limit = PG_ARGISNULL(1) ? 0 :
		qs_arg_int(fcinfo, 1, "max_jobs", 1, PG_INT32_MAX);
	take_arguments(fcinfo, &call, &queue, &redrive);
	(void) redrive_some(&call, &redrive, limit);
	qs_end(&call);
	PG_RETURN_INT64(redrive.redriven);
}

static int64
count_letters(QsCall *call, Redrive *redrive)
{
	int64		total;
	bool		isnull;

	redrive->args[5] = TimestampTzGetDatum(redrive->died_at);
	redrive->args[6] = UUIDPGetDatum(&redrive->id);
	qs_connect();
	(void) qs_execute(&count_dead, call, SPI_OK_SELECT, redrive->args,
					  redrive->nulls, 0);
	total = DatumGetInt64(qs_result(0, 1, &isnull));
	SPI_finish();
	return total;
}

/*
 * SQL: CALL queue_redrive_all(queue, batch, error_like, died_after, died_before,
 * per_second)
 */
Datum
queue_redrive_all(PG_FUNCTION_ARGS)
{
	QsBatches	batches;
	QsQueue		queue;
	Redrive		redrive;

	qs_batches_begin(&batches, fcinfo, "queue_redrive_all()", QS_ONE_TENANT, 1);
	take_arguments(fcinfo, &batches.call, &queue, &redrive);
	qs_batches_show(&batches, &batches.call.tenant, queue.name,
					count_letters(&batches.call, &redrive));
	for (;;)
	{
		int64		before = redrive.redriven;

		if (redrive_some(&batches.call, &redrive, batches.size) == 0)
			break;
		qs_batches_commit(&batches, redrive.redriven - before);
	}
	qs_batches_end(&batches);
	PG_RETURN_VOID();
}
