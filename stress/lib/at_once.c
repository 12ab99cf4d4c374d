/*
 * at_once.c
 *	  How many of some intervals there were at the same time: see at_once.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "at_once.h"

static int
compare_events(const void *a, const void *b)
{
	const Event *first = a;
	const Event *second = b;

	if (first->time != second->time)
		return first->time < second->time ? -1 : 1;
	return first->change - second->change;
}

Event *
note_interval(Event *events, double from, double until)
{
	if (until <= from)
		return events;
	events[0] = (Event) {from, 1};
	events[1] = (Event) {until, -1};
	return events + 2;
}

/* Sorts the events; the most of their intervals at once. */
int
most_events(Event *events, int count)
{
	int			at_once = 0;
	int			most = 0;

	qsort(events, count, sizeof(Event), compare_events);
	for (int i = 0; i < count; i++)
	{
		at_once += events[i].change;
		most = at_once > most ? at_once : most;
	}
	return most;
}

int
report(const char *check, bool ok, double value)
{
	printf("%-50s %s (%.4g)\n", check, ok ? "ok" : "FAILED", value);
	return !ok;
}
