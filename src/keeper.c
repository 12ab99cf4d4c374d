/*
 * keeper.c
 *	  What the background worker and its launcher share: see worker.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/lmgr.h"
#include "worker.h"

/*
 * A kind of lock that nothing else takes. It is of the method of advisory
 * locks, whose locks outlive an error, and end with the session.
 */
static void
keeper_tag(LOCKTAG *tag, Oid database, QsKeeper keeper)
{
	memset(tag, 0, sizeof(*tag));
	tag->locktag_field1 = database;
	tag->locktag_field2 = keeper;
	tag->locktag_type = LOCKTAG_USERLOCK;
	tag->locktag_lockmethodid = USER_LOCKMETHOD;
}

/* Becomes the keeper of a database; false if another process is. */
bool
qs_keep(Oid database, QsKeeper keeper)
{
	LOCKTAG		tag;

	keeper_tag(&tag, database, keeper);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
qs_keep_no_more(Oid database, QsKeeper keeper)
{
	LOCKTAG		tag;

	keeper_tag(&tag, database, keeper);
	(void) LockRelease(&tag, ExclusiveLock, true);
}

/* The process that keeps the session's database, or 0. */
int
qs_keeper_pid(QsKeeper keeper)
{
	Oid			types[2] = {OIDOID, OIDOID};
	Datum		args[2] = {ObjectIdGetDatum(MyDatabaseId),
		ObjectIdGetDatum((Oid) keeper)};
	int			pid = 0;
	bool		isnull;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute_with_args("SELECT pid FROM pg_catalog.pg_locks"
							  " WHERE locktype OPERATOR(pg_catalog.=) 'userlock'"
							  " AND database OPERATOR(pg_catalog.=) $1"
							  " AND classid OPERATOR(pg_catalog.=) $2"
							  " AND granted",
							  2, types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the keeper of a database");
	if (SPI_processed > 0)
		pid = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return pid;
}

/*
 * Whether somebody has locked the database, or waits to lock it, to have it to
 * himself. A lock is asked for that whoever connects takes, too, and given
 * back.
 */
bool
qs_database_is_wanted(Oid database)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/* Fills in what a process of ours is registered with, but for its purpose. */
void
qs_describe_worker(BackgroundWorker *worker, const char *function,
				   const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* a standby has none until it is promoted */
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "queue_service", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
}

/*
 * Sets the handlers of a process of ours, and lets signals in. As terminate,
 * die() ends it with code 1, after which it may be started again.
 */
void
qs_worker_signals(pqsigfunc terminate)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, terminate);
	BackgroundWorkerUnblockSignals();
}
