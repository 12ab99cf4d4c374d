/*
 * claim_tokens.c
 *	  The tokens of claims, and of enqueues: see claim_tokens.h.
 *
 * What a transaction took is kept in a list, with the level of the
 * subtransaction that took it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "claim_tokens.h"
#include "utils/memutils.h"
#include "waiters.h"

typedef struct Taken
{
	int			level;
	pg_uuid_t	queue;
	QsGrant		grant;
} Taken;

static Taken *taken = NULL;
static int	ntaken = 0;
static int	taken_allocated = 0;

static void
reserve(void)
{
	if (ntaken < taken_allocated)
		return;
	taken_allocated = Max(16, 2 * taken_allocated);
	taken = taken == NULL ?
		MemoryContextAlloc(TopMemoryContext, taken_allocated * sizeof(Taken)) :
		repalloc_huge(taken, taken_allocated * sizeof(Taken));
}

/* Gives back what was taken at a level or below. */
static void
give_back_from(int level)
{
	while (ntaken > 0 && taken[ntaken - 1].level >= level)
	{
		ntaken--;
		qs_limiter_abort(&taken[ntaken].grant);
		if (qs_waiters_exist())
			qs_wake(&taken[ntaken].queue);
	}
}

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_ABORT)
		give_back_from(0);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		ntaken = 0;
}

static void
at_sub_end(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
		   SubTransactionId parent pg_attribute_unused(),
		   void *arg pg_attribute_unused())
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
		give_back_from(level);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (int i = ntaken - 1; i >= 0 && taken[i].level >= level; i--)
			taken[i].level = level - 1;
}

/* Registers the callbacks; once a session. */
void
qs_tokens_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_sub_end, NULL);
}

static bool
is_limited(const QsQueue *queue)
{
	return queue->rate_limiter[0] != '\0';
}

/* How long until there is a token, in microseconds; takes none. */
int64
qs_tokens_wait(QsCall *call, const QsQueue *queue)
{
	return is_limited(queue) ?
		qs_limiter_wait(call, &queue->tenant, queue->rate_limiter, 1) : 0;
}

/* Begins a claim of up to max_jobs jobs; queue is to last until its end. */
void
qs_tokens_begin(QsTokens *tokens, QsCall *call, const QsQueue *queue,
				int max_jobs)
{
	memset(tokens, 0, sizeof(*tokens));
	tokens->call = call;
	tokens->queue = queue;
	tokens->request.tenant = &queue->tenant;
	tokens->request.name = queue->rate_limiter;
	tokens->request.least = 1;
	tokens->request.most = max_jobs;
}

/* Puts into the list, where there is room, what was taken; returns its place. */
static int
note_taken(const QsQueue *queue, const QsGrant *grant)
{
	Taken	   *entry = &taken[ntaken];

	entry->level = GetCurrentTransactionNestLevel();
	entry->queue = queue->id;
	entry->grant = *grant;
	return ntaken++;
}

static void
take(QsTokens *tokens)
{
	reserve();
	qs_limiter_take(tokens->call, &tokens->request, &tokens->grant);
	tokens->asked = true;
	if (tokens->grant.tokens == 0)
		return;
	tokens->entry = note_taken(tokens->queue, &tokens->grant);
}

/* Whether one more job may be leased. */
bool
qs_tokens_any(QsTokens *tokens)
{
	if (!is_limited(tokens->queue))
		return true;
	if (!tokens->asked)
		take(tokens);
	return tokens->used < tokens->grant.tokens;
}

/* Whether it is known that no more jobs may be. */
bool
qs_tokens_spent(const QsTokens *tokens)
{
	return tokens->asked && tokens->used == tokens->grant.tokens;
}

/* A job was leased. */
void
qs_tokens_use(QsTokens *tokens)
{
	tokens->used++;
}

/*
 * Takes so many tokens of a limiter, or none; then *wait says how long until
 * they are there, in microseconds.
 */
bool
qs_tokens_take(QsCall *call, const QsQueue *queue, const char *limiter,
			   int count, int64 *wait)
{
	QsRequest	request = {
		.tenant = &queue->tenant, .name = limiter, .least = count, .most = count
	};
	QsGrant		grant;

	reserve();
	qs_limiter_take(call, &request, &grant);
	if (grant.tokens > 0)
		note_taken(queue, &grant);
	*wait = grant.wait;
	return grant.tokens > 0;
}

/* Gives back what was not used. */
void
qs_tokens_end(QsTokens *tokens)
{
	if (!tokens->asked || tokens->used == tokens->grant.tokens)
		return;
	qs_limiter_give_back(tokens->call, &tokens->request, &tokens->grant,
						 tokens->grant.tokens - tokens->used);
	taken[tokens->entry].grant = tokens->grant;
}
