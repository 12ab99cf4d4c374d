/*
 * key_range.c
 *	  Checks src/key_range.c against a model that knows no ranges.
 *
 * The input is a program (programs.h). After each operation all that
 * key_range.[ch] promises is checked.
 *
 * The model: some keys, of which neighbours touch, or are far apart, or differ
 * in what carries over. Ranges begin and end only at such a key or right
 * behind one. So keys fall into cells, a key each and the gap behind each,
 * and each cell is covered as a whole or not at all.
 */
#include <string.h>

#include "key_range.h"

#define PROGRAM_BYTES 4000
#include "programs.h"

#define KEYS 18
#define CELLS (2 * KEYS)
#define SETS 2
#define POOL 10					/* few, so that it runs out */
#define XIDS 3

typedef struct Cell
{
	bool		covered;
	QsRange		by;				/* kind, until, xid */
} Cell;

static QsRangeKey keys[KEYS];	/* ascending; the last is the greatest of all */
static QsRangeKey bounds[CELLS + 1];	/* where cells begin */
static bool is_empty[CELLS];	/* of gaps between keys that touch */

static QsRange ranges[POOL];
static QsRangePool pool;
static int32_t sets[SETS];
static bool running[XIDS + 1];
static QsRangeClock range_clock;

static bool
is_running(uint64_t xid)
{
	CHECK(xid >= 1 && xid <= XIDS);
	return running[xid];
}

static QsRangeKey
make_key(int priority, int64_t run_at, int first, int last)
{
	QsRangeKey	key;

	memset(&key, 0, sizeof(key));
	memset(key.id, last == 0xff ? 0xff : 0, sizeof(key.id));
	key.id[0] = first;
	key.id[15] = last;
	key.run_at = run_at;
	key.priority = priority;
	return key;
}

static void
make_cells(void)
{
	int			n = 0;

	keys[n++] = make_key(INT16_MAX, INT64_MIN, 0, 0);
	keys[n++] = make_key(INT16_MAX, INT64_MIN, 0, 1);
	keys[n++] = make_key(INT16_MAX, -1, 0xff, 0xff);
	keys[n++] = make_key(INT16_MAX, 0, 0, 0);
	keys[n++] = make_key(INT16_MAX, INT64_MAX, 0xff, 0xff);
	keys[n++] = make_key(INT16_MAX - 1, INT64_MIN, 0, 0);
	keys[n++] = make_key(1, 10, 0, 0);
	keys[n++] = make_key(1, 10, 0, 1);
	keys[n++] = make_key(1, 10, 0, 2);
	keys[n++] = make_key(1, 10, 1, 0);
	keys[n++] = make_key(1, 10, 0x80, 0);
	keys[n++] = make_key(1, 11, 0, 0);
	keys[n++] = make_key(0, 10, 0, 0);
	keys[n++] = make_key(0, INT64_MAX, 0xff, 0xff);
	keys[n++] = make_key(-1, INT64_MIN, 0, 0);
	keys[n++] = make_key(INT16_MIN, INT64_MIN, 0, 0);
	keys[n++] = make_key(INT16_MIN, 5, 0, 0);
	keys[n++] = make_key(INT16_MIN, INT64_MAX, 0xff, 0xff);
	CHECK(n == KEYS);

	for (int i = 0; i < KEYS; i++)
	{
		QsRangeKey	next = keys[i];
		QsRangeKey	level;

		for (int j = 0; j < KEYS; j++)
		{
			int			order = qs_key_compare(&keys[i], &keys[j]);

			CHECK(i == j ? order == 0 : i < j ? order < 0 : order > 0);
		}
		CHECK(qs_key_next(&next) == (i < KEYS - 1));
		CHECK(i < KEYS - 1 ? qs_key_compare(&next, &keys[i]) > 0 :
			  qs_key_compare(&next, &keys[i]) == 0);
		qs_key_first_of_level(&level, keys[i].priority);
		CHECK(qs_key_compare(&level, &keys[i]) <= 0);
		bounds[2 * i] = keys[i];
		bounds[2 * i + 1] = next;
		is_empty[2 * i] = false;
		if (i < KEYS - 1)
		{
			CHECK(qs_key_compare(&next, &keys[i + 1]) <= 0);
			is_empty[2 * i + 1] = qs_key_compare(&next, &keys[i + 1]) == 0;
		}
	}
	/* nothing is behind the greatest key, and no range has it */
	is_empty[CELLS - 1] = true;
	bounds[CELLS] = keys[KEYS - 1];
}

