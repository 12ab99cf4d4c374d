/*
 * stats.h
 *	  The statistics of a queue, from shared memory and its row.
 */
#ifndef QS_STATS_H
#define QS_STATS_H

#include "call.h"
#include "stats_table.h"

/* a minute, between samples and between flushes */
#define QS_STATS_PERIOD USECS_PER_MINUTE

typedef struct QsStats
{
	pg_uuid_t	queue;
	pg_uuid_t	tenant;
	bool		counted;		/* as of now; else as of at */
	TimestampTz at;				/* 0: never */
	int64		depth;			/* jobs that wait, with those that are delayed */
	int64		delayed;
	int64		processing;
	TimestampTz oldest_claimable_at;	/* 0: none was claimable when last looked */
	int64		totals[QS_NEVENTS];
} QsStats;

/* what is read of queues, of which shared memory may know better */
#define QS_STATS_COLUMNS "id, tenant_id, name, statistics_at, depth, delayed," \
	" processing, oldest_claimable_at, enqueued_total, claimed_total," \
	" completed_total, failed_total, dead_total, cancelled_total"

#define QS_STATS_NCOLUMNS 14

extern void qs_stats_of_row(const QsCall *call, uint64 triggers, int row,
							QsStats *stats);

/* events of which rates are told: enqueued, claimed, completed, failed, died */
#define QS_NRATES 5

/* all that there is to say of a queue, as of now */
typedef struct QsQueueNow
{
	Datum		name;			/* text, for as long as the walk is at it */
	QsStats		stats;
	QsStatsView view;
	bool		rated;			/* the rates are known */
	double		rates[QS_NRATES];	/* a second, in the last one to two minutes */
	QsHistogram wait;			/* in the same time; empty if not known */
	QsHistogram run;
} QsQueueNow;

typedef void (*QsQueueFound) (const QsQueueNow *queue, TimestampTz now, void *arg);

extern void qs_stats_walk(QsCall *call, QsQueueFound found, void *arg);

/* what maintenance writes into the row of a queue */
typedef struct QsStatsRow
{
	const QsStatsCounts *counts;	/* NULL: leave what is there, and look too */
	const QsStatsLook *look;
	const int64 *totals;		/* NULL: leave what is there */
} QsStatsRow;

/* how that went */
typedef enum QsStatsWritten
{
	QS_STATS_WRITTEN,
	QS_STATS_WRITTEN_HELD,		/* and the version before it has to stay */
	QS_STATS_NO_ROOM,			/* nothing was, as it would have to move */
	QS_STATS_LOCKED,			/* nor was anything, as somebody has the row */
	QS_STATS_GONE				/* there is no such queue */
} QsStatsWritten;

extern QsStatsWritten qs_stats_write(QsCall *call, const pg_uuid_t *queue,
									 const QsStatsRow *row);
extern bool qs_stats_read_totals(QsCall *call, const pg_uuid_t *queue,
								 int64 *totals);

#endif							/* QS_STATS_H */
