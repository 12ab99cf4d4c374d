/*
 * bucket.c
 *	  Checks src/bucket.c against a model in exact numbers.
 *
 * The input is a program (programs.h). Those of fixed seeds are followed by two
 * long lives of a bucket.
 *
 * The model keeps the takes that were granted, less what was given back, and
 * where they would have moved an exact position. A bucket may be a unit
 * behind that, never before it.
 */
#include <math.h>
#include <string.h>

#include "bucket.h"

#define PROGRAM_BYTES 1000
#define OWN_MAIN
#include "programs.h"

#define KEPT 40					/* takes that the model remembers */
#define SECOND INT64_C(1000000)
#define YEAR (365 * 86400 * SECOND)
#define START (25 * YEAR)

/* A number of tokens, in parts of 2^-BITS of a millionth. */
#define BITS 90
#define LIMBS 4
typedef struct Exact
{
	uint64_t	limb[LIMBS];
} Exact;

typedef struct Take
{
	int64_t		now;
	int64_t		tokens;			/* 0 once it was given back */
	int64_t		behind;			/* position, less what others gave back */
} Take;

static double capacity;
static double rate;
static QsBucket bucket;
static int64_t position;
static int64_t clock_now;

static Take takes[KEPT];
static int	ntakes;
static Exact before;			/* the exact position before the first of them */
static int64_t latest;			/* the latest time of any of them */
static bool exact;				/* not since something was given back */

static Exact
shifted(unsigned __int128 value, int bits)
{
	Exact		result = {{0}};

	CHECK(bits >= 0 && bits < 64 * LIMBS);
	for (int i = 0; i < 128; i++)
		if (value >> i & 1)
		{
			CHECK(i + bits < 64 * LIMBS);
			result.limb[(i + bits) / 64] |= UINT64_C(1) << (i + bits) % 64;
		}
	return result;
}

static Exact
sum(Exact a, Exact b)
{
	unsigned __int128 carry = 0;

	for (int i = 0; i < LIMBS; i++)
	{
		carry += (unsigned __int128) a.limb[i] + b.limb[i];
		a.limb[i] = (uint64_t) carry;
		carry >>= 64;
	}
	CHECK(carry == 0);
	return a;
}

static int
compare(Exact a, Exact b)
{
	for (int i = LIMBS - 1; i >= 0; i--)
		if (a.limb[i] != b.limb[i])
			return a.limb[i] < b.limb[i] ? -1 : 1;
	return 0;
}

static Exact
exact_times(double value, int64_t times)
{
	int			exponent;
	int64_t		mantissa = (int64_t) ldexp(frexp(value, &exponent), 53);

	return shifted((unsigned __int128) mantissa * times, BITS + exponent - 53);
}

static Exact
exact_tokens(int64_t tokens)
{
	return shifted((unsigned __int128) tokens * SECOND, BITS);
}

static Exact
exact_units(int64_t units)
{
	return shifted((unsigned __int128) units * SECOND, BITS - bucket.scale);
}

static Exact
exact_capacity(void)
{
	return exact_times(capacity, SECOND);
}

/* what refills in so much time */
static Exact
exact_refill(int64_t microseconds)
{
	return exact_times(rate, microseconds);
}

static Exact
exact_level(int64_t now)
{
	return exact_refill(now > bucket.base ? now - bucket.base : 0);
}

static Exact
moved(Exact from, const Take *take)
{
	Exact		level = exact_level(take->now);

	if (take->tokens == 0)
		return from;
	return sum(compare(from, level) > 0 ? from : level,
			   exact_tokens(take->tokens));
}

/* Where the takes so far have moved the exact position. */
static Exact
exact_position(void)
{
	Exact		result = before;

	for (int i = 0; i < ntakes; i++)
		result = moved(result, &takes[i]);
	return result;
}

/* Grants of any window that ends with the last take, in any order of times. */
static void
check_windows(void)
{
	const Take *last = &takes[ntakes - 1];
	Exact		granted = {{0}};

	for (int i = ntakes - 1; i >= 0; i--)
	{
		granted = sum(granted, exact_tokens(takes[i].tokens));
		if (takes[i].tokens == 0)
			continue;
		if (takes[i].now <= last->now)
			CHECK(compare(granted, sum(exact_capacity(),
									   exact_refill(last->now - takes[i].now))) <= 0);
		else
			CHECK(compare(sum(granted, exact_refill(takes[i].now - last->now)),
						  exact_capacity()) <= 0);
	}
}

static void
remember(int64_t now, int64_t tokens)
{
	if (ntakes == KEPT)
	{
		before = moved(before, &takes[0]);
		memmove(takes, takes + 1, (KEPT - 1) * sizeof(Take));
		ntakes--;
	}
	takes[ntakes].now = now > bucket.base ? now : bucket.base;
	takes[ntakes].tokens = tokens;
	takes[ntakes].behind = position;
	if (now > latest)
		latest = now;
	ntakes++;
}

