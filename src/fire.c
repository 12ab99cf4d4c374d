/*
 * fire.c
 *	  The task "fire": enqueues the jobs of the schedules that are due.
 *
 * A schedule is due when its next_run_at has come. Its jobs are made in the
 * transaction that moves next_run_at behind now. After a time when nothing
 * could fire, its catch_up says which of the times since are made up for.
 *
 * Invariants:
 *	 A due time fires once. next_run_at is compared with what it was when the
 *	 schedule is written, and the table's next_run_valid says that it is after
 *	 last_run_at, the due time of the last job: whatever moves it back, no time
 *	 up to last_run_at fires again.
 *	 What is wrong with one schedule is kept in its last_error, and it is tried
 *	 again each minute; others fire.
 *	 Nobody who locks or changes a schedule or its queue is waited for: it is
 *	 passed over, and fires when he is done.
 *	 A job goes into a queue of its schedule's tenant.
 */
#include "postgres.h"

#include "access/xact.h"
#include "args.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "due.h"
#include "enqueue.h"
#include "failures.h"
#include "fault.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "quota.h"
#include "statement.h"
#include "task.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "uuid7.h"

/* The bounds of a run: schedules, and jobs. */
#define MAX_SCHEDULES 1000
#define MAX_JOBS QS_MAX_BATCH

/* What shares a subtransaction, unless an error is to be pinned down. */
#define GROUP_SCHEDULES 100

/* How late a time fires with catch_up none: by the clock of cron, in time. */
#define GRACE USECS_PER_MINUTE

/* When a schedule that could not fire is tried again. */
#define RETRY USECS_PER_MINUTE

/*
 * A queue that somebody drops keeps his lock until he commits: its schedules
 * are passed over, since he may be waiting for theirs.
 */
static QsStatement select_due = {
	.sql = "SELECT s.id, s.tenant_id, s.queue_id, s.name, s.cron, s.timezone,"
	" s.job_type, s.payload, s.priority, s.catch_up, s.catch_up_max, s.overlap,"
	" s.jitter, s.next_run_at, s.last_run_at, s.last_job_id, s.last_error"
	" FROM @schedules s"
	" JOIN @queues q ON q.tenant_id = s.tenant_id AND q.id = s.queue_id"
	" WHERE s.enabled"
	" AND coalesce(greatest(s.next_run_at, s.retry_at), '-infinity') <= $1"
	" ORDER BY coalesce(greatest(s.next_run_at, s.retry_at), '-infinity')"
	" LIMIT $2 FOR NO KEY UPDATE OF s SKIP LOCKED FOR KEY SHARE OF q SKIP LOCKED",
	.nargs = 2, .argtypes = {TIMESTAMPTZOID, INT8OID}
};

/* the columns of select_due */
enum
{
	COLUMN_ID = 1,
	COLUMN_TENANT_ID,
	COLUMN_QUEUE_ID,
	COLUMN_NAME,
	COLUMN_CRON,
	COLUMN_TIMEZONE,
	COLUMN_JOB_TYPE,
	COLUMN_PAYLOAD,
	COLUMN_PRIORITY,
	COLUMN_CATCH_UP,
	COLUMN_CATCH_UP_MAX,
	COLUMN_OVERLAP,
	COLUMN_JITTER,
	COLUMN_NEXT_RUN_AT,
	COLUMN_LAST_RUN_AT,
	COLUMN_LAST_JOB_ID,
	COLUMN_LAST_ERROR
};

