/*
 * cron.c
 *	  Parses cron expressions, and finds the times that they match: see cron.h.
 */
#include <stddef.h>
#include <string.h>

#include "cron.h"

#define HOUR INT64_C(60)
#define DAY (24 * HOUR)

typedef struct Field
{
	const char *name;
	int			min;
	int			max;			/* of a weekday, with 7 for Sunday */
	const char *names;			/* three letters each, the first for min */
} Field;

static const Field fields[QS_CRON_NFIELDS] = {
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of the month", 1, 31, ""},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"day of the week", 0, 7, "sunmontuewedthufrisat"}
};

static const struct
{
	const char *name;
	const char *expression;
}			shorthands[] = {
	{"@hourly", "0 * * * *"},
	{"@daily", "0 0 * * *"},
	{"@midnight", "0 0 * * *"},
	{"@weekly", "0 0 * * 0"},
	{"@monthly", "0 0 1 * *"},
	{"@yearly", "0 0 1 1 *"},
	{"@annually", "0 0 1 1 *"}
};

#define NSHORTHANDS ((int) (sizeof(shorthands) / sizeof(shorthands[0])))

/* The letters of ASCII, whatever the locale. */
static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return lower(c) >= 'a' && lower(c) <= 'z';
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_end(char c)
{
	return c == '\0' || is_space(c);
}

static bool
has(uint64_t set, int value)
{
	return (set >> value & 1) != 0;
}

/* Whether text begins with this word, and what follows is the end of a field. */
static bool
is_word(const char *text, const char *word)
{
	for (; *word != '\0'; text++, word++)
		if (lower(*text) != *word)
			return false;
	return is_end(*text);
}

/* Reads a number; what is too large for any field becomes 1000. */
static int
take_number(const char **text)
{
	int			number = 0;

	for (; is_digit(**text); (*text)++)
	{
		number = number * 10 + (**text - '0');
		if (number > 1000)
			number = 1000;
	}
	return number;
}

/* Reads a name of the field; -1 if it has none such. */
static int
take_name(const char **text, const Field *field)
{
	const char *c = *text;

	if (!is_letter(c[0]) || !is_letter(c[1]) || !is_letter(c[2]) ||
		is_letter(c[3]))
		return -1;
	for (int i = 0; field->names[i] != '\0'; i += 3)
		if (lower(c[0]) == field->names[i] &&
			lower(c[1]) == field->names[i + 1] &&
			lower(c[2]) == field->names[i + 2])
		{
			*text += 3;
			return field->min + i / 3;
		}
	return -1;
}

/* Reads a number or a name of the field. Returns the reason why not, or NULL. */
static const char *
take_value(const char **text, const Field *field, int *value)
{
	if (is_digit(**text))
	{
		*value = take_number(text);
		return *value >= field->min && *value <= field->max ? NULL :
			"a value is out of range";
	}
	if (!is_letter(**text))
		return "a value is missing";
	*value = take_name(text, field);
	return *value >= 0 ? NULL : "a name is unknown";
}

/* Reads what stands between two commas into the set. */
static const char *
take_item(const char **text, const Field *field, uint64_t *set)
{
	int			from = field->min;
	int			to = field->max;
	int			step = 1;
	bool		single = false;
	const char *reason;

	if (**text == '*')
		(*text)++;
	else
	{
		reason = take_value(text, field, &from);
		if (reason != NULL)
			return reason;
		single = **text != '-';
		if (!single)
		{
			bool		is_name;

			(*text)++;
			is_name = is_letter(**text);
			reason = take_value(text, field, &to);
			if (reason != NULL)
				return reason;
			/* fri-sun */
			if (to < from && is_name && to == 0)
				to = 7;
			if (to < from)
				return "a range ends before it begins";
		}
	}
	if (**text == '/')
	{
		(*text)++;
		if (!is_digit(**text))
			return "a step is missing";
		step = take_number(text);
		if (step == 0 || step > field->max)
			return "a step is out of range";
	}
	else if (single)
		to = from;
	/* no field has values above 59 */
	for (int value = from; value <= to; value += step)
		/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
		*set |= UINT64_C(1) << value;
	return NULL;
}

/* Reads a field up to its end. */
static const char *
take_field(const char **text, QsCronField number, QsCron *cron)
{
	const char *reason;

	for (;;)
	{
		if (number == QS_CRON_DAY && lower(**text) == 'l')
		{
			(*text)++;
			cron->last_day = true;
		}
		else
		{
			reason = take_item(text, &fields[number], &cron->set[number]);
			if (reason != NULL)
				return reason;
		}
		if (**text != ',')
			break;
		(*text)++;
	}
	return is_end(**text) ? NULL : "what follows a value is not understood";
}

static int
longest_month(int month)
{
	return month == 2 ? 29 : month == 4 || month == 6 || month == 9 ||
		month == 11 ? 30 : 31;
}

/* Whether any day of any year matches. */
static bool
matches_ever(const QsCron *cron)
{
	/* each date falls on each day of the week in some year */
	if (cron->last_day || !cron->both_days)
		return true;
	for (int month = 1; month <= 12; month++)
		if (has(cron->set[QS_CRON_MONTH], month))
			for (int day = 1; day <= longest_month(month); day++)
				if (has(cron->set[QS_CRON_DAY], day))
					return true;
	return false;
}

