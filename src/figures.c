/*
 * figures.c
 *	  Numbers as people read them: see figures.h.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "figures.h"
#include "lib/stringinfo.h"

/* A number in few characters: 0.25, 17, 1.5k, 23M. */
const char *
qs_number_text(double number)
{
	static const char *const units[] = {"", "k", "M", "G", "T"};
	int			unit = 0;

	while (number >= 999.5 && unit < (int) lengthof(units) - 1)
	{
		number /= 1000;
		unit++;
	}
	if (unit == 0 && number > 0 && number < 0.01)
		return "<0.01";
	return psprintf("%.*g%s", number >= 99.5 ? 3 : 2, number, units[unit]);
}

/* A count with all of its digits: 1,234,567. */
const char *
qs_count_text(int64 count)
{
	char	   *digits = psprintf(INT64_FORMAT, count);
	int			length = (int) strlen(digits);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
			appendStringInfoChar(&text, ',');
		appendStringInfoChar(&text, digits[i]);
	}
	return text.data;
}

/* A duration in few characters: 250 us, 1.2 s, 3 min, 2 h, 5 d. */
const char *
qs_seconds_text(double seconds)
{
	static const struct
	{
		double		below;		/* seconds */
		double		unit;
		const char *name;
	}			units[] = {
		{1e-3, 1e-6, "us"}, {1, 1e-3, "ms"}, {60, 1, "s"},
		{3600, 60, "min"}, {86400, 3600, "h"}, {0, 86400, "d"}
	};
	int			i = 0;

	if (seconds <= 0)
		return "0 s";
	while (i < (int) lengthof(units) - 1 && seconds >= units[i].below)
		i++;
	seconds /= units[i].unit;
	return psprintf("%.*g %s", seconds >= 99.5 ? 3 : 2, seconds, units[i].name);
}

/* The same of microseconds; negative ones are not known. */
const char *
qs_duration_text(int64 microseconds)
{
	return microseconds < 0 ? "-" :
		qs_seconds_text((double) microseconds / USECS_PER_SEC);
}
