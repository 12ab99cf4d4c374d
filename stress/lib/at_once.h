/*
 * at_once.h
 *	  How many of some intervals there were at the same time.
 *
 * An interval that ends when another begins was before it.
 */
#ifndef AT_ONCE_H
#define AT_ONCE_H

#include <stdbool.h>

typedef struct Event
{
	double		time;
	int			change;			/* 1 or -1 */
} Event;

/* Writes two events, or none if the interval is empty; returns the next place. */
extern Event *note_interval(Event *events, double from, double until);
extern int	most_events(Event *events, int count);

/* Prints a line; returns 1 if the check failed. */
extern int	report(const char *check, bool ok, double value);

#endif							/* AT_ONCE_H */
