/*
 * permits.h
 *	  Permits: who may use a service at the same time as others.
 */
#ifndef QS_PERMITS_H
#define QS_PERMITS_H

#include "holders.h"
#include "limit.h"

extern void qs_permits_init(void);
extern void qs_permits_use(TimestampTz now);
extern QsHoldersAnswer qs_permit_take(const QsLimit *limit, int64 permit,
									  TimestampTz now, TimestampTz until);
extern bool qs_permit_release(const QsLimit *limit, int64 permit);
extern int64 qs_permit_wait(const QsLimit *limit, TimestampTz now,
							int32 *out);

#endif							/* QS_PERMITS_H */
