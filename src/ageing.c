/*
 * ageing.c
 *	  Merges the levels of a queue with ageing: see ageing.h.
 *
 * The levels are a binary heap. There is no bound to how many there are: a claim
 * that left some out would not be exact. Each costs a claim one descent of the
 * index, so few are meant to be in use.
 */
#include "postgres.h"

#include "ageing.h"
#include "common/int.h"

#define FIRST_ROOM 16			/* levels */

void
qs_levels_begin(QsLevels *levels, int64_t ageing)
{
	memset(levels, 0, sizeof(*levels));
	levels->ageing = ageing;
	levels->seeking = ageing > 0;
}

/* Begins anew, with no level known. */
void
qs_levels_seek(QsLevels *levels)
{
	levels->count = 0;
	levels->seeking = levels->ageing > 0;
}

/*
 * Sets key and effective. The bounds of ageing and run_at leave room; what a
 * clock of the far future could overflow stays at the end of the range.
 */
static void
set_order(const QsLevels *levels, const QsRangeKey *key, QsLevel *level)
{
	int64		credit;

	level->key = *key;
	if (pg_mul_s64_overflow(key->priority, levels->ageing, &credit))
		credit = key->priority < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	if (pg_sub_s64_overflow(key->run_at, credit, &level->effective))
		level->effective = credit < 0 ? PG_INT64_MAX : PG_INT64_MIN;
}

static bool
before(const QsLevel *a, const QsLevel *b)
{
	if (a->effective != b->effective)
		return a->effective < b->effective;
	return a->key.run_at < b->key.run_at;
}

static void
sift_down(QsLevels *levels)
{
	QsLevel    *heap = levels->heap;
	QsLevel		moving = heap[0];
	int			i = 0;

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child + 1 < levels->count && before(&heap[child + 1], &heap[child]))
			child++;
		if (child >= levels->count || !before(&heap[child], &moving))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

/* Adds a level that has its first entry at key, to be found from `from` on. */
void
qs_levels_add(QsLevels *levels, const QsRangeKey *from, const QsRangeKey *key)
{
	QsLevel		level = {.from = *from};
	int			i = levels->count++;

	if (levels->heap == NULL)
	{
		levels->room = FIRST_ROOM;
		levels->heap = palloc(levels->room * sizeof(QsLevel));
	}
	else if (i == levels->room)
	{
		levels->room *= 2;
		levels->heap = repalloc(levels->heap, levels->room * sizeof(QsLevel));
	}
	set_order(levels, key, &level);
	while (i > 0 && before(&level, &levels->heap[(i - 1) / 2]))
	{
		levels->heap[i] = levels->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	levels->heap[i] = level;
}

/* Whether an entry of the first level comes before those of all others. */
bool
qs_levels_is_turn(const QsLevels *levels, const QsRangeKey *key)
{
	QsLevel		level;

	set_order(levels, key, &level);
	for (int i = 1; i <= 2 && i < levels->count; i++)
		if (before(&levels->heap[i], &level))
			return false;
	return true;
}

/* Says of the first level that its next entry has the key. */
void
qs_levels_put_back(QsLevels *levels, const QsRangeKey *key)
{
	levels->heap[0].from = *key;
	set_order(levels, key, &levels->heap[0]);
	sift_down(levels);
}

/* Says of the first level that it has no more. */
void
qs_levels_drop(QsLevels *levels)
{
	levels->heap[0] = levels->heap[--levels->count];
	if (levels->count > 0)
		sift_down(levels);
}

void
qs_levels_end(QsLevels *levels)
{
	if (levels->heap != NULL)
		pfree(levels->heap);
}
