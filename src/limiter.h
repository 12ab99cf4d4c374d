/*
 * limiter.h
 *	  Takes tokens and permits from all that binds the caller, or from none.
 *
 * A name stands for what qs_limits_find() says: a tenant's own share, then the
 * service; for the platform (tenant NULL) the service alone. Each of these
 * functions raises QS_LIMIT_UNKNOWN if there is neither.
 */
#ifndef QS_LIMITER_H
#define QS_LIMITER_H

#include "limit.h"

/* What is asked for. */
typedef struct QsRequest
{
	const pg_uuid_t *tenant;	/* or NULL */
	const char *name;
	int32		least;			/* tokens, or nothing */
	int32		most;
	bool		with_permit;	/* where something limits concurrency */
	int64		hold;			/* the permit, microseconds; 0: as long as allowed */
} QsRequest;

/* What was taken, or when it can be. */
typedef struct QsGrant
{
	int32		tokens;			/* 0: refused */
	TimestampTz at;
	double		left;			/* tokens that are there then */
	int64		wait;			/* if refused: microseconds until least are there */
	int64		permit;			/* 0: none */

	/* for who gives tokens back */
	int			count;
	bool		in_row[2];
	QsLiveBucket bucket[2];
	QsBucketTake take[2];
} QsGrant;

extern void qs_limiter_take(QsCall *call, const QsRequest *request,
							QsGrant *grant);
extern void qs_limiter_give_back(QsCall *call, const QsRequest *request,
								 QsGrant *grant, int32 tokens);
extern void qs_limiter_abort(const QsGrant *grant);
extern bool qs_limiter_look(QsCall *call, const QsLimit *limit,
							const pg_uuid_t *tenant, const char *name,
							int32 tokens, TimestampTz *now, double *left,
							int64 *wait);
extern int64 qs_limiter_wait(QsCall *call, const pg_uuid_t *tenant,
							 const char *name, int32 tokens);
extern bool qs_limiter_release(QsCall *call, const pg_uuid_t *tenant,
							   const char *name, int64 permit);

#endif							/* QS_LIMITER_H */
