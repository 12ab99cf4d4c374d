/*
 * backoff.h
 *	  How long a failed job waits. Pure arithmetic, in microseconds.
 */
#ifndef QS_BACKOFF_H
#define QS_BACKOFF_H

#include <stdint.h>

extern int64_t qs_backoff(int64_t base, double factor, int64_t max,
						  double jitter, int attempt, double random);

#endif							/* QS_BACKOFF_H */
