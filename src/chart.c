/*
 * chart.c
 *	  A chart of lines over time: see chart.h.
 */
#include "postgres.h"

#include <math.h>

#include "chart.h"
#include "figures.h"
#include "html.h"
#include "pgtime.h"
#include "utils/timestamp.h"

/* the drawing, and what is around its axes */
#define WIDTH 360
#define HEIGHT 190
#define LEFT 48
#define RIGHT 12
#define TOP 8
#define BOTTOM 24

#define MAX_TICKS 16

/* the axis of values */
typedef struct Axis
{
	QsChartScale scale;
	double		least;
	double		most;
	int			ticks;
	double		tick[MAX_TICKS];
} Axis;

/* Durations that are good to mark. */
static const double durations[] = {
	1e-4, 1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000, 8640000
};

/* The least and the greatest value of all lines; false if there is none. */
static bool
find_extent(const QsChart *chart, const QsSeries *series, double *least,
			double *most)
{
	bool		any = false;

	*least = *most = 0;
	for (int i = 0; i < chart->lines; i++)
		for (int point = 0; point < series->points; point++)
		{
			double		value = series->value[chart->line[i]][point];

			if (isnan(value))
				continue;
			*least = any ? Min(*least, value) : value;
			*most = any ? Max(*most, value) : value;
			any = true;
		}
	return any;
}

/* From 0 in up to five steps of 1, 2 or 5 times a power of ten. */
static void
lay_out_linear(Axis *axis, double most)
{
	double		step = 1;

	if (axis->scale == QS_SCALE_RATE && most > 0)
		step = pow(10, floor(log10(most)) - 1);
	for (int i = 0; most > 4 * step; i++)
		step *= i % 3 == 1 ? 2.5 : 2;
	axis->least = 0;
	for (axis->ticks = 0; axis->ticks < MAX_TICKS; axis->ticks++)
	{
		axis->tick[axis->ticks] = axis->most = axis->ticks * step;
		if (axis->most >= most && axis->ticks > 0)
			break;
	}
	axis->ticks++;
}

static void
lay_out_durations(Axis *axis, double least, double most)
{
	int			first = 0;
	int			last;
	int			each;

	while (first < (int) lengthof(durations) - 2 && durations[first + 1] <= least)
		first++;
	last = first + 1;
	while (last < (int) lengthof(durations) - 1 && durations[last] < most)
		last++;
	each = (last - first) / 5 + 1;
	axis->least = durations[first];
	axis->most = durations[last];
	axis->ticks = 0;
	for (int i = first; i <= last; i += each)
		axis->tick[axis->ticks++] = durations[i];
}

static double
x_of(const QsSeries *series, TimestampTz time)
{
	double		all = Max(1, series->points - 1) * (double) series->step;

	return LEFT + (WIDTH - LEFT - RIGHT) * (time - series->start) / all;
}

static double
y_of(const Axis *axis, double value)
{
	double		part = (value - axis->least) / (axis->most - axis->least);

	if (axis->scale == QS_SCALE_SECONDS)
		part = log(Max(value, axis->least) / axis->least) /
			log(axis->most / axis->least);
	return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * Min(part, 1);
}

static const char *
value_text(QsChartScale scale, double value)
{
	if (isnan(value))
		return "-";
	return scale == QS_SCALE_SECONDS ? qs_seconds_text(value) :
		scale == QS_SCALE_COUNT ? qs_number_text(rint(value)) : qs_number_text(value);
}

/* A time in the session's zone, to the minute. */
const char *
qs_chart_time(TimestampTz time, bool with_day)
{
	struct pg_tm tm;
	fsec_t		fraction;
	int			zone;

	if (timestamp2tm(time, &zone, &tm, &fraction, NULL, NULL) != 0)
		return "-";
	return with_day ?
		psprintf("%04d-%02d-%02d %02d:%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
				 tm.tm_hour, tm.tm_min) :
		psprintf("%02d:%02d", tm.tm_hour, tm.tm_min);
}

/* Microseconds that the session's zone is ahead at a time. */
static int64
zone_offset(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fraction;
	int			zone = 0;

	(void) timestamp2tm(time, &zone, &tm, &fraction, NULL, NULL);
	return -zone * USECS_PER_SEC;
}

/* What is marked on the axis of time: at most five times, at full hours or so. */
static void
put_times(StringInfo out, const QsSeries *series)
{
	static const int minutes[] = {
		1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400, 43200
	};
	TimestampTz end = series->start + (series->points - 1) * series->step;
	int64		offset = zone_offset(end);
	TimestampTz time;
	int64		step;
	int			i = 0;

	while (i < (int) lengthof(minutes) - 1 &&
		   (end - series->start) / (minutes[i] * USECS_PER_MINUTE) >= 5)
		i++;
	step = minutes[i] * USECS_PER_MINUTE;
	time = series->start + offset;
	time += (step - time % step) % step - offset;
	for (; time <= end; time += step)
	{
		double		x = x_of(series, time);
		const char *text = qs_chart_time(time, true);

		/* the day, if that is what changes; else the time of day */
		text += minutes[i] >= 1440 ? 5 : 11;
		if (x < LEFT + 8 || x > WIDTH - RIGHT - 4)
			continue;
		qs_html(out, "<path class=\"grid\" d=\"M%f,%dv%d\"/>"
				"<text x=\"%f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
				x, HEIGHT - BOTTOM, 4, x, HEIGHT - 6,
				minutes[i] >= 1440 ? pnstrdup(text, 5) : text);
	}
}

