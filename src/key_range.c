/*
 * key_range.c
 *	  Sets of disjoint ranges of keys: see key_range.h.
 *
 * A set is a list of ranges in the order of their keys. Invariants, which the
 * fuzz target checks after each step:
 *	 lo < hi in every range, and hi <= lo of the next one.
 *	 After qs_ranges_cut() no range has the key, but a guarded one whose
 *	 transaction is the one that cut.
 *	 qs_ranges_add() makes no key covered that neither the added range nor the
 *	 set had; ranges of different kinds are never merged.
 */
#include <string.h>

#include "key_range.h"

int
qs_key_compare(const QsRangeKey *a, const QsRangeKey *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->run_at != b->run_at)
		return a->run_at < b->run_at ? -1 : 1;
	return memcmp(a->id, b->id, sizeof(a->id));
}

/* Makes key the least one that is greater; false if there is none. */
bool
qs_key_next(QsRangeKey *key)
{
	for (int i = sizeof(key->id) - 1; i >= 0; i--)
		if (++key->id[i] != 0)
			return true;
	if (key->run_at < INT64_MAX)
	{
		key->run_at++;
		return true;
	}
	if (key->priority > INT16_MIN)
	{
		qs_key_first_of_level(key, key->priority - 1);
		return true;
	}
	memset(key->id, 0xff, sizeof(key->id));
	return false;
}

/* The least key of a priority. */
void
qs_key_first_of_level(QsRangeKey *key, int16_t priority)
{
	memset(key, 0, sizeof(*key));
	key->priority = priority;
	key->run_at = INT64_MIN;
}

void
qs_pool_init(QsRangePool *pool, QsRange *ranges, int32_t count)
{
	pool->ranges = ranges;
	for (int32_t i = 0; i < count; i++)
		ranges[i].next = i + 1 < count ? i + 1 : QS_NO_RANGE;
	pool->free = count > 0 ? 0 : QS_NO_RANGE;
}

static int32_t
take_free(QsRangePool *pool)
{
	int32_t		n = pool->free;

	if (n != QS_NO_RANGE)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a free one is there */
		pool->free = pool->ranges[n].next;
	return n;
}

static void
give_free(QsRangePool *pool, int32_t n)
{
	pool->ranges[n].next = pool->free;
	pool->free = n;
}

static bool
is_void(const QsRange *range, const QsRangeClock *clock)
{
	switch (range->kind)
	{
		case QS_RANGE_TIMED:
			return range->until <= clock->now;
		case QS_RANGE_GUARDED:
			return !clock->is_running(range->xid);
		default:
			return false;
	}
}

static int32_t
sum(int32_t a, int32_t b)
{
	return a > INT32_MAX - b ? INT32_MAX : a + b;
}

/*
 * If ranges that hold cover *key, moves it to the end of what they cover
 * without a gap, and returns true; until and guarded of *jump, which the caller
 * began, take in what these are. In either case it says where the next range
 * that holds begins, and how many entries these have.
 */
bool
qs_ranges_jump(const QsRangePool *pool, int32_t set, const QsRangeClock *clock,
			   QsRangeKey *key, QsRangeJump *jump)
{
	bool		jumped = false;

	jump->has_next = false;
	jump->entries = 0;
	for (int32_t n = set; n != QS_NO_RANGE; n = pool->ranges[n].next)
	{
		const QsRange *range = &pool->ranges[n];

		if (qs_key_compare(&range->hi, key) <= 0 || is_void(range, clock))
			continue;
		if (qs_key_compare(&range->lo, key) > 0)
		{
			jump->next_lo = range->lo;
			jump->has_next = true;
			break;
		}
		if (range->kind == QS_RANGE_TIMED && range->until < jump->until)
			jump->until = range->until;
		if (range->kind == QS_RANGE_GUARDED)
			jump->guarded = true;
		jump->entries = sum(jump->entries, range->entries);
		*key = range->hi;
		jumped = true;
	}
	return jumped;
}

/*
 * Takes a key out of the set, as an entry with it has appeared. A range that
 * is guarded by own_xid, whose entry it is, keeps it: it covers just what that
 * transaction writes.
 */
