/*
 * check.c
 *	  Whether what was seen of groups can be: see check.h.
 *
 * Both checks take what is certain: a lease lasts at least from the answer of its
 * claim until its end is asked for, and a job was enqueued before another if it
 * was acknowledged before that one was sent.
 */
#include <stdlib.h>
#include <string.h>

#include "../lib/at_once.h"
#include "check.h"

/* The most runs of one group at the same time, of all groups of the queue. */
int
most_at_once(const Job *jobs, const Run *runs, int nruns, int queue)
{
	Event	   *events = malloc((2 * nruns + 1) * sizeof(Event));
	int			most = 0;
	int			most_of_group;

	for (int group = 0; group < GROUPS; group++)
	{
		Event	   *end = events;

		for (int i = 0; i < nruns; i++)
		{
			const Job  *job = &jobs[runs[i].job];

			if (job->queue == queue && job->group == group)
				end = note_interval(end, runs[i].from, runs[i].until);
		}
		most_of_group = most_events(events, end - events);
		most = most_of_group > most ? most_of_group : most;
	}
	free(events);
	return most;
}

typedef struct Start
{
	const Job  *job;
	double		first;
	double		last;
} Start;

static int
compare_starts(const void *a, const void *b)
{
	const Start *first = a;
	const Start *second = b;

	return (first->first > second->first) - (first->first < second->first);
}

/*
 * How many jobs of the queue began before one of their group had begun for the
 * last time that was enqueued before them.
 */
int
overtaken(const Job *jobs, int njobs, const Run *runs, int nruns, int queue)
{
	Start	   *starts = calloc(njobs + 1, sizeof(Start));
	int			found = 0;

	for (int i = 0; i < nruns; i++)
	{
		Start	   *start = &starts[runs[i].job];

		if (start->job == NULL || runs[i].from < start->first)
			start->first = runs[i].from;
		if (start->job == NULL || runs[i].from > start->last)
			start->last = runs[i].from;
		start->job = &jobs[runs[i].job];
	}
	for (int group = 0; group < GROUPS; group++)
	{
		Start	   *members = malloc((njobs + 1) * sizeof(Start));
		int			count = 0;
		double		latest = 0;

		for (int i = 0; i < njobs; i++)
			if (starts[i].job != NULL && starts[i].job->queue == queue &&
				starts[i].job->group == group)
				members[count++] = starts[i];
		qsort(members, count, sizeof(Start), compare_starts);

		/* latest enqueue among those that began earlier */
		for (int i = 0; i < count; i++)
		{
			found += members[i].job->acknowledged < latest;
			latest = members[i].job->sent > latest ? members[i].job->sent : latest;
			/* it began again after one that follows */
			found += i + 1 < count && members[i].last > members[i + 1].first &&
				members[i].job->acknowledged < members[i + 1].job->sent;
		}
		free(members);
	}
	free(starts);
	return found;
}

/* Whether the checks tell histories that are wrong from those that are not. */
bool
self_test(void)
{
	static const Job jobs[] = {{0, 1, 1, 2}, {0, 1, 3, 4}, {0, 2, 1, 2}, {0, 1, 3.5, 4.5}};
	static const Run fine[] = {{0, 5, 6}, {0, 7, 8}, {1, 8, 9}, {2, 5, 9}, {3, 10, 11}};
	static const Run either[] = {{0, 5, 6}, {3, 7, 8}, {1, 9, 10}};
	static const Run twice[] = {{0, 5, 7}, {1, 6, 8}};
	static const Run swapped[] = {{1, 5, 6}, {0, 7, 8}};
	static const Run again[] = {{0, 5, 6}, {1, 7, 8}, {0, 9, 10}};

	return most_at_once(jobs, fine, 5, 0) == 1 && overtaken(jobs, 4, fine, 5, 0) == 0 &&
		overtaken(jobs, 4, either, 3, 0) == 0 &&
		most_at_once(jobs, twice, 2, 0) == 2 &&
		overtaken(jobs, 4, swapped, 2, 0) == 1 &&
		overtaken(jobs, 4, again, 3, 0) == 1;
}
