/*
 * limit_clock.h
 *	  The clock that limits run by.
 */
#ifndef QS_LIMIT_CLOCK_H
#define QS_LIMIT_CLOCK_H

#include "datatype/timestamp.h"

extern void qs_limit_clock_init(void);
extern TimestampTz qs_limit_clock(void);

#endif							/* QS_LIMIT_CLOCK_H */
