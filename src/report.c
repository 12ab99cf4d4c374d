/*
 * report.c
 *	  queue_report(): finds what is in the page. See report.h.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "health.h"
#include "miscadmin.h"
#include "report.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_report);

/* What it may reach back. */
#define PERIOD_MIN (10 * USECS_PER_MINUTE)
#define PERIOD_MAX QS_YEAR

/* Dead letters that are read of all queues together, and of each at least. */
#define LETTERS 10000
#define LETTERS_MIN 1
/* Queues whose dead letters are read. */
#define LETTERS_QUEUES 10000

/*
 * The latest dead letters of each queue, by what they died of: how many, how
 * many of them were sent back, the error with its digits left out, the reason,
 * of which queues and types of jobs, and when the last one died.
 */
static QsStatement select_dead = {
	.sql = "SELECT count(*), count(d.redriven_at), d.error, d.reason,"
	" count(DISTINCT u.queue), min(q.name), count(DISTINCT d.job_type),"
	" min(d.job_type), to_char(max(d.died_at), 'YYYY-MM-DD HH24:MI')"
	" FROM unnest($1, $2) u (tenant, queue)"
	" JOIN @queues q ON q.id = u.queue, LATERAL"
	" (SELECT reason, job_type, died_at, redriven_at, CASE WHEN $5 THEN"
	" regexp_replace(left(split_part(last_error, E'\\n', 1), 160), '\\d+', '#', 'g')"
	" END AS error FROM @dead_letter_jobs"
	" WHERE tenant_id = u.tenant AND queue_id = u.queue AND died_at >= $3"
	" ORDER BY died_at DESC LIMIT $4) d"
	" GROUP BY d.error, d.reason ORDER BY 1 DESC, 3, 4 LIMIT 20",
	.nargs = 5, .argtypes = {UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID, INT8OID,
	BOOLOID}
};

/* Alerts: tenant, kind, severity, message, value, threshold, when. */
#define ALERTS(condition) \
	"SELECT tenant_id, alert, severity, message, value, threshold," \
	" to_char(raised_at, 'YYYY-MM-DD HH24:MI')," \
	" to_char(resolved_at, 'YYYY-MM-DD HH24:MI') FROM @alert_history WHERE " condition
#define OPEN " resolved_at IS NULL ORDER BY raised_at DESC LIMIT 20"
#define PAST " resolved_at IS NOT NULL ORDER BY id DESC LIMIT 10"
static QsStatement select_open = {.sql = ALERTS(OPEN)};
static QsStatement select_open_of_tenant = {
	.sql = ALERTS("tenant_id = $1 AND" OPEN), .nargs = 1, .argtypes = {UUIDOID}
};
static QsStatement select_past = {.sql = ALERTS(PAST)};
static QsStatement select_past_of_tenant = {
	.sql = ALERTS("tenant_id = $1 AND" PAST), .nargs = 1, .argtypes = {UUIDOID}
};

static void
note_item(const char *item, bool ok, const char *detail, void *arg)
{
	QsReport   *report = arg;

	if (report->items < QS_REPORT_ITEMS)
		report->item[report->items++] = (QsReportItem) {
		pstrdup(item), pstrdup(detail), ok
	};
}

/* Whether role may read a column of a table. */
static bool
may_read(Oid table, const char *column, Oid role)
{
	AttrNumber	number = get_attnum(table, column);

	return number != InvalidAttrNumber &&
		(pg_class_aclcheck(table, role, ACL_SELECT) == ACLCHECK_OK ||
		 pg_attribute_aclcheck(table, number, role, ACL_SELECT) == ACLCHECK_OK);
}

static void
look_at_dead(QsCall *call, QsReport *report)
{
	QsSights   *queues = &report->queues;
	int64		count = Min(queues->count, LETTERS_QUEUES);
	int64		dying = 0;
	Datum		args[5];

	qs_sights_order(queues, qs_sight_by_deaths);
	while (dying < count && queues->sights[dying].dead > 0)
		dying++;
	/* where nothing is counted, any of them may have some */
	if (dying == 0)
		dying = count;
	report->letters = (int) Max(LETTERS / Max(dying, 1), LETTERS_MIN);
	args[0] = qs_sights_array(queues, dying, true);
	args[1] = qs_sights_array(queues, dying, false);
	args[2] = TimestampTzGetDatum(call->now - report->period);
	args[3] = Int64GetDatum(report->letters);
	args[4] = BoolGetDatum(report->with_errors);
	qs_observe(call, &select_dead, args, NULL, &report->dead);
}

