/*
 * stats.c
 *	  The statistics of a queue: see stats.h. The view queue_stats.
 *
 * Shared memory has what is exact. Where it has nothing, as without preload, or
 * after a start until a queue is counted, the columns of queues say what was
 * when they were written.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "result.h"
#include "statement.h"
#include "stats.h"
#include "stats_trigger.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(qs_queue_stats);

static QsStatement select_all = {
	.sql = "SELECT " QS_STATS_COLUMNS " FROM @queues"
};
static QsStatement select_of_tenant = {
	.sql = "SELECT " QS_STATS_COLUMNS " FROM @queues WHERE tenant_id = $1",
	.nargs = 1, .argtypes = {UUIDOID}
};
static TimestampTz
result_time(int row, int column)
{
	bool		isnull;
	Datum		value = qs_result(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

static int64
result_number(int row, int column)
{
	bool		isnull;

	return DatumGetInt64(qs_result(row, column, &isnull));
}

/* Takes the statistics from a row, and what is better known from view. */
static void
combine(int row, const QsStatsView *view, TimestampTz now, QsStats *stats)
{
	bool		isnull;

	memset(stats, 0, sizeof(*stats));
	stats->queue = *DatumGetUUIDP(qs_result(row, 1, &isnull));
	stats->tenant = *DatumGetUUIDP(qs_result(row, 2, &isnull));
	stats->at = result_time(row, 4);
	stats->depth = result_number(row, 5);
	stats->delayed = result_number(row, 6);
	stats->processing = result_number(row, 7);
	stats->oldest_claimable_at = result_time(row, 8);
	for (int i = 0; i < QS_NEVENTS; i++)
	{
		stats->totals[i] = result_number(row, 9 + i);
		if (view->state != QS_STATS_NONE)
			stats->totals[i] = view->totals_known ? view->totals[i] :
				stats->totals[i] + view->counts.events[i];
	}
	if (view->state < QS_STATS_UNCERTAIN)
		return;

	/* what was prepared may have made them anything */
	stats->depth = Max(view->counts.waiting, 0);
	stats->processing = Max(view->counts.processing, 0);
	if (view->look.at != 0)
	{
		stats->delayed = view->look.delayed;
		stats->oldest_claimable_at = view->look.oldest;
	}
	stats->delayed = Min(stats->delayed, stats->depth);
	if (stats->depth + stats->processing == 0)
		stats->oldest_claimable_at = 0;
	stats->counted = view->state == QS_STATS_EXACT;
	stats->at = now;
}

/*
 * The statistics as of now of the queue in a row of the last statement, which
 * begins with QS_STATS_COLUMNS. triggers is qs_stats_triggers().
 */
void
qs_stats_of_row(const QsCall *call, uint64 triggers, int row, QsStats *stats)
{
	QsStatsView view;
	bool		isnull;

	(void) qs_stats_view(DatumGetUUIDP(qs_result(row, 1, &isnull)), triggers,
						 &view);
	combine(row, &view, call->now, stats);
}

/* Events a second, since the last sample but one. */
static void
set_rates(QsQueueNow *queue, TimestampTz now)
{
	static const QsStatsEvent rated[QS_NRATES] = {
		QS_ENQUEUED, QS_CLAIMED, QS_COMPLETED, QS_FAILED, QS_DIED
	};
	const QsStatsView *view = &queue->view;
	double		period = 0;

	if (view->state != QS_STATS_NONE)
		period = (double) (now - view->before.at) / USECS_PER_SEC;
	queue->rated = period >= 1;
	for (int i = 0; i < QS_NRATES; i++)
		queue->rates[i] = !queue->rated ? 0 :
			(view->counts.events[rated[i]] - view->before.events[rated[i]]) / period;
}

static void
merge(QsHistogram *all, const QsStatsView *view, const QsHistogram *parts)
{
	qs_histogram_clear(all);
	for (int i = 0; i < 2 && view->state != QS_STATS_NONE; i++)
		qs_histogram_merge(all, &parts[i]);
}

/*
 * Calls found for each queue of the call's tenant, or of all. Reads no job.
 */
void
qs_stats_walk(QsCall *call, QsQueueFound found, void *arg)
{
	uint64		triggers = qs_stats_exist() ? qs_stats_triggers(call->cat) : 0;
	Datum		args[1] = {UUIDPGetDatum(&call->tenant)};
	QsQueueNow	queue;
	int			count;

	qs_connect();
	count = (int) qs_read(call->has_tenant ? &select_of_tenant : &select_all,
						  call, args, NULL, 0);
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		(void) qs_stats_view(DatumGetUUIDP(qs_result(i, 1, &isnull)), triggers,
							 &queue.view);
		combine(i, &queue.view, call->now, &queue.stats);
		queue.name = qs_result(i, 3, &isnull);
		set_rates(&queue, call->now);
		merge(&queue.wait, &queue.view, queue.view.wait);
		merge(&queue.run, &queue.view, queue.view.run);
		found(&queue, call->now, arg);
	}
	SPI_finish();
}

typedef struct Columns
{
	int			count;
	Datum		values[26];
	bool		nulls[26];
} Columns;

static void
put(Columns *columns, Datum value, bool isnull)
{
	columns->values[columns->count] = value;
	columns->nulls[columns->count++] = isnull;
}

static void
put_time(Columns *columns, TimestampTz time)
{
	put(columns, TimestampTzGetDatum(time), time == 0);
}

/* A duration in microseconds; NULL if it is below 0. */
static void
put_interval(Columns *columns, int64 duration)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = duration;
	put(columns, IntervalPGetDatum(interval), duration < 0);
}

static void
put_percentiles(Columns *columns, const QsHistogram *histogram)
{
	put_interval(columns, qs_histogram_percentile(histogram, 50));
	put_interval(columns, qs_histogram_percentile(histogram, 95));
	put_interval(columns, qs_histogram_percentile(histogram, 99));
}

static void
put_queue(const QsQueueNow *queue, TimestampTz now, void *arg)
{
	static const char *const states[] = {
		"stored", "stored", "uncertain", "exact"
	};
	const QsStats *stats = &queue->stats;
	Columns		columns = {0};
	TimestampTz oldest = stats->oldest_claimable_at;

	put(&columns, UUIDPGetDatum(&stats->tenant), false);
	put(&columns, UUIDPGetDatum(&stats->queue), false);
	put(&columns, queue->name, false);
	put(&columns, Int64GetDatum(stats->depth), false);
	put(&columns, Int64GetDatum(stats->delayed), false);
	put(&columns, Int64GetDatum(stats->processing), false);
	put_interval(&columns, oldest == 0 ? -1 : Max(now - oldest, 0));
	for (int i = 0; i < QS_NEVENTS; i++)
		put(&columns, Int64GetDatum(stats->totals[i]), false);
	for (int i = 0; i < QS_NRATES; i++)
		put(&columns, Float8GetDatum(queue->rates[i]), !queue->rated);
	put_percentiles(&columns, &queue->wait);
	put_percentiles(&columns, &queue->run);
	put(&columns, CStringGetTextDatum(states[queue->view.state]), false);
	put_time(&columns, stats->at);
	Assert(columns.count == lengthof(columns.values));
	qs_put_row((FunctionCallInfo) arg, columns.values, columns.nulls);
}

/* SQL: _queue_stats() */
Datum
qs_queue_stats(PG_FUNCTION_ARGS)
{
	QsCall		call;

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	qs_begin_rows(fcinfo);
	qs_stats_walk(&call, put_queue, fcinfo);
	qs_end(&call);
	return (Datum) 0;
}
