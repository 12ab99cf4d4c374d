/*
 * ageing.c
 *	  Checks src/ageing.c: a scan that keeps to ageing.h finds all jobs, in
 *	  their order.
 *
 * The input is a program (programs.h) that makes jobs of some levels.
 */
#include "postgres.h"

#include "ageing.h"
#include "programs.h"

#define KEPT 2000
#define MAX_LEVELS 40

static QsRangeKey jobs[KEPT];	/* as the index has them */
static int	njobs;
static int64_t ageing;

/* Of any magnitude, often one that was there before. */
static int64_t
take_time(void)
{
	int64_t		bits = 0;

	switch (take_byte(4))
	{
		case 0:
			return 1000 * take_byte(256);
		case 1:
			return njobs > 0 ? jobs[take_byte(njobs)].run_at : 0;
		default:
			for (int i = 0; i < 8; i++)
				bits = (int64_t) ((uint64_t) bits << 8 | (uint64_t) take_byte(256));
			return bits >> take_byte(63);
	}
}

static int
compare(const void *a, const void *b)
{
	const QsRangeKey *x = a;
	const QsRangeKey *y = b;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	return (x->run_at > y->run_at) - (x->run_at < y->run_at);
}

/* Exact, but for what no number of ours can be, which is at the end of them. */
static __int128
effective_time(const QsRangeKey *key)
{
	__int128	credit = (__int128) key->priority * ageing;
	__int128	time;

	credit = Max(Min(credit, INT64_MAX), INT64_MIN);
	time = key->run_at - credit;
	return Max(Min(time, INT64_MAX), INT64_MIN);
}

/* The first job of each level begins it, with the job itself as where to go on. */
static void
add_levels(QsLevels *levels)
{
	for (int i = 0; i < njobs; i++)
		if (i == 0 || jobs[i].priority != jobs[i - 1].priority)
			qs_levels_add(levels, &jobs[i], &jobs[i]);
}

/* Which job the level whose turn it is goes on with. */
static int
current_job(const QsLevels *levels)
{
	int			job;

	memcpy(&job, levels->heap[0].from.id, sizeof(job));
	CHECK(job >= 0 && job < njobs);
	CHECK(levels->heap[0].key.run_at == jobs[job].run_at);
	CHECK(levels->heap[0].key.priority == jobs[job].priority);
	return job;
}

/* Goes through all jobs; the number of them. */
static int
scan(QsLevels *levels)
{
	const QsRangeKey *last = NULL;
	int			found = 0;

	while (levels->count > 0)
	{
		int			job = current_job(levels);

		do
		{
			__int128	time = effective_time(&jobs[job]);

			step++;
			if (last != NULL)
			{
				CHECK(effective_time(last) <= time);
				CHECK(effective_time(last) < time || last->run_at <= jobs[job].run_at);
			}
			last = &jobs[job++];
			found++;
		} while (job < njobs && jobs[job].priority == last->priority &&
				 qs_levels_is_turn(levels, &jobs[job]));
		if (job < njobs && jobs[job].priority == last->priority)
			qs_levels_put_back(levels, &jobs[job]);
		else
			qs_levels_drop(levels);
	}
	return found;
}

static void
run_program(void)
{
	QsLevels	levels;

	njobs = 0;
	ageing = 1 + (take_time() & INT64_MAX) % (INT64_MAX - 1);
	while (input_left > 0 && njobs < KEPT)
	{
		QsRangeKey *job = &jobs[njobs];

		memset(job, 0, sizeof(*job));
		job->run_at = take_time();
		job->priority = (int16_t) (take_byte(MAX_LEVELS) * (take_byte(2) ? 1 : -800));
		njobs++;
	}
	qsort(jobs, njobs, sizeof(QsRangeKey), compare);
	for (int i = 0; i < njobs; i++)
		memcpy(jobs[i].id, &i, sizeof(i));
	qs_levels_begin(&levels, ageing);
	CHECK(levels.seeking);
	add_levels(&levels);
	CHECK(scan(&levels) == njobs);
	/* and anew, in the room that there is */
	qs_levels_seek(&levels);
	add_levels(&levels);
	CHECK(scan(&levels) == njobs);
	qs_levels_end(&levels);
}
