/*
 * top.c
 *	  The view queue_top: what goes on, in lines for a terminal of 120 x 40.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "chart.h"
#include "commands/dbcommands.h"
#include "figures.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "observe.h"
#include "result.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(qs_queue_top);

/* psql begins each line with a blank */
#define WIDTH 118

/* How many are shown. */
#define QUEUES 12
#define WORKERS 6

#define ALERTS_OF(condition) \
	"SELECT severity, alert, to_char(raised_at, 'YYYY-MM-DD HH24:MI'), message," \
	" count(*) OVER () FROM @alert_history WHERE resolved_at IS NULL" condition \
	" ORDER BY raised_at DESC LIMIT 5"
static QsStatement select_alerts = {.sql = ALERTS_OF("")};
static QsStatement select_alerts_of_tenant = {
	.sql = ALERTS_OF(" AND tenant_id = $1"), .nargs = 1, .argtypes = {UUIDOID}
};

/*
 * Appends a text that is as wide as said, and a blank: filled with blanks, to the
 * left if it is a number, or cut. What would move the cursor is shown as ?.
 */
static void
put_cell(StringInfo line, const char *text, int width, bool is_number)
{
	StringInfoData cell;
	int			used = 0;

	initStringInfo(&cell);
	for (const char *c = text; *c != '\0'; c += pg_mblen(c))
	{
		int			columns = pg_dsplen(c);

		if (used + Max(columns, 1) > width)
		{
			/* the last one makes way for a sign that there is more */
			while (used >= width && cell.len > 0)
			{
				cell.len = pg_mbcliplen(cell.data, cell.len, cell.len - 1);
				cell.data[cell.len] = '\0';
				used--;
			}
			appendStringInfoChar(&cell, '~');
			used++;
			break;
		}
		if (columns < 0)
			appendStringInfoChar(&cell, '?');
		else if (columns > 0)
			appendBinaryStringInfo(&cell, c, pg_mblen(c));
		used += columns < 0 ? 1 : columns;
	}
	if (is_number)
		appendStringInfoSpaces(line, Max(width - used, 0));
	appendStringInfoString(line, cell.data);
	if (!is_number)
		appendStringInfoSpaces(line, Max(width - used, 0));
	appendStringInfoChar(line, ' ');
}

/* Ends a line, which is cut to the width of the terminal. */
static void
put_line(FunctionCallInfo fcinfo, StringInfo line)
{
	StringInfoData cut;
	Datum		values[1];
	bool		nulls[1] = {false};

	initStringInfo(&cut);
	put_cell(&cut, line->data, WIDTH, false);
	while (cut.len > 0 && cut.data[cut.len - 1] == ' ')
		cut.data[--cut.len] = '\0';
	values[0] = CStringGetTextDatum(cut.data);
	qs_put_row(fcinfo, values, nulls);
	resetStringInfo(line);
}

static void
put_all(FunctionCallInfo fcinfo, StringInfo line, const QsCall *call,
		const QsSight *all)
{
	appendStringInfo(line, "queue_service  database %s  ",
					 get_database_name(MyDatabaseId));
	if (call->has_tenant)
		appendStringInfo(line, "tenant %s  ",
						 DatumGetCString(DirectFunctionCall1(uuid_out,
															 UUIDPGetDatum(&call->tenant))));
	else
		appendStringInfoString(line, "all tenants  ");
	appendStringInfoString(line, qs_chart_time(call->now, true));
	put_line(fcinfo, line);
	appendStringInfo(line, "waiting %s (%s delayed)  running %s  oldest %s  in %s/s"
					 "  done %s/s  failed %s/s  p95 wait %s, run %s",
					 qs_number_text((double) all->depth),
					 qs_number_text((double) all->delayed),
					 qs_number_text((double) all->processing),
					 qs_duration_text(all->oldest), qs_sight_rate_text(all, QS_RATE_ENQUEUED),
					 qs_sight_rate_text(all, QS_RATE_COMPLETED), qs_sight_rate_text(all, QS_RATE_FAILED),
					 qs_duration_text(all->wait[1]), qs_duration_text(all->run[1]));
	put_line(fcinfo, line);
	put_line(fcinfo, line);
}

/* The end of a tenant's id, where ids differ. */
static const char *
tenant_text(const QsCall *call, const pg_uuid_t *tenant)
{
	return call->has_tenant ? "" :
		DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(tenant))) + 24;
}

static void
put_sight(StringInfo line, const char *name, const char *tenant,
		  const QsSight *sight)
{
	put_cell(line, name, 31, false);
	put_cell(line, tenant, 12, false);
	put_cell(line, qs_number_text((double) sight->depth), 8, true);
	put_cell(line, qs_number_text((double) sight->delayed), 7, true);
	put_cell(line, qs_number_text((double) sight->processing), 7, true);
	put_cell(line, qs_duration_text(sight->oldest), 8, true);
	put_cell(line, qs_sight_rate_text(sight, QS_RATE_ENQUEUED), 6, true);
	put_cell(line, qs_sight_rate_text(sight, QS_RATE_COMPLETED), 6, true);
	put_cell(line, qs_sight_rate_text(sight, QS_RATE_FAILED), 6, true);
	put_cell(line, qs_duration_text(sight->wait[1]), 8, true);
}

