/*
 * chart.h
 *	  A chart of lines over time, as SVG within HTML, with a table that says
 *	  the same.
 *
 * A chart is 360 units wide and is never shown much smaller, so that what is
 * written in it can be read on a phone. Legends are HTML, which flows.
 */
#ifndef QS_CHART_H
#define QS_CHART_H

#include "lib/stringinfo.h"
#include "series.h"

#define QS_CHART_LINES 4

typedef enum QsChartScale
{
	QS_SCALE_COUNT,
	QS_SCALE_RATE,
	QS_SCALE_SECONDS			/* logarithmic */
} QsChartScale;

typedef struct QsChart
{
	const char *id;				/* unique in the page */
	const char *title;
	const char *unit;
	QsChartScale scale;
	int			lines;
	QsLine		line[QS_CHART_LINES];
	const char *name[QS_CHART_LINES];
} QsChart;

extern void qs_chart(StringInfo out, const QsChart *chart,
					 const QsSeries *series);
extern const char *qs_chart_time(TimestampTz time, bool with_day);

#endif							/* QS_CHART_H */
