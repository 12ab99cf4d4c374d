/*
 * waiters.h
 *	  Sessions that wait for work, in shared memory.
 */
#ifndef QS_WAITERS_H
#define QS_WAITERS_H

#include "utils/uuid.h"

extern void qs_waiters_init(void);
extern bool qs_waiters_exist(void);
extern void qs_waiter_begin(const pg_uuid_t *queue, const char *name);
extern void qs_waiter_end(void);
extern void qs_wake(const pg_uuid_t *queue);
extern void qs_note_work(const pg_uuid_t *queue);
extern void qs_note_name(const pg_uuid_t *queue, const char *name);

#endif							/* QS_WAITERS_H */