static void
put_queues(FunctionCallInfo fcinfo, StringInfo line, const QsCall *call,
		   const QsSights *queues)
{
	appendStringInfo(line, "%-31s %-12s %8s %7s %7s %8s %6s %6s %6s %8s", "QUEUE",
					 call->has_tenant ? "" : "TENANT", "WAITING", "DELAYED",
					 "RUNNING", "OLDEST", "IN/S", "DONE/S", "FAIL/S", "WAIT P95");
	put_line(fcinfo, line);
	for (int64 i = 0; i < queues->count && i < QUEUES; i++)
	{
		const QsSight *sight = &queues->sights[i];

		put_sight(line, sight->name, tenant_text(call, &sight->tenant), sight);
		put_line(fcinfo, line);
	}
	if (queues->count > QUEUES)
	{
		QsSight		rest;

		qs_sight_clear(&rest);
		for (int64 i = QUEUES; i < queues->count; i++)
			qs_sight_add(&rest, &queues->sights[i]);
		put_sight(line, psprintf("(" INT64_FORMAT " others)", queues->count - QUEUES),
				  "", &rest);
		put_line(fcinfo, line);
	}
	put_line(fcinfo, line);
}

/* Workers to the left, limits to the right. */
static void
put_workers(FunctionCallInfo fcinfo, StringInfo line, const QsTexts *workers,
			const QsTexts *limits)
{
	appendStringInfo(line, "%-31s %6s %7s %8s    %-31s %8s %8s %7s", "WORKER",
					 "LEASES", "EXPIRED", "OLDEST", "LIMITER", "TOKENS", "OF",
					 "PERMITS");
	put_line(fcinfo, line);
	for (int i = 0; i < WORKERS && i < Max(workers->rows, limits->rows); i++)
	{
		if (i < workers->rows)
		{
			put_cell(line, qs_text_at(workers, i, 0), 31, false);
			put_cell(line, qs_number_text(qs_number_at(workers, i, 1)), 6, true);
			put_cell(line, qs_number_text(qs_number_at(workers, i, 2)), 7, true);
			put_cell(line, qs_seconds_text(qs_number_at(workers, i, 3)), 8, true);
		}
		else
			appendStringInfoSpaces(line, 56);
		appendStringInfoString(line, "   ");
		if (i < limits->rows)
		{
			put_cell(line, qs_text_at(limits, i, 0), 31, false);
			put_cell(line, qs_number_text(Max(qs_number_at(limits, i, 2), 0)), 8, true);
			put_cell(line, qs_number_text(qs_number_at(limits, i, 3)), 8, true);
			put_cell(line, qs_text_at(limits, i, 7) == NULL ? "-" :
					 psprintf("%s/%s", qs_text_at(limits, i, 6),
							  qs_text_at(limits, i, 7)), 7, true);
		}
		put_line(fcinfo, line);
	}
	put_line(fcinfo, line);
}

static void
put_alerts(FunctionCallInfo fcinfo, StringInfo line, const QsTexts *alerts)
{
	appendStringInfo(line, "ALERTS (%s open)",
					 alerts->rows == 0 ? "0" : qs_text_at(alerts, 0, 4));
	put_line(fcinfo, line);
	for (int i = 0; i < alerts->rows; i++)
	{
		put_cell(line, qs_text_at(alerts, i, 0), 8, false);
		put_cell(line, qs_text_at(alerts, i, 1), 7, false);
		put_cell(line, qs_text_at(alerts, i, 2), 16, false);
		put_cell(line, qs_text_at(alerts, i, 3), WIDTH - 35, false);
		put_line(fcinfo, line);
	}
}

/* SQL: _queue_top() */
Datum
qs_queue_top(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsSights	queues;
	QsTexts		workers;
	QsTexts		limits;
	QsTexts		alerts;
	Datum		args[1];
	StringInfoData line;

	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	qs_begin_rows(fcinfo);
	initStringInfo(&line);
	args[0] = UUIDPGetDatum(&call.tenant);
	qs_observe_queues(&call, &queues);
	qs_sights_order(&queues, qs_sight_by_waiting);
	qs_observe_workers(&call, &queues, &workers);
	qs_observe_limits(&call, &limits);
	qs_observe(&call, call.has_tenant ? &select_alerts_of_tenant : &select_alerts,
			   args, NULL, &alerts);
	put_all(fcinfo, &line, &call, &queues.all);
	put_queues(fcinfo, &line, &call, &queues);
	put_workers(fcinfo, &line, &workers, &limits);
	put_alerts(fcinfo, &line, &alerts);
	qs_end(&call);
	return (Datum) 0;
}
