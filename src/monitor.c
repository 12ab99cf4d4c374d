/*
 * monitor.c
 *	  queue_monitor(): metrics, named as Prometheus has it.
 *
 * How many there are is bounded, however many tenants and queues there are: of
 * single queues there are metrics of the first max_queues only, by what waits
 * and runs; what all have together, and how many alerts are open, is always
 * whole.
 *
 * Counters begin at 0 when the server starts. The totals in queue_stats do not,
 * but lose what a crash does; Prometheus would take that for a new beginning,
 * and count all of it once more.
 */
#include "postgres.h"

#include "args.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "horizon.h"
#include "miscadmin.h"
#include "observe.h"
#include "range_cache.h"
#include "result.h"
#include "task.h"
#include "task_log.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(queue_monitor);

#define MAX_QUEUES 100000

/* thresholds of alerts: of a queue, or else those of all */
static QsStatement select_thresholds = {
	.sql = "SELECT coalesce(alert_depth, nullif($2, 0))::double precision,"
	" CASE WHEN NOT paused THEN"
	" coalesce(extract(epoch FROM alert_age), nullif($3, 0))::double precision END,"
	" coalesce(alert_dead, nullif($4, 0))::double precision"
	" FROM unnest($1) WITH ORDINALITY u (queue, n)"
	" LEFT JOIN @queues q ON q.id = u.queue ORDER BY u.n",
	.nargs = 4, .argtypes = {UUIDARRAYOID, INT8OID, INT8OID, INT8OID}
};

#define OPEN_ALERTS(condition) \
	"SELECT alert, severity, count(*) FROM @alert_history" \
	" WHERE resolved_at IS NULL" condition " GROUP BY 1, 2 ORDER BY 1, 2"
static QsStatement select_alerts = {.sql = OPEN_ALERTS("")};
static QsStatement select_alerts_of_tenant = {
	.sql = OPEN_ALERTS(" AND tenant_id = $1"), .nargs = 1, .argtypes = {UUIDOID}
};

/* What a metric is of: names of labels, and their values. */
typedef struct Labels
{
	int			count;
	const char *name[2];
	const char *value[2];
} Labels;

static Datum
labels_json(const Labels *labels)
{
	JsonbParseState *state = NULL;
	JsonbValue *object;
	JsonbValue	text = {.type = jbvString};

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < labels->count; i++)
	{
		text.val.string.val = unconstify(char *, labels->name[i]);
		text.val.string.len = (int) strlen(labels->name[i]);
		(void) pushJsonbValue(&state, WJB_KEY, &text);
		text.val.string.val = unconstify(char *, labels->value[i]);
		text.val.string.len = (int) strlen(labels->value[i]);
		(void) pushJsonbValue(&state, WJB_VALUE, &text);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(object));
}

/* Counters are named _total, and nothing else is. */
static void
put(FunctionCallInfo fcinfo, const char *name, const char *help, Datum labels,
	double value)
{
	int			length = (int) strlen(name);
	bool		is_counter = length > 6 && strcmp(name + length - 6, "_total") == 0;
	Datum		values[5];
	bool		nulls[5] = {false};

	values[0] = CStringGetTextDatum(psprintf("queue_service_%s", name));
	values[1] = CStringGetTextDatum(is_counter ? "counter" : "gauge");
	values[2] = CStringGetTextDatum(help);
	values[3] = labels;
	values[4] = Float8GetDatum(value);
	qs_put_row(fcinfo, values, nulls);
}

static double
seconds(int64 microseconds)
{
	return microseconds < 0 ? 0 : (double) microseconds / USECS_PER_SEC;
}

static Datum
no_labels(void)
{
	static const Labels none = {0};

	return labels_json(&none);
}

/* What all queues have together. */
static void
put_all(FunctionCallInfo fcinfo, const QsSight *all, int64 shown)
{
	static const char *const names[QS_NRATES][2] = {
		{"enqueued_per_second", "Jobs enqueued a second, in the last one to two minutes."},
		{"claimed_per_second", "Claims a second, in the last one to two minutes."},
		{"completed_per_second", "Jobs completed a second, in the last one to two minutes."},
		{"failed_per_second", "Attempts failed a second, in the last one to two minutes."},
		{"dead_per_second", "Jobs that failed for good a second, in the last one to two minutes."}
	};
	Datum		none = no_labels();

	put(fcinfo, "queues", "Queues that there are.", none, (double) all->queues);
	put(fcinfo, "queues_omitted", "Queues that have no metrics of their own.", none,
		(double) (all->queues - shown));
	put(fcinfo, "depth", "Jobs waiting in all queues.", none, (double) all->depth);
	put(fcinfo, "delayed", "Waiting jobs whose time is still to come.", none,
		(double) all->delayed);
	put(fcinfo, "processing", "Jobs claimed and not finished.", none,
		(double) all->processing);
	put(fcinfo, "oldest_claimable_age_seconds",
		"How long the oldest claimable job has been due.", none, seconds(all->oldest));
	for (int i = 0; i < QS_NRATES; i++)
		put(fcinfo, names[i][0], names[i][1], none, all->rates[i]);
}

