/*
 * bucket.h
 *	  The arithmetic of token buckets. Pure: nothing here allocates, waits,
 *	  reads a clock or fails.
 *
 * A bucket holds at most its capacity and refills at its rate. Its state is one
 * number, its position, which the caller keeps and replaces with what a take
 * gives; so a take can be a single compare-and-swap.
 *
 * For all takes that were granted, in whatever order their callers read the
 * clock: those from time a to time b sum up to at most capacity + rate x (b - a).
 * Exactly: capacity and rate are the doubles that were given, and nothing
 * accumulates, as refill is computed from the time since the bucket's base.
 */
#ifndef QS_BUCKET_H
#define QS_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/* the ranges of capacity and rate that qs_bucket_init() takes */
#define QS_BUCKET_MIN_CAPACITY 1.0
#define QS_BUCKET_MAX 1e9		/* of both; a rate is above 0 */

/* longer than any wait is: about 10,000 years, in microseconds */
#define QS_BUCKET_NEVER (INT64_C(1) << 58)

typedef struct QsBucket
{
	int64_t		base;			/* refill counts from here, in microseconds */
	int64_t		capacity;		/* in units */
	int64_t		mantissa;		/* units that refill in a second are this */
	int16_t		exponent;		/* times two to this */
	int16_t		scale;			/* a token is 2 to this units */
} QsBucket;

extern void qs_bucket_init(QsBucket *bucket, double capacity, double rate,
						   int64_t base);
extern int64_t qs_bucket_position(const QsBucket *bucket, double tokens);

extern bool qs_bucket_take(const QsBucket *bucket, int64_t *position,
						   int64_t now, int64_t tokens);
extern int64_t qs_bucket_wait(const QsBucket *bucket, int64_t position,
							  int64_t now, int64_t tokens);
extern int64_t qs_bucket_whole(const QsBucket *bucket, int64_t position,
							   int64_t now);
extern double qs_bucket_tokens(const QsBucket *bucket, int64_t position,
							   int64_t now);
extern int64_t qs_bucket_returned(const QsBucket *bucket, int64_t position,
								  int64_t now, int64_t taken, int64_t tokens);
extern int64_t qs_bucket_carried(const QsBucket *bucket, int64_t position,
								 const QsBucket *to);

#endif							/* QS_BUCKET_H */
