/*
 * due.h
 *	  When a cron expression is due in a time zone.
 *
 * Clocks on walls skip local times and repeat others, at the start and the end
 * of daylight saving time and when a country changes its offset. What holds:
 *
 * - A local time that does not exist is due right after the gap. Several of one
 *	 gap are due once, and a time that is due right after the gap anyway is the
 *	 same.
 * - A local time that exists twice is due the first time only.
 * - An expression that is due in every hour follows the time that passes
 *	 instead: it is due at every local time that it matches, twice at those that
 *	 exist twice, and no time is made up for those that do not exist. So what
 *	 runs each half hour does so across any change.
 *
 * Time zones are PostgreSQL's own, as SET TimeZone takes them by name.
 */
#ifndef QS_DUE_H
#define QS_DUE_H

#include "cron.h"
#include "datatype/timestamp.h"
#include "pgtime.h"

typedef struct QsDue
{
	QsCron		cron;
	pg_tz	   *zone;
	bool		every_hour;
} QsDue;

extern void qs_due_parse(QsDue *due, const char *cron, const char *zone);
extern TimestampTz qs_due_next(const QsDue *due, TimestampTz after);
extern int	qs_due_latest(const QsDue *due, TimestampTz first, TimestampTz last,
						  int max, TimestampTz *times);

#endif							/* QS_DUE_H */