/* The tenants that alerts are of, as an array of text. */
static Datum
tenants_of(const QsTexts *open, const QsTexts *past)
{
	const QsTexts *alerts[2] = {open, past};
	Datum	   *ids = palloc(Max(open->rows + past->rows, 1) * sizeof(Datum));
	int			count = 0;

	for (int i = 0; i < 2; i++)
		for (int row = 0; row < alerts[i]->rows; row++)
			if (qs_text_at(alerts[i], row, 0) != NULL)
				ids[count++] = CStringGetTextDatum(qs_text_at(alerts[i], row, 0));
	return PointerGetDatum(construct_array(ids, count, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/*
 * Names of the tenants that are shown, read by the caller himself: the table
 * may be the user's, with policies of his own and without a name.
 */
static void
look_at_names(const QsCatalog *cat, QsReport *report)
{
	MemoryContext memory = CurrentMemoryContext;
	Oid			tenants = qs_find_relation(cat->schema, "tenants");
	QsSights	shown = {0};
	Oid			types[3] = {UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID};
	Datum		args[3];
	char	   *sql;

	if (!OidIsValid(tenants) || !may_read(tenants, "id", GetUserId()) ||
		!may_read(tenants, "name", GetUserId()))
		return;
	shown.count = 1;
	shown.sights = palloc0(sizeof(QsSight));
	shown.sights->tenant = report->tenant;
	args[0] = report->of_tenant ? qs_sights_array(&shown, 1, true) :
		qs_sights_array(&report->tenants, QS_REPORT_TENANTS, true);
	args[1] = qs_sights_array(&report->queues,
							  report->of_tenant ? 0 : QS_REPORT_QUEUES, true);
	args[2] = tenants_of(&report->open_alerts, &report->past_alerts);
	sql = psprintf("SELECT id, name::pg_catalog.text FROM %s.tenants"
				   " WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
				   " OR id OPERATOR(pg_catalog.=) ANY ($2)"
				   " OR id OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.uuid[])",
				   cat->schema_quoted);
	qs_connect();
	if (SPI_execute_with_args(sql, 3, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the names of tenants");
	qs_texts_copy(memory, &report->names);
	SPI_finish();
}

static void
look(QsCall *call, QsReport *report)
{
	Datum		args[1] = {UUIDPGetDatum(&call->tenant)};

	report->now = call->now;
	report->of_tenant = call->has_tenant;
	report->tenant = call->tenant;
	report->preloaded = qs_stats_exist();
	report->with_errors = may_read(call->cat->table[QS_DEAD_LETTER_JOBS],
								   "last_error", call->caller_role);
	qs_observe_queues(call, &report->queues);
	qs_series_read(call, report->period, report->queues.count, &report->series);
	look_at_dead(call, report);
	qs_observe_limits(call, &report->limits);
	qs_observe(call, call->has_tenant ? &select_open_of_tenant : &select_open,
			   args, NULL, &report->open_alerts);
	qs_observe(call, call->has_tenant ? &select_past_of_tenant : &select_past,
			   args, NULL, &report->past_alerts);
	qs_cache_statistics(&report->cache);
	qs_observe_tenants(&report->queues, &report->tenants);
	qs_sights_order(&report->tenants, qs_sight_by_load);
	qs_sights_order(&report->queues, qs_sight_by_waiting);
}

/* SQL: queue_report(period) */
Datum
queue_report(PG_FUNCTION_ARGS)
{
	QsCall		call;
	QsReport   *report = palloc0(sizeof(QsReport));
	StringInfoData page;

	report->period = qs_interval_microseconds(
		qs_arg_interval(fcinfo, 0, "period", PERIOD_MIN, PERIOD_MAX));
	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	look(&call, report);
	qs_end(&call);
	/* as the caller */
	qs_health_look(fcinfo, note_item, report);
	look_at_names(call.cat, report);

	initStringInfo(&page);
	qs_report_write(&page, report);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(page.data, page.len));
}
