/*
 * cron.c
 *	  Checks src/cron.c against a model that looks at every minute.
 *
 * The input is a program (programs.h), which writes an expression: mostly a
 * valid one, of which it also says what it means. The first byte may instead
 * have the rest taken as an expression as it is.
 */
#include <string.h>

#include "cron.h"

#define PROGRAM_BYTES 200
#include "programs.h"

#define YEAR (366 * 1440)

typedef struct Model
{
	bool		matches[QS_CRON_NFIELDS][64];
	bool		last_day;
	bool		star[QS_CRON_NFIELDS];	/* begins with it */
} Model;

static const int lowest[QS_CRON_NFIELDS] = {0, 0, 1, 1, 0};
static const int highest[QS_CRON_NFIELDS] = {59, 23, 31, 12, 7};
static const char *const months[] = {
	"jan", "Feb", "MAR", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nOv", "dec"
};
static const char *const weekdays[] = {"sun", "mon", "TUE", "wed", "thu", "Fri", "sat"};

static char text[4096];
static Model model;

static void
add(const char *more)
{
	size_t		length = strlen(text);

	snprintf(text + length, sizeof(text) - length, "%s", more);
}

static void
add_number(int field, int number)
{
	char		digits[16];

	if (field == QS_CRON_MONTH && take_byte(3) == 0)
		add(months[number - 1]);
	else if (field == QS_CRON_WEEKDAY && number < 7 && take_byte(3) == 0)
		add(weekdays[number]);
	else
	{
		snprintf(digits, sizeof(digits), take_byte(8) == 0 ? "%02d" : "%d", number);
		add(digits);
	}
}

static int
some_value(int field)
{
	return lowest[field] + take_byte(highest[field] - lowest[field] + 1);
}

static void
add_item(int field)
{
	int			from = lowest[field];
	int			to = highest[field];
	int			kind = take_byte(8);
	int			step = 1;

	if (field == QS_CRON_DAY && kind == 7)
	{
		add(take_byte(2) == 0 ? "L" : "l");
		model.last_day = true;
		return;
	}
	if (kind < 2)
	{
		add("*");
		model.star[field] |= text[strlen(text) - 1] == '*' &&
			(strlen(text) == 1 || text[strlen(text) - 2] == ' ');
	}
	else if (kind < 5)
	{
		from = some_value(field);
		add_number(field, from);
	}
	else
	{
		to = some_value(field);
		from = some_value(field);
		if (to < from)
		{
			int			swap = from;

			from = to;
			to = swap;
		}
		add_number(field, from);
		add("-");
		/* at the end of a range a name is the Sunday after */
		if (field == QS_CRON_WEEKDAY && to == 7 && from > 0 && take_byte(2) == 0)
			add("sun");
		else if (field == QS_CRON_WEEKDAY && to == 0)
			add("0");
		else
			add_number(field, to);
	}
	if (take_byte(3) == 0)
	{
		char		digits[16];

		step = 1 + take_byte(highest[field]);
		snprintf(digits, sizeof(digits), "/%d", step);
		add(digits);
	}
	else if (kind >= 2 && kind < 5)
		to = from;
	for (int value = from; value <= to; value += step)
		model.matches[field][value] = true;
}

static void
write_expression(void)
{
	text[0] = '\0';
	memset(&model, 0, sizeof(model));
	for (int field = 0; field < QS_CRON_NFIELDS; field++)
	{
		if (field > 0)
			add(" ");
		/* most expressions have more stars than chance would give */
		if (take_byte(3) == 0)
		{
			add("*");
			model.star[field] = true;
			for (int value = lowest[field]; value <= highest[field]; value++)
				model.matches[field][value] = true;
			continue;
		}
		do
		{
			add_item(field);
			if (take_byte(4) != 0 || strlen(text) > sizeof(text) - 100)
				break;
			add(",");
		} while (true);
	}
	if (model.matches[QS_CRON_WEEKDAY][7])
		model.matches[QS_CRON_WEEKDAY][0] = true;
}

/* The days from 2000-01-01 on, for longer than any program comes. */
#define DAYS 130000

