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
 *	 What there is of a queue is what queue_stats says, not what its row does.
 *	 NOTIFY tells that something was raised or resolved, and nothing more: any
 *	 role may listen, of whichever tenant.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "horizon.h"
#include "miscadmin.h"
#include "resume.h"
#include "statement.h"
#include "stats.h"
#include "stats_trigger.h"
#include "task.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "worker.h"

#define CHANNEL "queue_service_alerts"

/* Queues that one run looks at. */
#define BATCH 1000
/* What counts as below a threshold. */
#define BELOW 0.8
/* How long a worker may take to come after the server has started. */
#define WORKER_MS (60 * 1000)

/* GUCs, for queues that have no threshold of their own; 0: none */
static int	alert_depth = 0;
static int	alert_age = 0;		/* seconds */
static int	alert_dead = 0;

/* kinds of alerts of queues */
typedef enum Kind
{
	DEPTH,
	AGE,
	DEAD,
	NKINDS
} Kind;

static const struct
{
	const char *alert;
	const char *message;		/* with the name of the queue */
}			kinds[NKINDS] = {
	{"depth", "too many jobs wait in queue \"%s\": "
	"add workers, or see whether jobs fail and come back"},
	{"age", "a job of queue \"%s\" waits for too long: "
	"see whether workers claim from it, and add some"},
	{"dead", "too many jobs of queue \"%s\" fail for good: "
	"see last_error in dead_letter_jobs, and queue_redrive() them when it is repaired"}
};

/*
 * The next queues: whether they are paused, and have open alerts; thresholds by
 * kind; and their dead letters of the last hour, counted as far as the threshold.
 */
static QsStatement select_queues = {
	.sql = "SELECT " QS_STATS_COLUMNS ", paused, (tenant_id, id) IN"
	" (SELECT tenant_id, queue_id FROM @alert_history"
	" WHERE resolved_at IS NULL AND queue_id IS NOT NULL),"
	" coalesce(alert_depth, nullif($4, 0))::double precision,"
	" coalesce(extract(epoch FROM alert_age), nullif($5, 0))::double precision,"
	" coalesce(alert_dead, nullif($6, 0))::double precision,"
	" CASE WHEN coalesce(alert_dead, nullif($6, 0)) IS NOT NULL THEN"
	" (SELECT count(*) FROM (SELECT FROM @dead_letter_jobs d"
	" WHERE d.tenant_id = q.tenant_id AND d.queue_id = q.id"
	" AND d.died_at > $3 - interval '1 hour' AND d.died_at <= $3"
	" LIMIT coalesce(alert_dead, nullif($6, 0))) d)::double precision END"
	" FROM @queues q WHERE id > $1 ORDER BY id LIMIT $2",
	.nargs = 6, .argtypes = {UUIDOID, INT8OID, TIMESTAMPTZOID, INT8OID,
		INT8OID, INT8OID}
};

/* the columns behind those of the statistics */
enum
{
	PAUSED = QS_STATS_NCOLUMNS + 1,
	OPEN,
	THRESHOLD,					/* of the first kind */
	DEATHS = THRESHOLD + NKINDS
};

