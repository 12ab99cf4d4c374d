/*
 * histogram.c
 *	  Checks src/histogram.c against a list of all durations.
 *
 * The input is a program (programs.h).
 */
#include "histogram.h"

#define OWN_MAIN
#include "programs.h"

#define KEPT 4000

static int64_t durations[KEPT];
static int	ndurations;

static int
compare(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Of any magnitude, often at an edge or beside it. */
static int64_t
take_duration(void)
{
	int64_t		bits = 0;

	switch (take_byte(4))
	{
		case 0:
			return qs_histogram_edge(take_byte(QS_HISTOGRAM_BUCKETS)) + take_byte(3) - 1;
		case 1:
			return -take_byte(256);
		default:
			for (int i = 0; i < 8; i++)
				bits = (int64_t) ((uint64_t) bits << 8 | (uint64_t) take_byte(256));
			return (bits & INT64_MAX) >> take_byte(63);
	}
}

static void
check_bucket(int64_t duration)
{
	int			bucket = qs_histogram_bucket(duration);

	CHECK(bucket >= 0 && bucket < QS_HISTOGRAM_BUCKETS);
	CHECK(bucket == 0 || qs_histogram_edge(bucket) <= duration);
	CHECK(bucket == QS_HISTOGRAM_BUCKETS - 1 ||
		  duration < qs_histogram_edge(bucket + 1));
}

/* What a percentile says is not further from the truth than is promised. */
static void
check_percentile(const QsHistogram *histogram, int percent)
{
	int64_t		estimate = qs_histogram_percentile(histogram, percent);
	int64_t		truth;

	if (ndurations == 0)
	{
		CHECK(estimate == -1);
		return;
	}
	truth = durations[((int64_t) ndurations * percent + 99) / 100 - 1];
	CHECK(qs_histogram_bucket(estimate) == qs_histogram_bucket(truth));
	if (truth < 32)
		CHECK(estimate >= 0 && estimate < 32);
	else if (qs_histogram_bucket(truth) == QS_HISTOGRAM_BUCKETS - 1)
		CHECK(estimate == qs_histogram_edge(QS_HISTOGRAM_BUCKETS - 1));
	else
		CHECK((double) estimate < truth * 1.42 && truth < estimate * 1.42);
}

static void
run_program(void)
{
	QsHistogram parts[2];

	ndurations = 0;
	qs_histogram_clear(&parts[0]);
	qs_histogram_clear(&parts[1]);
	while (input_left > 0 && ndurations < KEPT)
	{
		int64_t		duration = take_duration();

		step++;
		check_bucket(duration);
		durations[ndurations++] = duration;
		qs_histogram_add(&parts[take_byte(2)], duration);
	}
	qs_histogram_merge(&parts[0], &parts[1]);
	CHECK(qs_histogram_total(&parts[0]) == (uint64_t) ndurations);
	qsort(durations, ndurations, sizeof(int64_t), compare);
	for (int percent = 1; percent <= 100; percent++)
		check_percentile(&parts[0], percent);
}

#ifndef QS_FUZZ

int
main(int argc, char **argv)
{
	for (int bucket = 1; bucket < QS_HISTOGRAM_BUCKETS; bucket++)
	{
		CHECK(qs_histogram_bucket(qs_histogram_edge(bucket)) == bucket);
		CHECK(qs_histogram_bucket(qs_histogram_edge(bucket) - 1) == bucket - 1);
	}
	run_seeds(argc, argv);
	return 0;
}

#endif							/* QS_FUZZ */
