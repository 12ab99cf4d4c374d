/*
 * stats_sample.c
 *	  Looks at queues, and keeps what it finds: the task "sample".
 *
 * How many jobs wait for a time to come, and since when the oldest claimable job
 * is due, changes as time passes; so it is looked at once a minute, by way of the
 * ready index. A sample that is rolled back leaves a gap in queue_metrics.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "ready_direct.h"
#include "statement.h"
#include "stats.h"
#include "stats_trigger.h"
#include "task.h"
#include "utils/timestamp.h"

/* Queues that one run looks at at most. */
#define BATCH 200

/* Delayed jobs of a queue that are counted; beyond, the last recount counts. */
#define MAX_DELAYED 10000

/* Samples that are due in the next seconds are taken at once. */
#define EARLY (10 * USECS_PER_SEC)

static QsStatement insert_sample = {
	.sql = "INSERT INTO @queue_metrics (tenant_id, queue_id, sampled_at, depth,"
	" delayed, processing, oldest_claimable_age, enqueued_per_second,"
	" claimed_per_second, completed_per_second, failed_per_second,"
	" dead_per_second, wait_p50, wait_p95, wait_p99, run_p50, run_p95, run_p99)"
	" SELECT tenant_id, id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
	" $14, $15, $16, $17 FROM @queues WHERE id = $1",
	.nargs = 17, .argtypes = {UUIDOID, TIMESTAMPTZOID, INT8OID, INT8OID,
		INT8OID, INTERVALOID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID,
		FLOAT8OID, INTERVALOID, INTERVALOID, INTERVALOID, INTERVALOID,
		INTERVALOID, INTERVALOID}
};

/* Looks at a queue in one of the two tables. */
static void
look_at(QsCall *call, QsTableKind kind, const pg_uuid_t *queue,
		QsStatsLook *look)
{
	QsTable		table;
	TimestampTz oldest = PG_INT64_MAX;

	qs_look_open(&table, call, kind);
	if (qs_direct_oldest(&table, queue, &oldest))
		look->oldest = look->oldest == 0 ? oldest : Min(look->oldest, oldest);
	if (look->delayed < MAX_DELAYED)
		look->delayed += qs_direct_delayed(&table, queue,
										   MAX_DELAYED - look->delayed);
	qs_look_close(&table);
}

typedef struct Arguments
{
	int			count;
	Datum		values[17];
	char		nulls[18];
} Arguments;

static void
put(Arguments *args, Datum value, bool isnull)
{
	args->values[args->count] = value;
	args->nulls[args->count++] = isnull ? 'n' : ' ';
}

static void
put_interval(Arguments *args, int64 duration)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = duration;
	put(args, IntervalPGetDatum(interval), duration < 0);
}

static void
put_percentiles(Arguments *args, const QsHistogram *histogram)
{
	put_interval(args, qs_histogram_percentile(histogram, 50));
	put_interval(args, qs_histogram_percentile(histogram, 95));
	put_interval(args, qs_histogram_percentile(histogram, 99));
}

/* Keeps the last sample of view; false if there is no such queue any more. */
static bool
keep_sample(QsCall *call, const QsStatsView *view)
{
	static const QsStatsEvent rated[] = {
		QS_ENQUEUED, QS_CLAIMED, QS_COMPLETED, QS_FAILED, QS_DIED
	};
	double		period = (double) (view->sample.at - view->before.at) / USECS_PER_SEC;
	const QsStatsLook *look = &view->look;
	Arguments	args = {0};

	put(&args, UUIDPGetDatum(&view->queue), false);
	put(&args, TimestampTzGetDatum(call->now), false);
	put(&args, Int64GetDatum(Max(view->counts.waiting, 0)), false);
	put(&args, Int64GetDatum(look->delayed), false);
	put(&args, Int64GetDatum(Max(view->counts.processing, 0)), false);
	put_interval(&args, look->oldest == 0 ? -1 : Max(call->now - look->oldest, 0));
	for (int i = 0; i < (int) lengthof(rated); i++)
		put(&args, period <= 0 ? (Datum) 0 :
			Float8GetDatum((view->sample.events[rated[i]] -
							view->before.events[rated[i]]) / period),
			period <= 0);
	put_percentiles(&args, &view->wait[1]);
	put_percentiles(&args, &view->run[1]);
	return qs_execute(&insert_sample, call, SPI_OK_INSERT, args.values,
					  args.nulls, 0) == 1;
}

/* Whether there is something new to say of a queue. */
static bool
is_due(const QsStatsView *view, TimestampTz now)
{
	return view->state >= QS_STATS_UNCERTAIN &&
		(view->look.at == 0 ||
		 now - view->sample.at >= QS_STATS_PERIOD - EARLY) &&
		(view->version != view->sampled ||
		 view->counts.waiting > 0 || view->counts.processing > 0);
}

static bool
sample_one(QsCall *call, uint64 triggers, QsStatsView *view)
{
	QsStatsLook look = {.at = call->now};

	if (view->counts.waiting > 0 || view->counts.processing > 0)
	{
		look_at(call, QS_JOBS, &view->queue, &look);
		look_at(call, QS_CRITICAL_JOBS, &view->queue, &look);
		if (look.delayed >= MAX_DELAYED)
			look.delayed = Max(look.delayed, view->look.delayed);
		look.delayed = Min(look.delayed, Max(view->counts.waiting, 0));
	}
	if (!qs_stats_sample(&view->queue, triggers, &look, view))
		return false;
	if (keep_sample(call, view))
		return true;
	qs_stats_remove(&view->queue);
	return false;
}

static void
sample(QsTaskRun *run)
{
	QsCall	   *call = run->call;
	int			position = 0;
	uint64		triggers;
	QsStatsView view;

	if (!qs_stats_exist())
		return;
	triggers = qs_stats_triggers(call->cat);
	qs_connect();
	while (qs_stats_next(&position, triggers, &view))
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_due(&view, call->now))
			continue;
		if (run->done == BATCH)
		{
			run->more = true;
			break;
		}
		run->done += sample_one(call, triggers, &view);
	}
	SPI_finish();
}

const QsTask qs_task_sample = {.name = "sample", .period = 60, .run = sample};
