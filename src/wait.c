/*
 * wait.c
 *	  The procedure that waits for work.
 *
 * While it waits it holds neither a snapshot, so that VACUUM is not held back,
 * nor a lock on a table. It can give up the snapshot only if that is the one
 * of its own CALL, so it is refused below another query; and it is refused
 * where the snapshot must last, or a transaction id would be held.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "claim_tokens.h"
#include "errors.h"
#include "fair.h"
#include "fault.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "queue.h"
#include "ready_direct.h"
#include "slots.h"
#include "statement.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "waiters.h"

/* Waiters look again by themselves this often, in ms. */
#define LOOK_EVERY 1000
/* ... and without shared memory. */
#define POLL_EVERY 100

PG_FUNCTION_INFO_V1(queue_wait);

static QsStatement select_queue_ids = {
	.sql = "SELECT id FROM @queues WHERE name || '' = $1 AND NOT paused",
	.nargs = 1, .argtypes = {TEXTOID}
};

static void
refuse(const char *why)
{
	ereport(ERROR,
			(errcode(QS_CANNOT_WAIT),
			 errmsg("queue_wait() cannot wait %s", why),
			 errhint("Call it by CALL, at READ COMMITTED, before the transaction writes.")));
}

static void
check_place(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", "queue_wait()")));
	if (IsolationUsesXactSnapshot())
		refuse("in a transaction that keeps its snapshot");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		refuse("in a transaction that has written");
	if (ActivePortal == NULL || ActivePortal->portalSnapshot == NULL ||
		GetActiveSnapshot() != ActivePortal->portalSnapshot)
		refuse("below another query");
}

static bool
look_at_queue(QsCall *call, const QsQueue *queue, TimestampTz *next_due)
{
	int64		token_wait = qs_tokens_wait(call, queue);
	bool		found = false;

	if (token_wait > 0)
	{
		*next_due = Min(*next_due, call->now + token_wait);
		return false;
	}
	for (QsTableKind kind = QS_JOBS; kind <= QS_CRITICAL_JOBS && !found; kind++)
	{
		TimestampTz idle_until = qs_direct_idle_until(call, kind, &queue->id);
		QsTable		table;

		if (call->now < idle_until)
		{
			*next_due = Min(*next_due, idle_until);
			continue;
		}
		qs_look_open(&table, call, kind);
		found = qs_direct_look(&table, &queue->id, next_due);
		qs_look_close(&table);
		found = found && qs_slots_look(call, queue, kind == QS_CRITICAL_JOBS,
									   next_due);
	}
	return found;
}

static bool
look_at_name(QsCall *call, const char *name, TimestampTz *next_due)
{
	Datum		args[1] = {CStringGetTextDatum(name)};
	bool		found = false;
	uint64		count;

	qs_connect();
	count = qs_read(&select_queue_ids, call, args, NULL, 0);
	for (uint64 i = 0; i < count && !found; i++)
	{
		bool		isnull;
		QsQueue		queue;

		found = qs_queue_by_id(call, DatumGetUUIDP(qs_result((int) i, 1, &isnull)),
							   &queue) &&
			look_at_queue(call, &queue, next_due);
	}
	SPI_finish();
	return found;
}

/*
 * Whether there may be work. If this session is to wait, it is in the list
 * before it looks. *next_due becomes when it should look again at the latest.
 */
static bool
look(FunctionCallInfo fcinfo, const char *name, TimestampTz *next_due)
{
	QsCall		call;
	bool		found;

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	if (call.has_tenant)
	{
		QsQueue		queue;

		qs_queue_by_name(&call, name, &queue);
		if (qs_waiters_exist())
			qs_waiter_begin(&queue.id, NULL);
		found = !queue.paused && look_at_queue(&call, &queue, next_due);
	}
	else
	{
		if (qs_waiters_exist())
			qs_waiter_begin(NULL, name);
		qs_fair_know(&call, name);
		found = look_at_name(&call, name, next_due);
	}
	qs_end(&call);
	return found;
}

static void
sleep_until(TimestampTz time)
{
	int			every = qs_waiters_exist() ? LOOK_EVERY : POLL_EVERY;
	int			events;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), time);

	ForgetPortalSnapshots();
	InvalidateCatalogSnapshot();
	events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					   Max(1, Min(ms, every)), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (events & WL_LATCH_SET)
		QS_FAULT_POINT("woken");
	EnsurePortalSnapshotExists();
}

/* SQL: CALL queue_wait(queue, timeout) */
Datum
queue_wait(PG_FUNCTION_ARGS)
{
	char	   *name = qs_arg_text(fcinfo, 0, "queue", QS_NAME_BYTES);
	Interval   *timeout = qs_arg_interval(fcinfo, 1, "timeout", 0, QS_YEAR);
	TimestampTz end = qs_add_interval(GetCurrentTimestamp(), timeout);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "queue_wait",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);

	/* it may still be set for what this session did before */
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	PG_TRY();
	{
		for (;;)
		{
			TimestampTz next_due = end;

			check_place();
			if (look(fcinfo, name, &next_due) || GetCurrentTimestamp() >= end)
				break;
			sleep_until(next_due);
			MemoryContextReset(cxt);
		}
	}
	PG_FINALLY();
	{
		if (qs_waiters_exist())
			qs_waiter_end();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	PG_RETURN_VOID();
}