/* Claims, and maintenance: of the server, or of the database. */
static void
put_server(FunctionCallInfo fcinfo, QsCall *call)
{
	QsTaskEnd	ends[QS_TASKS_MAX];
	QsCacheStatistics cache;
	TimestampTz last = 0;
	int			failing = 0;
	Datum		none = no_labels();

	qs_cache_statistics(&cache);
	(void) qs_task_log_read(ends);
	for (int i = 0; i < qs_ntasks; i++)
	{
		last = Max(last, ends[i].at);
		failing += ends[i].failures > 0;
	}
	put(fcinfo, "preloaded", "Whether the library is preloaded.", none,
		qs_cache_exists());
	put(fcinfo, "claims_total", "Calls that claimed, or tried to, since the server started.",
		none, (double) cache.claims);
	put(fcinfo, "entries_visited_total", "Index entries that claims looked at, since the server started.",
		none, (double) cache.visited);
	put(fcinfo, "entries_visited_max", "The most index entries that a claim looked at.",
		none, (double) cache.visited_max);
	put(fcinfo, "worker_running", "Whether the background worker of the database runs.",
		none, qs_keeper_pid(QS_WORKER) != 0);
	put(fcinfo, "worker_expected", "Whether queue_service.databases lists the database.",
		none, qs_worker_is_listed());
	put(fcinfo, "maintenance_age_seconds", "How long ago a task of maintenance ended; since the server started, if none has.",
		none, seconds(call->now - Max(last, PgStartTime)));
	put(fcinfo, "tasks_failing", "Tasks of maintenance whose last run failed.", none,
		failing);
}

/* Who holds back vacuum is for the platform, as it may be any tenant's. */
static void
put_horizon(FunctionCallInfo fcinfo, QsCall *call)
{
	QsCulprit	culprit;
	Datum		none = no_labels();

	if (!qs_is_platform(call->cat, call->caller_role))
		return;
	put(fcinfo, "horizon_held_seconds", "For how long somebody has held back vacuum.",
		none, qs_horizon_culprit(call, 0, &culprit) ? culprit.held : 0);
	if (qs_horizon_alert > 0)
		put(fcinfo, "horizon_threshold_seconds", "Threshold of the alert for that.",
			none, qs_horizon_alert);
}

static int64
setting(const char *name)
{
	return strtoll(GetConfigOption(name, false, false), NULL, 10);
}

/* One that is not known is left out. */
static void
put_percentiles(FunctionCallInfo fcinfo, const char *const metrics[3][2],
				Datum labels, const int64 *percentiles)
{
	for (int i = 0; i < 3; i++)
		if (percentiles[i] >= 0)
			put(fcinfo, metrics[i][0], metrics[i][1], labels, seconds(percentiles[i]));
}

static void
put_queue(FunctionCallInfo fcinfo, const QsSight *sight, const QsTexts *thresholds,
		  int row)
{
	static const char *const events[QS_NEVENTS][2] = {
		{"queue_enqueued_total", "Jobs that came, since the server started."},
		{"queue_claimed_total", "Claims, since the server started."},
		{"queue_completed_total", "Jobs completed, since the server started."},
		{"queue_failed_total", "Attempts failed, since the server started."},
		{"queue_dead_total", "Jobs that failed for good, since the server started."},
		{"queue_cancelled_total", "Jobs cancelled, since the server started."}
	};
	static const char *const limits[3][2] = {
		{"queue_depth_threshold", "Waiting jobs that raise an alert."},
		{"queue_age_threshold_seconds", "Age of the oldest claimable job that raises an alert."},
		{"queue_dead_threshold", "Dead letters in an hour that raise an alert."}
	};
	static const char *const waits[3][2] = {
		{"queue_wait_p50_seconds", "Median time from due to claim, in the last one to two minutes."},
		{"queue_wait_p95_seconds", "95th percentile of that time."},
		{"queue_wait_p99_seconds", "99th percentile of that time."}
	};
	static const char *const runs[3][2] = {
		{"queue_run_p50_seconds", "Median time from claim to completion, in the last one to two minutes."},
		{"queue_run_p95_seconds", "95th percentile of that time."},
		{"queue_run_p99_seconds", "99th percentile of that time."}
	};
	Labels		labels = {.count = 2, .name = {"tenant", "queue"}};
	Datum		json;

	labels.value[0] = DatumGetCString(DirectFunctionCall1(uuid_out,
														  UUIDPGetDatum(&sight->tenant)));
	labels.value[1] = sight->name;
	json = labels_json(&labels);
	put(fcinfo, "queue_depth", "Jobs waiting, also delayed and held ones.", json,
		(double) sight->depth);
	put(fcinfo, "queue_delayed", "Waiting jobs whose time is still to come.", json,
		(double) sight->delayed);
	put(fcinfo, "queue_processing", "Jobs claimed and not finished.", json,
		(double) sight->processing);
	put(fcinfo, "queue_oldest_claimable_age_seconds",
		"How long the oldest claimable job has been due.", json, seconds(sight->oldest));
	for (int i = 0; i < QS_NEVENTS; i++)
		put(fcinfo, events[i][0], events[i][1], json, (double) sight->events[i]);
	for (int i = 0; i < 3; i++)
		if (qs_text_at(thresholds, row, i) != NULL)
			put(fcinfo, limits[i][0], limits[i][1], json,
				qs_number_at(thresholds, row, i));
	put_percentiles(fcinfo, waits, json, sight->wait);
	put_percentiles(fcinfo, runs, json, sight->run);
}

