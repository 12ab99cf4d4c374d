/*
 * self_test.c
 *	  Whether the checks of a history can tell right from wrong: small histories
 *	  of one job, each of which violates one check, or just does not.
 *
 * Jobs are in queue 0, which keeps no completed jobs, but for those of KEPT.
 * A lease lasts until 100, and all is committed unless it says otherwise.
 */
#include <stdio.h>
#include <string.h>

#include "check.h"

#define KEPT 1
#define MAX_EVENTS 4
#define NOTHING NCHECKS

#define EVENT(what, t, by, ...) \
	{.op = OP_##what, .start = (t), .end = (t) + 1, .client = (by), \
	.job = {1, 1}, .asked = 1, __VA_ARGS__}
#define ENQUEUED EVENT(ENQUEUED, 1, 0)
#define CLAIMED(t, by, ...) \
	EVENT(CLAIMED, t, by, .token = (by), .until = 100, __VA_ARGS__)
#define WEAK .weak = true
#define LATER .server = 1		/* after a crash */
#define ABORTED .fate = FATE_ABORTED
#define UNKNOWN .fate = FATE_UNKNOWN

typedef struct Scenario
{
	const char *name;
	Check		violates;
	Where		where;
	bool		effect;
	Event		events[MAX_EVENTS];
} Scenario;

