/*
 * worker.h
 *	  The background worker of a database, and the launcher that keeps it.
 *
 * The launcher is connected to no database, so it stands in nobody's way. It
 * starts a worker for each database that it keeps, and another one when that
 * has ended; there is one launcher for the databases of
 * queue_service.databases, and one for each that queue_worker_start() names. To
 * terminate the latter ends it for good, and its worker; the former comes again.
 *
 * A worker leaves when somebody wants its database to himself (DROP, RENAME,
 * as a template), and is not started again meanwhile. It waits for an extension
 * that is not there.
 *
 * Both hold a lock while they run, so that a database never has two of a kind.
 */
#ifndef QS_WORKER_H
#define QS_WORKER_H

#include "postmaster/bgworker.h"
#include "storage/lock.h"

/* what holds a lock of a database, by the number that it is shown with */
typedef enum QsKeeper
{
	QS_WORKER = 0x71737700,
	QS_LAUNCHER = 0x71736c00
} QsKeeper;

extern void qs_launcher_init(void);

extern bool qs_keep(Oid database, QsKeeper keeper);
extern void qs_keep_no_more(Oid database, QsKeeper keeper);
extern int	qs_keeper_pid(QsKeeper keeper);
extern bool qs_worker_is_listed(void);
extern bool qs_database_is_wanted(Oid database);
extern void qs_describe_worker(BackgroundWorker *worker, const char *function,
							   const char *type);
extern void qs_worker_signals(pqsigfunc terminate);

#endif							/* QS_WORKER_H */
