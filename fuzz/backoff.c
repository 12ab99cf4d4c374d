/*
 * backoff.c
 *	  Checks src/backoff.c against multiplication step by step.
 *
 * The input is a program (programs.h).
 */
#include <math.h>

#include "backoff.h"
#include "programs.h"

/* The longest interval that a queue can have is less than this. */
#define LONGEST (INT64_MAX / 4)

/* Of any magnitude. */
static int64_t
take_time(void)
{
	int64_t		bits = 0;

	for (int i = 0; i < 8; i++)
		bits = (int64_t) ((uint64_t) bits << 8 | (uint64_t) take_byte(256));
	return ((bits & INT64_MAX) >> take_byte(63)) % LONGEST;
}

static double
take_fraction(void)
{
	return take_byte(256) / 255.0;
}

/* From 1, now and then as large as numbers are. */
static double
take_factor(void)
{
	switch (take_byte(4))
	{
		case 0:
			return 1 + take_byte(10);
		case 1:
			return ldexp(1, take_byte(256) * 4);
		default:
			return 1 + take_fraction() * take_byte(256);
	}
}

static int64_t
by_steps(int64_t base, double factor, int64_t max, int attempt)
{
	long double wait = base;

	for (int i = 1; i < attempt && wait > 0 && wait < max && factor > 1; i++)
		wait *= factor;
	return wait < max ? (int64_t) wait : base == 0 ? 0 : max;
}

static int
is_about(int64_t a, double b)
{
	return fabs((double) a - b) <= 2 + 1e-9 * fabs(b);
}

static void
run_program(void)
{
	while (input_left > 0)
	{
		int64_t		base = take_time();
		int64_t		max = take_time();
		double		factor = take_factor();
		double		jitter = take_fraction();
		double		random = take_fraction();
		int			attempt = 1 + take_byte(256) * (take_byte(2) ? 1 : 4000000);
		int64_t		truth = by_steps(base, factor, max, attempt);
		int64_t		wait = qs_backoff(base, factor, max, 0, attempt, random);

		step++;
		CHECK(is_about(wait, (double) truth));
		/* a time of centuries is rounded as it becomes a double */
		CHECK(wait >= 0 && (wait <= max || is_about(wait, (double) max)));
		CHECK(qs_backoff(base, factor, max, 0, attempt + 1, random) >= wait);
		wait = qs_backoff(base, factor, max, jitter, attempt, random);
		CHECK(wait >= 0);
		CHECK(is_about(wait, truth * (1 + jitter * (2 * random - 1))));
	}
}