/* Parses an expression; false and why, if it is not valid. */
bool
qs_cron_parse(const char *text, QsCron *cron, QsCronError *error)
{
	bool		restricted[QS_CRON_NFIELDS];

	memset(cron, 0, sizeof(*cron));
	error->field = NULL;
	error->reason = NULL;
	while (is_space(*text))
		text++;
	if (*text == '@')
	{
		int			i = 0;

		while (i < NSHORTHANDS && !is_word(text, shorthands[i].name))
			i++;
		if (i == NSHORTHANDS)
		{
			error->reason = "the shorthand is unknown";
			return false;
		}
		text += strlen(shorthands[i].name);
		while (is_space(*text))
			text++;
		if (*text != '\0')
		{
			error->reason = "something follows the shorthand";
			return false;
		}
		text = shorthands[i].expression;
	}

	for (int i = 0; i < QS_CRON_NFIELDS; i++)
	{
		if (*text == '\0')
		{
			error->reason = "there are fewer than five fields";
			return false;
		}
		restricted[i] = *text != '*';
		error->reason = take_field(&text, (QsCronField) i, cron);
		if (error->reason != NULL)
		{
			error->field = fields[i].name;
			return false;
		}
		while (is_space(*text))
			text++;
	}
	if (*text != '\0')
	{
		error->reason = "there are more than five fields";
		return false;
	}

	if (has(cron->set[QS_CRON_WEEKDAY], 7))
		cron->set[QS_CRON_WEEKDAY] |= 1;
	cron->both_days = !restricted[QS_CRON_DAY] || !restricted[QS_CRON_WEEKDAY];
	if (!matches_ever(cron))
	{
		error->reason = "none of its months has such a day";
		return false;
	}
	return true;
}

/* Whether it is due in every hour of a day on which it is due. */
bool
qs_cron_every_hour(const QsCron *cron)
{
	return cron->set[QS_CRON_HOUR] == (UINT64_C(1) << 24) - 1;
}

static int64_t
floor_divide(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/*
 * The date of a day, counted from 2000-01-01. Counts years from 1 March 2000,
 * so that the leap day is the last one of its year and of its century.
 */
static void
date_of(int64_t day, int64_t *year, int *month, int *mday)
{
	int64_t		era = floor_divide(day - 60, 146097);
	int64_t		rest = day - 60 - era * 146097;
	int64_t		y = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
	int			m;

	rest -= 365 * y + y / 4 - y / 100;
	m = (int) (5 * rest + 2) / 153;
	*mday = (int) rest - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = 2000 + era * 400 + y + (m >= 10);
}

/* The day of the first of a month. */
static int64_t
day_of(int64_t year, int month)
{
	int64_t		y = year - 2000 - (month <= 2);
	int64_t		era = floor_divide(y, 400);
	int64_t		yoe = y - era * 400;
	int			m = month > 2 ? month - 3 : month + 9;

	return 60 + era * 146097 + 365 * yoe + yoe / 4 - yoe / 100 +
		(153 * m + 2) / 5;
}

static int
days_in(int64_t year, int month)
{
	if (month == 2 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
		return 28;
	return longest_month(month);
}

/* Whether the day that begins a month, and so many before mday, matches. */
static bool
day_matches(const QsCron *cron, int64_t first, int mday, int length)
{
	/* 2000-01-01 was a Saturday */
	int64_t		weeks = floor_divide(first + mday - 1 + 6, 7);
	int			weekday = (int) (first + mday - 1 + 6 - weeks * 7);
	bool		by_month = has(cron->set[QS_CRON_DAY], mday) ||
		(cron->last_day && mday == length);
	bool		by_week = has(cron->set[QS_CRON_WEEKDAY], weekday);

	return cron->both_days ? by_month && by_week : by_month || by_week;
}

/* The first day from this one on that matches. */
static int64_t
next_day(const QsCron *cron, int64_t day)
{
	int64_t		year;
	int			month;
	int			mday;

	date_of(day, &year, &month, &mday);
	/* ends: qs_cron_parse() saw to it that there is a day */
	for (;;)
	{
		if (has(cron->set[QS_CRON_MONTH], month))
		{
			int64_t		first = day_of(year, month);
			int			length = days_in(year, month);

			for (; mday <= length; mday++)
				if (day_matches(cron, first, mday, length))
					return first + mday - 1;
		}
		mday = 1;
		if (++month > 12)
		{
			month = 1;
			year++;
		}
	}
}

/* The first value of the set from this one on; -1 if there is none. */
static int
next_in(uint64_t set, int from)
{
	for (int value = from; value < 64; value++)
		if (has(set, value))
			return value;
	return -1;
}

/*
 * The first local minute after this one that a parsed expression matches. It
 * is at most 40 years away, as 29 February is on a given day of the week
 * around 2100.
 */
int64_t
qs_cron_next(const QsCron *cron, int64_t after)
{
	int64_t		start = after + 1;
	int64_t		today = floor_divide(start, DAY);
	int64_t		day = next_day(cron, today);
	int			first_minute = next_in(cron->set[QS_CRON_MINUTE], 0);

	if (day == today)
	{
		int			time = (int) (start - today * DAY);
		int			hour = next_in(cron->set[QS_CRON_HOUR], time / HOUR);
		int			minute = first_minute;

		if (hour == time / HOUR)
		{
			minute = next_in(cron->set[QS_CRON_MINUTE], time % HOUR);
			if (minute < 0)
			{
				hour = next_in(cron->set[QS_CRON_HOUR], hour + 1);
				minute = first_minute;
			}
		}
		if (hour >= 0)
			return day * DAY + hour * HOUR + minute;
		day = next_day(cron, day + 1);
	}
	return day * DAY + next_in(cron->set[QS_CRON_HOUR], 0) * HOUR + first_minute;
}