/* Takes, and checks that the model would, but for the last units. */
static bool
take(int64_t now, int64_t tokens)
{
	Exact		from = exact_position();
	Exact		level = exact_level(now);
	int64_t		old = position;
	bool		granted;

	if (compare(from, level) < 0)
		from = level;
	granted = qs_bucket_take(&bucket, &position, now, tokens);
	CHECK(granted == (tokens <= qs_bucket_whole(&bucket, old, now)));
	CHECK(granted == (qs_bucket_wait(&bucket, old, now, tokens) == 0));
	if (granted)
	{
		CHECK(compare(sum(from, exact_tokens(tokens)),
					  sum(exact_capacity(), level)) <= 0);
		exact |= compare(exact_units(old), level) <= 0;
		remember(now, tokens);
		check_windows();
	}
	else
	{
		CHECK(position == old);
		if (exact && tokens <= capacity)
			CHECK(compare(sum(sum(from, exact_tokens(tokens)), exact_units(3)),
						  sum(exact_capacity(), level)) > 0);
	}
	from = exact_position();
	CHECK(compare(from, exact_units(position)) <= 0);
	if (exact)
		CHECK(compare(exact_units(position), sum(from, exact_units(1))) < 0);
	return granted;
}

static int64_t
some_tokens(void)
{
	switch (take_byte(8))
	{
		case 0:
			return (int64_t) capacity;
		case 1:
			return (int64_t) capacity + 1;
		case 2:
			return 1 + (int64_t) capacity / 2;
		case 3:
			return INT32_MAX;
		case 4:
			return 1 + (int64_t) (capacity / 256 * take_byte(256));
		default:
			return 1;
	}
}

static int64_t
some_time(void)
{
	double		time = 0;

	switch (take_byte(8))
	{
		case 0:
			time = 1;
			break;
		case 1:
			time = 1e6 / rate;
			break;
		case 2:
			time = 1e6 * capacity / rate;
			break;
		case 3:
			time = 1e6 * capacity / rate / 256 * take_byte(256);
			break;
		case 4:
			time = (double) YEAR / 256 * take_byte(256);
			break;
		default:
			time = take_byte(256);
	}
	return time < YEAR ? (int64_t) time : YEAR;
}

static double
some_number(double low)
{
	static const double numbers[] = {
		1, 3, 10, 100, 1.0 / 3, 0.001, 1e-9, 7.7, 1e9, 333333333.3, 123456.789
	};
	double		number = numbers[take_byte(11)];

	return number < low ? 1 + number : number;
}

static void
begin(int64_t new_position)
{
	position = new_position;
	ntakes = 0;
	before = exact_units(position);
	latest = bucket.base;
	exact = true;
}

/* The earliest time when it is granted, neither later nor earlier. */
static void
check_wait(void)
{
	int64_t		tokens = some_tokens();
	int64_t		wait = qs_bucket_wait(&bucket, position, clock_now, tokens);
	int64_t		back = some_time();
	int64_t		copy = position;

	if (wait == QS_BUCKET_NEVER)
		return;
	CHECK(wait >= 0);
	CHECK(wait == 0 ||
		  !qs_bucket_take(&bucket, &copy, clock_now + wait - 1, tokens));
	CHECK(qs_bucket_take(&bucket, &copy, clock_now + wait, tokens));
	/* a clock that is set back adds no tokens, and no more than that to a wait */
	if (clock_now < bucket.base)
		back = 0;
	else if (clock_now - back < bucket.base)
		back = clock_now - bucket.base;
	CHECK(qs_bucket_tokens(&bucket, position, clock_now - back) <=
		  qs_bucket_tokens(&bucket, position, clock_now));
	CHECK(qs_bucket_wait(&bucket, position, clock_now - back, tokens) <= wait + back);
	CHECK(qs_bucket_wait(&bucket, position, clock_now - back, tokens) >= wait);
}

static void
give_back(void)
{
	int64_t		now = clock_now > latest ? clock_now : latest;
	int64_t		old = position;
	Take	   *taken;
	int64_t		units;

	if (ntakes == 0)
		return;
	taken = &takes[ntakes - 1 - take_byte(ntakes)];
	if (taken->tokens == 0)
		return;
	position = qs_bucket_returned(&bucket, position, now, taken->behind,
								  taken->tokens);
	units = taken->tokens << bucket.scale;
	CHECK(position <= old && position >= old - units);
	/* all, if as much of it is still missing */
	if (taken->behind > 0 &&
		compare(sum(exact_level(now), exact_units(units + 1)),
				exact_units(taken->behind)) <= 0)
		CHECK(position == old - units);
	exact = false;
	for (int i = 0; i < ntakes; i++)
		takes[i].behind = takes[i].behind < INT64_MIN + (old - position) ?
			INT64_MIN : takes[i].behind - (old - position);
	taken->tokens = 0;
	CHECK(compare(exact_position(), exact_units(position)) <= 0);
}