static QsStatement advance_schedule = {
	.sql = "UPDATE @schedules SET next_run_at = $4,"
	" last_run_at = coalesce($5, last_run_at),"
	" last_job_id = coalesce($6, last_job_id),"
	" retry_at = NULL, last_error = NULL"
	" WHERE tenant_id = $1 AND id = $2 AND next_run_at IS NOT DISTINCT FROM $3",
	.nargs = 6, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, UUIDOID}
};
static QsStatement note_error = {
	.sql = "UPDATE @schedules SET retry_at = $3, last_error = $4"
	" WHERE tenant_id = $1 AND id = $2",
	.nargs = 4, .argtypes = {UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID}
};
static QsStatement select_unfinished = {
	.sql = "SELECT FROM @jobs WHERE tenant_id = $1 AND id = $2"
	" AND finished_at IS NULL",
	.nargs = 2, .argtypes = {UUIDOID, UUIDOID}
};

/* a row of select_due, in SPI's memory */
typedef struct Schedule
{
	Datum		value[COLUMN_LAST_ERROR + 1];
	bool		null[COLUMN_LAST_ERROR + 1];
} Schedule;

/* a job to be made */
typedef struct Firing
{
	const Schedule *schedule;
	pg_uuid_t	id;
	TimestampTz due;
	TimestampTz next;			/* the due time after it */
} Firing;

typedef struct Failure
{
	const Schedule *schedule;
	const char *error;
} Failure;

typedef struct Firings
{
	int			count;
	int			room;
	Firing	   *each;
} Firings;

static TimestampTz
get_time(const Schedule *schedule, int column)
{
	return DatumGetTimestampTz(schedule->value[column]);
}

static bool
text_is(const Schedule *schedule, int column, const char *value)
{
	return strcmp(TextDatumGetCString(schedule->value[column]), value) == 0;
}

/* The most jobs that the schedule may have to make now. */
static int
most_jobs(const Schedule *schedule)
{
	/* of several at once all but one would overlap */
	return text_is(schedule, COLUMN_CATCH_UP, "all") &&
		!text_is(schedule, COLUMN_OVERLAP, "skip") ?
		DatumGetInt32(schedule->value[COLUMN_CATCH_UP_MAX]) : 1;
}

static bool
last_job_is_unfinished(QsCall *call, const Schedule *schedule)
{
	Datum		args[2] = {schedule->value[COLUMN_TENANT_ID],
	schedule->value[COLUMN_LAST_JOB_ID]};

	return !schedule->null[COLUMN_LAST_JOB_ID] &&
		qs_execute(&select_unfinished, call, SPI_OK_SELECT, args, NULL, 1) > 0;
}

/*
 * The due times that are to fire now, in *times; returns their number. There
 * is none if next_run_at was not known yet.
 */
static int
due_now(QsCall *call, const Schedule *schedule, const QsDue *due,
		TimestampTz **times)
{
	int			count;

	if (schedule->null[COLUMN_NEXT_RUN_AT])
		return 0;
	*times = palloc(most_jobs(schedule) * sizeof(TimestampTz));
	count = qs_due_latest(due, get_time(schedule, COLUMN_NEXT_RUN_AT), call->now,
						  most_jobs(schedule), *times);
	if (text_is(schedule, COLUMN_CATCH_UP, "none") &&
		call->now - (*times)[count - 1] > GRACE)
		return 0;
	if (text_is(schedule, COLUMN_OVERLAP, "skip") &&
		last_job_is_unfinished(call, schedule))
		return 0;
	return count;
}

/*
 * Moves next_run_at behind now. False if somebody else has, which the lock of
 * the row should not let happen.
 */
static bool
advance(QsCall *call, const Schedule *schedule, TimestampTz next,
		const Firing *last)
{
	Datum		args[6] = {
		schedule->value[COLUMN_TENANT_ID], schedule->value[COLUMN_ID],
		schedule->value[COLUMN_NEXT_RUN_AT], TimestampTzGetDatum(next),
	};
	char		nulls[] = "    nn";

	if (schedule->null[COLUMN_NEXT_RUN_AT])
		nulls[2] = 'n';
	if (last != NULL)
	{
		args[4] = TimestampTzGetDatum(last->due);
		args[5] = UUIDPGetDatum(&last->id);
		nulls[4] = nulls[5] = ' ';
	}
	return qs_execute(&advance_schedule, call, SPI_OK_UPDATE, args, nulls, 0) == 1;
}

