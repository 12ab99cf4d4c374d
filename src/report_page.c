/*
 * report_page.c
 *	  Writes the page of queue_report(): see report.h.
 */
#include "postgres.h"

#include "chart.h"
#include "commands/dbcommands.h"
#include "figures.h"
#include "html.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "report.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A column of a table; the first one is the head of its row. */
typedef struct Column
{
	const char *title;
	bool		is_number;
} Column;

static void
begin_section(StringInfo out, const char *id, const char *title)
{
	qs_html(out, "<section aria-labelledby=\"%s\"><h2 id=\"%s\">%s</h2>\n", id, id,
			title);
}

static void
end_section(StringInfo out, const char *note)
{
	if (note != NULL)
		qs_html(out, "<p class=\"note\">%s</p>", note);
	qs_html(out, "</section>\n");
}

static void
begin_table(StringInfo out, const char *label, const Column *columns, int count)
{
	qs_html(out, "<div class=\"card scroll\" tabindex=\"0\" role=\"region\""
			" aria-label=\"%s\"><table><thead><tr>", label);
	for (int i = 0; i < count; i++)
		qs_html(out, columns[i].is_number ? "<th scope=\"col\" class=\"n\">%s</th>" :
				"<th scope=\"col\">%s</th>", columns[i].title);
	qs_html(out, "</tr></thead><tbody>\n");
}

static void
end_table(StringInfo out)
{
	qs_html(out, "</tbody></table></div>\n");
}

static void
put_number(StringInfo out, const char *text)
{
	qs_html(out, "<td class=\"n\">%s</td>", text);
}

/* A number, and a bar that is as long as its part of the most; none below 0. */
static void
put_bar(StringInfo out, const char *text, double part)
{
	if (part < 0)
	{
		put_number(out, text);
		return;
	}
	qs_html(out, "<td class=\"n\">%s<svg class=\"bar\" viewBox=\"0 0 100 6\""
			" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
			"<rect width=\"%f\" height=\"6\"/></svg></td>", text,
			100 * Min(part, 1));
}

static const char *
id_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* What people call a tenant; NULL if that is not known. */
static const char *
name_of(const QsReport *report, const char *id)
{
	for (int i = 0; i < report->names.rows; i++)
		if (strcmp(qs_text_at(&report->names, i, 0), id) == 0)
			return qs_text_at(&report->names, i, 1);
	return NULL;
}

/* Whose something is, in a page of all tenants. */
static void
put_whose(StringInfo out, const QsReport *report, const char *id)
{
	const char *name = id == NULL ? NULL : name_of(report, id);

	if (id != NULL && !report->of_tenant)
		qs_html(out, "<small><bdi>%s</bdi></small>", name ? name : id);
}

static void
put_tenant(StringInfo out, const QsReport *report, const char *id)
{
	const char *name = name_of(report, id);

	if (name != NULL)
		qs_html(out, "<bdi>%s</bdi><small>%s</small>", name, id);
	else
		qs_html(out, "%s", id);
}

static void
put_head(StringInfo out, const QsReport *report)
{
	const char *scope = "all tenants";

	if (report->of_tenant)
	{
		scope = id_text(&report->tenant);
		if (name_of(report, scope) != NULL)
			scope = name_of(report, scope);
	}
	qs_html(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
			"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"
			" style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\"/>"
			"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
			"<meta name=\"color-scheme\" content=\"light dark\"/>"
			"<meta name=\"referrer\" content=\"no-referrer\"/>"
			"<title>Queues of %s, %s</title><style>", scope,
			qs_chart_time(report->now, true));
	appendStringInfoString(out, qs_report_style);
	qs_html(out, "</style></head>\n<body><header><h1>Queues of <bdi>%s</bdi></h1>"
			"<p>Database <bdi>%s</bdi>, %s (%s)</p>", scope,
			get_database_name(MyDatabaseId), qs_chart_time(report->now, true),
			pg_get_timezone_name(session_timezone));
	qs_html(out, "<nav aria-label=\"Sections\"><ul>"
			"<li><a href=\"#time\">Over time</a></li>"
			"<li><a href=\"#queues\">Queues</a></li>");
	if (!report->of_tenant)
		qs_html(out, "<li><a href=\"#tenants\">Tenants</a></li>");
	qs_html(out, "<li><a href=\"#dead\">Dead letters</a></li>"
			"<li><a href=\"#limits\">Limits</a></li>"
			"<li><a href=\"#claims\">Claims</a></li>"
			"<li><a href=\"#alerts\">Alerts</a></li>"
			"<li><a href=\"#health\">Health</a></li></ul></nav></header>\n<main>");
}