/* Another capacity and rate keep the tokens, and add none. */
static void
change(void)
{
	QsBucket	to;
	double		new_capacity = some_number(1);
	double		new_rate = some_number(0);
	int64_t		now = clock_now > bucket.base ? clock_now : bucket.base;
	int64_t		carried;
	Exact		had = sum(exact_capacity(), exact_level(now));
	Exact		was = exact_units(position);
	Exact		unit = exact_units(2);
	bool		full = compare(was, exact_level(now)) <= 0;
	double		old_capacity = capacity;

	qs_bucket_init(&to, new_capacity, new_rate, now);
	carried = qs_bucket_carried(&bucket, position, &to);
	CHECK(carried >= 0);
	bucket = to;
	capacity = new_capacity;
	rate = new_rate;
	/* what it has now, and what it lacked before, are what it could hold */
	if (full)
		CHECK(qs_bucket_tokens(&to, carried, now) <= old_capacity);
	else if (carried <= to.capacity)
	{
		Exact		has = exact_units(to.capacity - carried);

		CHECK(compare(sum(has, was), had) <= 0);
		CHECK(carried == 0 || compare(sum(sum(has, was), sum(unit, exact_units(2))), had) >= 0);
	}
	/* years behind its takers at another rate, it lacks all that can be said */
	else if (carried < INT64_C(1) << 62)
		CHECK(compare(was, sum(had, exact_units(carried - to.capacity))) <= 0);
	begin(carried);
}

/* What a row keeps, a double, is what there is but for the last bits. */
static void
check_tokens(void)
{
	double		tokens = qs_bucket_tokens(&bucket, position, clock_now);
	int64_t		whole = qs_bucket_whole(&bucket, position, clock_now);
	QsBucket	again;
	int64_t		carried;

	CHECK(tokens >= 0 && tokens <= capacity);
	CHECK((double) whole <= tokens && tokens < (double) whole + 1);
	qs_bucket_init(&again, capacity, rate, clock_now);
	carried = qs_bucket_position(&again, tokens);
	CHECK(qs_bucket_tokens(&again, carried, clock_now) <= tokens);
	CHECK(tokens == 0 || carried - qs_bucket_carried(&bucket, position, &again) <= 1 << 10);
}

static void
run_program(void)
{
	clock_now = START;
	capacity = some_number(1);
	rate = some_number(0);
	qs_bucket_init(&bucket, capacity, rate, clock_now);
	begin(bucket.capacity);

	while (input_left > 0)
	{
		int			operation = take_byte(16);

		step++;
		if (operation < 8)
		{
			static const int late[] = {0, 0, 0, 1, 300, 50000};

			(void) take(clock_now - late[take_byte(6)], some_tokens());
		}
		else if (operation < 11)
			clock_now += some_time();
		else if (operation == 11)
			clock_now -= some_time() / 2;
		else if (operation == 12)
			check_wait();
		else if (operation == 13)
			give_back();
		else if (operation == 14)
			check_tokens();
		else if (take_byte(4) == 0)
			change();
		/* an extension that is in use for longer is not the matter here */
		if (clock_now < START || clock_now > START + 140 * YEAR)
			break;
	}
}

#ifndef QS_FUZZ

/* A year of takes, each at the first moment possible: no drift. */
static void
slow_year(void)
{
	int64_t		granted = 0;

	capacity = 10;
	rate = 0.001;
	clock_now = START;
	qs_bucket_init(&bucket, capacity, rate, clock_now);
	begin(bucket.capacity);
	while (clock_now < START + YEAR)
	{
		step = (int) ++granted;
		clock_now += qs_bucket_wait(&bucket, position, clock_now, 1);
		CHECK(take(clock_now, 1));
		CHECK(compare(exact_level(clock_now), exact_tokens(granted)) >= 0);
		CHECK(compare(exact_level(clock_now - 1), exact_tokens(granted)) < 0);
	}
	CHECK(granted == 31536);
}

/* A hundred years at the highest rate: no overflow. */
static void
fast_century(void)
{
	capacity = QS_BUCKET_MAX;
	rate = QS_BUCKET_MAX;
	clock_now = START;
	qs_bucket_init(&bucket, capacity, rate, clock_now);
	begin(bucket.capacity);
	for (step = 0; step < 3000; step++)
	{
		static const int64_t pauses[] = {1, 500000, 100 * YEAR / 1000};

		clock_now += pauses[step % 3];
		CHECK(step % 3 < 2 || take(clock_now, (int64_t) capacity));
		(void) take(clock_now, 1000);
	}
	CHECK(position > INT64_C(3000000000000000000));
}

int
main(int argc, char **argv)
{
	run_seeds(argc, argv);
	slow_year();
	fast_century();
	return 0;
}

#endif
