/*
 * buckets.h
 *	  Token buckets in shared memory, if the library is preloaded.
 *
 * None of these functions can fail or wait for more than a short lock.
 */
#ifndef QS_BUCKETS_H
#define QS_BUCKETS_H

#include "bucket.h"
#include "datatype/timestamp.h"

typedef struct QsBucketKey
{
	Oid			database;
	uint8		id[16];
} QsBucketKey;

/* which bucket, and what it is by now */
typedef struct QsLiveBucket
{
	QsBucketKey key;
	double		capacity;
	double		rate;
	double		tokens;			/* what its row says that there were */
	TimestampTz tokens_at;		/* at this time */
} QsLiveBucket;

/* what a take tells */
typedef struct QsBucketTake
{
	int32		tokens;			/* that were taken; 0 if there were too few */
	bool		late;			/* or if the time given is not a present one */
	double		left;			/* tokens that the bucket has then */
	int64		wait;			/* microseconds until there are enough */

	/* for who gives them back */
	uint64		incarnation;
	int64		behind;
	int64		returned;
} QsBucketTake;

typedef struct QsBucketStatistics
{
	uint64		buckets;
	uint64		buckets_max;
	uint64		evicted;
	uint64		bytes;
} QsBucketStatistics;

extern void qs_buckets_init(void);
extern bool qs_buckets_exist(void);
extern int	qs_buckets_max(void);
extern void qs_buckets_take(const QsLiveBucket *live, TimestampTz now,
							int32 least, int32 most, QsBucketTake *take);
extern void qs_buckets_return(const QsLiveBucket *live,
							  const QsBucketTake *take, int32 tokens);
extern void qs_buckets_look(const QsLiveBucket *live, TimestampTz now,
							int32 wanted, double *tokens, int64 *wait);
extern bool qs_buckets_bound(const QsLiveBucket *live, TimestampTz now,
							 double *tokens);
extern void qs_buckets_statistics(QsBucketStatistics *statistics);

#endif							/* QS_BUCKETS_H */