/* What needs somebody's attention. */
static void
put_state(StringInfo out, const QsReport *report)
{
	const QsTexts *alerts = &report->open_alerts;
	int			bad = 0;

	for (int i = 0; i < report->items; i++)
		bad += !report->item[i].ok;
	qs_html(out, "<div class=\"card state%s\">", bad + alerts->rows > 0 ? " bad" : "");
	if (bad + alerts->rows == 0)
		qs_html(out, "<b>All is well.</b> No alert is open, and health finds nothing.");
	else
	{
		qs_html(out, "<b>Needs attention</b><ul>");
		for (int i = 0; i < alerts->rows && i < 5; i++)
		{
			qs_html(out, "<li><bdi>%s</bdi>", qs_text_at(alerts, i, 3));
			put_whose(out, report, qs_text_at(alerts, i, 0));
			qs_html(out, "</li>");
		}
		if (alerts->rows > 5)
			qs_html(out, "<li><a href=\"#alerts\">more alerts</a></li>");
		for (int i = 0; i < report->items; i++)
			if (!report->item[i].ok)
				qs_html(out, "<li>%s: <bdi>%s</bdi></li>", report->item[i].item,
						report->item[i].detail);
		qs_html(out, "</ul>");
	}
	qs_html(out, "</div>");
}

static void
put_tile(StringInfo out, const char *title, const char *value, const char *more)
{
	qs_html(out, "<div class=\"card\"><dt>%s</dt><dd>%s<small>%s</small></dd></div>",
			title, value, more);
}

static void
put_now(StringInfo out, const QsReport *report)
{
	const QsSight *all = &report->queues.all;

	qs_html(out, "<section id=\"now\" aria-label=\"Now\">");
	put_state(out, report);
	qs_html(out, "<dl>");
	put_tile(out, "Waiting", qs_number_text((double) all->depth),
			 psprintf("%s of them delayed", qs_number_text((double) all->delayed)));
	put_tile(out, "Running", qs_number_text((double) all->processing),
			 psprintf("in %s queues", qs_count_text(all->queues)));
	put_tile(out, "Oldest waits", qs_duration_text(all->oldest), "since it was due");
	put_tile(out, "Done", psprintf("%s/s", qs_sight_rate_text(all, QS_RATE_COMPLETED)),
			 psprintf("%s/s come in", qs_sight_rate_text(all, QS_RATE_ENQUEUED)));
	put_tile(out, "Failed", psprintf("%s/s", qs_sight_rate_text(all, QS_RATE_FAILED)),
			 psprintf("%s/s for good", qs_sight_rate_text(all, QS_RATE_DIED)));
	put_tile(out, "Wait, p95", qs_duration_text(all->wait[1]),
			 psprintf("run %s", qs_duration_text(all->run[1])));
	qs_html(out, "</dl></section>\n");
}

static void
put_charts(StringInfo out, const QsReport *report)
{
	static const QsChart charts[] = {
		{"c-jobs", "Jobs", "in the queues", QS_SCALE_COUNT, 3,
			{QS_LINE_DEPTH, QS_LINE_PROCESSING, QS_LINE_DELAYED},
		{"waiting", "running", "delayed"}},
		{"c-rates", "Throughput", "jobs a second", QS_SCALE_RATE, 3,
			{QS_LINE_COMPLETED, QS_LINE_ENQUEUED, QS_LINE_CLAIMED},
		{"completed", "enqueued", "claimed"}},
		{"c-failures", "Failures", "a second", QS_SCALE_RATE, 2,
			{QS_LINE_FAILED, QS_LINE_DEAD},
		{"failed attempts", "dead letters"}},
		{"c-wait", "Wait", "from due to claimed", QS_SCALE_SECONDS, 3,
			{QS_LINE_WAIT_P50, QS_LINE_WAIT_P95, QS_LINE_WAIT_P99},
		{"p50", "p95", "p99"}},
		{"c-run", "Run", "from claimed to completed", QS_SCALE_SECONDS, 3,
			{QS_LINE_RUN_P50, QS_LINE_RUN_P95, QS_LINE_RUN_P99},
		{"p50", "p95", "p99"}},
		{"c-oldest", "Oldest", "claimable job, since it was due", QS_SCALE_SECONDS,
		1, {QS_LINE_OLDEST}, {"age"}},
	};
	const QsSeries *series = &report->series;
	int			minutes = (int) (series->step / USECS_PER_MINUTE);
	const char *note = psprintf("Each point is the mean of %d of %d minutes. "
								"A gap: nothing waited, ran or changed, or nobody took samples.%s",
								series->minutes, minutes,
								report->queues.count > 1 ?
								" Percentiles of several queues are not below what is true." : "");

	begin_section(out, "time", "Over time");
	qs_html(out, "<div class=\"charts\">\n");
	for (int i = 0; i < (int) lengthof(charts); i++)
		qs_chart(out, &charts[i], series);
	qs_html(out, "</div>");
	end_section(out, report->preloaded ? note :
				"There are samples only if the library is preloaded, and maintenance runs.");
}