static bool
holds(const QsRange *range)
{
	return range->kind == QS_RANGE_DEAD ||
		(range->kind == QS_RANGE_TIMED && range->until > range_clock.now) ||
		(range->kind == QS_RANGE_GUARDED && running[range->xid]);
}

static bool
is_held(const Cell *cell)
{
	return cell->covered && holds(&cell->by);
}

/* What covers each cell; checks that a set is what a set must be. */
static void
read_set(int32_t set, Cell *cells)
{
	const QsRange *before = NULL;
	int			count = 0;

	memset(cells, 0, CELLS * sizeof(Cell));
	for (int32_t n = set; n != QS_NO_RANGE; n = ranges[n].next)
	{
		const QsRange *range = &ranges[n];
		bool		lo_known = false;
		bool		hi_known = false;

		CHECK(count++ < POOL);
		CHECK(qs_key_compare(&range->lo, &range->hi) < 0);
		CHECK(before == NULL || qs_key_compare(&before->hi, &range->lo) <= 0);
		CHECK(before == NULL || before->kind != QS_RANGE_DEAD ||
			  range->kind != QS_RANGE_DEAD ||
			  qs_key_compare(&before->hi, &range->lo) < 0);
		CHECK(range->kind != QS_RANGE_TIMED || range->entries <= QS_TIMED_ENTRIES);
		for (int i = 0; i < CELLS; i++)
		{
			lo_known |= qs_key_compare(&range->lo, &bounds[i]) == 0;
			hi_known |= qs_key_compare(&range->hi, &bounds[i]) == 0;
			if (!is_empty[i] &&
				qs_key_compare(&range->lo, &bounds[i]) <= 0 &&
				qs_key_compare(&range->hi, &bounds[i]) > 0)
			{
				cells[i].covered = true;
				cells[i].by = *range;
			}
		}
		CHECK(lo_known && hi_known);
		before = range;
	}
}

/* No range is in two lists, or in none. */
static void
check_pool(void)
{
	bool		seen[POOL] = {false};
	int			count = 0;

	for (int i = 0; i <= SETS; i++)
		for (int32_t n = i < SETS ? sets[i] : pool.free; n != QS_NO_RANGE;
			 n = ranges[n].next)
		{
			CHECK(n >= 0 && n < POOL && !seen[n]);
			seen[n] = true;
			count++;
		}
	CHECK(count == POOL);
}

static bool
is_same(const Cell *a, const Cell *b)
{
	return a->covered == b->covered &&
		(!a->covered ||
		 (a->by.kind == b->by.kind && a->by.until == b->by.until &&
		  a->by.xid == b->by.xid));
}

static void
check_jumps(int32_t set, const Cell *cells)
{
	for (int i = 0; i < CELLS; i++)
	{
		QsRangeKey	key = bounds[i];
		QsRangeJump jump = {.until = INT64_MAX};
		int64_t		until = INT64_MAX;
		bool		guarded = false;
		bool		jumped;
		int			to = i;

		if (is_empty[i])
			continue;
		jumped = qs_ranges_jump(&pool, set, &range_clock, &key, &jump);
		CHECK(jumped == is_held(&cells[i]));
		for (; to < CELLS && (is_empty[to] || is_held(&cells[to])); to++)
		{
			if (is_empty[to])
				continue;
			if (cells[to].by.kind == QS_RANGE_TIMED && cells[to].by.until < until)
				until = cells[to].by.until;
			guarded |= cells[to].by.kind == QS_RANGE_GUARDED;
		}
		CHECK(to < CELLS && qs_key_compare(&key, &bounds[to]) == 0);
		while (to < CELLS && !is_held(&cells[to]))
			to++;
		CHECK(jump.has_next == (to < CELLS));
		CHECK(!jump.has_next || qs_key_compare(&jump.next_lo, &bounds[to]) == 0);
		CHECK(jump.until == until && jump.guarded == guarded);
	}
}