/* Adds what the schedule is to fire now, and moves it on. */
static void
fire(QsCall *call, const Schedule *schedule, Firings *firings)
{
	QsDue		due;
	TimestampTz *times = NULL;
	TimestampTz after = call->now;
	TimestampTz next;
	int			count;
	Firing	   *each;

	qs_due_parse(&due, TextDatumGetCString(schedule->value[COLUMN_CRON]),
				 TextDatumGetCString(schedule->value[COLUMN_TIMEZONE]));
	count = due_now(call, schedule, &due, &times);
	Assert(count == 0 || (count > 0 && times != NULL));
	if (!schedule->null[COLUMN_LAST_RUN_AT])
		after = Max(after, get_time(schedule, COLUMN_LAST_RUN_AT));
	next = qs_due_next(&due, after);

	if (firings->count + count > firings->room)
	{
		firings->room = 2 * (firings->count + count);
		firings->each = firings->each ?
			repalloc_huge(firings->each, firings->room * sizeof(Firing)) :
			palloc(firings->room * sizeof(Firing));
	}
	each = &firings->each[firings->count];
	for (int i = 0; i < count; i++)
	{
		each[i].schedule = schedule;
		qs_uuid7(&each[i].id);
		each[i].due = times[i];
		each[i].next = i + 1 < count ? times[i + 1] : next;
	}
	if (advance(call, schedule, next, count > 0 ? &each[count - 1] : NULL))
		firings->count += count;
}

/* What the job knows of where it comes from: {"schedule": name, "due_at": time} */
static Datum
make_headers(const Firing *firing)
{
	static const int utc = 0;
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"schedule\": ");
	escape_json(&json, TextDatumGetCString(firing->schedule->value[COLUMN_NAME]));
	appendStringInfo(&json, ", \"due_at\": \"%s\"}",
					 JsonEncodeDateTime(NULL, TimestampTzGetDatum(firing->due),
										TIMESTAMPTZOID, &utc));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* The due time and up to jitter, but before the next one is due. */
static TimestampTz
delayed(const Firing *firing)
{
	Interval   *jitter = DatumGetIntervalP(firing->schedule->value[COLUMN_JITTER]);
	int64		most = Min(qs_interval_microseconds(jitter),
						   firing->next - firing->due);

	return firing->due +
		(int64) (pg_prng_double(&pg_global_prng_state) * (double) most);
}

static void
enqueue(QsJobs *jobs, const Firing *firing, QsNewJob *job)
{
	const Schedule *schedule = firing->schedule;
	pg_uuid_t  *queue = DatumGetUUIDP(schedule->value[COLUMN_QUEUE_ID]);
	pg_uuid_t  *tenant = DatumGetUUIDP(schedule->value[COLUMN_TENANT_ID]);

	if (memcmp(&job->queue.id, queue, UUID_LEN) != 0 &&
		!qs_queue_by_id(jobs->call, queue, &job->queue))
		memset(&job->queue, 0, sizeof(job->queue));
	if (memcmp(&job->queue.tenant, tenant, UUID_LEN) != 0)
		elog(ERROR, "the queue of a schedule does not exist");
	job->payload = schedule->value[COLUMN_PAYLOAD];
	qs_check_json(job->payload, "payload", job->queue.max_payload);
	job->job_type = schedule->value[COLUMN_JOB_TYPE];
	job->priority = DatumGetInt16(schedule->value[COLUMN_PRIORITY]);
	job->run_at = delayed(firing);
	job->max_attempts = job->queue.max_attempts;
	job->headers = make_headers(firing);
	qs_quota_enqueue(jobs->call, &job->queue, 1);
	job->schedule_id = schedule->value[COLUMN_ID];
	qs_job_insert(qs_jobs_table(jobs, QS_JOBS), job, &firing->id);
}

