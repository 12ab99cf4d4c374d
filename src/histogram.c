/*
 * histogram.c
 *	  Histograms of durations: see histogram.h.
 */
#include "histogram.h"

#define LAST (QS_HISTOGRAM_BUCKETS - 1)
#define FIRST_EDGE_BITS 5		/* 32 microseconds */

/* Where a bucket begins, in microseconds. */
int64_t
qs_histogram_edge(int bucket)
{
	int			octave = (bucket - 1) / 2;

	if (bucket == 0)
		return 0;
	if (bucket % 2 == 1)
		return INT64_C(1) << (FIRST_EDGE_BITS + octave);
	/* times the square root of 2, as 46341 / 32768 */
	return (INT64_C(46341) << (FIRST_EDGE_BITS + octave)) >> 15;
}

/* The bucket of a duration in microseconds; one below 0 counts as 0. */
int
qs_histogram_bucket(int64_t duration)
{
	int			bucket;

	if (duration < qs_histogram_edge(1))
		return 0;
	if (duration >= qs_histogram_edge(LAST))
		return LAST;
	bucket = 1 + 2 * (63 - FIRST_EDGE_BITS - __builtin_clzll((uint64_t) duration));
	return duration >= qs_histogram_edge(bucket + 1) ? bucket + 1 : bucket;
}

void
qs_histogram_clear(QsHistogram *histogram)
{
	histogram->used = 0;
}

/* Adds to a count, which stays at its maximum. */
static void
add(QsHistogram *histogram, int bucket, uint32_t n)
{
	uint64_t	bit = UINT64_C(1) << bucket;

	if (!(histogram->used & bit))
	{
		histogram->used |= bit;
		histogram->counts[bucket] = n;
	}
	else if (histogram->counts[bucket] > UINT32_MAX - n)
		histogram->counts[bucket] = UINT32_MAX;
	else
		histogram->counts[bucket] += n;
}

void
qs_histogram_add(QsHistogram *histogram, int64_t duration)
{
	add(histogram, qs_histogram_bucket(duration), 1);
}

/* Adds what another one has. */
void
qs_histogram_merge(QsHistogram *histogram, const QsHistogram *other)
{
	for (uint64_t left = other->used; left != 0; left &= left - 1)
	{
		int			bucket = __builtin_ctzll(left);

		add(histogram, bucket, other->counts[bucket]);
	}
}

uint64_t
qs_histogram_total(const QsHistogram *histogram)
{
	uint64_t	total = 0;

	for (uint64_t left = histogram->used; left != 0; left &= left - 1)
		total += histogram->counts[__builtin_ctzll(left)];
	return total;
}

/*
 * The duration that so many percent (1 to 100) of all are not above; -1 if there
 * are none. What is in a bucket is taken to be spread evenly over it.
 */
int64_t
qs_histogram_percentile(const QsHistogram *histogram, int percent)
{
	uint64_t	total = qs_histogram_total(histogram);
	uint64_t	rank = (total * percent + 99) / 100;	/* from 1 */

	for (uint64_t left = histogram->used; left != 0; left &= left - 1)
	{
		int			bucket = __builtin_ctzll(left);
		uint32_t	count = histogram->counts[bucket];
		int64_t		from = qs_histogram_edge(bucket);

		if (rank > count)
		{
			rank -= count;
			continue;
		}
		if (bucket == LAST)
			return from;
		return from + (int64_t) ((qs_histogram_edge(bucket + 1) - from) *
								 ((rank - 0.5) / count));
	}
	return -1;
}
