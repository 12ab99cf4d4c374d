/*
 * progress.c
 *	  How far long calls are: see progress.h.
 *
 * A call that commits as it goes has an entry from its beginning to its end,
 * whatever that is: an error, a cancel, or the end of the session. There is room
 * for some calls at a time; others are not shown. One lock guards all.
 *
 * Invariants:
 *	 An entry is seen by its tenant, and by who serves all tenants.
 *	 An entry does not outlive its call.
 */
#include "postgres.h"

#include "access/xact.h"
#include "call.h"
#include "miscadmin.h"
#include "progress.h"
#include "queue.h"
#include "result.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define ENTRIES 64
#define CALL_BYTES 32

PG_FUNCTION_INFO_V1(qs_queue_progress);

typedef struct Entry
{
	int			pid;			/* 0: free */
	Oid			database;
	bool		has_tenant;
	pg_uuid_t	tenant;
	char		call[CALL_BYTES];
	char		queue[QS_NAME_BYTES + 1];	/* empty: of no single one */
	int64		done;
	int64		total;			/* negative: not known */
	TimestampTz begun;
} Entry;

static Entry *entries = NULL;	/* of ENTRIES */
static LWLock *lock;
static bool has_entries = false;	/* this process may have some */

static Size
progress_size(void)
{
	return ENTRIES * sizeof(Entry);
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	entries = memory;
	lock = &locks[0].lock;
	if (!found)
		memset(entries, 0, progress_size());
}

/* Removes an entry of this process, or all if the call is NULL. */
static void
remove_entries(const char *call)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < ENTRIES; i++)
		if (entries[i].pid == MyProcPid &&
			(call == NULL || strcmp(entries[i].call, call) == 0))
			entries[i].pid = 0;
	LWLockRelease(lock);
	has_entries = call != NULL;
}

static void
forget_at_abort(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_ABORT && has_entries)
		remove_entries(NULL);
}

static void
forget_at_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	if (has_entries)
		remove_entries(NULL);
}

void
qs_progress_init(void)
{
	static const QsShmem part = {
		.name = "queue_service_progress", .nlocks = 1,
		.size = progress_size, .attach = attach
	};

	if (qs_shmem_use(&part))
		RegisterXactCallback(forget_at_abort, NULL);
}

/* This process's entry for a call, or a free one; NULL if there is none. */
static Entry *
find_entry(const char *call)
{
	Entry	   *available = NULL;

	for (int i = 0; i < ENTRIES; i++)
	{
		if (entries[i].pid == MyProcPid && strcmp(entries[i].call, call) == 0)
			return &entries[i];
		if (entries[i].pid == 0)
			available = &entries[i];
	}
	return available;
}

/* Shows a call. tenant and queue may be NULL, and total negative. */
void
qs_progress_begin(const char *call, const pg_uuid_t *tenant, const char *queue,
				  int64 total)
{
	static bool registered = false;
	Entry	   *entry;

	if (entries == NULL)
		return;
	if (!registered)
		before_shmem_exit(forget_at_exit, (Datum) 0);
	registered = true;
	has_entries = true;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(call);
	if (entry != NULL)
	{
		memset(entry, 0, sizeof(*entry));
		entry->pid = MyProcPid;
		entry->database = MyDatabaseId;
		entry->has_tenant = tenant != NULL;
		if (tenant != NULL)
			entry->tenant = *tenant;
		strlcpy(entry->call, call, CALL_BYTES);
		strlcpy(entry->queue, queue ? queue : "", sizeof(entry->queue));
		entry->total = total;
		entry->begun = GetCurrentTimestamp();
	}
	LWLockRelease(lock);
}

void
qs_progress_add(const char *call, int64 done)
{
	Entry	   *entry;

	if (entries == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_entry(call);
	if (entry != NULL && entry->pid == MyProcPid)
		entry->done += done;
	LWLockRelease(lock);
}

void
qs_progress_end(const char *call)
{
	if (entries != NULL && has_entries)
		remove_entries(call);
}

/* The same for a run of a task of maintenance, which is shown while there is more. */
void
qs_progress_task(const char *task, int64 done, bool more)
{
	bool		shown = false;

	if (entries == NULL || (!more && !has_entries))
		return;
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < ENTRIES && !shown; i++)
		shown = entries[i].pid == MyProcPid && strcmp(entries[i].call, task) == 0;
	LWLockRelease(lock);
	if (!more)
		qs_progress_end(task);
	else
	{
		if (!shown)
			qs_progress_begin(task, NULL, NULL, -1);
		qs_progress_add(task, done);
	}
}

static void
put_entry(FunctionCallInfo fcinfo, const Entry *entry)
{
	double		seconds = (GetCurrentTimestamp() - entry->begun) / 1e6;
	Interval	since = {.time = GetCurrentTimestamp() - entry->begun};
	Datum		values[8];
	bool		nulls[8] = {false};

	values[0] = Int32GetDatum(entry->pid);
	values[1] = CStringGetTextDatum(entry->call);
	values[2] = CStringGetTextDatum(entry->queue);
	nulls[2] = entry->queue[0] == '\0';
	values[3] = Int64GetDatum(entry->done);
	values[4] = Int64GetDatum(entry->total);
	nulls[4] = entry->total < 0;
	values[5] = Int64GetDatum(seconds > 0 ? (int64) (entry->done / seconds) : 0);
	values[6] = IntervalPGetDatum(&since);
	values[7] = UUIDPGetDatum(&entry->tenant);
	nulls[7] = !entry->has_tenant;
	qs_put_row(fcinfo, values, nulls);
}

/* SQL: the view queue_progress */
Datum
qs_queue_progress(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Entry	   *shown = palloc(progress_size());
	int			count = 0;

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	qs_begin_rows(fcinfo);
	if (entries != NULL)
	{
		LWLockAcquire(lock, LW_SHARED);
		for (int i = 0; i < ENTRIES; i++)
			if (entries[i].pid != 0 && entries[i].database == MyDatabaseId &&
				(!call.has_tenant ||
				 (entries[i].has_tenant &&
				  memcmp(&entries[i].tenant, &call.tenant, UUID_LEN) == 0)))
				shown[count++] = entries[i];
		LWLockRelease(lock);
	}
	for (int i = 0; i < count; i++)
		put_entry(fcinfo, &shown[i]);
	qs_end(&call);
	return (Datum) 0;
}
