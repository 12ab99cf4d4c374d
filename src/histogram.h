/*
 * histogram.h
 *	  Histograms of durations, on a logarithmic scale. Pure: nothing here
 *	  allocates, waits, reads a clock or fails.
 *
 * A bucket is half an octave wide: each ends at the square root of 2 times
 * where it begins, from 32 microseconds on. Below that is one bucket, and one
 * from 19 hours on. So a percentile, interpolated in its bucket, is off by less
 * than a factor of 1.42, or by 32 microseconds; from 19 hours on that is what it
 * says at least.
 */
#ifndef QS_HISTOGRAM_H
#define QS_HISTOGRAM_H

#include <stdint.h>

#define QS_HISTOGRAM_BUCKETS 64

typedef struct QsHistogram
{
	uint64_t	used;			/* which of the counts are set; others mean 0 */
	uint32_t	counts[QS_HISTOGRAM_BUCKETS];
} QsHistogram;

extern int	qs_histogram_bucket(int64_t duration);
extern int64_t qs_histogram_edge(int bucket);
extern void qs_histogram_clear(QsHistogram *histogram);
extern void qs_histogram_add(QsHistogram *histogram, int64_t duration);
extern void qs_histogram_merge(QsHistogram *histogram,
							   const QsHistogram *other);
extern uint64_t qs_histogram_total(const QsHistogram *histogram);
extern int64_t qs_histogram_percentile(const QsHistogram *histogram,
									   int percent);

#endif							/* QS_HISTOGRAM_H */
