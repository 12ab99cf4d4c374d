/*
 * handler.h
 *	  A job, and the process that handles it.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include <poll.h>
#include <sys/types.h>

#include "libpq-fe.h"
#include "options.h"
#include "pqexpbuffer.h"

/* what becomes of the job of a handler that has ended */
typedef enum Verdict
{
	VERDICT_DONE,
	VERDICT_RETRY,
	VERDICT_DEAD,
	VERDICT_RELEASE,			/* another worker is to have it */
	VERDICT_NONE				/* the lease is not ours any more */
} Verdict;

/* why we stopped a handler */
typedef enum StopReason
{
	STOP_NOT,
	STOP_TIMEOUT,
	STOP_CANCELLED,
	STOP_LOST,
	STOP_SHUTDOWN
} StopReason;

typedef enum JobState
{
	JOB_NONE,					/* there is room for one */
	JOB_RUNS,
	JOB_ENDED,					/* and the server does not know */
	JOB_SENT					/* what became of it is on its way there */
} JobState;

typedef struct Job
{
	JobState	state;
	char	   *id;
	char	   *token;
	char	   *type;
	char	   *attempt;
	bool		without_result;	/* the server did not take it */

	pid_t		pid;			/* and its process group; 0: it has ended */
	int			in;				/* our ends of its pipes, or -1 */
	int			out;
	int			err;
	PQExpBufferData input;		/* the payload */
	size_t		written;
	PQExpBufferData output;		/* its beginning */
	PQExpBufferData errors;		/* of standard error, the end */

	double		began;
	double		ended;
	double		deadline;
	double		kill_at;
	StopReason	reason;

	Verdict		verdict;
	PQExpBufferData error;		/* why it failed */
	double		retry_in;		/* seconds; negative: as the queue says */
} Job;

#define HANDLER_FDS 3

extern void handler_start(Job *job, const Options *options, PGresult *jobs,
						  int row);
extern void handler_poll(const Job *job, struct pollfd *polls);
extern void handler_step(Job *job, const struct pollfd *polls);
extern void handler_stop(Job *job, StopReason reason, int grace);
extern void handler_kill(Job *job);
extern void handler_ended(Job *job);
extern void handler_forget(Job *job);

#endif							/* HANDLER_H */
