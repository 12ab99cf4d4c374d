/*
 * observe.c
 *	  What there is to see of queues and tenants: see observe.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "figures.h"
#include "miscadmin.h"
#include "observe.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Services that are shown. */
#define LIMITS "50"

/* Queues whose workers are shown, and how many of their first jobs are read. */
#define WORKED_QUEUES 10
#define WORKED_JOBS "1000"

/*
 * Buckets, as queue_rate_peek() has them: of all services for the platform; for
 * a tenant its own, and those of the services that its queues name.
 */
#define LIMITS_OF(names) \
	"SELECT n.name, p.limited_by, p.tokens, p.max_tokens, p.refill_per_second," \
	" extract(epoch FROM p.next_token_in), p.permits_out, p.max_concurrent" \
	" FROM (SELECT name FROM (" names ") n (name) ORDER BY name LIMIT " LIMITS ") n," \
	" LATERAL @queue_rate_peek(n.name) p ORDER BY 1, 2"
static QsStatement select_limits = {
	.sql = LIMITS_OF("SELECT service_name FROM @rate_limiters")
};
static QsStatement select_limits_of_tenant = {
	.sql = LIMITS_OF("SELECT name FROM @rate_limits WHERE tenant_id = $1"
					 " UNION SELECT service_name FROM @rate_limiters"
					 " WHERE service_name IN (SELECT unnest(ARRAY[rate_limiter,"
					 " enqueue_limiter]) FROM @queues WHERE tenant_id = $1)"),
	.nargs = 1, .argtypes = {UUIDOID}
};

/*
 * Workers, by the leases that stand among the first jobs of some queues: there
 * is no index by worker, and jobs that run stand before those that wait.
 */
#define LEASED(table) \
	"SELECT leased_by, leased_at, leased_until FROM (SELECT status, leased_by," \
	" leased_at, leased_until FROM @" table " j WHERE j.queue_id = u.queue" \
	" AND finished_at IS NULL AND NOT held ORDER BY priority DESC, run_at, id" \
	" LIMIT " WORKED_JOBS ") j WHERE status = 'processing'"
static QsStatement select_workers = {
	.sql = "SELECT coalesce(leased_by, '(no name)'), count(*),"
	" count(*) FILTER (WHERE leased_until <= $2),"
	" extract(epoch FROM greatest($2 - min(leased_at), '0'))"
	" FROM unnest($1) u (queue), LATERAL (" LEASED("critical_jobs")
	" UNION ALL " LEASED("jobs") ") j"
	" GROUP BY leased_by ORDER BY 2 DESC, 1 LIMIT 20",
	.nargs = 2, .argtypes = {UUIDARRAYOID, TIMESTAMPTZOID}
};

static void
set_percentiles(int64 *percentiles, const QsHistogram *histogram)
{
	percentiles[0] = qs_histogram_percentile(histogram, 50);
	percentiles[1] = qs_histogram_percentile(histogram, 95);
	percentiles[2] = qs_histogram_percentile(histogram, 99);
}

/* Adds what there is in one to another, but for percentiles. */
void
qs_sight_add(QsSight *sum, const QsSight *sight)
{
	sum->queues += sight->queues;
	sum->depth += sight->depth;
	sum->delayed += sight->delayed;
	sum->processing += sight->processing;
	sum->oldest = Max(sum->oldest, sight->oldest);
	sum->rated |= sight->rated;
	for (int i = 0; i < QS_NRATES; i++)
		sum->rates[i] += sight->rates[i];
	for (int i = 0; i < QS_NEVENTS; i++)
		sum->events[i] += sight->events[i];
	sum->dead += sight->dead;
}

/* Nothing, to add to. */
void
qs_sight_clear(QsSight *sight)
{
	memset(sight, 0, sizeof(*sight));
	sight->oldest = -1;
	for (int i = 0; i < 3; i++)
		sight->wait[i] = sight->run[i] = -1;
}

/* One of its rates; "-" where they are not known. */
const char *
qs_sight_rate_text(const QsSight *sight, QsRated rate)
{
	return sight->rated ? qs_number_text(sight->rates[rate]) : "-";
}

