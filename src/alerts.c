/*
 * alerts.c
 *	  The task that raises and resolves alerts.
 *
 * Invariants:
 *	 A queue has at most one open alert of a kind, and the server of each kind of
 *	 its own; a unique index says so. To raise is to insert a row of
 *	 alert_history, to resolve is to set its resolved_at; nothing else changes
 *	 but the message, if who is to blame has changed.
 *	 What is raised at a threshold is resolved below 80 % of it, or when there is
 *	 no threshold any more. In between nothing happens, so nothing flaps.
 *	 Messages name the queue, never anything of a job.
 *	 NOTIFY tells that something was raised or resolved, and nothing more: any
 *	 role may listen, of whichever tenant.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "horizon.h"
#include "miscadmin.h"
#include "statement.h"
#include "task.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "worker.h"

#define CHANNEL "queue_service_alerts"

/* Alerts that one run raises, and resolves, at most. */
#define BATCH 1000
/* What counts as below a threshold. */
#define BELOW 0.8
#define BELOW_SQL "0.8"
/* How long a worker may take to come after the server has started. */
#define WORKER_MS (60 * 1000)

/* GUCs, for queues that have no threshold of their own; 0: none */
static int	alert_depth = 0;
static int	alert_age = 0;		/* seconds */
static int	alert_dead = 0;

/*
 * What there is of each queue, and its threshold. A paused queue hands out
 * nothing on purpose, so what waits there is not too old. Dead letters are
 * counted as far as the threshold.
 */
#define MEASURED \
	"(SELECT q.tenant_id, q.id AS queue_id, q.name, m.alert, m.value," \
	" m.threshold FROM @queues q, LATERAL (VALUES" \
	" ('depth', q.depth::double precision," \
	" coalesce(q.alert_depth, nullif($2, 0))::double precision)," \
	" ('age', CASE WHEN NOT q.paused THEN" \
	" extract(epoch FROM $1 - q.oldest_claimable_at)::double precision END," \
	" coalesce(extract(epoch FROM q.alert_age), nullif($3, 0))::double precision)," \
	" ('dead', CASE WHEN coalesce(q.alert_dead, nullif($4, 0)) IS NOT NULL THEN" \
	" (SELECT count(*) FROM (SELECT FROM @dead_letter_jobs d" \
	" WHERE d.tenant_id = q.tenant_id AND d.queue_id = q.id" \
	" AND d.died_at > $1 - interval '1 hour' AND d.died_at <= $1" \
	" LIMIT coalesce(q.alert_dead, nullif($4, 0))) d)::double precision END," \
	" coalesce(q.alert_dead, nullif($4, 0))::double precision)" \
	") m (alert, value, threshold))"

#define MEASURED_TYPES TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID

static QsStatement raise_queues = {
	.sql = "INSERT INTO @alert_history (tenant_id, queue_id, alert, message,"
	" value, threshold, raised_at)"
	" SELECT m.tenant_id, m.queue_id, m.alert, format(CASE m.alert"
	" WHEN 'depth' THEN 'too many jobs wait in queue \"%s\":"
	" add workers, or see whether jobs fail and come back'"
	" WHEN 'age' THEN 'a job of queue \"%s\" waits for too long:"
	" see whether workers claim from it, and add some'"
	" ELSE 'too many jobs of queue \"%s\" fail for good:"
	" see last_error in dead_letter_jobs, and queue_redrive() them when it is"
	" repaired' END, m.name), m.value, m.threshold, $1"
	" FROM " MEASURED " m WHERE m.value >= m.threshold"
	" AND NOT EXISTS (SELECT FROM @alert_history a"
	" WHERE a.tenant_id = m.tenant_id AND a.queue_id = m.queue_id"
	" AND a.alert = m.alert AND a.resolved_at IS NULL)"
	" LIMIT $5 ON CONFLICT DO NOTHING",
	.nargs = 5, .argtypes = {MEASURED_TYPES, INT8OID}
};
static QsStatement resolve_queues = {
	.sql = "WITH o AS MATERIALIZED (SELECT a.id FROM @alert_history a JOIN "
	MEASURED " m ON a.tenant_id = m.tenant_id AND a.queue_id = m.queue_id"
	" AND a.alert = m.alert WHERE a.resolved_at IS NULL AND"
	" (m.threshold IS NULL OR m.value IS NULL OR"
	" m.value < m.threshold * " BELOW_SQL ") LIMIT $5)"
	" UPDATE @alert_history SET resolved_at = $1"
	" WHERE id = ANY (ARRAY(SELECT id FROM o))",
	.nargs = 5, .argtypes = {MEASURED_TYPES, INT8OID}
};

