/*
 * history.c
 *	  What clients were told: a list of events for each client, without locks.
 *	  An event is open until its transaction ends.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stress.h"

const char *const op_names[NOPS] = {
	"enqueued", "key known", "claimed", "heartbeat", "completed", "given back",
	"died", "cancelled", "cancel requested", "retried", "refused (lease lost)"
};

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

/* Ends the open transaction. What a savepoint undid before stays undone. */
void
history_end(History *history, Fate fate)
{
	for (size_t i = history->open; i < history->count; i++)
		if (history->events[i].fate == FATE_OPEN)
			history->events[i].fate = fate;
	history->open = history->count;
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
