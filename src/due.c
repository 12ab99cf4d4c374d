/*
 * due.c
 *	  When a cron expression is due in a time zone: see due.h.
 *
 * A time zone is a sequence of periods, in each of which local time runs
 * along with UTC at one offset. A search goes through them from a while before
 * the time that it begins at, as it must know what the period before was.
 */
#include "postgres.h"

#include "due.h"
#include "errors.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

/* longer than any local time was ever repeated for, by a change of date */
#define LOOK_BACK (INT64CONST(2) * SECS_PER_DAY)

/* PostgreSQL's epoch in seconds of Unix */
#define EPOCH \
	((pg_time_t) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/* in seconds of UTC since 2000-01-01; offset is what local time is ahead */
typedef struct Period
{
	int64		end;			/* of the period; INT64 maximum: none */
	int64		offset;
	int64		repeated;		/* local times before this one were before */
} Period;

/*
 * Parses both. Raises QS_ARGUMENT_INVALID if one is not valid; what they are
 * is not shown.
 */
void
qs_due_parse(QsDue *due, const char *cron, const char *zone)
{
	QsCronError error;

	if (!qs_cron_parse(cron, &due->cron, &error))
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("the cron expression is not valid"),
				 error.field ?
				 errdetail("In the field for the %s %s.", error.field, error.reason) :
				 errdetail("%c%s.", pg_toupper(error.reason[0]), error.reason + 1)));
	due->zone = pg_tzset(zone);
	if (due->zone == NULL || !pg_tz_acceptable(due->zone))
		ereport(ERROR,
				(errcode(QS_ARGUMENT_INVALID),
				 errmsg("the time zone is unknown"),
				 errhint("The view pg_timezone_names has their names.")));
	due->every_hour = qs_cron_every_hour(&due->cron);
}

static int64
floor_divide(int64 a, int64 b)
{
	return a / b - (a % b < 0);
}

/* The period that the time is in, as if there were none before. */
static void
first_period(const QsDue *due, int64 time, Period *period)
{
	pg_time_t	from = (pg_time_t) time + EPOCH;
	pg_time_t	boundary;
	long		before;
	long		after;
	int			before_isdst;
	int			after_isdst;
	int			found = pg_next_dst_boundary(&from, &before, &before_isdst,
											 &boundary, &after, &after_isdst,
											 due->zone);

	if (found < 0)
		elog(ERROR, "could not find the offset of a time zone");
	period->offset = before;
	period->end = found > 0 ? (int64) (boundary - EPOCH) : PG_INT64_MAX;
	period->repeated = PG_INT64_MIN;
}

static void
next_period(const QsDue *due, Period *period)
{
	int64		start = period->end;
	int64		local_end = start + period->offset;

	first_period(due, start, period);
	period->repeated = local_end;
}

/* The first local minute from this second on that matches, in seconds. */
static int64
next_local(const QsDue *due, int64 from)
{
	return qs_cron_next(&due->cron,
						floor_divide(from - 1, SECS_PER_MINUTE)) * SECS_PER_MINUTE;
}

/* The first time after this one when it is due. */
TimestampTz
qs_due_next(const QsDue *due, TimestampTz after)
{
	int64		from = floor_divide(after, USECS_PER_SEC) + 1;
	Period		period;

	first_period(due, from - LOOK_BACK, &period);
	while (period.end < from)
		next_period(due, &period);
	for (;;)
	{
		int64		local = from + period.offset;
		int64		end = period.end;

		CHECK_FOR_INTERRUPTS();
		if (!due->every_hour && local < period.repeated)
			local = period.repeated;
		local = next_local(due, local);
		/* without an end, there is nothing after it */
		if (end == PG_INT64_MAX || local < end + period.offset)
			return (local - period.offset) * USECS_PER_SEC;
		next_period(due, &period);
		/* what would be due in the gap, if there is one */
		if (!due->every_hour && local < end + period.offset)
			return end * USECS_PER_SEC;
		from = end;
	}
}

/*
 * The latest times, at most max, of those from first to last: first itself, and
 * when it is due after that. Oldest first; returns their number.
 *
 * Looks back from last in ever longer steps, so that the work is bounded by max
 * and not by how long ago first is.
 */
int
qs_due_latest(const QsDue *due, TimestampTz first, TimestampTz last, int max,
			  TimestampTz *times)
{
	int64		count;
	TimestampTz *ring = palloc(max * sizeof(TimestampTz));

	for (int64 span = USECS_PER_HOUR;; span *= 2)
	{
		bool		all = span > last - first;
		TimestampTz time = all ? first : qs_due_next(due, last - span);

		for (count = 0; time <= last; time = qs_due_next(due, time))
			ring[count++ % max] = time;
		if (all || count >= max)
			break;
	}
	if (count < max)
		max = (int) count;
	for (int i = 0; i < max; i++)
		times[i] = ring[(count - max + i) % max];
	pfree(ring);
	return max;
}
