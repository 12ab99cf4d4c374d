/*
 * claim_tokens.c
 *	  The tokens of claims, and of enqueues: see claim_tokens.h.
 *
 * What a transaction took is kept in a list, and given back if it is rolled back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "claim_tokens.h"
#include "level_list.h"
#include "waiters.h"

typedef struct Taken
{
	int			level;
	pg_uuid_t	queue;
	QsGrant		grant;
} Taken;

static void give_back(void *entry);

static QsLevelList taken = {.entry_size = sizeof(Taken), .undo = give_back};

static void
give_back(void *entry)
{
	Taken	   *place = entry;

	qs_limiter_abort(&place->grant);
	if (qs_waiters_exist())
		qs_wake(&place->queue);
}

static void
at_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_ABORT)
		qs_level_list_undo(&taken);
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT ||
		event == XACT_EVENT_PREPARE)
		qs_level_list_clear(&taken);
}

/* Registers the callbacks; once a session. */
void
qs_tokens_init(void)
{
	RegisterXactCallback(at_end, NULL);
	qs_level_list_init(&taken);
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
	Taken		entry = {.queue = queue->id, .grant = *grant};

	qs_level_list_add(&taken, &entry);
	return taken.count - 1;
}

static void
take(QsTokens *tokens)
{
	qs_level_list_reserve(&taken);
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

	qs_level_list_reserve(&taken);
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
	((Taken *) qs_level_list_at(&taken, tokens->entry))->grant = tokens->grant;
}
