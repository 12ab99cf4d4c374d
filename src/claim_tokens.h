/*
 * claim_tokens.h
 *	  The tokens of queues.rate_limiter: a claim takes one for each job; and those
 *	  of queues.enqueue_limiter, which an enqueue takes.
 *
 * Invariants:
 *	 A claim has a token before it leases a job. It takes them with the first job
 *	 that it finds, as many as it may need, and gives back what is left.
 *	 What is rolled back, by its transaction or a subtransaction, gives back
 *	 its tokens. What is prepared keeps them.
 */
#ifndef QS_CLAIM_TOKENS_H
#define QS_CLAIM_TOKENS_H

#include "limiter.h"
#include "queue.h"

/* the tokens of one claim from one queue */
typedef struct QsTokens
{
	QsCall	   *call;
	const QsQueue *queue;
	QsRequest	request;		/* for as many jobs as may be claimed */
	QsGrant		grant;
	bool		asked;			/* grant is set */
	int			entry;			/* in the list of claim_tokens.c, if any were granted */
	int			used;
} QsTokens;

extern void qs_tokens_init(void);
extern int64 qs_tokens_wait(QsCall *call, const QsQueue *queue);
extern void qs_tokens_begin(QsTokens *tokens, QsCall *call,
							const QsQueue *queue, int max_jobs);
extern bool qs_tokens_any(QsTokens *tokens);
extern bool qs_tokens_spent(const QsTokens *tokens);
extern void qs_tokens_use(QsTokens *tokens);
extern void qs_tokens_end(QsTokens *tokens);
extern bool qs_tokens_take(QsCall *call, const QsQueue *queue,
						   const char *limiter, int count, int64 *wait);

#endif							/* QS_CLAIM_TOKENS_H */
