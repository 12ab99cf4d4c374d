/*
 * clock.h
 *	  Time that does not jump, in seconds.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <math.h>
#include <time.h>

#define NEVER HUGE_VAL

static inline double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

#endif							/* CLOCK_H */
