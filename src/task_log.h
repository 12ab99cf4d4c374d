/*
 * task_log.h
 *	  How the last run of each task ended, in shared memory: for operators.
 */
#ifndef QS_TASK_LOG_H
#define QS_TASK_LOG_H

#include "datatype/timestamp.h"

#define QS_TASKS_MAX 32
#define QS_TASK_ERROR_BYTES 256

typedef struct QsTaskEnd
{
	TimestampTz at;				/* 0: it has not run since the server started */
	int			failures;		/* in a row, up to the last run */
	char		error[QS_TASK_ERROR_BYTES]; /* of the last one, if it failed */
} QsTaskEnd;

extern void qs_task_log_init(void);
extern void qs_task_log_note(int task, TimestampTz at, const char *error);
extern bool qs_task_log_read(QsTaskEnd *ends);

#endif							/* QS_TASK_LOG_H */