/* Fires the schedules from first on; returns the number of jobs. */
static int64
fire_all(QsCall *call, int first, int count, void *arg)
{
	const Schedule *schedules = arg;
	Firings		firings = {0};
	QsJobs		jobs;
	QsNewJob	job = {.kind = QS_JOBS};

	for (int i = first; i < first + count; i++)
		fire(call, &schedules[i], &firings);
	if (firings.count == 0)
		return 0;
	/* what was written is visible to the triggers of jobs */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	qs_jobs_begin(&jobs, call);
	for (int i = 0; i < firings.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		enqueue(&jobs, &firings.each[i], &job);
	}
	qs_jobs_end(&jobs);
	PopActiveSnapshot();
	return firings.count;
}

/* Keeps the error of a schedule with it. */
static int64
note_failure(QsCall *call, int first pg_attribute_unused(),
			 int count pg_attribute_unused(), void *arg)
{
	const Failure *failure = arg;
	const Schedule *schedule = failure->schedule;
	Datum		args[4] = {
		schedule->value[COLUMN_TENANT_ID], schedule->value[COLUMN_ID],
		TimestampTzGetDatum(call->now + RETRY),
		CStringGetTextDatum(failure->error)
	};

	return qs_execute(&note_error, call, SPI_OK_UPDATE, args, NULL, 0);
}

/*
 * A schedule could not fire. Logs it, if that is news.
 *
 * It is noted in a subtransaction: where a transaction has locked a row, and a
 * subtransaction has updated it in vain, heap_update() asserts that the
 * transaction itself does not update it to another page.
 */
static void
could_not_fire(QsCall *call, int item, const ErrorData *error, void *arg)
{
	const Schedule *schedule = (const Schedule *) arg + item;
	char	   *message = error->detail == NULL ? error->message :
		psprintf("%s: %s", error->message, error->detail);
	Failure		failure = {schedule, pnstrdup(message,
											  pg_mbcliplen(message, strlen(message),
														   QS_ERROR_BYTES))};

	(void) qs_task_batch(call, 1, note_failure, qs_task_log_failure, &failure);
	if (schedule->null[COLUMN_LAST_ERROR] ||
		!text_is(schedule, COLUMN_LAST_ERROR, failure.error))
		ereport(LOG,
				(errmsg("could not fire schedule \"%s\": %s",
						TextDatumGetCString(schedule->value[COLUMN_NAME]),
						failure.error)));
}

/* How many of the schedules make a group. */
static int
group_of(const Schedule *schedules, int count)
{
	int			n = 1;
	int			jobs = most_jobs(&schedules[0]);

	for (; n < Min(count, GROUP_SCHEDULES); n++)
	{
		jobs += most_jobs(&schedules[n]);
		if (jobs > MAX_JOBS)
			break;
	}
	return n;
}

static void
run_fire(QsTaskRun *run)
{
	QsCall	   *call = run->call;
	Datum		args[2] = {TimestampTzGetDatum(call->now),
	Int64GetDatum(MAX_SCHEDULES)};
	Schedule   *schedules;
	int			count;
	int			fired = 0;

	qs_connect();
	count = (int) qs_execute(&select_due, call, SPI_OK_SELECT, args, NULL, 0);
	schedules = palloc((count + 1) * sizeof(Schedule));
	for (int i = 0; i < count; i++)
		for (int c = COLUMN_ID; c <= COLUMN_LAST_ERROR; c++)
			schedules[i].value[c] = qs_result(i, c, &schedules[i].null[c]);
	while (fired < count && run->done < MAX_JOBS)
	{
		int			n = group_of(schedules + fired, count - fired);

		run->done += qs_task_batch(call, n, fire_all, could_not_fire,
								   schedules + fired);
		fired += n;
	}
	SPI_finish();
	run->more = fired < count || count == MAX_SCHEDULES;
	QS_FAULT_POINT("fired");
}

const QsTask qs_task_fire = {
	.name = "fire", .period = 1, .run = run_fire
};
