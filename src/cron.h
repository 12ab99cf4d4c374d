/*
 * cron.h
 *	  Cron expressions: five fields, and the times that they match.
 *
 * Pure arithmetic on local minutes, with nothing of PostgreSQL in it, so that
 * it can be tested and fuzzed alone (fuzz/cron.c). A local minute counts from
 * 2000-01-01 00:00 of a clock on a wall, by the Gregorian calendar. What clocks
 * on walls skip and repeat is the matter of due.c.
 *
 * A field is a list of values, of ranges a-b and of *, each with or without a
 * step /n. What holds:
 *
 * - A value with a step, a/n, is a range up to the field's end.
 * - Sunday is 0 and 7, and its name may end a range: fri-sun.
 * - L in the day of the month is the last day of any month.
 * - If both days are restricted, a day matches that one of them matches. A field
 *	 that begins with * does not restrict: then both must match, as in the
 *	 cron of Vixie, so every second day of the month that is a Monday can be
 *	 said.
 * - An expression that no day ever matches, such as 30 February, is an error.
 */
#ifndef QS_CRON_H
#define QS_CRON_H

#include <stdbool.h>
#include <stdint.h>

typedef enum QsCronField
{
	QS_CRON_MINUTE,
	QS_CRON_HOUR,
	QS_CRON_DAY,
	QS_CRON_MONTH,
	QS_CRON_WEEKDAY,
	QS_CRON_NFIELDS
} QsCronField;

typedef struct QsCron
{
	uint64_t	set[QS_CRON_NFIELDS];	/* bit n: the value n matches */
	bool		last_day;		/* the day of the month has L */
	bool		both_days;		/* a day must match both fields for days */
} QsCron;

/* why an expression is refused */
typedef struct QsCronError
{
	const char *field;			/* NULL: the matter is no single field */
	const char *reason;			/* a clause, without full stop */
} QsCronError;

extern bool qs_cron_parse(const char *text, QsCron *cron, QsCronError *error);
extern int64_t qs_cron_next(const QsCron *cron, int64_t after);
extern bool qs_cron_every_hour(const QsCron *cron);

#endif							/* QS_CRON_H */
