/*
 * failures.h
 *	  The history of a job's failed attempts, in its columns errors and
 *	  last_error.
 */
#ifndef QS_FAILURES_H
#define QS_FAILURES_H

#include "table.h"

#define QS_ERROR_BYTES 4096		/* an error is cut to this */
#define QS_MAX_FAILURES 100		/* the latest that are kept */

extern void qs_note_failure(QsTable *table, const char *error);

#endif							/* QS_FAILURES_H */
