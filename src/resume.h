/*
 * resume.h
 *	  Where tasks go on that walk over queues, and over rows of each.
 *
 * In shared memory, if the library is preloaded, so that whoever runs a task
 * next goes on where the last one ended; else in the session. It may be lost at
 * any time, and is forgotten an hour after something was first noted of a
 * queue: the walk then begins anew, and finds what was left over.
 */
#ifndef QS_RESUME_H
#define QS_RESUME_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* what is walked over; those before QS_WALK_KEYS have rows of each queue */
typedef enum QsWalk
{
	QS_WALK_JOBS,
	QS_WALK_CRITICAL_JOBS,
	QS_WALK_DEAD,
	QS_WALK_METRICS,
	QS_WALK_ALERT_HISTORY,
	QS_WALK_KEYS,				/* all are as those of one queue, by uuid */
	QS_WALK_RECOUNT,
	QS_WALK_ALERTS
} QsWalk;

#define QS_NWALKS (QS_WALK_ALERTS + 1)

/* how far a walk came with the rows of a queue */
typedef struct QsResume
{
	TimestampTz from;			/* no row is older, but what was left over */
	TimestampTz seen;			/* nothing need be looked for that is older */
} QsResume;

extern void qs_resume_init(void);
extern QsResume qs_resume(QsWalk walk, const pg_uuid_t *queue, TimestampTz now);
extern void qs_resume_note(QsWalk walk, const pg_uuid_t *queue,
						   const QsResume *resume, TimestampTz now);
extern pg_uuid_t qs_resume_after(QsWalk walk);
extern void qs_resume_note_after(QsWalk walk, const pg_uuid_t *queue);

#endif							/* QS_RESUME_H */
