/*
 * series.c
 *	  Points for charts: see series.h.
 *
 * A point is what all queues had together, on average, in the first minutes of
 * its step. A queue has no sample of a minute in which nothing waited, ran or
 * changed, and so counts as 0. A point without any sample is left out.
 *
 * Percentiles of several queues come from those of each: half of its jobs took
 * no longer than its p50, 45 % more no longer than its p95, all others as long
 * as its p99. So what is said of all is not below what is true.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "histogram.h"
#include "miscadmin.h"
#include "series.h"
#include "statement.h"
#include "utils/float.h"
#include "utils/timestamp.h"

/* the least that is shown */
#define LEAST (10 * USECS_PER_MINUTE)

/*
 * What is read of a sample: what it is to be divided by, so that each queue
 * counts as it was on average; the values in the order of QsLine; and by how
 * many jobs its percentiles are. $3 is the number of minutes.
 */
#define SAMPLES \
	"SELECT greatest(count(*) OVER (PARTITION BY queue_id), $3)::double precision," \
	" depth::double precision, delayed::double precision," \
	" processing::double precision, enqueued_per_second, claimed_per_second," \
	" completed_per_second, failed_per_second, dead_per_second," \
	" oldest_claimable_age, wait_p50, wait_p95, wait_p99, run_p50, run_p95," \
	" run_p99 FROM @queue_metrics"

/* By id, which is a time: nothing else is in the order of time for all queues. */
static QsStatement select_all = {
	.sql = SAMPLES " WHERE id >= $4 AND id < $5"
	" AND $1::timestamptz <= $2::timestamptz",
	.nargs = 5, .argtypes = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, UUIDOID,
	UUIDOID}
};
static QsStatement select_of_tenant = {
	.sql = SAMPLES " WHERE tenant_id = $4"
	" AND queue_id = ANY (ARRAY(SELECT id FROM @queues WHERE tenant_id = $4))"
	" AND sampled_at >= $1 AND sampled_at < $2",
	.nargs = 4, .argtypes = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, UUIDOID}
};
static QsStatement select_first = {
	.sql = "SELECT sampled_at FROM @queue_metrics WHERE id >= $1"
	" ORDER BY id LIMIT 1",
	.nargs = 1, .argtypes = {UUIDOID}
};
static QsStatement select_first_of_tenant = {
	.sql = "SELECT min(m.sampled_at) FROM @queues q, LATERAL"
	" (SELECT sampled_at FROM @queue_metrics m WHERE m.tenant_id = q.tenant_id"
	" AND m.queue_id = q.id AND m.sampled_at >= $2"
	" ORDER BY m.sampled_at LIMIT 1) m WHERE q.tenant_id = $1",
	.nargs = 2, .argtypes = {UUIDOID, TIMESTAMPTZOID}
};

/* jobs by how long they took */
typedef struct Spread
{
	double		jobs[QS_HISTOGRAM_BUCKETS];
	double		seconds[QS_HISTOGRAM_BUCKETS];	/* of all of them */
	double		all;
} Spread;

/* The least id that is made at a time. */
static Datum
first_id(TimestampTz time)
{
	pg_uuid_t  *id = palloc0(sizeof(pg_uuid_t));
	uint64		milliseconds = (uint64)
	((time / 1000) + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
	 SECS_PER_DAY * 1000);

	for (int i = 0; i < 6; i++)
		id->data[i] = (uint8) (milliseconds >> (40 - 8 * i));
	return UUIDPGetDatum(id);
}

static void
spread_add(Spread *spread, double jobs, int64 duration)
{
	int			bucket = qs_histogram_bucket(duration);

	spread->jobs[bucket] += jobs;
	spread->seconds[bucket] += jobs * duration / USECS_PER_SEC;
	spread->all += jobs;
}

/* What so much of all took no longer than; NaN if there is nothing. */
static double
spread_at(const Spread *spread, double part)
{
	double		jobs = 0;

	for (int i = 0; i < QS_HISTOGRAM_BUCKETS; i++)
	{
		jobs += spread->jobs[i];
		if (spread->jobs[i] > 0 && jobs >= spread->all * part * (1 - 1e-9))
			return spread->seconds[i] / spread->jobs[i];
	}
	return get_float8_nan();
}

/* Adds the percentiles in a row, from column on, of so many jobs a second. */
static void
add_percentiles(Spread *spread, int row, int column, double jobs)
{
	static const double parts[3] = {0.5, 0.45, 0.05};

	for (int i = 0; i < 3; i++)
	{
		bool		isnull;
		Datum		interval = qs_result(row, column + i, &isnull);

		if (!isnull)
			spread_add(spread, Max(jobs, 1e-6) * parts[i],
					   DatumGetIntervalP(interval)->time);
	}
}