static void
put_queues(FunctionCallInfo fcinfo, QsCall *call, const QsSights *queues,
		   int64 shown)
{
	QsTexts		thresholds;
	Datum		args[4] = {
		qs_sights_array(queues, shown, false),
		Int64GetDatum(setting("queue_service.alert_depth")),
		Int64GetDatum(setting("queue_service.alert_age")),
		Int64GetDatum(setting("queue_service.alert_dead"))
	};

	qs_observe(call, &select_thresholds, args, NULL, &thresholds);
	for (int64 i = 0; i < shown; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_queue(fcinfo, &queues->sights[i], &thresholds, (int) i);
	}
}

static void
put_limiters(FunctionCallInfo fcinfo, QsCall *call)
{
	QsTexts		limits;
	Labels		labels = {.count = 2, .name = {"service", "limited_by"}};

	qs_observe_limits(call, &limits);
	for (int i = 0; i < limits.rows; i++)
	{
		Datum		json;

		labels.value[0] = qs_text_at(&limits, i, 0);
		labels.value[1] = qs_text_at(&limits, i, 1);
		json = labels_json(&labels);
		put(fcinfo, "limiter_tokens", "Tokens that there are to take.", json,
			qs_number_at(&limits, i, 2));
		put(fcinfo, "limiter_capacity", "Tokens that the bucket holds.", json,
			qs_number_at(&limits, i, 3));
		put(fcinfo, "limiter_refill_per_second", "Tokens that come a second.", json,
			qs_number_at(&limits, i, 4));
		if (qs_text_at(&limits, i, 7) == NULL)
			continue;
		put(fcinfo, "limiter_permits", "Permits that are out.", json,
			qs_number_at(&limits, i, 6));
		put(fcinfo, "limiter_permits_max", "Permits that may be out.", json,
			qs_number_at(&limits, i, 7));
	}
}

static void
put_alerts(FunctionCallInfo fcinfo, QsCall *call)
{
	QsTexts		alerts;
	Labels		labels = {.count = 2, .name = {"alert", "severity"}};
	Datum		args[1] = {UUIDPGetDatum(&call->tenant)};

	qs_observe(call, call->has_tenant ? &select_alerts_of_tenant : &select_alerts,
			   args, NULL, &alerts);
	for (int i = 0; i < alerts.rows; i++)
	{
		labels.value[0] = qs_text_at(&alerts, i, 0);
		labels.value[1] = qs_text_at(&alerts, i, 1);
		put(fcinfo, "alerts_open", "Alerts that are open.", labels_json(&labels),
			qs_number_at(&alerts, i, 2));
	}
}

/* SQL: queue_monitor(part, max_queues) */
Datum
queue_monitor(PG_FUNCTION_ARGS)
{
	QsCall		call;
	char	   *part = PG_ARGISNULL(0) ? NULL : qs_arg_text(fcinfo, 0, "part", 32);
	int64		shown = qs_arg_int(fcinfo, 1, "max_queues", 0, MAX_QUEUES);
	bool		server = part == NULL || strcmp(part, "server") == 0;
	bool		queues = part == NULL || strcmp(part, "queues") == 0;
	bool		limiters = part == NULL || strcmp(part, "limiters") == 0;
	bool		alerts = part == NULL || strcmp(part, "alerts") == 0;
	QsSights	sights;

	if (!server && !queues && !limiters && !alerts)
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("part must be server, queues, limiters or alerts")));
	qs_begin_read(&call, fcinfo, QS_ANY_TENANT);
	qs_begin_rows(fcinfo);
	if (server || queues)
	{
		qs_observe_queues(&call, &sights);
		qs_sights_order(&sights, qs_sight_by_waiting);
		shown = Min(shown, sights.count);
	}
	if (server)
	{
		put_all(fcinfo, &sights.all, shown);
		put_server(fcinfo, &call);
		put_horizon(fcinfo, &call);
	}
	if (queues)
		put_queues(fcinfo, &call, &sights, shown);
	if (limiters)
		put_limiters(fcinfo, &call);
	if (alerts)
		put_alerts(fcinfo, &call);
	qs_end(&call);
	return (Datum) 0;
}