static void
add(int32_t *set)
{
	Cell		before[CELLS];
	Cell		after[CELLS];
	QsRange		range;
	int			from = take_byte(CELLS - 2);
	int			to = from + 1 + take_byte(CELLS - 2 - from);

	memset(&range, 0, sizeof(range));
	range.kind = take_byte(3);
	range.entries = 1 + take_byte(100);
	if (range.kind == QS_RANGE_TIMED)
		range.until = range_clock.now + 1000000 * (1 + take_byte(8));
	if (range.kind == QS_RANGE_GUARDED)
		range.xid = 1 + take_byte(XIDS);
	range.lo = bounds[from];
	range.hi = bounds[to];
	if (qs_key_compare(&range.lo, &range.hi) >= 0)
		return;

	read_set(*set, before);
	qs_ranges_add(&pool, set, &range_clock, &range);
	read_set(*set, after);
	for (int i = 0; i < CELLS; i++)
	{
		const Cell *cell = &after[i];
		bool		inside = i >= from && i < to;
		bool		was = before[i].covered && cell->by.kind == before[i].by.kind &&
		cell->by.xid == before[i].by.xid && cell->by.until <= before[i].by.until;
		bool		new = inside && cell->by.kind == range.kind &&
		cell->by.xid == range.xid && cell->by.until <= range.until;

		if (is_empty[i])
			continue;
		/* covers nothing that nobody looked at, nor for longer */
		CHECK(!cell->covered || was || new);
		/* what held still does */
		CHECK(!is_held(&before[i]) || (is_held(cell) && was));
		/* and the new range is there, unless there was no room */
		CHECK(!inside || !holds(&range) || pool.free == QS_NO_RANGE || is_held(cell));
	}
}

static void
cut(int32_t *set)
{
	Cell		before[CELLS];
	Cell		after[CELLS];
	int			key = 2 * take_byte(KEYS);
	uint64_t	own_xid = take_byte(XIDS + 1);
	bool		room = pool.free != QS_NO_RANGE;

	read_set(*set, before);
	qs_ranges_cut(&pool, set, &bounds[key], own_xid);
	read_set(*set, after);
	for (int i = 0; i < CELLS; i++)
	{
		bool		kept = i != key ||
		(before[i].covered && before[i].by.kind == QS_RANGE_GUARDED &&
		 before[i].by.xid == own_xid);

		if (!kept)
			CHECK(!after[i].covered);
		else
			CHECK(is_same(&before[i], &after[i]) ||
				  (!room && i > key && !after[i].covered));
	}
}

static void
run_program(void)
{
	make_cells();
	memset(running, true, sizeof(running));
	range_clock.now = 1000000000;
	range_clock.is_running = is_running;
	qs_pool_init(&pool, ranges, POOL);
	for (int i = 0; i < SETS; i++)
		sets[i] = QS_NO_RANGE;

	while (input_left > 0)
	{
		int			operation = take_byte(16);
		int32_t    *set = &sets[take_byte(SETS)];

		step++;
		if (operation < 8)
			add(set);
		else if (operation < 12)
			cut(set);
		else if (operation < 14)
			range_clock.now += 500000 * take_byte(8);
		else if (operation == 14)
		{
			uint64_t	xid = 1 + take_byte(XIDS);

			running[xid] = !running[xid];
		}
		else if (take_byte(4) == 0)
		{
			qs_ranges_clear(&pool, set);
			CHECK(*set == QS_NO_RANGE);
		}
		check_pool();
		for (int i = 0; i < SETS; i++)
		{
			Cell		cells[CELLS];

			read_set(sets[i], cells);
			check_jumps(sets[i], cells);
		}
	}
}
