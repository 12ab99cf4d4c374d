/*
 * task.c
 *	  The table of tasks, and their runner: see task.h.
 *
 * Invariants:
 *	 No two tasks run at the same time in a database: each run holds a lock
 *	 until its transaction ends. Who finds it taken does nothing.
 *	 What fails in one task does not keep another from running.
 */
#include "postgres.h"

#include "access/xact.h"
#include "args.h"
#include "errors.h"
#include "miscadmin.h"
#include "progress.h"
#include "result.h"
#include "storage/lock.h"
#include "task.h"
#include "task_log.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* How often queue_maintain() runs a task that says that there is more to do. */
#define MAX_ROUNDS 100

PG_FUNCTION_INFO_V1(queue_maintain);
PG_FUNCTION_INFO_V1(qs_queue_task);

const QsTask *const qs_tasks[] = {
	&qs_task_fire,
	&qs_task_rescue,
	&qs_task_groups,
	&qs_task_keys,
	&qs_task_finished,
	&qs_task_dead,
	&qs_task_metrics,
	&qs_task_alert_history,
	&qs_task_recount,
	&qs_task_sample,
	&qs_task_flush,
	&qs_task_alerts
};
const int	qs_ntasks = lengthof(qs_tasks);

StaticAssertDecl(lengthof(qs_tasks) <= QS_TASKS_MAX, "too many tasks");

/* the clock of a run, if it is not the time */
typedef struct Clock
{
	bool		given;
	TimestampTz now;
} Clock;

static Clock
arg_clock(FunctionCallInfo fcinfo, int n)
{
	Clock		clock = {.given = !PG_ARGISNULL(n)};

	if (clock.given)
		clock.now = qs_arg_time(fcinfo, n, "now", GetCurrentTimestamp());
	return clock;
}

