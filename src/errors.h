/*
 * errors.h
 *	  The SQLSTATEs of queue_service, all of class QS.
 *
 * What is refused in normal operation (an empty queue, a lost lease) is a
 * result, not an error; only a strict call turns a lost lease into one.
 */
#ifndef QS_ERRORS_H
#define QS_ERRORS_H

#include "utils/elog.h"

/* app.current_tenant */
#define QS_TENANT_NOT_SET		MAKE_SQLSTATE('Q', 'S', '0', '0', '1')
#define QS_TENANT_MALFORMED		MAKE_SQLSTATE('Q', 'S', '0', '0', '2')
#define QS_TENANT_UNKNOWN		MAKE_SQLSTATE('Q', 'S', '0', '0', '3')

/* objects that are not there, or are another tenant's */
#define QS_QUEUE_UNKNOWN		MAKE_SQLSTATE('Q', 'S', '0', '1', '0')
#define QS_JOB_UNKNOWN			MAKE_SQLSTATE('Q', 'S', '0', '1', '1')
#define QS_LIMIT_UNKNOWN		MAKE_SQLSTATE('Q', 'S', '0', '1', '2')

/* arguments */
#define QS_ARGUMENT_NULL		MAKE_SQLSTATE('Q', 'S', '0', '2', '0')
#define QS_ARGUMENT_INVALID		MAKE_SQLSTATE('Q', 'S', '0', '2', '1')
#define QS_PAYLOAD_TOO_LARGE	MAKE_SQLSTATE('Q', 'S', '0', '2', '2')
#define QS_TOO_MANY_TOKENS		MAKE_SQLSTATE('Q', 'S', '0', '2', '3')

/* states that forbid what was asked for */
#define QS_LEASE_LOST			MAKE_SQLSTATE('Q', 'S', '0', '3', '0')
#define QS_KEY_TAKEN			MAKE_SQLSTATE('Q', 'S', '0', '3', '1')
#define QS_QUEUE_NOT_EMPTY		MAKE_SQLSTATE('Q', 'S', '0', '3', '2')
#define QS_CANNOT_WAIT			MAKE_SQLSTATE('Q', 'S', '0', '3', '3')
#define QS_QUEUE_FULL			MAKE_SQLSTATE('Q', 'S', '0', '3', '4')
#define QS_ENQUEUE_LIMITED		MAKE_SQLSTATE('Q', 'S', '0', '3', '5')

/* tables, or the server, are not as the extension needs them */
#define QS_TABLE_UNSUITABLE		MAKE_SQLSTATE('Q', 'S', '0', '4', '0')
#define QS_NOT_PRELOADED		MAKE_SQLSTATE('Q', 'S', '0', '4', '1')
#define QS_TABLE_DISTRIBUTED	MAKE_SQLSTATE('Q', 'S', '0', '4', '2')

#endif							/* QS_ERRORS_H */
