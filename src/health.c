/*
 * health.c
 *	  What operators want to know of the claim engine.
 */
#include "postgres.h"

#include "fmgr.h"
#include "range_cache.h"
#include "result.h"

PG_FUNCTION_INFO_V1(queue_cache);

/* SQL: queue_cache() */
Datum
queue_cache(PG_FUNCTION_ARGS)
{
	static TupleDesc desc = NULL;
	QsCacheStatistics s;
	Datum		values[14];
	bool		nulls[14] = {false};
	int			n = 0;

	qs_cache_statistics(&s);
	values[n++] = Int64GetDatum(s.claims);
	values[n++] = Float8GetDatum(s.claims ? (double) s.visited / s.claims : 0);
	values[n++] = Int64GetDatum(s.visited_p99);
	values[n++] = Int64GetDatum(s.visited_max);
	values[n++] = Int64GetDatum(s.jumps);
	values[n++] = Int64GetDatum(s.published);
	values[n++] = Int64GetDatum(s.refused);
	values[n++] = Int64GetDatum(s.announced);
	values[n++] = Int64GetDatum(s.heads);
	values[n++] = Int64GetDatum(s.heads_max);
	values[n++] = Int64GetDatum(s.evicted);
	values[n++] = Int64GetDatum(s.ranges);
	values[n++] = Int64GetDatum(s.ranges_max);
	values[n++] = Int64GetDatum(s.bytes);
	return qs_return_row(fcinfo, &desc, values, nulls);
}
