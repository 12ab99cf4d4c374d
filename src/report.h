/*
 * report.h
 *	  The page that queue_report() makes: what is in it, and its writer.
 *
 * Invariants:
 *	 rights:	Nothing is in the page that the caller may not see otherwise: of one
 *				tenant, or of all for who serves all; errors of dead letters if he
 *				may read that column, names of tenants if he may read that table;
 *				what is only for the platform if he is it.
 *	 bounded:	What is read grows with the number of queues at most, and what
 *				is shown does not grow.
 *	 alone:		The page asks for nothing from anywhere, and has no script. Its
 *				policy forbids both to the browser, besides.
 */
#ifndef QS_REPORT_H
#define QS_REPORT_H

#include "observe.h"
#include "range_cache.h"
#include "series.h"

/* How many are shown. */
#define QS_REPORT_QUEUES 20
#define QS_REPORT_TENANTS 15

typedef struct QsReportItem
{
	const char *item;
	const char *detail;
	bool		ok;
} QsReportItem;

#define QS_REPORT_ITEMS 64

typedef struct QsReport
{
	TimestampTz now;
	int64		period;
	bool		of_tenant;
	pg_uuid_t	tenant;
	bool		with_errors;	/* errors of dead letters */
	int			letters;		/* that were read of each queue */
	bool		preloaded;
	int			items;
	QsReportItem item[QS_REPORT_ITEMS];
	QsSights	queues;
	QsSights	tenants;
	QsSeries	series;
	QsTexts		dead;
	QsTexts		limits;
	QsTexts		open_alerts;
	QsTexts		past_alerts;
	QsTexts		names;			/* of tenants: id, name */
	QsCacheStatistics cache;
} QsReport;

extern const char qs_report_style[];
extern void qs_report_write(StringInfo out, const QsReport *report);

#endif							/* QS_REPORT_H */
