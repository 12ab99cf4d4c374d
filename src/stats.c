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

/* Events a second, since the last sample but one. */
static void
put_rates(Columns *columns, const QsStatsView *view, TimestampTz now)
{
	static const QsStatsEvent rated[] = {
		QS_ENQUEUED, QS_CLAIMED, QS_COMPLETED, QS_FAILED, QS_DIED
	};
	double		period = 0;

	if (view->state != QS_STATS_NONE)
		period = (double) (now - view->before.at) / USECS_PER_SEC;
	for (int i = 0; i < (int) lengthof(rated); i++)
		put(columns, period < 1 ? (Datum) 0 :
			Float8GetDatum((view->counts.events[rated[i]] -
							view->before.events[rated[i]]) / period),
			period < 1);
}

static void
put_percentiles(Columns *columns, const QsStatsView *view,
				const QsHistogram *parts)
{
	QsHistogram all;

	qs_histogram_clear(&all);
	for (int i = 0; i < 2 && view->state != QS_STATS_NONE; i++)
		qs_histogram_merge(&all, &parts[i]);
	put_interval(columns, qs_histogram_percentile(&all, 50));
	put_interval(columns, qs_histogram_percentile(&all, 95));
	put_interval(columns, qs_histogram_percentile(&all, 99));
}

static void
put_queue(FunctionCallInfo fcinfo, int row, uint64 triggers, TimestampTz now)
{
	static const char *const states[] = {
		"stored", "stored", "uncertain", "exact"
	};
	Columns		columns = {0};
	QsStatsView view;
	QsStats		stats;
	bool		isnull;
	TimestampTz oldest;

	(void) qs_stats_view(DatumGetUUIDP(qs_result(row, 1, &isnull)), triggers,
						 &view);
	combine(row, &view, now, &stats);
	oldest = stats.oldest_claimable_at;
	put(&columns, UUIDPGetDatum(&stats.tenant), false);
	put(&columns, UUIDPGetDatum(&stats.queue), false);
	put(&columns, qs_result(row, 3, &isnull), false);
	put(&columns, Int64GetDatum(stats.depth), false);
	put(&columns, Int64GetDatum(stats.delayed), false);
	put(&columns, Int64GetDatum(stats.processing), false);
	put_interval(&columns, oldest == 0 ? -1 : Max(now - oldest, 0));
	for (int i = 0; i < QS_NEVENTS; i++)
		put(&columns, Int64GetDatum(stats.totals[i]), false);
	put_rates(&columns, &view, now);
	put_percentiles(&columns, &view, view.wait);
	put_percentiles(&columns, &view, view.run);
	put(&columns, CStringGetTextDatum(states[view.state]), false);
	put_time(&columns, stats.at);
	Assert(columns.count == lengthof(columns.values));
	qs_put_row(fcinfo, columns.values, columns.nulls);
}

/* SQL: _queue_stats() */
Datum
qs_queue_stats(PG_FUNCTION_ARGS)
{
	QsCall		call;
	Datum		args[1];
	uint64		triggers;
	int			count;

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	qs_begin_rows(fcinfo);
	triggers = qs_stats_exist() ? qs_stats_triggers(call.cat) : 0;
	args[0] = UUIDPGetDatum(&call.tenant);
	qs_connect();
	count = (int) qs_read(call.has_tenant ? &select_of_tenant : &select_all,
						  &call, args, NULL, 0);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_queue(fcinfo, i, triggers, call.now);
	}
	SPI_finish();
	qs_end(&call);
	return (Datum) 0;
}
