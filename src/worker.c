/*
 * worker.c
 *	  The background worker of a database: see worker.h.
 *
 * Each run of a task is a transaction of its own, in which the worker calls
 * _queue_task() of whatever schema the extension is in, as any client could. In
 * between it has no snapshot and no lock but the one that makes it the only
 * worker. A task that fails is tried again after its period, then twice that,
 * and so on up to MAX_BACKOFF; what the others do is not touched by it.
 *
 * It goes by the monotonic clock: a step of the system's clock delays no task.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "task.h"
#include "task_log.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker.h"

/* The longest sleep: so long somebody who wants the database may wait. */
#define NAP_MS 1000
/* How often to look for an extension that is not there. */
#define ABSENT_MS 5000
#define MAX_BACKOFF (600 * USECS_PER_SEC)

extern PGDLLEXPORT void qs_worker_main(Datum database);

/* when a task runs next */
typedef struct Due
{
	int64		at;				/* by the monotonic clock */
	int			failures;		/* in a row */
} Due;

/* how a run ended */
typedef enum Ending
{
	ENDED,						/* there is nothing left to do */
	MORE,
	BUSY,						/* another session is at maintenance */
	NO_EXTENSION,
	FAILED
} Ending;

static Due *dues;				/* of qs_ntasks */
static Oid	known_extension = InvalidOid;	/* whose they are */
static MemoryContext round_context;

static int64
monotonic(void)
{
	instr_time	time;

	INSTR_TIME_SET_CURRENT(time);
	return (int64) INSTR_TIME_GET_MICROSEC(time);
}

/* All tasks are due at a time, whatever was before. */
static void
start_anew(int64 at)
{
	for (int i = 0; i < qs_ntasks; i++)
		dues[i] = (Due) {.at = at};
}

/*
 * Locks the extension until the transaction ends; false if there is none, or
 * somebody is about to drop or alter it.
 */
static bool
lock_extension(void)
{
	Oid			extension = get_extension_oid("queue_service", true);
	LOCKTAG		tag;

	if (!OidIsValid(extension))
		return false;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (extension != known_extension)
		start_anew(monotonic());
	known_extension = extension;
	return true;
}

/* The extension's schema as SQL has it, in SPI's memory; NULL if there is none. */
static const char *
find_schema(void)
{
	if (SPI_execute("SELECT pg_catalog.quote_ident(n.nspname)"
					" FROM pg_catalog.pg_extension e"
					" JOIN pg_catalog.pg_namespace n"
					" ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
					" WHERE e.extname OPERATOR(pg_catalog.=) 'queue_service'",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the extension");
	return SPI_processed == 0 ? NULL :
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* Calls _queue_task(), which says how the run ended. */
static Ending
call_task(const QsTask *task, const char *schema)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(task->name)};
	bool		busy;
	Datum		more;

	if (SPI_execute_with_args(psprintf("SELECT more FROM %s._queue_task($1)", schema),
							  1, types, args, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "unexpected result of a task");
	more = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &busy);
	if (busy)
		return BUSY;
	return DatumGetBool(more) ? MORE : ENDED;
}

/* Runs a task in the transaction that has begun. */
static Ending
run_in_transaction(const QsTask *task)
{
	const char *schema;
	Ending		ending = NO_EXTENSION;

	if (!lock_extension())
		return ending;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	schema = find_schema();
	if (schema != NULL)
		ending = call_task(task, schema);
	SPI_finish();
	PopActiveSnapshot();
	return ending;
}

static void
explain_task(void *task)
{
	errcontext("task \"%s\" of queue_service", ((const QsTask *) task)->name);
}

/* Runs a task in a transaction of its own, whose error is logged. */
static Ending
run_task(int n)
{
	const QsTask *task = qs_tasks[n];
	ErrorContextCallback context = {
		.previous = error_context_stack, .callback = explain_task,
		.arg = unconstify(QsTask *, task)
	};
	volatile Ending ending = FAILED;
	TimestampTz at = GetCurrentTimestamp();

	error_context_stack = &context;
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, task->name);
		StartTransactionCommand();
		ending = run_in_transaction(task);
		CommitTransactionCommand();
		if (ending == ENDED || ending == MORE)
			qs_task_log_note(n, at, NULL);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		EmitErrorReport();
		MemoryContextSwitchTo(round_context);
		error = CopyErrorData();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		qs_task_log_note(n, at, error->message);
		ending = FAILED;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	MemoryContextSwitchTo(round_context);
	MemoryContextReset(round_context);
	return ending;
}

/* Says when the task is due after a run that began at a time. */
static void
set_due(int n, Ending ending, int64 begun)
{
	const QsTask *task = qs_tasks[n];
	Due		   *due = &dues[n];
	int64		period = task->period * USECS_PER_SEC;
	int64		now = monotonic();

	due->failures = ending == FAILED ? due->failures + 1 : 0;
	if (ending == MORE)
		due->at = task->rests ? now + (now - begun) : now;
	else if (ending == FAILED)
		due->at = now + Min(period << Min(due->failures - 1, 10), MAX_BACKOFF);
	else if (ending == ENDED)
		due->at = begun + period;
	else
		due->at = now + NAP_MS * INT64CONST(1000);
}

/* Runs what is due. */
static void
run_due_tasks(void)
{
	for (int i = 0; i < qs_ntasks; i++)
	{
		int64		begun = monotonic();
		Ending		ending;

		CHECK_FOR_INTERRUPTS();
		if (dues[i].at > begun)
			continue;
		if (qs_database_is_wanted(MyDatabaseId))
			return;
		ending = run_task(i);
		set_due(i, ending, begun);
		if (ending == NO_EXTENSION)
		{
			start_anew(begun + ABSENT_MS * INT64CONST(1000));
			return;
		}
	}
}

/* How long to sleep, in milliseconds. */
static long
nap(void)
{
	int64		now = monotonic();
	int64		least = NAP_MS * INT64CONST(1000);

	for (int i = 0; i < qs_ntasks; i++)
		least = Min(least, dues[i].at - now);
	return least <= 0 ? 0 : (long) ((least + 999) / 1000);
}

/*
 * Settings of the database or the server that are for clients. Nothing that a
 * task does is acknowledged to anybody, and all of it is done again if a crash
 * loses it.
 */
static void
set_settings(void)
{
	SetConfigOption("app.current_tenant", "", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET,
					PGC_S_SESSION);
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_SESSION);
}

/* A worker that was just ended may be on its way out. */
static bool
become_worker(void)
{
	for (int i = 0; i < 10; i++)
	{
		if (qs_keep(MyDatabaseId, QS_WORKER))
			return true;
		pg_usleep(100000);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

void
qs_worker_main(Datum database)
{
	qs_worker_signals(die);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database),
											  InvalidOid, 0);
	if (!become_worker())
		proc_exit(0);
	set_settings();
	round_context = AllocSetContextCreate(TopMemoryContext,
										  "queue_service worker",
										  ALLOCSET_DEFAULT_SIZES);
	dues = MemoryContextAllocZero(TopMemoryContext, qs_ntasks * sizeof(Due));
	MemoryContextSwitchTo(round_context);
	while (!qs_database_is_wanted(MyDatabaseId))
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		run_due_tasks();
		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 nap(), PG_WAIT_EXTENSION);
	}
	proc_exit(0);
}
