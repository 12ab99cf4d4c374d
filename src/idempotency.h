/*
 * idempotency.h
 *	  One job for each idempotency key.
 */
#ifndef QS_IDEMPOTENCY_H
#define QS_IDEMPOTENCY_H

#include "compat.h"
#include "enqueue.h"

/* what becomes of an enqueue whose key is taken */
typedef enum QsConflict
{
	QS_CONFLICT_RETURN,
	QS_CONFLICT_REJECT,
	QS_CONFLICT_REPLACE,
	QS_CONFLICT_DEBOUNCE
} QsConflict;

typedef struct QsKey
{
	const Interval *ttl;		/* NULL: free as soon as the job has finished */
	QsConflict	on_conflict;
	const Interval *longest_wait;	/* of debounce; NULL: no limit */
} QsKey;

extern bool qs_enqueue_once(QsCall *call, QsNewJob *job, const QsKey *key,
							pg_uuid_t *id);
extern bool qs_key_is_free(QsCall *call, QsTableKind kind,
						   const pg_uuid_t *tenant, Datum key);
qs_noreturn extern void qs_key_taken(const pg_uuid_t *id);
extern void qs_key_follow(QsCall *call, const QsNewJob *job,
						  const pg_uuid_t *old, const pg_uuid_t *new);

#endif							/* QS_IDEMPOTENCY_H */