/* Begins a call of the platform, which serves all tenants whatever is set. */
static void
begin(QsCall *call, FunctionCallInfo fcinfo, const char *verb)
{
	qs_begin_outside(call, fcinfo, verb, QS_ANY_TENANT);
	if (!qs_is_platform(call->cat, call->caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only the platform maintains queues")));
	call->has_tenant = false;
}

/*
 * Takes the lock under which tasks run, until the transaction ends; false if
 * another session has it. Object locks of a table that is no catalog are
 * nobody else's (those of queues are: see slots.c).
 */
static bool
lock_maintenance(const QsCall *call)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, call->cat->table[QS_JOBS], 0, 0);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Runs a task once, in a call of its own that has just begun. */
static void
run_task(const QsTask *task, QsCall *call, const Clock *clock, QsTaskRun *run)
{
	qs_enter_tables(call);
	if (clock->given)
		call->now = clock->now;
	run->call = call;
	run->done = 0;
	run->more = false;
	task->run(run);
	qs_progress_task(task->name, run->done, run->more);
	qs_end(call);
}

/*
 * Ends the subtransaction that an error has come out of, and returns the error.
 * A cancel is nobody's but the caller's, and goes on.
 */
static ErrorData *
catch_error(MemoryContext caller)
{
	ErrorData  *data;

	MemoryContextSwitchTo(caller);
	data = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	if (data->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(data);
	return data;
}

/*
 * Runs a task once, in a subtransaction. NULL, or the message of the error
 * that ended it; then nothing is left of the run.
 */
static char *
try_task(FunctionCallInfo fcinfo, const QsTask *task, const Clock *clock,
		 QsTaskRun *run)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	QsCall		call;
	char	   *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		begin(&call, fcinfo, "queue_maintain()");
		run_task(task, &call, clock, run);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		error = catch_error(caller)->message;
		run->done = 0;
		run->more = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

/* Writes some of a batch in a subtransaction. NULL, or the error that undid it. */
static ErrorData *
try_batch(QsCall *call, int first, int count, QsTaskBatch write, void *arg,
		  int64 *done)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext context = AllocSetContextCreate(caller, "queue_service batch",
												  ALLOCSET_DEFAULT_SIZES);
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		*done = write(call, first, count, arg);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		error = catch_error(caller);
		*done = 0;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	MemoryContextDelete(context);
	return error;
}

static int64
write_batch(QsCall *call, int first, int count, QsTaskBatch write,
			QsTaskFailure failed, void *arg)
{
	int64		done;
	ErrorData  *error;

	CHECK_FOR_INTERRUPTS();
	error = try_batch(call, first, count, write, arg, &done);
	if (error == NULL)
		return done;
	if (count > 1)
		return write_batch(call, first, count / 2, write, failed, arg) +
			write_batch(call, first + count / 2, count - count / 2, write,
						failed, arg);
	failed(call, first, error, arg);
	return 0;
}

/*
 * Writes a batch of count items. Halves it as long as that fails, for a trigger
 * or a foreign key of a user's, so that an item which cannot be written keeps
 * no other, and costs little of the time of the others. Such an item goes to
 * failed. Returns how many things were done.
 */
int64
qs_task_batch(QsCall *call, int count, QsTaskBatch write, QsTaskFailure failed,
			  void *arg)
{
	if (count == 0)
		return 0;
	/* a subtransaction that fails would unpin it */
	qs_pin_search_path(call);
	return write_batch(call, 0, count, write, failed, arg);
}

/* A QsTaskFailure: logs it, without what is in the row. */
void
qs_task_log_failure(QsCall *call pg_attribute_unused(),
					int item pg_attribute_unused(), const ErrorData *error,
					void *arg pg_attribute_unused())
{
	ereport(LOG,
			(errmsg("maintenance leaves a row as it is: %s", error->message)));
}

/* Runs a task until it has nothing left to do; its row for the caller. */
static void
finish_task(FunctionCallInfo fcinfo, int n, const Clock *clock,
			MemoryContext round)
{
	const QsTask *task = qs_tasks[n];
	TimestampTz begun = GetCurrentTimestamp();
	Interval	took = {0};
	int64		done = 0;
	char	   *error = NULL;
	QsTaskRun	run = {.more = true};
	Datum		values[4];
	bool		nulls[4] = {false};

	for (int i = 0; i < MAX_ROUNDS && run.more; i++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(round);
		error = try_task(fcinfo, task, clock, &run);
		done += run.done;
	}
	qs_progress_end(task->name);
	qs_task_log_note(n, begun, error);

	took.time = GetCurrentTimestamp() - begun;
	values[0] = CStringGetTextDatum(task->name);
	values[1] = Int64GetDatum(done);
	values[2] = IntervalPGetDatum(&took);
	values[3] = error ? CStringGetTextDatum(error) : (Datum) 0;
	nulls[3] = error == NULL;
	qs_put_row(fcinfo, values, nulls);
}

/* SQL: queue_maintain(now) */
Datum
queue_maintain(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Clock		clock;
	MemoryContext caller;
	MemoryContext round;

	begin(&call, fcinfo, "queue_maintain()");
	clock = arg_clock(fcinfo, 0);
	qs_begin_rows(fcinfo);
	if (!lock_maintenance(&call))
		return (Datum) 0;

	round = AllocSetContextCreate(CurrentMemoryContext, "queue_service task",
								  ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(round);
	for (int i = 0; i < qs_ntasks; i++)
		finish_task(fcinfo, i, &clock, round);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(round);
	return (Datum) 0;
}

static const QsTask *
find_task(const char *name)
{
	for (int i = 0; i < qs_ntasks; i++)
		if (strcmp(qs_tasks[i]->name, name) == 0)
			return qs_tasks[i];
	ereport(ERROR,
			(errcode(QS_ARGUMENT_INVALID),
			 errmsg("there is no task of that name")));
}

/*
 * SQL: _queue_task(task, now). A row of nulls if another session is at
 * maintenance.
 */
Datum
qs_queue_task(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCall		call;
	Clock		clock;
	const QsTask *task;
	QsTaskRun	run;
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};

	begin(&call, fcinfo, "_queue_task()");
	task = find_task(qs_arg_text(fcinfo, 0, "task", 64));
	clock = arg_clock(fcinfo, 1);
	if (lock_maintenance(&call))
	{
		run_task(task, &call, &clock, &run);
		values[0] = Int64GetDatum(run.done);
		values[1] = BoolGetDatum(run.more);
		nulls[0] = nulls[1] = false;
	}
	return qs_return_row(fcinfo, &desc, values, nulls);
}
