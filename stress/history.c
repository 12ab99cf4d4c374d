/*
 * history.c
 *	  What clients were told: a list of events for each client, without locks.
 *	  An event is open until its transaction ends.
 *
 * The server may crash. What it had acknowledged before is then either durable
 * or weak, that is, it may have been undone. Weak is what did not wait for its
 * WAL, if nothing that did was begun to be committed later, and acknowledged.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stress.h"

const char *const op_names[NOPS] = {
	"enqueued", "key known", "claimed", "heartbeat", "completed", "given back",
	"died", "cancelled", "cancel requested", "retried", "lease cut short",
	"reopened", "refused (lease lost)"
};

/*
 * When the last commit was sent, in each of the server's lives, that was
 * acknowledged and had waited for its WAL. With that the WAL of everything that
 * had been acknowledged before was on disk.
 */
static int64_t durable[MAX_SERVERS];
static pthread_mutex_t durable_mutex = PTHREAD_MUTEX_INITIALIZER;

void
note_durable(int server, int64_t sent)
{
	pthread_mutex_lock(&durable_mutex);
	if (durable[server] < sent)
		durable[server] = sent;
	pthread_mutex_unlock(&durable_mutex);
}

Event *
history_add(History *history, Op op, Id job)
{
	Event	   *event;

	if (history->count == history->space)
	{
		history->space = history->space ? 2 * history->space : 4096;
		history->events = realloc(history->events,
								  history->space * sizeof(Event));
		if (history->events == NULL)
			abort();
	}
	event = &history->events[history->count++];
	memset(event, 0, sizeof(*event));
	event->op = op;
	event->job = job;
	event->fate = FATE_OPEN;
	return event;
}

static void
add_late(History *history, const Outcome *outcome)
{
	Late	   *late;

	if (history->nlate == history->late_space)
	{
		history->late_space = history->late_space ? 2 * history->late_space : 256;
		history->late = realloc(history->late, history->late_space * sizeof(Late));
		if (history->late == NULL)
			abort();
	}
	late = &history->late[history->nlate++];
	late->first = history->open;
	late->end = history->count;
	late->outcome = *outcome;
}

/* Ends the open transaction. What a savepoint undid before stays undone. */
void
history_end(History *history, const Outcome *outcome)
{
	bool		committed = outcome->fate == FATE_COMMITTED;

	for (size_t i = history->open; i < history->count; i++)
		if (history->events[i].fate == FATE_OPEN)
			history->events[i].fate = outcome->fate;
	if (committed && outcome->durable)
		note_durable(outcome->server, outcome->sent);
	if (history->open < history->count &&
		(outcome->fate == FATE_PREPARED || (committed && !outcome->durable)))
		add_late(history, outcome);
	history->open = history->count;
}

/*
 * Once all is over: settles what became of prepared transactions, and of those
 * that the server had acknowledged before it crashed, but need not have written.
 */
void
history_resolve(History *history, int last_server)
{
	for (size_t i = 0; i < history->nlate; i++)
	{
		const Outcome *outcome = &history->late[i].outcome;
		bool		prepared = outcome->fate == FATE_PREPARED;
		bool		weak = !prepared && outcome->server < last_server &&
		outcome->acknowledged > durable[outcome->server];

		for (size_t j = history->late[i].first; j < history->late[i].end; j++)
		{
			Event	   *event = &history->events[j];

			if (prepared && event->fate == FATE_PREPARED)
			{
				event->fate = prepared_fate(outcome->prepared);
				event->prepared = true;
			}
			else if (weak && event->fate == FATE_COMMITTED)
				event->weak = true;
		}
	}
}

/* Rolls back to a savepoint. */
void
history_undo(History *history, size_t first)
{
	for (size_t i = first; i < history->count; i++)
		history->events[i].fate = FATE_ABORTED;
}

bool
parse_id(const char *text, Id *id)
{
	uint64_t	parts[2] = {0, 0};
	int			digits = 0;

	for (; *text != '\0'; text++)
	{
		if (*text == '-')
			continue;
		if (!isxdigit((unsigned char) *text) || digits == 32)
			return false;
		parts[digits / 16] = parts[digits / 16] << 4 |
			(uint64_t) (isdigit((unsigned char) *text) ? *text - '0' :
						tolower((unsigned char) *text) - 'a' + 10);
		digits++;
	}
	id->high = parts[0];
	id->low = parts[1];
	return digits == 32;
}

/* text has room for 37 characters. */
void
format_id(Id id, char *text)
{
	snprintf(text, 37, "%08x-%04x-%04x-%04x-%012llx",
			 (unsigned) (id.high >> 32), (unsigned) (id.high >> 16 & 0xffff),
			 (unsigned) (id.high & 0xffff), (unsigned) (id.low >> 48),
			 (unsigned long long) (id.low & 0xffffffffffff));
}

int
compare_ids(const Id *a, const Id *b)
{
	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	return 0;
}

/* The clock that the server, on the same machine, goes by too. */
int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
