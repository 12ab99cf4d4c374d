/*
 * series.h
 *	  What queue_metrics has of a time, as points for charts.
 *
 * However many queues and samples there are, no more than about
 * QS_SERIES_ROWS of these are read: the more queues, the fewer points, and the
 * fewer minutes of each.
 */
#ifndef QS_SERIES_H
#define QS_SERIES_H

#include "call.h"

#define QS_SERIES_ROWS 200000
#define QS_SERIES_POINTS 97

typedef enum QsLine
{
	QS_LINE_DEPTH,
	QS_LINE_DELAYED,
	QS_LINE_PROCESSING,
	QS_LINE_ENQUEUED,			/* a second, as what follows */
	QS_LINE_CLAIMED,
	QS_LINE_COMPLETED,
	QS_LINE_FAILED,
	QS_LINE_DEAD,
	QS_LINE_OLDEST,				/* seconds, as what follows */
	QS_LINE_WAIT_P50,
	QS_LINE_WAIT_P95,
	QS_LINE_WAIT_P99,
	QS_LINE_RUN_P50,
	QS_LINE_RUN_P95,
	QS_LINE_RUN_P99
} QsLine;

#define QS_NLINES (QS_LINE_RUN_P99 + 1)

typedef struct QsSeries
{
	TimestampTz start;
	int64		step;			/* microseconds from point to point */
	int			minutes;		/* of each step, that are read */
	int			points;
	double		value[QS_NLINES][QS_SERIES_POINTS]; /* NaN: nothing is known */
} QsSeries;

extern void qs_series_read(QsCall *call, int64 period, int64 queues,
						   QsSeries *series);

#endif							/* QS_SERIES_H */
