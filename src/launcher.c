/*
 * launcher.c
 *	  Keeps a background worker for each of some databases: see worker.h.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "call.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "errors.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"
#include "worker.h"

/* How often to look, and the least time between two starts of a worker. */
#define ROUND_MS 5000
/* How long queue_worker_start() waits for the worker. */
#define START_MS 10000

PG_FUNCTION_INFO_V1(queue_worker_start);

extern PGDLLEXPORT void qs_launcher_main(Datum database);

static char *databases;			/* queue_service.databases */

/* a database that the launcher keeps */
typedef struct Kept
{
	const char *name;			/* NULL: known by its oid */
	Oid			oid;			/* InvalidOid while there is none of that name */
	Oid			found;			/* by the look into pg_database that goes on */
	bool		locked;			/* it is ours to keep */
	BackgroundWorkerHandle *worker; /* the last one started, or NULL */
	TimestampTz started;
} Kept;

static bool
check_databases(char **value, void **extra pg_attribute_unused(),
				GucSource source pg_attribute_unused())
{
	List	   *names;
	bool		valid = SplitIdentifierString(pstrdup(*value), ',', &names);

	if (!valid)
		GUC_check_errdetail("It must be a list of names, separated by commas; put those with capitals into double quotes.");
	return valid;
}

void
qs_launcher_init(void)
{
	BackgroundWorker launcher;

	DefineCustomStringVariable("queue_service.databases",
							   "Databases that a background worker maintains.",
							   NULL, &databases, "",
							   process_shared_preload_libraries_in_progress ?
							   PGC_POSTMASTER : PGC_SIGHUP,
							   GUC_LIST_INPUT, check_databases, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade ||
		databases[0] == '\0')
		return;
	qs_describe_worker(&launcher, "qs_launcher_main", "queue_service launcher");
	launcher.bgw_restart_time = ROUND_MS / 1000;
	RegisterBackgroundWorker(&launcher);
}

/* Looks for the databases by their names, or oids, if they may be connected to. */
static void
look_for_databases(Kept *kept, int count)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	for (int i = 0; i < count; i++)
		kept[i].found = InvalidOid;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* a limit below -1 marks one whose DROP was interrupted */
		if (!database->datallowconn || database->datconnlimit < -1)
			continue;
		for (int i = 0; i < count; i++)
			if (kept[i].name ? strcmp(kept[i].name, NameStr(database->datname)) == 0 :
				kept[i].oid == database->oid)
				kept[i].found = database->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

static bool
is_running(const Kept *kept)
{
	pid_t		pid;

	return kept->worker != NULL &&
		GetBackgroundWorkerPid(kept->worker, &pid) != BGWH_STOPPED;
}

static void
start_worker(Kept *kept)
{
	BackgroundWorker worker;

	qs_describe_worker(&worker, "qs_worker_main", "queue_service worker");
	worker.bgw_main_arg = ObjectIdGetDatum(kept->oid);
	worker.bgw_notify_pid = MyProcPid;
	if (kept->worker != NULL)
		pfree(kept->worker);
	kept->worker = NULL;
	kept->started = GetCurrentTimestamp();
	if (!RegisterDynamicBackgroundWorker(&worker, &kept->worker))
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background process is free for a queue_service worker"),
				 errhint("Raise max_worker_processes.")));
}

/*
 * Sees to it that the database has a worker. False if there is no such
 * database, or another launcher keeps it.
 */
static bool
keep(Kept *kept)
{
	if (kept->found != kept->oid && kept->locked)
	{
		qs_keep_no_more(kept->oid, QS_LAUNCHER);
		kept->locked = false;
	}
	kept->oid = kept->found;
	if (!OidIsValid(kept->oid))
		return false;
	if (!kept->locked)
		kept->locked = qs_keep(kept->oid, QS_LAUNCHER);
	if (!kept->locked)
		return false;
	if (!is_running(kept) &&
		TimestampDifferenceExceeds(kept->started, GetCurrentTimestamp(), ROUND_MS) &&
		!qs_database_is_wanted(kept->oid))
		start_worker(kept);
	return true;
}

/* The databases of the setting, or the one that queue_worker_start() named. */
static int
list_databases(Oid database, Kept **kept)
{
	List	   *names = NIL;
	ListCell   *cell;
	int			count = 0;

	if (!OidIsValid(database))
		(void) SplitIdentifierString(pstrdup(databases), ',', &names);
	*kept = palloc0((list_length(names) + 1) * sizeof(Kept));
	foreach(cell, names)
	{
		int			i = 0;

		while (i < count && strcmp((*kept)[i].name, lfirst(cell)) != 0)
			i++;
		if (i == count)
			(*kept)[count++].name = lfirst(cell);
	}
	if (OidIsValid(database))
		(*kept)[count++].oid = database;
	return count;
}

/* Whether the setting has this session's database. */
bool
qs_worker_is_listed(void)
{
	char	   *name = get_database_name(MyDatabaseId);
	List	   *names = NIL;
	ListCell   *cell;

	if (name != NULL && databases != NULL)
		(void) SplitIdentifierString(pstrdup(databases), ',', &names);
	foreach(cell, names)
		if (strcmp(name, lfirst(cell)) == 0)
			return true;
	return false;
}

/* Ends for good, with the worker that it has started. */
static void
end_launcher(const Kept *kept)
{
	if (kept->worker != NULL)
		TerminateBackgroundWorker(kept->worker);
	proc_exit(0);
}

/*
 * One who was started for one database ends for good when that is gone, or he
 * is terminated; nobody else could end his worker but by a restart.
 */
void
qs_launcher_main(Datum database)
{
	Oid			only = DatumGetObjectId(database);
	Kept	   *kept;
	int			count;

	qs_worker_signals(OidIsValid(only) ? SignalHandlerForShutdownRequest : die);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	MemoryContextSwitchTo(TopMemoryContext);
	count = list_databases(only, &kept);
	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			end_launcher(&kept[0]);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		pgstat_report_activity(STATE_RUNNING, "looking for databases");
		look_for_databases(kept, count);
		MemoryContextSwitchTo(TopMemoryContext);
		for (int i = 0; i < count; i++)
			if (!keep(&kept[i]) && OidIsValid(only))
				proc_exit(0);
		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 ROUND_MS, PG_WAIT_EXTENSION);
	}
}

static void
start_launcher(void)
{
	BackgroundWorker launcher;
	BackgroundWorkerHandle *handle;

	qs_describe_worker(&launcher, "qs_launcher_main", "queue_service launcher");
	launcher.bgw_restart_time = ROUND_MS / 1000;
	launcher.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	if (!RegisterDynamicBackgroundWorker(&launcher, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background process is free for a queue_service worker"),
				 errhint("It needs two of max_worker_processes.")));
}

/*
 * SQL: queue_worker_start(). The process id of the worker, NULL if it has not
 * come up in time.
 */
Datum
queue_worker_start(PG_FUNCTION_ARGS)
{
	QsCall		call;
	int			pid;

	qs_begin_outside(&call, fcinfo, "queue_worker_start()", QS_ANY_TENANT);
	if (!qs_is_platform(call.cat, call.caller_role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only the platform starts a worker")));
	pid = qs_keeper_pid(QS_WORKER);
	if (pid == 0 && qs_keeper_pid(QS_LAUNCHER) == 0)
		start_launcher();
	for (int waited = 0; pid == 0 && waited < START_MS; waited += 50)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 50, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pid = qs_keeper_pid(QS_WORKER);
	}
	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}