static double
result_double(int row, int column)
{
	bool		isnull;
	Datum		value = qs_result(row, column, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

/* Makes a point of the samples that the last statement found. */
static void
set_point(QsSeries *series, int point, int count)
{
	Spread		wait = {0};
	Spread		run = {0};
	double		sum[QS_LINE_OLDEST + 1] = {0};

	for (int row = 0; row < count; row++)
	{
		double		divisor = result_double(row, 1);
		bool		isnull;
		Datum		oldest = qs_result(row, 2 + QS_LINE_OLDEST, &isnull);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < QS_LINE_OLDEST; i++)
			sum[i] += result_double(row, 2 + i) / divisor;
		if (!isnull)
			sum[QS_LINE_OLDEST] = Max(sum[QS_LINE_OLDEST],
									  (double) DatumGetIntervalP(oldest)->time / USECS_PER_SEC);
		add_percentiles(&wait, row, 2 + QS_LINE_WAIT_P50,
						result_double(row, 2 + QS_LINE_CLAIMED));
		add_percentiles(&run, row, 2 + QS_LINE_RUN_P50,
						result_double(row, 2 + QS_LINE_COMPLETED));
	}
	for (int i = 0; i < QS_NLINES; i++)
		series->value[i][point] = count > 0 && i <= QS_LINE_OLDEST ? sum[i] :
			get_float8_nan();
	for (int i = 0; i < 3; i++)
	{
		static const double parts[3] = {0.5, 0.95, 0.99};

		series->value[QS_LINE_WAIT_P50 + i][point] = spread_at(&wait, parts[i]);
		series->value[QS_LINE_RUN_P50 + i][point] = spread_at(&run, parts[i]);
	}
}

/* When the first sample was taken since a time; now if there is none. */
static TimestampTz
first_sample(QsCall *call, TimestampTz since)
{
	Datum		of_all[1] = {first_id(since)};
	Datum		of_tenant[2] = {UUIDPGetDatum(&call->tenant),
		TimestampTzGetDatum(since)};
	uint64		count;
	bool		isnull = true;
	Datum		first = (Datum) 0;

	count = call->has_tenant ?
		qs_read(&select_first_of_tenant, call, of_tenant, NULL, 0) :
		qs_read(&select_first, call, of_all, NULL, 0);
	if (count > 0)
		first = qs_result(0, 1, &isnull);
	return isnull ? call->now : DatumGetTimestampTz(first);
}

/* Chooses points for the time from start until now. */
static void
lay_out(QsSeries *series, TimestampTz start, TimestampTz now, int64 queues)
{
	static const int minutes[] = {
		1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080
	};
	int64		most = QS_SERIES_ROWS / Max(queues, 1);
	int			i = 0;

	most = Min(Max(most, 12), QS_SERIES_POINTS - 1);
	while (i < (int) lengthof(minutes) - 1 &&
		   (now - start) / (minutes[i] * USECS_PER_MINUTE) >= most)
		i++;
	series->step = minutes[i] * USECS_PER_MINUTE;
	series->start = start - start % series->step;
	series->points = (int) Min((now - series->start) / series->step + 1,
							   QS_SERIES_POINTS);
	series->minutes = (int) Min(minutes[i],
								Max(1, QS_SERIES_ROWS / (Max(queues, 1) * series->points)));
}

/*
 * Reads what there is of the last microseconds of period, of the call's tenant
 * or of all, who has so many queues.
 */
void
qs_series_read(QsCall *call, int64 period, int64 queues, QsSeries *series)
{
	TimestampTz first;

	qs_connect();
	first = first_sample(call, call->now - period);
	lay_out(series, Min(first, call->now - LEAST), call->now, queues);
	for (int point = 0; point < series->points; point++)
	{
		TimestampTz from = series->start + point * series->step;
		TimestampTz until = from + series->minutes * USECS_PER_MINUTE;
		int64		minutes = series->minutes;
		Datum		args[5];

		if (until > call->now)
			minutes = Max(1, (call->now - from) / USECS_PER_MINUTE);
		args[0] = TimestampTzGetDatum(from);
		args[1] = TimestampTzGetDatum(until);
		args[2] = Int64GetDatum(minutes);
		args[3] = call->has_tenant ? UUIDPGetDatum(&call->tenant) : first_id(from);
		args[4] = first_id(until);
		set_point(series, point, (int)
				  qs_read(call->has_tenant ? &select_of_tenant : &select_all,
						  call, args, NULL, 0));
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
}
