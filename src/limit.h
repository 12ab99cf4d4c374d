/*
 * limit.h
 *	  What a session knows of the rows of rate_limiters and rate_limits.
 */
#ifndef QS_LIMIT_H
#define QS_LIMIT_H

#include "buckets.h"
#include "call.h"
#include "queue.h"

/* One row: a service's, or a tenant's own. */
typedef struct QsLimit
{
	bool		is_share;		/* a tenant's own */
	bool		in_row;			/* its tokens are in its row, not in shared memory */
	int32		max_concurrent; /* 0: no limit */
	int64		max_hold;		/* microseconds */
	QsLiveBucket bucket;
} QsLimit;

/* What binds a caller who asks for a name: own share first, then service. */
typedef struct QsLimits
{
	int			count;
	QsLimit		limit[2];
} QsLimits;

extern void qs_limit_init(void);
extern const QsLimits *qs_limits_find(QsCall *call, const pg_uuid_t *tenant,
									  const char *name);
extern void qs_limits_forget(void);
extern bool qs_limit_is_slow(double capacity, double rate);
extern void qs_limit_key(QsBucketKey *key, const pg_uuid_t *tenant,
						 const char *name);

#endif							/* QS_LIMIT_H */
