/*
 * leases.h
 *	  The leases that there are of a queue, read from its tables.
 */
#ifndef QS_LEASES_H
#define QS_LEASES_H

#include "call.h"
#include "holders.h"

typedef void (*QsLeaseFound) (const QsHolder *lease, void *arg);

extern void qs_leases_walk(QsCall *call, const pg_uuid_t *queue,
						   QsLeaseFound found, void *arg);

#endif							/* QS_LEASES_H */