static QsSight *
append(QsSights *sights)
{
	if (sights->count == sights->room)
	{
		sights->room = Max(2 * sights->room, 64);
		sights->sights = sights->sights == NULL ?
			MemoryContextAllocHuge(sights->memory, sights->room * sizeof(QsSight)) :
			repalloc_huge(sights->sights, sights->room * sizeof(QsSight));
	}
	qs_sight_clear(&sights->sights[sights->count]);
	return &sights->sights[sights->count++];
}

static void
begin(QsSights *sights)
{
	memset(sights, 0, sizeof(*sights));
	sights->memory = CurrentMemoryContext;
	qs_sight_clear(&sights->all);
}

static void
found(const QsQueueNow *queue, TimestampTz now, void *arg)
{
	QsSights   *sights = arg;
	QsSight    *sight = append(sights);
	const QsStats *stats = &queue->stats;
	MemoryContext caller;

	sight->tenant = stats->tenant;
	sight->queue = stats->queue;
	caller = MemoryContextSwitchTo(sights->memory);
	sight->name = TextDatumGetCString(queue->name);
	MemoryContextSwitchTo(caller);
	sight->queues = 1;
	sight->depth = stats->depth;
	sight->delayed = stats->delayed;
	sight->processing = stats->processing;
	if (stats->oldest_claimable_at != 0)
		sight->oldest = Max(now - stats->oldest_claimable_at, 0);
	sight->rated = queue->rated;
	memcpy(sight->rates, queue->rates, sizeof(sight->rates));
	/*
	 * Where there is memory: since the entry was made. Totals would go back by
	 * what a crash loses of them.
	 */
	memcpy(sight->events, queue->view.state == QS_STATS_NONE ? stats->totals :
		   queue->view.counts.events, sizeof(sight->events));
	sight->dead = stats->totals[QS_DIED];
	set_percentiles(sight->wait, &queue->wait);
	set_percentiles(sight->run, &queue->run);
	qs_histogram_merge(&sights->wait, &queue->wait);
	qs_histogram_merge(&sights->run, &queue->run);
	qs_sight_add(&sights->all, sight);
}

/* All queues, in no order, and what they are together. */
void
qs_observe_queues(QsCall *call, QsSights *queues)
{
	begin(queues);
	qs_histogram_clear(&queues->wait);
	qs_histogram_clear(&queues->run);
	qs_stats_walk(call, found, queues);
	set_percentiles(queues->all.wait, &queues->wait);
	set_percentiles(queues->all.run, &queues->run);
}

static int
by_tenant(const void *a, const void *b)
{
	return memcmp(&((const QsSight *) a)->tenant, &((const QsSight *) b)->tenant,
				  UUID_LEN);
}

/* The queues' tenants, in no order. */
void
qs_observe_tenants(const QsSights *queues, QsSights *tenants)
{
	QsSights	sorted = *queues;
	QsSight    *last = NULL;

	begin(tenants);
	if (queues->count == 0)
		return;
	sorted.sights = MemoryContextAllocHuge(CurrentMemoryContext,
										   queues->count * sizeof(QsSight));
	memcpy(sorted.sights, queues->sights, queues->count * sizeof(QsSight));
	qs_sights_order(&sorted, by_tenant);
	for (int64 i = 0; i < sorted.count; i++)
	{
		if (last == NULL || by_tenant(last, &sorted.sights[i]) != 0)
		{
			last = append(tenants);
			last->tenant = sorted.sights[i].tenant;
		}
		qs_sight_add(last, &sorted.sights[i]);
	}
	tenants->all = queues->all;
	pfree(sorted.sights);
}

/* The greater first. */
static int
compare(double a, double b)
{
	return a > b ? -1 : a < b;
}

int
qs_sight_by_waiting(const void *a, const void *b)
{
	const QsSight *x = a;
	const QsSight *y = b;
	int			order = compare((double) (x->depth + x->processing),
								(double) (y->depth + y->processing));

	if (order == 0)
		order = compare(x->rates[QS_RATE_CLAIMED], y->rates[QS_RATE_CLAIMED]);
	return order != 0 ? order : memcmp(&x->queue, &y->queue, UUID_LEN);
}

