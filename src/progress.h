/*
 * progress.h
 *	  How far long calls are, in shared memory: for who waits for them.
 */
#ifndef QS_PROGRESS_H
#define QS_PROGRESS_H

#include "utils/uuid.h"

extern void qs_progress_init(void);
extern void qs_progress_begin(const char *call, const pg_uuid_t *tenant,
							  const char *queue, int64 total);
extern void qs_progress_add(const char *call, int64 done);
extern void qs_progress_end(const char *call);
extern void qs_progress_task(const char *task, int64 done, bool more);

#endif							/* QS_PROGRESS_H */
