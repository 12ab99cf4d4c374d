/*
 * rescue.c
 *	  The task that ends jobs whose lease ran out on their last attempt.
 *
 * A claim that passes by does that, too, but nobody may claim. There are two
 * ways to find such jobs, neither of which is enough.
 *
 * The index of last attempts has all of them, and little else if jobs have
 * several attempts: a pass goes on where the one before stopped, and if it
 * comes around, all is seen. But no index that leaves claims HOT can tell a job
 * that runs from one that waits. With one attempt all jobs that wait are in
 * it, and with a held horizon all that have ended.
 *
 * Then a pass also looks at the front of every level of priority of every
 * queue, through the ready index and what claims know of it. Claims take jobs
 * in its order, so those that were claimed stand before those that wait, but
 * for what was put before them later; that is for the first way, some passes
 * later.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "lifecycle.h"
#include "miscadmin.h"
#include "ready_direct.h"
#include "statement.h"
#include "task.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* What one run does at most. */
#define BATCH 1000				/* jobs that it ends */
#define VISITED 5000			/* entries of the index of last attempts */
#define QUEUES 1000				/* whose front it looks at */
#define LOOKAHEAD 32			/* jobs that wait, at each level */

typedef struct OverJob
{
	QsTableKind kind;
	pg_uuid_t	id;
} OverJob;

/* what a run found, and may still visit */
typedef struct Search
{
	QsCall	   *call;
	int			visits;
	int			count;
	OverJob		jobs[BATCH];
} Search;

/* An entry of the index of last attempts. */
typedef struct Place
{
	QsTableKind kind;
	pg_uuid_t	queue;
	pg_uuid_t	id;
} Place;

/*
 * Where the session's next run goes on. It may be anywhere, so it matters not
 * if the run that set it was rolled back, or was of another extension.
 */
static Place next_place;
static bool at_front;			/* the pass has come to the fronts of queues */
static pg_uuid_t next_queue;

static QsStatement select_queues = {
	.sql = "SELECT id FROM @queues WHERE id > $1 ORDER BY id LIMIT $2",
	.nargs = 2, .argtypes = {UUIDOID, INT8OID}
};

static void
add(Search *search, QsTableKind kind, const pg_uuid_t *id)
{
	search->jobs[search->count].kind = kind;
	search->jobs[search->count++].id = *id;
}

/* Whether the row is a job whose lease has run out. */
static bool
has_run_out(const QsCall *call, TupleTableSlot *row)
{
	bool		isnull;
	Datum		until;

	if (!qs_text_is(slot_getattr(row, QS_JOB_STATUS, &isnull), "processing"))
		return false;
	until = slot_getattr(row, QS_JOB_LEASED_UNTIL, &isnull);
	return !isnull && DatumGetTimestampTz(until) <= call->now;
}

/* Positions a scan of the index of last attempts behind a place. */
static void
go_behind(IndexScanDesc scan, const Place *place, ScanKeyData *members)
{
	ScanKeyData row = {.sk_flags = SK_ROW_HEADER, .sk_attno = 1,
		.sk_strategy = BTGreaterStrategyNumber,
	.sk_argument = PointerGetDatum(members)};

	ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, 1, BTGreaterStrategyNumber,
						   InvalidOid, InvalidOid, F_UUID_CMP,
						   UUIDPGetDatum(&place->queue));
	ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, 2,
						   BTGreaterStrategyNumber, InvalidOid, InvalidOid,
						   F_UUID_CMP, UUIDPGetDatum(&place->id));
	index_rescan(scan, &row, 1, NULL, 0);
}

/*
 * Looks at the last attempts of a table that stand behind *place, which goes
 * with it. True if it came to the end.
 */