static void
put_axes(StringInfo out, const Axis *axis, const QsSeries *series)
{
	for (int i = 0; i < axis->ticks; i++)
	{
		double		y = y_of(axis, axis->tick[i]);

		qs_html(out, "<path class=\"%s\" d=\"M%d,%fH%d\"/>"
				"<text x=\"%d\" y=\"%f\" text-anchor=\"end\">%s</text>",
				i == 0 ? "axis" : "grid", LEFT, y, WIDTH - RIGHT,
				LEFT - 6, y + 4,
				axis->scale == QS_SCALE_COUNT ? qs_number_text(axis->tick[i]) :
				value_text(axis->scale, axis->tick[i]));
	}
	put_times(out, series);
}

/* A line, broken where nothing is known; a lone point is a dot. */
static void
put_line(StringInfo out, const Axis *axis, const QsSeries *series,
		 const double *values, int number)
{
	bool		open = false;

	qs_html(out, "<path class=\"line s%d\" d=\"", number);
	for (int point = 0; point < series->points; point++)
	{
		if (!isnan(values[point]))
			qs_html(out, open ? "L%f,%f" : "M%f,%fh0",
					x_of(series, series->start + point * series->step),
					y_of(axis, values[point]));
		open = !isnan(values[point]);
	}
	qs_html(out, "\"/>");
}

/* The last value that is known; NaN if none is. */
static double
last_value(const QsSeries *series, QsLine line)
{
	int			point = series->points - 1;

	while (point > 0 && isnan(series->value[line][point]))
		point--;
	return series->value[line][point];
}

static void
put_legend(StringInfo out, const QsChart *chart, const QsSeries *series)
{
	qs_html(out, "<ul class=\"legend\">");
	for (int i = 0; i < chart->lines; i++)
		qs_html(out, "<li><svg width=\"22\" height=\"8\" aria-hidden=\"true\">"
				"<path class=\"line s%d\" d=\"M1,4H21\"/></svg>%s"
				" <b>%s</b></li>", i + 1, chart->name[i],
				value_text(chart->scale, last_value(series, chart->line[i])));
	qs_html(out, "</ul>");
}

static void
put_table(StringInfo out, const QsChart *chart, const QsSeries *series)
{
	qs_html(out, "<details><summary>Table<span class=\"sr\"> of %s</span></summary>"
			"<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">"
			"<table><thead><tr><th scope=\"col\">Time</th>",
			chart->title, chart->title);
	for (int i = 0; i < chart->lines; i++)
		qs_html(out, "<th scope=\"col\" class=\"n\">%s</th>", chart->name[i]);
	qs_html(out, "</tr></thead><tbody>");
	for (int point = series->points - 1; point >= 0; point--)
	{
		qs_html(out, "<tr><th scope=\"row\">%s</th>",
				qs_chart_time(series->start + point * series->step, true));
		for (int i = 0; i < chart->lines; i++)
			qs_html(out, "<td class=\"n\">%s</td>",
					value_text(chart->scale, series->value[chart->line[i]][point]));
		qs_html(out, "</tr>\n");
	}
	qs_html(out, "</tbody></table></div></details>");
}

/* What a screen reader says: the last value of each line, and the greatest. */
static void
put_description(StringInfo out, const QsChart *chart, const QsSeries *series)
{
	qs_html(out, "<desc id=\"%s-d\">%s to %s.", chart->id,
			qs_chart_time(series->start, true),
			qs_chart_time(series->start + (series->points - 1) * series->step, true));
	for (int i = 0; i < chart->lines; i++)
	{
		const double *values = series->value[chart->line[i]];
		double		most = values[0];

		for (int point = 1; point < series->points; point++)
			if (isnan(most) || values[point] > most)
				most = values[point];
		qs_html(out, " %s: last %s, at most %s.", chart->name[i],
				value_text(chart->scale, last_value(series, chart->line[i])),
				value_text(chart->scale, most));
	}
	qs_html(out, "</desc>");
}

void
qs_chart(StringInfo out, const QsChart *chart, const QsSeries *series)
{
	Axis		axis = {.scale = chart->scale};
	double		least;
	double		most;

	qs_html(out, "<figure><figcaption><h3>%s</h3> <span>%s</span></figcaption>",
			chart->title, chart->unit);
	if (!find_extent(chart, series, &least, &most))
	{
		qs_html(out, "<p class=\"none\">No samples yet.</p></figure>\n");
		return;
	}
	if (chart->scale == QS_SCALE_SECONDS)
		lay_out_durations(&axis, least, most);
	else
		lay_out_linear(&axis, most);
	put_legend(out, chart, series);
	qs_html(out, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\""
			" aria-labelledby=\"%s-t %s-d\"><title id=\"%s-t\">%s, %s</title>",
			WIDTH, HEIGHT, chart->id, chart->id, chart->id, chart->title,
			chart->unit);
	put_description(out, chart, series);
	put_axes(out, &axis, series);
	for (int i = chart->lines; i > 0; i--)
		put_line(out, &axis, series, series->value[chart->line[i - 1]], i);
	qs_html(out, "</svg>");
	put_table(out, chart, series);
	qs_html(out, "</figure>\n");
}