static QsStatement raise_queues = {
	.sql = "INSERT INTO @alert_history (tenant_id, queue_id, alert, message,"
	" value, threshold, raised_at) SELECT u.*, $7 FROM unnest($1, $2, $3, $4,"
	" $5, $6) u ON CONFLICT DO NOTHING",
	.nargs = 7, .argtypes = {UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
		TEXTARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, TIMESTAMPTZOID}
};
static QsStatement resolve_queues = {
	.sql = "UPDATE @alert_history a SET resolved_at = $4"
	" FROM unnest($1, $2, $3) u (tenant, queue, alert)"
	" WHERE a.tenant_id = u.tenant AND a.queue_id = u.queue"
	" AND a.alert = u.alert AND a.resolved_at IS NULL",
	.nargs = 4, .argtypes = {UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
		TIMESTAMPTZOID}
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

/* alerts to raise, or to resolve, in columns */
typedef struct Alerts
{
	int			count;
	Datum		tenants[BATCH * NKINDS];
	Datum		queues[BATCH * NKINDS];
	Datum		alerts[BATCH * NKINDS];
	Datum		messages[BATCH * NKINDS];
	Datum		values[BATCH * NKINDS];
	Datum		thresholds[BATCH * NKINDS];
} Alerts;

/* what a run found */
typedef struct Found
{
	Alerts		raised;
	Alerts		resolved;
} Found;

/* What there is of a kind; NULL is below any threshold. */
typedef struct Value
{
	double		number;
	bool		isnull;
} Value;

static Value
result_value(int row, int column)
{
	Value		value;
	Datum		number = qs_result(row, column, &value.isnull);

	value.number = value.isnull ? 0 : DatumGetFloat8(number);
	return value;
}

static bool
result_is_true(int row, int column)
{
	bool		isnull;
	Datum		value = qs_result(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* What there is of a queue. Paused, it hands out nothing on purpose. */
static Value
measure(Kind kind, int row, const QsStats *stats, TimestampTz now)
{
	Value		value = {0};

	switch (kind)
	{
		case DEPTH:
			value.number = (double) stats->depth;
			break;
		case AGE:
			value.isnull = stats->oldest_claimable_at == 0 ||
				result_is_true(row, PAUSED);
			value.number = (double) (now - stats->oldest_claimable_at) / USECS_PER_SEC;
			break;
		default:
			value = result_value(row, DEATHS);
	}
	return value;
}

static void
add(Alerts *alerts, Kind kind, int row, double value, double threshold)
{
	int			i = alerts->count++;
	bool		isnull;
	char	   *name = TextDatumGetCString(qs_result(row, 3, &isnull));

	alerts->tenants[i] = qs_result(row, 2, &isnull);
	alerts->queues[i] = qs_result(row, 1, &isnull);
	alerts->alerts[i] = CStringGetTextDatum(kinds[kind].alert);
	alerts->messages[i] = CStringGetTextDatum(psprintf(kinds[kind].message, name));
	alerts->values[i] = Float8GetDatum(value);
	alerts->thresholds[i] = Float8GetDatum(threshold);
}

/* What is not raised need not be open to be resolved. */
static void
judge(Found *found, int row, const QsStats *stats, TimestampTz now)
{
	bool		open = result_is_true(row, OPEN);

	for (Kind kind = 0; kind < NKINDS; kind++)
	{
		Value		threshold = result_value(row, THRESHOLD + kind);
		Value		value = measure(kind, row, stats, now);
		bool		known = !value.isnull && !threshold.isnull;

		if (known && value.number >= threshold.number)
			add(&found->raised, kind, row, value.number, threshold.number);
		else if (open && (!known || value.number < threshold.number * BELOW))
			add(&found->resolved, kind, row, 0, 0);
	}
}

static Datum
make_array(Datum *values, int count, Oid type)
{
	int16		length;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &length, &byval, &align);
	return PointerGetDatum(construct_array(values, count, type, length, byval,
										   align));
}

static uint64
raise_found(QsCall *call, Alerts *alerts)
{
	int			n = alerts->count;
	Datum		args[7] = {
		make_array(alerts->tenants, n, UUIDOID),
		make_array(alerts->queues, n, UUIDOID),
		make_array(alerts->alerts, n, TEXTOID),
		make_array(alerts->messages, n, TEXTOID),
		make_array(alerts->values, n, FLOAT8OID),
		make_array(alerts->thresholds, n, FLOAT8OID),
		TimestampTzGetDatum(call->now)
	};

	return n == 0 ? 0 :
		qs_execute(&raise_queues, call, SPI_OK_INSERT, args, NULL, 0);
}

static uint64
resolve_found(QsCall *call, Alerts *alerts)
{
	int			n = alerts->count;
	Datum		args[4] = {
		make_array(alerts->tenants, n, UUIDOID),
		make_array(alerts->queues, n, UUIDOID),
		make_array(alerts->alerts, n, TEXTOID),
		TimestampTzGetDatum(call->now)
	};

	return n == 0 ? 0 :
		qs_execute(&resolve_queues, call, SPI_OK_UPDATE, args, NULL, 0);
}

/* Looks at the queues after one, which becomes the last that was looked at. */
static void
watch_queues(QsTaskRun *run, pg_uuid_t *after)
{
	QsCall	   *call = run->call;
	Datum		args[6] = {
		UUIDPGetDatum(after), Int64GetDatum(BATCH),
		TimestampTzGetDatum(call->now), Int64GetDatum(alert_depth),
		Int64GetDatum(alert_age), Int64GetDatum(alert_dead)
	};
	uint64		triggers = qs_stats_exist() ? qs_stats_triggers(call->cat) : 0;
	Found	   *found;
	int			count;

	qs_connect();
	found = palloc(sizeof(Found));
	found->raised.count = found->resolved.count = 0;
	count = (int) qs_execute(&select_queues, call, SPI_OK_SELECT, args, NULL, 0);
	for (int i = 0; i < count; i++)
	{
		QsStats		stats;

		CHECK_FOR_INTERRUPTS();
		qs_stats_of_row(call, triggers, i, &stats);
		judge(found, i, &stats, call->now);
		*after = stats.queue;
	}
	run->done += resolve_found(call, &found->resolved);
	run->done += raise_found(call, &found->raised);
	SPI_finish();
	run->more = count == BATCH;
	if (!run->more)
		memset(after, 0, sizeof(*after));
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

/* Some of the queues; the server once for all of them. */
static void
watch(QsTaskRun *run)
{
	static const pg_uuid_t none;
	pg_uuid_t	after = qs_resume_after(QS_WALK_ALERTS);

	if (memcmp(&after, &none, UUID_LEN) == 0)
		run->done += watch_horizon(run->call) + watch_worker(run->call);
	watch_queues(run, &after);
	qs_resume_note_after(QS_WALK_ALERTS, &after);
	if (run->done > 0)
		Async_Notify(CHANNEL, NULL);
}

const QsTask qs_task_alerts = {.name = "alerts", .period = 30, .run = watch};