int
qs_sight_by_load(const void *a, const void *b)
{
	const QsSight *x = a;
	const QsSight *y = b;
	int			order = compare(x->rates[QS_RATE_CLAIMED],
								y->rates[QS_RATE_CLAIMED]);

	if (order == 0)
		order = compare((double) x->processing, (double) y->processing);
	if (order == 0)
		order = compare((double) x->depth, (double) y->depth);
	return order != 0 ? order : memcmp(&x->tenant, &y->tenant, UUID_LEN);
}

int
qs_sight_by_deaths(const void *a, const void *b)
{
	const QsSight *x = a;
	const QsSight *y = b;
	int			order = compare((double) x->dead, (double) y->dead);

	return order != 0 ? order : memcmp(&x->queue, &y->queue, UUID_LEN);
}

void
qs_sights_order(QsSights *sights, QsSightOrder order)
{
	if (sights->count > 1)
		qsort(sights->sights, sights->count, sizeof(QsSight), order);
}

/* The ids of the first ones, or their tenants', as an array. */
Datum
qs_sights_array(const QsSights *sights, int64 count, bool tenants)
{
	Datum	   *ids = palloc(Max(count, 1) * sizeof(Datum));

	count = Min(count, sights->count);
	for (int64 i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(tenants ? &sights->sights[i].tenant :
							   &sights->sights[i].queue);
	return PointerGetDatum(construct_array(ids, (int) count, UUIDOID, UUID_LEN,
										   false, TYPALIGN_CHAR));
}

/* Copies the rows of the last statement into memory, as text. Within SPI. */
void
qs_texts_copy(MemoryContext memory, QsTexts *texts)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	TupleDesc	desc = SPI_tuptable->tupdesc;

	texts->rows = (int) SPI_processed;
	texts->columns = desc->natts;
	texts->cells = palloc0(Max(texts->rows * texts->columns, 1) * sizeof(char *));
	for (int row = 0; row < texts->rows; row++)
		for (int i = 0; i < texts->columns; i++)
			texts->cells[row * texts->columns + i] =
				SPI_getvalue(SPI_tuptable->vals[row], desc, i + 1);
	MemoryContextSwitchTo(caller);
}

/* Runs a query that finds few rows, and keeps them as text. */
void
qs_observe(QsCall *call, QsStatement *statement, Datum *args, const char *nulls,
		   QsTexts *texts)
{
	MemoryContext memory = CurrentMemoryContext;

	qs_connect();
	(void) qs_read(statement, call, args, nulls, 0);
	qs_texts_copy(memory, texts);
	SPI_finish();
}

/* A cell, counted from 0; NULL for null. */
const char *
qs_text_at(const QsTexts *texts, int row, int column)
{
	return texts->cells[row * texts->columns + column];
}

/* The same as a number; 0 for null. */
double
qs_number_at(const QsTexts *texts, int row, int column)
{
	const char *cell = qs_text_at(texts, row, column);

	return cell == NULL ? 0 : strtod(cell, NULL);
}

/*
 * Token buckets: name, limited_by, tokens, max_tokens, refill_per_second,
 * seconds until the next token, permits_out, max_concurrent.
 */
void
qs_observe_limits(QsCall *call, QsTexts *texts)
{
	Datum		args[1] = {UUIDPGetDatum(&call->tenant)};

	qs_observe(call, call->has_tenant ? &select_limits_of_tenant : &select_limits,
			   args, NULL, texts);
}

/*
 * Workers with leases of the first queues of the list: worker, leases, those
 * that have expired, seconds since the oldest was claimed.
 */
void
qs_observe_workers(QsCall *call, const QsSights *queues, QsTexts *texts)
{
	Datum		args[2] = {
		qs_sights_array(queues, WORKED_QUEUES, false),
		TimestampTzGetDatum(call->now)
	};

	qs_observe(call, &select_workers, args, NULL, texts);
}