/* What a table of queues or tenants shows of each, after its name. */
#define SIGHT_COLUMNS \
	{"Waiting", true}, {"Delayed", true}, {"Running", true}, {"Oldest", true}, \
	{"In/s", true}, {"Claims/s", true}, {"Done/s", true}, {"Failed/s", true}

/* Bars are as long as the parts say; none below 0. */
static void
put_sight(StringInfo out, const QsSight *sight, double waiting, double claims)
{
	put_bar(out, qs_count_text(sight->depth), waiting);
	put_number(out, qs_count_text(sight->delayed));
	put_number(out, qs_count_text(sight->processing));
	put_number(out, qs_duration_text(sight->oldest));
	put_number(out, qs_sight_rate_text(sight, QS_RATE_ENQUEUED));
	put_bar(out, qs_sight_rate_text(sight, QS_RATE_CLAIMED), claims);
	put_number(out, qs_sight_rate_text(sight, QS_RATE_COMPLETED));
	put_number(out, qs_sight_rate_text(sight, QS_RATE_FAILED));
}

/* Those after the first ones together, as the beginning of a row. */
static void
put_rest(StringInfo out, const QsSights *sights, int shown, const char *what)
{
	QsSight		rest;

	qs_sight_clear(&rest);
	for (int64 i = shown; i < sights->count; i++)
		qs_sight_add(&rest, &sights->sights[i]);
	qs_html(out, "<tr class=\"rest\"><th scope=\"row\">%s other %s</th>",
			qs_count_text(sights->count - shown), what);
	put_sight(out, &rest, -1, -1);
}

static void
put_queue(StringInfo out, const QsReport *report, const QsSight *sight, double most)
{
	qs_html(out, "<tr><th scope=\"row\"><bdi>%s</bdi>", sight->name);
	put_whose(out, report, id_text(&sight->tenant));
	qs_html(out, "</th>");
	put_sight(out, sight, most > 0 ? sight->depth / most : 0, -1);
	put_number(out, qs_duration_text(sight->wait[1]));
	put_number(out, qs_duration_text(sight->run[1]));
	qs_html(out, "</tr>\n");
}

static void
put_queues(StringInfo out, const QsReport *report)
{
	static const Column columns[] = {
		{"Queue", false}, SIGHT_COLUMNS, {"Wait p95", true}, {"Run p95", true}
	};
	const QsSights *queues = &report->queues;
	bool		more = queues->count > QS_REPORT_QUEUES;
	double		most = 0;

	begin_section(out, "queues", "Queues");
	if (queues->count == 0)
		qs_html(out, "<p class=\"card none\">There are none.</p>");
	else
	{
		begin_table(out, "Queues", columns, lengthof(columns));
		for (int64 i = 0; i < queues->count && i < QS_REPORT_QUEUES; i++)
			most = Max(most, (double) queues->sights[i].depth);
		for (int64 i = 0; i < queues->count && i < QS_REPORT_QUEUES; i++)
			put_queue(out, report, &queues->sights[i], most);
		if (more)
		{
			put_rest(out, queues, QS_REPORT_QUEUES, "queues");
			qs_html(out, "<td></td><td></td></tr>\n");
		}
		end_table(out);
	}
	end_section(out, more ? "Those with the most waiting and running jobs." : NULL);
}

