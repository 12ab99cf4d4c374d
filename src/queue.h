/*
 * queue.h
 *	  What a session knows of queue definitions.
 */
#ifndef QS_QUEUE_H
#define QS_QUEUE_H

#include "call.h"
#include "compat.h"

#define QS_NAME_BYTES 128

typedef struct QsQueue
{
	pg_uuid_t	id;				/* hash key, first */
	pg_uuid_t	tenant;
	char		name[QS_NAME_BYTES + 1];
	bool		paused;
	bool		dead_letters;
	bool		keeps_completed;	/* false: a job is deleted as it completes */
	int			max_attempts;
	int			max_concurrency;	/* 0: no limit */
	int			critical_reserve;
	char		rate_limiter[QS_NAME_BYTES + 1];	/* of claims; empty: none */
	char		enqueue_limiter[QS_NAME_BYTES + 1];
	int64		max_depth;		/* 0: no limit */
	int64		ageing;			/* microseconds; 0: off */
	int			group_concurrency;	/* 0: no limit */
	bool		group_blocks;	/* while a job of the group has failed for good */
	int			weight;			/* of the tenant's turns */
	int			max_payload;	/* bytes; 0 means queue_service.max_payload */
	Interval	default_lease;
	int64		backoff_base;	/* microseconds */
	int64		backoff_max;	/* microseconds */
	double		backoff_factor;
	double		backoff_jitter;
} QsQueue;

extern void qs_queue_init(void);
extern void qs_queue_by_name(QsCall *call, const char *name, QsQueue *queue);
qs_noreturn extern void qs_queue_unknown(const char *name);
extern bool qs_queue_by_id(QsCall *call, const pg_uuid_t *id, QsQueue *queue);
extern bool qs_queue_read(QsCall *call, const pg_uuid_t *id, QsQueue *queue);
extern uint64 qs_queue_trigger(QsCall *call);

#endif							/* QS_QUEUE_H */
