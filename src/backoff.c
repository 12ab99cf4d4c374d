/*
 * backoff.c
 *	  How long a failed job waits: see backoff.h.
 */
#include <math.h>

#include "backoff.h"

/*
 * The wait after the given attempt (from 1) has failed: base x factor to the
 * power of (attempt - 1), at most max, then multiplied by a number between
 * 1 - jitter and 1 + jitter that random (0 to 1) picks. Expects base and max
 * from 0, factor from 1, jitter from 0 to 1.
 */
int64_t
qs_backoff(int64_t base, double factor, int64_t max, double jitter,
		   int attempt, double random)
{
	double		wait = (double) base * pow(factor, attempt - 1);

	/* also when the power overflowed; 0 x infinity is not a number */
	if (base == 0)
		wait = 0;
	else if (!(wait < (double) max))
		wait = (double) max;
	wait *= 1 + jitter * (2 * random - 1);
	return (int64_t) wait;
}
