/*
 * uuid7.h
 *	  UUIDs of version 7 (RFC 9562).
 */
#ifndef QS_UUID7_H
#define QS_UUID7_H

#include "utils/uuid.h"

extern void qs_uuid7(pg_uuid_t *uuid);

#endif							/* QS_UUID7_H */
