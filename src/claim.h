/*
 * claim.h
 *	  Claims jobs and puts them into a function's result.
 */
#ifndef QS_CLAIM_H
#define QS_CLAIM_H

#include "lifecycle.h"

typedef struct QsClaimRequest
{
	const char *queue;
	Datum		worker;			/* text */
	int			max_jobs;
	const Interval *lease;		/* NULL: the queue's default_lease */
} QsClaimRequest;

extern void qs_claim_arguments(FunctionCallInfo fcinfo, int queue, int worker,
							   int max_jobs, int lease,
							   QsClaimRequest *request);
extern void qs_claim(QsJobs *jobs, const QsClaimRequest *request,
					 FunctionCallInfo fcinfo, const char *kind);

#endif							/* QS_CLAIM_H */
