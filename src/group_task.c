/*
 * group_task.c
 *	  The task that admits jobs whose group has room although nobody left it.
 *
 * That is when group_concurrency was raised or removed, a letter that blocked
 * was kept for long enough, rows came or went without triggers, or whoever took
 * a job away did not want to wait. The task goes around all groups that have
 * held jobs, from where its last run stopped.
 */
#include "postgres.h"

#include "groups.h"
#include "miscadmin.h"
#include "task.h"
#include "utils/builtins.h"

/* What one run does at most. */
#define STEPS 2000				/* descents of an index */
#define GROUPS 200				/* that it settles */
#define JOBS 1000				/* of one group that it admits */

#define KEY_BYTES 512

/*
 * Where the session's next run goes on. It may be anywhere, so it matters not
 * if the run that set it was rolled back, or was of another extension.
 */
static struct
{
	QsTableKind kind;
	pg_uuid_t	tenant;
	pg_uuid_t	queue;
	int			key_length;
	char		key[KEY_BYTES];
}			next;

typedef struct Found
{
	int			count;
	QsGroup		groups[GROUPS];
} Found;

static void
load_place(QsGroupPlace *place)
{
	place->kind = next.kind;
	place->group.tenant = next.tenant;
	place->group.queue = next.queue;
	place->group.key = PointerGetDatum(cstring_to_text_with_len(next.key, next.key_length));
}

static void
save_place(const QsGroupPlace *place)
{
	text	   *key = DatumGetTextPP(place->group.key);

	next.kind = place->kind;
	next.tenant = place->group.tenant;
	next.queue = place->group.queue;
	next.key_length = Min(VARSIZE_ANY_EXHDR(key), KEY_BYTES);
	memcpy(next.key, VARDATA_ANY(key), next.key_length);
}

/* Whether jobs of the group are held for no reason any more. */
static bool
has_room(QsCall *call, const QsGroup *group)
{
	QsQueue		queue;
	QsGroupJob	held;

	return qs_queue_by_id(call, &group->queue, &queue) &&
		qs_group_held(call, group, 1, &held) > 0 &&
		(queue.group_concurrency == 0 ||
		 (!(queue.group_blocks && qs_group_blocked(call, group)) &&
		  qs_group_admitted(call, group, queue.group_concurrency) <
		  queue.group_concurrency));
}

/* Goes on through both tables; true if it came to the end of the second. */
static bool
find_groups(QsCall *call, Found *found)
{
	QsGroupPlace place;
	int			steps = STEPS;

	load_place(&place);
	qs_group_look_begin();
	while (steps > 0 && found->count < GROUPS)
	{
		CHECK_FOR_INTERRUPTS();
		if (qs_group_next(call, &place, &steps))
		{
			if (has_room(call, &place.group))
				found->groups[found->count++] = place.group;
		}
		else if (steps > 0)
		{
			bool		at_end = place.kind == QS_CRITICAL_JOBS;

			memset(&place.group.tenant, 0, UUID_LEN);
			memset(&place.group.queue, 0, UUID_LEN);
			place.group.key = PointerGetDatum(cstring_to_text(""));
			place.kind = at_end ? QS_JOBS : QS_CRITICAL_JOBS;
			if (at_end)
			{
				qs_group_look_end();
				save_place(&place);
				return true;
			}
		}
	}
	qs_group_look_end();
	save_place(&place);
	return false;
}

static int64
settle(QsCall *call, int first, int count, void *arg)
{
	Found	   *found = arg;
	QsJobs		jobs;
	int64		admitted;

	qs_jobs_begin(&jobs, call);
	jobs.impatient = true;
	for (int i = first; i < first + count; i++)
		qs_group_note_left(&jobs, &found->groups[i], JOBS);
	admitted = qs_groups_settle(&jobs);
	qs_jobs_end(&jobs);
	return admitted;
}

static void
run(QsTaskRun *run)
{
	Found	   *found = palloc(sizeof(Found));

	found->count = 0;
	(void) find_groups(run->call, found);
	run->done = qs_task_batch(run->call, found->count, settle,
							  qs_task_log_failure, found);
	run->more = run->done > 0;
	pfree(found);
}

const QsTask qs_task_groups = {.name = "groups", .period = 5, .run = run};
