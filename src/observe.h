/*
 * observe.h
 *	  What there is to see of queues and tenants, for queue_report(),
 *	  queue_monitor() and queue_top.
 *
 * All of it is of the call's tenant, or of all tenants if the call serves them.
 * Nothing here reads more rows than there are queues, times a constant.
 */
#ifndef QS_OBSERVE_H
#define QS_OBSERVE_H

#include "call.h"
#include "statement.h"
#include "stats.h"

/* of rates */
typedef enum QsRated
{
	QS_RATE_ENQUEUED,
	QS_RATE_CLAIMED,
	QS_RATE_COMPLETED,
	QS_RATE_FAILED,
	QS_RATE_DIED
} QsRated;

/* A queue, a tenant's queues together, or all. */
typedef struct QsSight
{
	pg_uuid_t	tenant;
	pg_uuid_t	queue;
	char	   *name;			/* of a queue */
	int64		queues;			/* how many there are in it */
	int64		depth;
	int64		delayed;
	int64		processing;
	int64		oldest;			/* microseconds; -1: none is claimable */
	bool		rated;			/* rates and percentiles are known */
	double		rates[QS_NRATES];
	int64		wait[3];		/* p50, p95, p99; -1: nothing to say. Not of a tenant */
	int64		run[3];
	int64		events[QS_NEVENTS]; /* since the server started, or the totals */
	int64		dead;			/* in all */
} QsSight;

typedef struct QsSights
{
	MemoryContext memory;
	int64		count;
	int64		room;
	QsSight    *sights;
	QsSight		all;
	QsHistogram wait;			/* of all */
	QsHistogram run;
} QsSights;

typedef int (*QsSightOrder) (const void *a, const void *b);

extern void qs_observe_queues(QsCall *call, QsSights *queues);
extern void qs_observe_tenants(const QsSights *queues, QsSights *tenants);
extern void qs_sight_clear(QsSight *sight);
extern void qs_sight_add(QsSight *sum, const QsSight *sight);
extern const char *qs_sight_rate_text(const QsSight *sight, QsRated rate);
extern int	qs_sight_by_waiting(const void *a, const void *b);
extern int	qs_sight_by_load(const void *a, const void *b);
extern int	qs_sight_by_deaths(const void *a, const void *b);
extern void qs_sights_order(QsSights *sights, QsSightOrder order);
extern Datum qs_sights_array(const QsSights *sights, int64 count, bool tenants);

/* What a statement found, as text. */
typedef struct QsTexts
{
	int			rows;
	int			columns;
	const char **cells;
} QsTexts;

extern void qs_observe(QsCall *call, QsStatement *statement, Datum *args,
					   const char *nulls, QsTexts *texts);
extern void qs_texts_copy(MemoryContext memory, QsTexts *texts);
extern const char *qs_text_at(const QsTexts *texts, int row, int column);
extern double qs_number_at(const QsTexts *texts, int row, int column);

extern void qs_observe_limits(QsCall *call, QsTexts *texts);
extern void qs_observe_workers(QsCall *call, const QsSights *queues,
							   QsTexts *texts);

#endif							/* QS_OBSERVE_H */
