/*
 * task_log.c
 *	  How the last run of each task ended: see task_log.h.
 *
 * There is room for the first databases that are maintained; what ends in
 * others is not noted. One lock guards all.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shmem.h"
#include "task_log.h"

#define DATABASES 64

typedef struct DatabaseLog
{
	Oid			database;		/* InvalidOid: free */
	QsTaskEnd	ends[QS_TASKS_MAX];
} DatabaseLog;

static DatabaseLog *logs = NULL;	/* of DATABASES */
static LWLock *lock;

static Size
log_size(void)
{
	return DATABASES * sizeof(DatabaseLog);
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	logs = memory;
	lock = &locks[0].lock;
	if (!found)
		memset(logs, 0, log_size());
}

void
qs_task_log_init(void)
{
	static const QsShmem part = {
		.name = "queue_service_tasks", .nlocks = 1,
		.size = log_size, .attach = attach
	};

	(void) qs_shmem_use(&part);
}

/* The log of this database, or a free one; NULL if there is none. */
static DatabaseLog *
find_log(void)
{
	for (int i = 0; i < DATABASES; i++)
		if (logs[i].database == MyDatabaseId || logs[i].database == InvalidOid)
			return &logs[i];
	return NULL;
}

/* Notes that a task, by its number in the table, ended; error NULL: well. */
void
qs_task_log_note(int task, TimestampTz at, const char *error)
{
	DatabaseLog *log;

	if (logs == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	log = find_log();
	if (log != NULL)
	{
		QsTaskEnd  *end = &log->ends[task];

		log->database = MyDatabaseId;
		end->at = at;
		end->failures = error ? end->failures + 1 : 0;
		end->error[0] = '\0';
		if (error)
		{
			int			length = pg_mbcliplen(error, strlen(error),
											  QS_TASK_ERROR_BYTES - 1);

			memcpy(end->error, error, length);
			end->error[length] = '\0';
		}
	}
	LWLockRelease(lock);
}

/*
 * Copies how the tasks of this database ended, QS_TASKS_MAX of them. False
 * without shared memory.
 */
bool
qs_task_log_read(QsTaskEnd *ends)
{
	DatabaseLog *log;

	memset(ends, 0, QS_TASKS_MAX * sizeof(QsTaskEnd));
	if (logs == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	log = find_log();
	if (log != NULL)
		memcpy(ends, log->ends, sizeof(log->ends));
	LWLockRelease(lock);
	return true;
}
