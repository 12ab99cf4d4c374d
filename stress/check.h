/*
 * check.h
 *	  What self_test.c and counters.c need of check.c.
 */
#ifndef CHECK_H
#define CHECK_H

#include "stress.h"

typedef enum Check
{
	CHECK_LOST,
	CHECK_GHOST,
	CHECK_DOUBLE_CLAIM,
	CHECK_STALE,
	CHECK_REFUSED,
	CHECK_TWICE,
	CHECK_UNDONE,
	CHECK_LETTER,
	CHECK_EFFECT,
	CHECK_KEY,
	CHECK_ASKED,
	CHECK_PREPARED,
	CHECK_STUCK,
	CHECK_ATTEMPTS,
	CHECK_ERRORS,
	CHECK_COUNTERS,
	CHECK_AMCHECK,
	CHECK_LOG,
	NCHECKS
} Check;

typedef enum Where
{
	GONE, UNFINISHED, COMPLETED, FAILED, DEAD
} Where;

/* A job that is left in the database. */
typedef struct Left
{
	Id			job;
	Where		where;
	bool		redriven;
	Id			redriven_as;
} Left;

extern const char *const check_names[NCHECKS];
extern long violations[NCHECKS];
extern bool check_quietly;

extern void violate(Check check, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void check_set_left(Left *left, int nleft, Id *effects, int neffects);
extern void check_history(Event *events, size_t count);

#endif							/* CHECK_H */