static bool
walk(Search *search, Place *place)
{
	static const char *const names[] = {"jobs_final_idx", "critical_jobs_final_idx"};
	QsCall	   *call = search->call;
	Relation	rel = table_open(call->cat->table[place->kind], AccessShareLock);
	Relation	index = index_open(qs_find_relation(call->cat->schema,
													names[place->kind]),
								   AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	IndexScanDesc scan = qs_index_beginscan(rel, index, GetActiveSnapshot(), 1);
	Place		from = *place;
	ScanKeyData members[2];
	bool		at_end = false;

	scan->xs_want_itup = true;
	go_behind(scan, &from, members);
	while (search->visits > 0 && search->count < BATCH)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (index_getnext_tid(scan, ForwardScanDirection) == NULL)
		{
			at_end = true;
			break;
		}
		search->visits--;
		call->visited++;
		/* NOLINTBEGIN(clang-analyzer-core.NullDereference): of columns that are NOT NULL */
		place->queue = *DatumGetUUIDP(index_getattr(scan->xs_itup, 1,
													scan->xs_itupdesc, &isnull));
		place->id = *DatumGetUUIDP(index_getattr(scan->xs_itup, 2,
												 scan->xs_itupdesc, &isnull));
		/* NOLINTEND(clang-analyzer-core.NullDereference) */
		if (index_fetch_heap(scan, row) && has_run_out(call, row))
			add(search, place->kind, &place->id);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return at_end;
}

/*
 * Walks on from where the last run stopped, around to there again. True if
 * that was all that there is.
 */
static bool
walk_around(Search *search)
{
	static const Place start = {.kind = QS_JOBS};
	int			parts = memcmp(&next_place, &start, sizeof(start)) == 0 ? 2 : 3;

	for (int i = 0; i < parts; i++)
	{
		QsTableKind kind = next_place.kind;

		if (!walk(search, &next_place))
			return false;
		next_place = start;
		if (kind == QS_JOBS)
			next_place.kind = QS_CRITICAL_JOBS;
	}
	next_place = start;
	return true;
}

/* Looks at the front of each level of a queue in a table. */
static void
look_at_front(Search *search, QsTable *table, const pg_uuid_t *queue)
{
	QsDirectScan front;
	int			waiting = 0;

	qs_direct_begin_look(&front, table, queue);
	while (search->count < BATCH && qs_direct_next(&front))
	{
		if (front.at_over)
			add(search, table->kind, (pg_uuid_t *) front.at.id);
		else if (++waiting == LOOKAHEAD)
		{
			waiting = 0;
			if (!qs_direct_next_level(&front))
				break;
		}
	}
	qs_direct_end(&front);
}

/* Looks at the fronts of the next queues. True if there are no more. */
static bool
look_at_fronts(Search *search)
{
	QsCall	   *call = search->call;
	Datum		args[2] = {UUIDPGetDatum(&next_queue), Int64GetDatum(QUEUES)};
	QsTable		tables[2];
	int			count;
	pg_uuid_t  *queues;
	int			looked = 0;

	qs_connect();
	count = (int) qs_execute(&select_queues, call, SPI_OK_SELECT, args, NULL, 0);
	queues = SPI_palloc((count + 1) * sizeof(pg_uuid_t));
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		queues[i] = *DatumGetUUIDP(qs_result(i, 1, &isnull));
	}
	SPI_finish();

	for (QsTableKind kind = QS_JOBS; kind <= QS_CRITICAL_JOBS; kind++)
		qs_look_open(&tables[kind], call, kind);
	while (looked < count && search->count < BATCH)
	{
		for (QsTableKind kind = QS_JOBS; kind <= QS_CRITICAL_JOBS; kind++)
			if (call->now >= qs_direct_idle_until(call, kind, &queues[looked]))
				look_at_front(search, &tables[kind], &queues[looked]);
		/* one that filled the batch is looked at again */
		if (search->count < BATCH)
			next_queue = queues[looked++];
	}
	for (QsTableKind kind = QS_JOBS; kind <= QS_CRITICAL_JOBS; kind++)
		qs_look_close(&tables[kind]);
	return looked == count && count < QUEUES;
}

/* Ends the jobs that were found, unless somebody else did something to them. */
static int64
end_jobs(QsCall *call, int first, int count, void *arg)
{
	Search	   *search = arg;
	QsJobs		jobs;
	int64		ended = 0;

	qs_jobs_begin(&jobs, call);
	jobs.impatient = true;
	for (int i = first; i < first + count; i++)
	{
		QsTable    *table = qs_jobs_table(&jobs, search->jobs[i].kind);
		QsQueue		queue;

		CHECK_FOR_INTERRUPTS();
		if (!qs_try_lock_by_id(table, &search->jobs[i].id) ||
			!qs_text_is(qs_get(table, QS_JOB_STATUS), "processing") ||
			DatumGetTimestampTz(qs_get(table, QS_JOB_LEASED_UNTIL)) > call->now ||
			!qs_job_is_over(table))
			continue;
		qs_jobs_queue(&jobs, table, &queue);
		(void) qs_job_expire(&jobs, table, &queue);
		ended++;
	}
	qs_jobs_end(&jobs);
	return ended;
}

static void
rescue(QsTaskRun *run)
{
	Search	   *search = palloc(sizeof(Search));
	bool		all;

	search->call = run->call;
	search->visits = VISITED;
	search->count = 0;
	if (!at_front)
	{
		all = walk_around(search);
		at_front = !all && search->count < BATCH;
		memset(&next_queue, 0, sizeof(next_queue));
	}
	else
	{
		all = look_at_fronts(search);
		at_front = !all;
	}
	run->done = qs_task_batch(run->call, search->count, end_jobs, qs_task_log_failure, search);
	/* a batch of jobs that cannot be ended is no reason to go on at once */
	run->more = at_front || (!all && run->done > 0);
	pfree(search);
}

const QsTask qs_task_rescue = {.name = "rescue", .period = 5, .run = rescue};