static const Scenario scenarios[] = {
	{"an enqueued job is gone", CHECK_LOST, GONE, false, {ENQUEUED}},
	{"a kept job is gone", CHECK_LOST, GONE, false,
	{EVENT(ENQUEUED, 1, 0, .queue = KEPT), CLAIMED(3, 1, .queue = KEPT),
	EVENT(DONE, 5, 1, .queue = KEPT, UNKNOWN)}},
	{"an enqueue that was weak is gone", NOTHING, GONE, false,
	{EVENT(ENQUEUED, 1, 0, WEAK)}},
	{"an enqueue that was weak, and claimed durably, is gone", CHECK_LOST, GONE, false,
	{EVENT(ENQUEUED, 1, 0, WEAK), CLAIMED(3, 1)}},
	{"an enqueue of unknown fate is gone", NOTHING, GONE, false,
	{EVENT(ENQUEUED, 1, 0, UNKNOWN)}},
	{"a completion of unknown fate", NOTHING, GONE, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(DONE, 5, 1, .token = 1, UNKNOWN)}},

	{"an undone enqueue is there", CHECK_GHOST, UNFINISHED, false,
	{EVENT(ENQUEUED, 1, 0, ABORTED)}},
	{"an undone enqueue was claimed", CHECK_GHOST, GONE, false,
	{EVENT(ENQUEUED, 1, 0, ABORTED), CLAIMED(3, 1),
	EVENT(DONE, 5, 1, .token = 1)}},

	{"two leases at once", CHECK_DOUBLE_CLAIM, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), CLAIMED(5, 2)}},
	{"one lease after another", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), CLAIMED(103, 2)}},
	{"one lease after it was given back", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(GIVEN_BACK, 5, 1, .token = 1), CLAIMED(7, 2)}},
	{"one lease after it was cut short", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(CUT, 5, 3, .token = 1), CLAIMED(7, 2)}},
	{"a lease after another that a heartbeat prolonged", CHECK_DOUBLE_CLAIM, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(HELD, 5, 1, .token = 1, .until = 200), CLAIMED(103, 2)}},
	{"a prolonged lease that the crash took back", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(HELD, 5, 1, .token = 1, .until = 200, WEAK),
	CLAIMED(103, 2, LATER)}},
	{"a weak claim, claimed again after the crash", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1, WEAK), CLAIMED(5, 2, LATER)}},
	{"a weak claim, claimed again before the crash", CHECK_DOUBLE_CLAIM, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1, WEAK), CLAIMED(5, 2, WEAK)}},
	{"a durable claim, claimed again after the crash", CHECK_DOUBLE_CLAIM, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), CLAIMED(5, 2, LATER)}},
	{"a claim that was undone", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1, ABORTED), CLAIMED(5, 2)}},

	{"a token after its job was retried", CHECK_STALE, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(RETRIED, 5, 2), EVENT(GIVEN_BACK, 7, 1, .token = 1)}},
	{"a token after another claim was lost in a crash", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), CLAIMED(103, 2, WEAK),
	EVENT(GIVEN_BACK, 105, 1, .token = 1, LATER)}},
	{"a token that was given back", CHECK_STALE, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(GIVEN_BACK, 5, 1, .token = 1),
	EVENT(HELD, 7, 1, .token = 1)}},

	{"a lease is refused", CHECK_REFUSED, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(REFUSED, 5, 1, .token = 1)}},
	{"a lease is refused of a job that was prepared with it", NOTHING, UNFINISHED, false,
	{EVENT(ENQUEUED, 1, 0, .prepared = true), CLAIMED(3, 1, .prepared = true),
	EVENT(REFUSED, 5, 1, .token = 1)}},
	{"a lease is refused of a job that was prepared with its redrive", NOTHING, UNFINISHED, false,
	{CLAIMED(3, 1, .prepared = true), EVENT(REFUSED, 5, 1, .token = 1)}},
	{"a lease that was prepared is refused", CHECK_REFUSED, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1, .prepared = true), EVENT(REFUSED, 5, 1, .token = 1)}},
	{"an expired lease is refused", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(REFUSED, 105, 1, .token = 1)}},
	{"a durable lease is refused after a crash", CHECK_REFUSED, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(REFUSED, 5, 1, .token = 1, LATER)}},
	{"a weak lease is refused after a crash", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1, WEAK), EVENT(REFUSED, 5, 1, .token = 1, LATER)}},

	{"completed twice", CHECK_TWICE, GONE, false,
	{ENQUEUED, EVENT(DONE, 5, 1), EVENT(DONE, 7, 2)}},
	{"completed, and claimed", CHECK_TWICE, GONE, false,
	{ENQUEUED, EVENT(DONE, 5, 1), CLAIMED(105, 2)}},
	{"completed, and claimed after a crash", CHECK_TWICE, GONE, false,
	{ENQUEUED, EVENT(DONE, 5, 1), CLAIMED(105, 2, LATER)}},
	{"completed weakly, and claimed after a crash", NOTHING, UNFINISHED, false,
	{ENQUEUED, EVENT(DONE, 5, 1, WEAK), CLAIMED(105, 2, LATER)}},
	{"completed weakly, and again after a crash", NOTHING, GONE, false,
	{ENQUEUED, EVENT(DONE, 5, 1, WEAK), EVENT(DONE, 7, 2, LATER)}},
	{"completed weakly, and again before a crash", CHECK_TWICE, GONE, false,
	{ENQUEUED, EVENT(DONE, 5, 1, WEAK), EVENT(DONE, 7, 2, WEAK)}},
	{"completed, opened again, and claimed", NOTHING, UNFINISHED, false,
	{EVENT(DONE, 5, 1, .by_hand = true), EVENT(REOPENED, 7, 2), CLAIMED(9, 2)}},

	{"completed, and unfinished", CHECK_UNDONE, UNFINISHED, false,
	{ENQUEUED, EVENT(DONE, 5, 1)}},
	{"completed weakly, and unfinished", NOTHING, UNFINISHED, false,
	{ENQUEUED, EVENT(DONE, 5, 1, WEAK)}},
	{"completed by nobody", CHECK_UNDONE, COMPLETED, false, {ENQUEUED}},

	{"died without a letter", CHECK_LETTER, UNFINISHED, false,
	{ENQUEUED, EVENT(DIED, 5, 1)}},
	{"died weakly", NOTHING, UNFINISHED, false, {ENQUEUED, EVENT(DIED, 5, 1, WEAK)}},

	{"completed without an effect", CHECK_EFFECT, GONE, false,
	{ENQUEUED, EVENT(DONE, 5, 1, .effect = true)}},
	{"completed with an effect", NOTHING, GONE, true,
	{ENQUEUED, EVENT(DONE, 5, 1, .effect = true)}},
	{"an effect of an undone completion", CHECK_EFFECT, UNFINISHED, true,
	{ENQUEUED, EVENT(DONE, 5, 1, .effect = true, ABORTED)}},

	{"two jobs of a key", CHECK_KEY, UNFINISHED, false,
	{EVENT(ENQUEUED, 1, 0, .key = 1), EVENT(ENQUEUED, 3, 0, .key = 1)}},
	{"two jobs of a key, the first of them weak", NOTHING, UNFINISHED, false,
	{EVENT(ENQUEUED, 1, 0, .key = 1, WEAK), EVENT(ENQUEUED, 3, 0, .key = 1, LATER)}},

	{"a claim of one returns two", CHECK_ASKED, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1, ABORTED), CLAIMED(3, 1, ABORTED)}},
	{"two claims of one", NOTHING, UNFINISHED, false,
	{ENQUEUED, CLAIMED(3, 1), EVENT(RETRIED, 5, 1), CLAIMED(7, 1)}}
};

