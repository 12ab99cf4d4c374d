/*
 * check.h
 *	  Whether what was seen of groups can be.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>

#define GROUPS 12				/* of each queue */

/* A job, from before its enqueue was sent until that was acknowledged. */
typedef struct Job
{
	int			queue;
	int			group;
	double		sent;
	double		acknowledged;
} Job;

/* A lease of a job, from its answer until its end was asked for, or it expired. */
typedef struct Run
{
	int			job;
	double		from;
	double		until;
} Run;

/* In order of time: overlapping runs of different jobs of one group. */
extern int	most_at_once(const Job *jobs, const Run *runs, int nruns, int queue);
extern int	overtaken(const Job *jobs, int njobs, const Run *runs, int nruns, int queue);
extern bool self_test(void);

#endif							/* CHECK_H */