void
qs_ranges_cut(QsRangePool *pool, int32_t *set, const QsRangeKey *key,
			  uint64_t own_xid)
{
	int32_t    *link = set;

	while (*link != QS_NO_RANGE)
	{
		int32_t		n = *link;
		QsRange    *range = &pool->ranges[n];
		QsRangeKey	after = *key;
		bool		has_left;
		bool		has_right;

		if (qs_key_compare(&range->lo, key) > 0)
			break;
		if (qs_key_compare(&range->hi, key) <= 0)
		{
			link = &range->next;
			continue;
		}
		if (range->kind == QS_RANGE_GUARDED && range->xid == own_xid)
			break;

		has_left = qs_key_compare(&range->lo, key) < 0;
		has_right = qs_key_next(&after) && qs_key_compare(&after, &range->hi) < 0;
		if (has_left && has_right)
		{
			int32_t		right = take_free(pool);

			if (right != QS_NO_RANGE)
			{
				pool->ranges[right] = *range;
				pool->ranges[right].lo = after;
				range->next = right;
			}
			range->hi = *key;
		}
		else if (has_left)
			range->hi = *key;
		else if (has_right)
			range->lo = after;
		else
		{
			*link = range->next;
			give_free(pool, n);
		}
		break;
	}
}

/* Whether b, which follows a without a gap, may become a part of it. */
static bool
may_merge(const QsRange *a, const QsRange *b)
{
	if (a->kind != b->kind || qs_key_compare(&a->hi, &b->lo) != 0)
		return false;
	switch (a->kind)
	{
		case QS_RANGE_DEAD:
			return true;
		case QS_RANGE_GUARDED:
			return a->xid == b->xid;
		default:
			{
				/* within 2 s, as microseconds */
				int64_t		apart = a->until > b->until ?
				a->until - b->until : b->until - a->until;

				return apart <= 2000000 &&
					a->entries + b->entries <= QS_TIMED_ENTRIES;
			}
	}
}

/*
 * Merges the range with the one that follows it, if it may; whether it did.
 * One that is void would make the other void as well.
 */
static bool
merge_next(QsRangePool *pool, int32_t n, const QsRangeClock *clock)
{
	QsRange    *range = &pool->ranges[n];
	int32_t		m = range->next;
	QsRange    *next;

	if (m == QS_NO_RANGE)
		return false;
	next = &pool->ranges[m];
	if (!may_merge(range, next) ||
		is_void(range, clock) || is_void(next, clock))
		return false;
	range->hi = next->hi;
	range->entries = sum(range->entries, next->entries);
	if (next->until < range->until)
		range->until = next->until;
	range->next = next->next;
	give_free(pool, m);
	return true;
}

/*
 * Adds what a scan found out. Ranges that hold already stay; the new one fills
 * the gaps between them. Where it meets void ones it takes their place. If the
 * pool has no range left, some of it is not added.
 */
void
qs_ranges_add(QsRangePool *pool, int32_t *set, const QsRangeClock *clock,
			  const QsRange *range)
{
	int32_t    *link = set;
	int32_t		before = QS_NO_RANGE;
	QsRangeKey	lo = range->lo;

	while (qs_key_compare(&lo, &range->hi) < 0)
	{
		int32_t		n = *link;
		QsRange    *there = n == QS_NO_RANGE ? NULL : &pool->ranges[n];
		int32_t		added;

		if (there != NULL && qs_key_compare(&there->hi, &lo) <= 0)
		{
			before = n;
			link = &there->next;
			continue;
		}
		if (there != NULL && is_void(there, clock))
		{
			*link = there->next;
			give_free(pool, n);
			continue;
		}
		if (there != NULL && qs_key_compare(&there->lo, &lo) <= 0)
		{
			lo = there->hi;
			before = n;
			link = &there->next;
			continue;
		}

		/* a gap from lo on */
		added = take_free(pool);
		if (added == QS_NO_RANGE)
			return;
		pool->ranges[added] = *range;
		pool->ranges[added].lo = lo;
		if (there != NULL && qs_key_compare(&there->lo, &range->hi) < 0)
			pool->ranges[added].hi = there->lo;
		pool->ranges[added].next = n;
		*link = added;
		merge_next(pool, added, clock);
		if (before != QS_NO_RANGE && merge_next(pool, before, clock))
			added = before;
		lo = pool->ranges[added].hi;
		before = added;
		link = &pool->ranges[added].next;
	}
}

/* Empties the set. */
void
qs_ranges_clear(QsRangePool *pool, int32_t *set)
{
	while (*set != QS_NO_RANGE)
	{
		int32_t		n = *set;

		*set = pool->ranges[n].next;
		give_free(pool, n);
	}
}