#define NSCENARIOS (int) (sizeof(scenarios) / sizeof(*scenarios))

static void
run_scenario(const Scenario *scenario, int *passed, int *failed)
{
	Event		events[MAX_EVENTS];
	Left		left = {.job = {1, 1}, .where = scenario->where};
	Id			effect = {1, 1};
	size_t		count = 0;
	bool		right = true;

	while (count < MAX_EVENTS && scenario->events[count].job.high != 0)
	{
		events[count] = scenario->events[count];
		if (events[count].fate == FATE_OPEN)
			events[count].fate = FATE_COMMITTED;
		count++;
	}
	memset(violations, 0, sizeof(violations));
	check_set_left(&left, scenario->where != GONE, &effect, scenario->effect);
	check_history(events, count);
	for (int i = 0; i < NCHECKS; i++)
		right &= (violations[i] > 0) == (i == (int) scenario->violates);
	*(right ? passed : failed) += 1;
	if (right)
		return;
	printf("\"%s\" is not judged as it should be:\n", scenario->name);
	for (int i = 0; i < NCHECKS; i++)
		if (violations[i] > 0 || i == (int) scenario->violates)
			printf("    %s: %ld\n", check_names[i], violations[i]);
}

/* A claim, and maybe a commit that waited for its WAL, in the server's life. */
static bool
is_weak(int server, bool durable, int64_t sent, int64_t acknowledged)
{
	History		claims = {0};
	History		others = {0};
	Id			job = {1, 1};
	Outcome		claim = {.fate = FATE_COMMITTED, .server = server, .acknowledged = 50};
	Outcome		other = {
		.fate = FATE_COMMITTED, .durable = durable, .server = server,
		.sent = sent, .acknowledged = acknowledged
	};

	history_add(&claims, OP_CLAIMED, job);
	history_end(&claims, &claim);
	history_add(&others, OP_DONE, job);
	history_end(&others, &other);
	history_resolve(&claims, server + 1);
	return claims.events[0].weak;
}

void
self_test(int *passed, int *failed)
{
	static const struct
	{
		const char *name;
		bool		durable;
		int64_t		sent;
		bool		weak;
	}			commits[] = {
		{"a durable commit that began later", true, 51, false},
		{"a durable commit that began before", true, 49, true},
		{"a commit that did not wait", false, 51, true}
	};

	check_quietly = true;
	for (int i = 0; i < NSCENARIOS; i++)
		run_scenario(&scenarios[i], passed, failed);
	for (int i = 0; i < (int) (sizeof(commits) / sizeof(*commits)); i++)
	{
		bool		right = is_weak(i, commits[i].durable, commits[i].sent, 60) == commits[i].weak;

		*(right ? passed : failed) += 1;
		if (!right)
			printf("a claim and %s are not judged as they should be\n", commits[i].name);
	}
}
