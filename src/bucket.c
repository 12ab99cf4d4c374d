/*
 * bucket.c
 *	  The arithmetic of token buckets: see bucket.h.
 *
 * R(t) is what refilled from the base to time t: rate x (t - base), a rational
 * number. Tokens are counted in units of 2^-scale, the finest that make room
 * for 142 years of refill. The position P is a whole number of units. At time t
 *	 with P <= R(t) the bucket is full;
 *	 else it has capacity - (P - R(t)), less than nothing where the clock is
 *	 behind one that a taker before had.
 * A take of n from a full bucket moves P to R(t), rounded up, + n; else to
 * P + n, which is granted while that is at most R(t), rounded down, + capacity.
 *
 * Why it is exact: let takes i to j be granted one after the other, with times
 * in any order. P before i is at least R(ti), or is moved there first, so P
 * behind j is at least R(ti) + grants(i..j), unless j found the bucket full.
 * If not full, P behind j is at most R(tj) + capacity. If full, P before j is
 * at most R(tj), and j takes at most the capacity. Both ways grants(i..j) are at
 * most capacity + R(tj) - R(ti).
 */
#include <math.h>

#include "bucket.h"

typedef unsigned __int128 uint128_t;
typedef __int128 int128_t;

#define SECOND 1000000			/* in the unit of time */
#define MANTISSA_BITS 53
#define MAX_SCALE 40
#define POSITION_BITS 62		/* of capacity and refill together */
#define MAX_POSITION (INT64_C(1) << POSITION_BITS)
#define MAX_ELAPSED (INT64_C(1) << 52)	/* refill ends; about 142 years */

/*
 * Makes a bucket; capacity from QS_BUCKET_MIN_CAPACITY to QS_BUCKET_MAX, rate
 * in tokens a second above 0 and up to QS_BUCKET_MAX.
 */
void
qs_bucket_init(QsBucket *bucket, double capacity, double rate, int64_t base)
{
	int			bits;
	int			exponent;

	(void) frexp(rate * (double) MAX_ELAPSED / SECOND + capacity, &bits);
	bucket->base = base;
	bucket->scale = (int16_t) (bits < POSITION_BITS - MAX_SCALE ? MAX_SCALE :
							   POSITION_BITS - bits);
	bucket->capacity = (int64_t) ldexp(capacity, bucket->scale);
	bucket->mantissa = (int64_t) ldexp(frexp(rate, &exponent), MANTISSA_BITS);
	bucket->exponent = (int16_t) (exponent - MANTISSA_BITS + bucket->scale);
}

/* The position of a bucket that has so many tokens at its base. */
int64_t
qs_bucket_position(const QsBucket *bucket, double tokens)
{
	double		units = floor(ldexp(tokens, bucket->scale));

	return units >= (double) bucket->capacity ? 0 :
		bucket->capacity - (int64_t) units;
}

/* R(now) in whole units, rounded down, and whether that left out a part. */
static int64_t
refilled(const QsBucket *bucket, int64_t now, bool *more)
{
	uint128_t	product;
	uint64_t	elapsed;
	int			shift = -bucket->exponent;

	*more = false;
	if (now <= bucket->base)
		return 0;
	elapsed = (uint64_t) now - (uint64_t) bucket->base;
	if (elapsed > MAX_ELAPSED)
		elapsed = MAX_ELAPSED;
	product = (uint128_t) bucket->mantissa * elapsed;
	if (shift < 128)
	{
		*more = (product & (((uint128_t) 1 << shift) - 1)) != 0;
		product >>= shift;
	}
	else
	{
		*more = true;
		product = 0;
	}
	*more |= product % SECOND != 0;
	return (int64_t) (product / SECOND);
}

/* Takes so many tokens if there are as many, and moves *position. */
bool
qs_bucket_take(const QsBucket *bucket, int64_t *position, int64_t now,
			   int64_t tokens)
{
	bool		more;
	int64_t		level = refilled(bucket, now, &more);
	int64_t		units;

	if (tokens > bucket->capacity >> bucket->scale)
		return false;
	units = tokens << bucket->scale;
	if (*position <= level)
		*position = level + more + units;
	else if (*position + units <= level + bucket->capacity)
		*position += units;
	else
		return false;
	return true;
}