static void
put_tenants(StringInfo out, const QsReport *report)
{
	static const Column columns[] = {{"Tenant", false}, SIGHT_COLUMNS};
	const QsSights *tenants = &report->tenants;
	double		most;

	if (report->of_tenant)
		return;
	begin_section(out, "tenants", "Tenants by load");
	if (tenants->count == 0)
		qs_html(out, "<p class=\"card none\">None has a queue.</p>");
	else
	{
		most = tenants->sights[0].rates[QS_RATE_CLAIMED];
		begin_table(out, "Tenants by load", columns, lengthof(columns));
		for (int64 i = 0; i < tenants->count && i < QS_REPORT_TENANTS; i++)
		{
			const QsSight *sight = &tenants->sights[i];

			qs_html(out, "<tr><th scope=\"row\">");
			put_tenant(out, report, id_text(&sight->tenant));
			qs_html(out, "</th>");
			put_sight(out, sight, -1,
					  most > 0 ? sight->rates[QS_RATE_CLAIMED] / most : 0);
			qs_html(out, "</tr>\n");
		}
		if (tenants->count > QS_REPORT_TENANTS)
		{
			put_rest(out, tenants, QS_REPORT_TENANTS, "tenants");
			qs_html(out, "</tr>\n");
		}
		end_table(out);
	}
	end_section(out, "By claims a second, then by what runs, then by what waits.");
}

/* One name, or how many there are. */
static void
put_names(StringInfo out, const QsTexts *texts, int row, int column,
		  const char *what)
{
	const char *count = qs_text_at(texts, row, column);

	if (strcmp(count, "1") == 0)
		qs_html(out, "<td class=\"t\"><bdi>%s</bdi></td>",
				qs_text_at(texts, row, column + 1));
	else
		qs_html(out, "<td class=\"t\">%s %s</td>", count, what);
}

static void
put_dead(StringInfo out, const QsReport *report)
{
	static const Column columns[] = {
		{"Error", false}, {"Letters", true}, {"Sent back", true},
		{"Reason", false}, {"Queue", false}, {"Job type", false}, {"Last", true}
	};
	const QsTexts *dead = &report->dead;

	begin_section(out, "dead", "Dead letters by error");
	if (dead->rows == 0)
		qs_html(out, "<p class=\"card none\">No job failed for good.</p>");
	else
	{
		begin_table(out, "Dead letters by error", columns, lengthof(columns));
		for (int i = 0; i < dead->rows; i++)
		{
			const char *error = qs_text_at(dead, i, 2);

			qs_html(out, "<tr><th scope=\"row\"><bdi>%s</bdi></th>",
					!report->with_errors ? "(not for you to read)" :
					error == NULL ? "(none)" : error);
			put_bar(out, qs_count_text((int64) qs_number_at(dead, i, 0)),
					qs_number_at(dead, i, 0) / qs_number_at(dead, 0, 0));
			put_number(out, qs_count_text((int64) qs_number_at(dead, i, 1)));
			qs_html(out, "<td>%s</td>", qs_text_at(dead, i, 3));
			put_names(out, dead, i, 4, "queues");
			put_names(out, dead, i, 6, "types");
			put_number(out, qs_text_at(dead, i, 8));
			qs_html(out, "</tr>\n");
		}
		end_table(out);
	}
	end_section(out, psprintf("Of the latest %d of each queue that died within the time of this report. "
							  "# stands for digits.", report->letters));
}

static void
put_limits(StringInfo out, const QsReport *report)
{
	static const Column columns[] = {
		{"Service", false}, {"Limit of", false}, {"Tokens", true},
		{"Capacity", true}, {"Refill/s", true}, {"Permits out", true}
	};
	const QsTexts *limits = &report->limits;

	begin_section(out, "limits", "Limiter tokens");
	if (limits->rows == 0)
		qs_html(out, "<p class=\"card none\">Nothing is limited.</p>");
	else
	{
		begin_table(out, "Limiter tokens", columns, lengthof(columns));
		for (int i = 0; i < limits->rows; i++)
		{
			double		tokens = qs_number_at(limits, i, 2);
			double		capacity = qs_number_at(limits, i, 3);
			const char *most = qs_text_at(limits, i, 7);

			qs_html(out, "<tr><th scope=\"row\"><bdi>%s</bdi></th><td>%s</td>",
					qs_text_at(limits, i, 0),
					strcmp(qs_text_at(limits, i, 1), "tenant") == 0 ? "the tenant" :
					"the service");
			put_bar(out, qs_number_text(Max(tokens, 0)), tokens / capacity);
			put_number(out, qs_number_text(capacity));
			put_number(out, qs_number_text(qs_number_at(limits, i, 4)));
			put_number(out, most == NULL ? "-" :
					   psprintf("%s of %s", qs_text_at(limits, i, 6), most));
			qs_html(out, "</tr>\n");
		}
		end_table(out);
	}
	end_section(out, report->of_tenant ?
				"Those of the tenant, and of the services that its queues use." : NULL);
}