typedef struct Day
{
	int			year;
	int			month;
	int			day;
	int			weekday;
} Day;

static Day	days[DAYS];

static int
month_length(const Day *day)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			year = day->year;

	return lengths[day->month - 1] +
		(day->month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
}

static void
count_days(void)
{
	Day			day = {2000, 1, 1, 6};

	if (days[0].year != 0)
		return;
	for (int i = 0; i < DAYS; i++)
	{
		days[i] = day;
		day.weekday = (day.weekday + 1) % 7;
		if (++day.day > month_length(&day))
		{
			day.day = 1;
			if (++day.month > 12)
			{
				day.month = 1;
				day.year++;
			}
		}
	}
}

static bool
day_matches(const Day *day)
{
	bool		by_month = model.matches[QS_CRON_DAY][day->day] ||
		(model.last_day && day->day == month_length(day));
	bool		by_week = model.matches[QS_CRON_WEEKDAY][day->weekday];

	if (!model.matches[QS_CRON_MONTH][day->month])
		return false;
	return model.star[QS_CRON_DAY] || model.star[QS_CRON_WEEKDAY] ?
		by_month && by_week : by_month || by_week;
}

/* The next match of the model; -1 if there is none in ten years. */
static int64_t
model_next(int64_t after)
{
	int64_t		first = (after + 1) / 1440;

	CHECK(first + 3660 < DAYS);
	for (int64_t day = first; day < first + 3660; day++)
	{
		if (!day_matches(&days[day]))
			continue;
		for (int minute = 0; minute < 1440; minute++)
			if (day * 1440 + minute > after &&
				model.matches[QS_CRON_HOUR][minute / 60] &&
				model.matches[QS_CRON_MINUTE][minute % 60])
				return day * 1440 + minute;
	}
	return -1;
}

/* What is not valid has a reason; what is has a next time. */
static void
take_as_it_is(void)
{
	QsCron		cron;
	QsCronError error;
	size_t		length = 0;

	while (input_left > 0 && length < sizeof(text) - 1)
		text[length++] = (char) take_byte(256);
	text[length] = '\0';
	if (qs_cron_parse(text, &cron, &error))
	{
		CHECK(error.field == NULL && error.reason == NULL);
		CHECK(qs_cron_next(&cron, 0) > 0);
	}
	else
		CHECK(error.reason != NULL);
}

static void
run_program(void)
{
	QsCron		cron;
	QsCronError error;
	int64_t		time;

	if (take_byte(4) == 0)
	{
		take_as_it_is();
		return;
	}
	count_days();
	write_expression();
	time = (int64_t) take_byte(256) * 1440 * 200 + take_byte(256) * 61;
	if (!qs_cron_parse(text, &cron, &error))
	{
		CHECK(error.field == NULL && error.reason != NULL);
		CHECK(model_next(time) == -1);
		return;
	}
	for (step = 0; step < 4; step++)
	{
		int64_t		next = qs_cron_next(&cron, time);
		int64_t		expected = model_next(time);

		CHECK(next > time && next - time <= INT64_C(41) * YEAR);
		CHECK(expected >= 0 ? next == expected : next > time + INT64_C(9) * YEAR);
		time = next + (take_byte(2) == 0 ? 0 : take_byte(256) * 97);
	}
	/* a year before Christ is a year, and so is one long to come */
	CHECK(qs_cron_next(&cron, INT64_C(-2500) * YEAR) > INT64_C(-2500) * YEAR);
	CHECK(qs_cron_next(&cron, INT64_C(290000) * YEAR) > INT64_C(290000) * YEAR);
	/* 400 years are 146,097 days, which are whole weeks */
	CHECK(qs_cron_next(&cron, time + INT64_C(146097) * 1440) ==
		  qs_cron_next(&cron, time) + INT64_C(146097) * 1440);
	CHECK(qs_cron_next(&cron, time - INT64_C(146097) * 1440 * 7) ==
		  qs_cron_next(&cron, time) - INT64_C(146097) * 1440 * 7);
}