/* The least number of microseconds after base until so many units refilled. */
static int64_t
time_to_refill(const QsBucket *bucket, int64_t units)
{
	uint128_t	needed = (uint128_t) units * SECOND;
	uint64_t	divisor = bucket->mantissa;
	uint128_t	quotient = needed / divisor;
	uint128_t	rest = needed % divisor;
	int			shift = -bucket->exponent;

	/* needed x 2^shift / divisor, as what would not fit is divided by parts */
	while (shift > 0 && quotient <= MAX_ELAPSED)
	{
		int			step = shift < MANTISSA_BITS ? shift : MANTISSA_BITS;

		rest <<= step;
		quotient = (quotient << step) + rest / divisor;
		rest %= divisor;
		shift -= step;
	}
	quotient += rest != 0;
	return quotient > MAX_ELAPSED ? QS_BUCKET_NEVER : (int64_t) quotient;
}

/*
 * The least number of microseconds after now when a take of so many tokens
 * would be granted, if nobody else takes meanwhile: 0 if it would be now.
 */
int64_t
qs_bucket_wait(const QsBucket *bucket, int64_t position, int64_t now,
			   int64_t tokens)
{
	bool		more;
	int64_t		elapsed;
	int64_t		level;

	if (tokens > bucket->capacity >> bucket->scale)
		return QS_BUCKET_NEVER;
	level = position + (tokens << bucket->scale) - bucket->capacity;
	if (level <= refilled(bucket, now, &more))
		return 0;
	elapsed = time_to_refill(bucket, level);
	if (elapsed == QS_BUCKET_NEVER)
		return QS_BUCKET_NEVER;
	return bucket->base + elapsed - now;
}

/* What the bucket has, in units; may be less than nothing. */
static int64_t
available(const QsBucket *bucket, int64_t position, int64_t now)
{
	bool		more;
	int64_t		level = refilled(bucket, now, &more);

	return position <= level ? bucket->capacity :
		bucket->capacity - (position - level);
}

/* How many tokens a take may ask for at most. */
int64_t
qs_bucket_whole(const QsBucket *bucket, int64_t position, int64_t now)
{
	int64_t		units = available(bucket, position, now);

	return units < 0 ? 0 : units >> bucket->scale;
}

/* What the bucket has, in tokens; rounded down to a double. */
double
qs_bucket_tokens(const QsBucket *bucket, int64_t position, int64_t now)
{
	int64_t		units = available(bucket, position, now);
	int			left_out = 0;

	if (units <= 0)
		return 0;
	while (units >> left_out >> MANTISSA_BITS != 0)
		left_out++;
	return ldexp((double) (units >> left_out), left_out - bucket->scale);
}

/*
 * The position after tokens of an earlier take were given back. taken is the
 * position behind that take, less what others gave back since; now is not
 * before the time of any take since.
 *
 * A bucket that was full since would have been full without the take as well,
 * so nothing is left of it. How near it came, the caller cannot know, but all
 * positions since are at least taken: what R(now) has not passed of that is
 * still missing, and goes back.
 */
int64_t
qs_bucket_returned(const QsBucket *bucket, int64_t position, int64_t now,
				   int64_t taken, int64_t tokens)
{
	bool		more;
	int64_t		level = refilled(bucket, now, &more) + more;
	int64_t		units = tokens << bucket->scale;

	/* taken may be far below 0, where others gave back much */
	if (taken <= level)
		return position;
	return position - (taken - level < units ? taken - level : units);
}

/*
 * The position that gives another bucket, whose base is the present, the
 * tokens that this one has; at most as many as it can hold.
 */
int64_t
qs_bucket_carried(const QsBucket *bucket, int64_t position, const QsBucket *to)
{
	int128_t	units = available(bucket, position, to->base);
	int			shift = to->scale - bucket->scale;

	/* to the right it rounds down, also below 0 */
	if (shift < 0)
		units >>= -shift;
	else
		units *= (int128_t) 1 << shift;
	if (units >= to->capacity)
		return 0;
	if (units < to->capacity - MAX_POSITION)
		return MAX_POSITION;
	return to->capacity - (int64_t) units;
}