/* the same for an alert of the server */
static QsStatement raise_server = {
	.sql = "INSERT INTO @alert_history AS a (tenant_id, alert, message, value,"
	" threshold, raised_at) VALUES (NULL, $1, $2, $3, $4, $5)"
	" ON CONFLICT (tenant_id, queue_id, alert) WHERE resolved_at IS NULL"
	" DO UPDATE SET message = excluded.message"
	" WHERE a.message <> excluded.message",
	.nargs = 5,
	.argtypes = {TEXTOID, TEXTOID, FLOAT8OID, FLOAT8OID, TIMESTAMPTZOID}
};
static QsStatement tell_server = {
	.sql = "UPDATE @alert_history SET message = $2 WHERE tenant_id IS NULL"
	" AND queue_id IS NULL AND alert = $1 AND resolved_at IS NULL"
	" AND message <> $2",
	.nargs = 2, .argtypes = {TEXTOID, TEXTOID}
};
static QsStatement resolve_server = {
	.sql = "UPDATE @alert_history SET resolved_at = $2 WHERE tenant_id IS NULL"
	" AND queue_id IS NULL AND alert = $1 AND resolved_at IS NULL",
	.nargs = 2, .argtypes = {TEXTOID, TIMESTAMPTZOID}
};

void
qs_alerts_init(void)
{
	DefineCustomIntVariable("queue_service.alert_depth",
							"Alerts when so many jobs wait in a queue.",
							"For queues without alert_depth. 0 turns that off.",
							&alert_depth, 0, 0, PG_INT32_MAX, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue_service.alert_age",
							"Alerts when a job has been claimable for this long.",
							"For queues without alert_age. 0 turns that off.",
							&alert_age, 0, 0, PG_INT32_MAX, PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue_service.alert_dead",
							"Alerts when so many jobs of a queue fail for good in an hour.",
							"For queues without alert_dead. 0 turns that off.",
							&alert_dead, 0, 0, PG_INT32_MAX, PGC_SUSET, 0,
							NULL, NULL, NULL);
	qs_horizon_init();
}

static void
watch_queues(QsTaskRun *run)
{
	Datum		args[5] = {
		TimestampTzGetDatum(run->call->now), Int64GetDatum(alert_depth),
		Int64GetDatum(alert_age), Int64GetDatum(alert_dead), Int64GetDatum(BATCH)
	};
	uint64		resolved;
	uint64		raised;

	qs_connect();
	resolved = qs_execute(&resolve_queues, run->call, SPI_OK_UPDATE, args, NULL, 0);
	raised = qs_execute(&raise_queues, run->call, SPI_OK_INSERT, args, NULL, 0);
	SPI_finish();
	run->done += resolved + raised;
	run->more = resolved == BATCH || raised == BATCH;
}

/* How many rows a statement about an alert of the server wrote. */
static int64
write_server(QsStatement *statement, QsCall *call, int expected, Datum *args)
{
	int64		written;

	qs_connect();
	written = (int64) qs_execute(statement, call, expected, args, NULL, 0);
	SPI_finish();
	return written;
}

static int64
raise_alert(QsCall *call, const char *alert, const char *message, double value,
			double threshold)
{
	Datum		args[5] = {
		CStringGetTextDatum(alert), CStringGetTextDatum(message),
		Float8GetDatum(value), Float8GetDatum(threshold),
		TimestampTzGetDatum(call->now)
	};

	return write_server(&raise_server, call, SPI_OK_INSERT, args);
}

static int64
resolve_alert(QsCall *call, const char *alert)
{
	Datum		args[2] = {
		CStringGetTextDatum(alert), TimestampTzGetDatum(call->now)
	};

	return write_server(&resolve_server, call, SPI_OK_UPDATE, args);
}

static int64
watch_horizon(QsCall *call)
{
	double		threshold = qs_horizon_alert;
	QsCulprit	culprit;

	if (threshold > 0 && qs_horizon_culprit(call, threshold, &culprit))
		return raise_alert(call, "horizon", culprit.message, culprit.held,
						   threshold);
	if (threshold > 0 && qs_horizon_culprit(call, threshold * BELOW, &culprit))
	{
		Datum		args[2] = {
			CStringGetTextDatum("horizon"), CStringGetTextDatum(culprit.message)
		};

		(void) write_server(&tell_server, call, SPI_OK_UPDATE, args);
		return 0;
	}
	return resolve_alert(call, "horizon");
}

/* Whoever runs this is no worker, if there is none. */
static int64
watch_worker(QsCall *call)
{
	if (qs_keeper_pid(QS_WORKER) == 0 && qs_worker_is_listed() &&
		TimestampDifferenceExceeds(PgStartTime, call->now, WORKER_MS))
		return raise_alert(call, "worker",
						   "no background worker runs in this database, though "
						   "queue_service.databases lists it: see the server's "
						   "log, and max_worker_processes", 0, 1);
	return resolve_alert(call, "worker");
}

static void
watch(QsTaskRun *run)
{
	watch_queues(run);
	run->done += watch_horizon(run->call);
	run->done += watch_worker(run->call);
	if (run->done > 0)
		Async_Notify(CHANNEL, NULL);
}

const QsTask qs_task_alerts = {.name = "alerts", .period = 30, .run = watch};