static void
put_claims(StringInfo out, const QsReport *report)
{
	const QsCacheStatistics *cache = &report->cache;

	begin_section(out, "claims", "Entries visited per claim");
	qs_html(out, "<dl>");
	put_tile(out, "On average", cache->claims == 0 ? "-" :
			 qs_number_text((double) cache->visited / cache->claims),
			 psprintf("of %s claims", qs_number_text((double) cache->claims)));
	put_tile(out, "99 of 100 claims", cache->claims == 0 ? "-" :
			 psprintf("up to %s", qs_count_text((int64) cache->visited_p99)),
			 "to a power of two");
	put_tile(out, "At most", cache->claims == 0 ? "-" :
			 qs_count_text((int64) cache->visited_max), "in one claim");
	put_tile(out, "Walks", qs_count_text((int64) cache->full_scans),
			 "of 256 entries or more");
	qs_html(out, "</dl>");
	end_section(out, report->preloaded ?
				"Entries of the ready index that a claim looked at, since the server started, "
				"of all tenants. It stays small however many jobs wait or are dead." :
				"Counted only if the library is preloaded.");
}

static void
put_alert(StringInfo out, const QsReport *report, const QsTexts *alerts, int row)
{
	const char *severity = qs_text_at(alerts, row, 2);
	const char *resolved = qs_text_at(alerts, row, 7);

	qs_html(out, "<tr><th scope=\"row\">%s</th>", qs_text_at(alerts, row, 1));
	if (resolved != NULL)
		qs_html(out, "<td><span class=\"mark good\">resolved</span><small>%s</small></td>",
				resolved);
	else
		qs_html(out, "<td><span class=\"mark %s\">%s</span></td>",
				strcmp(severity, "critical") == 0 ? "bad" : "warn", severity);
	qs_html(out, "<td class=\"t\"><bdi>%s</bdi>", qs_text_at(alerts, row, 3));
	put_whose(out, report, qs_text_at(alerts, row, 0));
	qs_html(out, "</td>");
	put_number(out, qs_number_text(qs_number_at(alerts, row, 4)));
	put_number(out, qs_number_text(qs_number_at(alerts, row, 5)));
	put_number(out, qs_text_at(alerts, row, 6));
	qs_html(out, "</tr>\n");
}

static void
put_alerts(StringInfo out, const QsReport *report)
{
	static const Column columns[] = {
		{"Alert", false}, {"State", false}, {"What", false}, {"Value", true},
		{"Threshold", true}, {"Raised", true}
	};

	begin_section(out, "alerts", "Alerts");
	if (report->open_alerts.rows + report->past_alerts.rows == 0)
		qs_html(out, "<p class=\"card none\">None was raised.</p>");
	else
	{
		begin_table(out, "Alerts", columns, lengthof(columns));
		for (int i = 0; i < report->open_alerts.rows; i++)
			put_alert(out, report, &report->open_alerts, i);
		for (int i = 0; i < report->past_alerts.rows; i++)
			put_alert(out, report, &report->past_alerts, i);
		end_table(out);
	}
	end_section(out, "The latest 20 that are open, and 10 that were resolved.");
}

static void
put_health(StringInfo out, const QsReport *report)
{
	static const Column columns[] = {
		{"Item", false}, {"State", false}, {"Detail", false}
	};

	begin_section(out, "health", "Health");
	begin_table(out, "Health", columns, lengthof(columns));
	for (int i = 0; i < report->items; i++)
	{
		const QsReportItem *item = &report->item[i];

		qs_html(out, "<tr><th scope=\"row\">%s</th>"
				"<td><span class=\"mark %s\">%s</span></td>"
				"<td class=\"t\"><bdi>%s</bdi></td></tr>\n", item->item,
				item->ok ? "good" : "bad", item->ok ? "good" : "look at it",
				item->detail);
	}
	end_table(out);
	end_section(out, NULL);
}

/* Writes the page. */
void
qs_report_write(StringInfo out, const QsReport *report)
{
	put_head(out, report);
	put_now(out, report);
	put_charts(out, report);
	put_queues(out, report);
	put_tenants(out, report);
	put_dead(out, report);
	put_limits(out, report);
	put_claims(out, report);
	put_alerts(out, report);
	put_health(out, report);
	qs_html(out, "</main><footer>Made by queue_report() in %s. Times are those of %s.</footer>"
			"</body></html>\n",
			qs_seconds_text((double) (GetCurrentTimestamp() - report->now) / USECS_PER_SEC),
			pg_get_timezone_name(session_timezone));
}
