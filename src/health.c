/*
 * health.c
 *	  What operators want to know of the claim engine, and of maintenance.
 */
#include "postgres.h"

#include "access/table.h"
#include "announce.h"
#include "bound_tenant.h"
#include "buckets.h"
#include "call.h"
#include "commands/trigger.h"
#include "health.h"
#include "horizon.h"
#include "miscadmin.h"
#include "range_cache.h"
#include "result.h"
#include "ring.h"
#include "stats_table.h"
#include "stats_trigger.h"
#include "task.h"
#include "task_log.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "worker.h"

/* How long ago queue_maintain() may have run last, if there is no worker. */
#define RECENTLY_MS (15 * 60 * 1000)

PG_FUNCTION_INFO_V1(qs_queue_cache);
PG_FUNCTION_INFO_V1(qs_queue_health);

/* SQL: _queue_cache() */
Datum
qs_queue_cache(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCacheStatistics s;
	QsRingStatistics r;
	Datum		values[20];
	bool		nulls[20] = {false};
	int			n = 0;

	qs_cache_statistics(&s);
	qs_ring_statistics(&r);
	values[n++] = Int64GetDatum(s.claims);
	values[n++] = Float8GetDatum(s.claims ? (double) s.visited / s.claims : 0);
	values[n++] = Int64GetDatum(s.visited_p99);
	values[n++] = Int64GetDatum(s.visited_max);
	values[n++] = Int64GetDatum(s.full_scans);
	values[n++] = Int64GetDatum(s.jumps);
	values[n++] = Int64GetDatum(s.published);
	values[n++] = Int64GetDatum(s.refused);
	values[n++] = Int64GetDatum(s.announced);
	values[n++] = Int64GetDatum(s.queues);
	values[n++] = Int64GetDatum(s.queues_max);
	values[n++] = Int64GetDatum(s.evicted);
	values[n++] = Int64GetDatum(s.ranges);
	values[n++] = Int64GetDatum(s.ranges_max);
	values[n++] = Int64GetDatum(s.bytes);
	values[n++] = Int64GetDatum(r.turns);
	values[n++] = Int64GetDatum(r.in_vain);
	values[n++] = Int64GetDatum(r.queues);
	values[n++] = Int64GetDatum(r.queues_max);
	values[n++] = Int64GetDatum(r.bytes);
	return qs_return_row(fcinfo, &desc, values, nulls);
}

/* who is told of the items */
typedef struct Sink
{
	QsHealthFound found;
	void	   *arg;
} Sink;

static void
put(const Sink *sink, const char *item, bool ok, const char *detail)
{
	sink->found(item, ok, detail, sink->arg);
}

/* Whether all that is written into the table is announced. */
static void
put_trigger(const Sink *sink, Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);
	uint64		version = 0;
	bool		found = false;
	char	   *item = psprintf("trigger on %s", RelationGetRelationName(rel));

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (qs_is_announcing(rel, &triggers->triggers[i], &version))
			found = true;
	if (version != 0)
		put(sink, item, true, "queue_announce is enabled ALWAYS");
	else
		put(sink, item, false,
			psprintf("claims walk over rows that they could jump: %s%s",
					 found ? "ALTER TABLE ... ENABLE ALWAYS TRIGGER queue_announce" :
					 "the trigger queue_announce is missing",
					 found ? "" : ", create the extension anew"));
	table_close(rel, AccessShareLock);
}

/* Whether the tasks of maintenance are run, and how they ended last. */
static void
put_tasks(const Sink *sink, const QsCatalog *cat)
{
	QsTaskEnd	ends[QS_TASKS_MAX];
	TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			pid = qs_keeper_pid(QS_WORKER);
	bool		platform = qs_is_platform(cat, GetUserId());

	(void) qs_task_log_read(ends);
	for (int i = 0; i < qs_ntasks; i++)
		last = Max(last, ends[i].at);
	if (pid != 0)
		put(sink, "worker", true, psprintf("process %d", pid));
	else if (last != 0 && !TimestampDifferenceExceeds(last, now, RECENTLY_MS))
		put(sink, "worker", true, "none, but queue_maintain() runs");
	else
		put(sink, "worker", false,
			"none: nothing is deleted, rescued or scheduled; add the database to "
			"queue_service.databases, call queue_worker_start(), or have a "
			"scheduler call queue_maintain()");
	for (int i = 0; i < qs_ntasks; i++)
		if (ends[i].failures > 0)
			put(sink, psprintf("task %s", qs_tasks[i]->name), false,
				psprintf("failed %d times, last at %s%s%s", ends[i].failures,
						 timestamptz_to_str(ends[i].at), platform ? ": " : "",
						 /* it may tell of any tenant */
						 platform ? ends[i].error : ""));
}

/* Whether what queue_stats shows can be exact. */
static void
put_statistics(const Sink *sink, const QsCatalog *cat)
{
	QsStatsUse	use;
	bool		watched = qs_stats_triggers(cat) != 0;

	qs_stats_use(&use);
	put(sink, "statistics", use.refused == 0 && watched,
		psprintf(UINT64_FORMAT " of " UINT64_FORMAT " queues in "
				 UINT64_FORMAT " kB, " UINT64_FORMAT " changes had no room%s%s",
				 use.queues, use.queues_max, use.bytes / 1024, use.refused,
				 use.refused == 0 ? "" : ": raise queue_service.max_statistics",
				 watched ? "" : "; queue_announce, queue_removed or queue_emptied is not enabled ALWAYS"));
}

/* Who holds back VACUUM: for the platform, as it may be any tenant's. */
static void
put_horizon(const Sink *sink, FunctionCallInfo fcinfo)
{
	QsCall		call;
	QsCulprit	culprit;
	bool		found;

	qs_begin_read(&call, fcinfo, QS_NO_TENANT);
	found = qs_horizon_culprit(&call, qs_horizon_alert, &culprit);
	qs_end(&call);
	put(sink, "horizon", !found,
		found ? psprintf("for %.0f seconds %s", culprit.held, culprit.message) :
		psprintf("nobody has held back vacuum for %d seconds", qs_horizon_alert));
}

/* Calls found for each item, as far as the current user may know. */
void
qs_health_look(FunctionCallInfo fcinfo, QsHealthFound found, void *arg)
{
	const QsCatalog *cat = qs_catalog(fcinfo);
	const Sink	target = {found, arg};
	const Sink *sink = &target;

	if (!qs_cache_exists())
		put(sink, "shared memory", false,
			"claims walk over rows that they could jump, and queue_wait() polls: "
			"add queue_service to shared_preload_libraries");
	else
	{
		QsCacheStatistics s;
		QsBucketStatistics b;

		qs_cache_statistics(&s);
		put(sink, "shared memory", true, "the library is preloaded");
		put(sink, "cache", s.evicted == 0,
			psprintf(UINT64_FORMAT " of " UINT64_FORMAT " queues, "
					 UINT64_FORMAT " of " UINT64_FORMAT " ranges, "
					 UINT64_FORMAT " queues evicted%s",
					 s.queues, s.queues_max, s.ranges, s.ranges_max, s.evicted,
					 s.evicted == 0 ? "" : ": raise queue_service.cache_size"));
		qs_buckets_statistics(&b);
		put(sink, "buckets", b.evicted == 0,
			psprintf(UINT64_FORMAT " of " UINT64_FORMAT " token buckets in "
					 UINT64_FORMAT " kB, " UINT64_FORMAT " evicted%s",
					 b.buckets, b.buckets_max, b.bytes / 1024, b.evicted,
					 b.evicted == 0 ? "" : ": raise queue_service.max_buckets"));
		put_statistics(sink, cat);
	}
	put_trigger(sink, cat->table[QS_JOBS]);
	put_trigger(sink, cat->table[QS_CRITICAL_JOBS]);
	put(sink, "tenants", true,
		qs_tenants_are_bound() ?
		"bound: only superusers, and roles with SET on it, set app.current_tenant" :
		"not bound: whoever runs SQL of his own may set app.current_tenant; "
		"see queue_service.bind_tenant");
	put_tasks(sink, cat);
	if (qs_horizon_alert > 0 && qs_is_platform(cat, GetUserId()))
		put_horizon(sink, fcinfo);
}

static void
put_row(const char *item, bool ok, const char *detail, void *arg)
{
	Datum		values[3] = {CStringGetTextDatum(item), BoolGetDatum(ok),
		CStringGetTextDatum(detail)};
	bool		nulls[3] = {false};

	qs_put_row((FunctionCallInfo) arg, values, nulls);
}

/* SQL: _queue_health() */
Datum
qs_queue_health(PG_FUNCTION_ARGS)
{
	qs_begin_rows(fcinfo);
	qs_health_look(fcinfo, put_row, fcinfo);
	return (Datum) 0;
}
