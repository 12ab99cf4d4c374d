/*
 * turns.c
 *	  Checks src/turns.c in a ring of members that always have work.
 *
 * The input is a program (programs.h). Whatever is wanted at a time, no member
 * is ahead of another by more than a round; by more than two if it was counted
 * from the midst of one.
 */
#include <string.h>

#include "turns.h"
#include "programs.h"

#define MEMBERS 8

static QsTurns turns[MEMBERS];
static int	ring[MEMBERS];		/* the head first */
static int	nmembers;
static int64_t served[MEMBERS];
static int	rounds;				/* that one may be ahead */

static void
push(int member)
{
	ring[nmembers++] = member;
}

static int
pop(void)
{
	int			member = ring[0];

	memmove(ring, ring + 1, --nmembers * sizeof(int));
	return member;
}

/* Counts from here on. */
static void
begin_count(void)
{
	memset(served, 0, sizeof(served));
	rounds = 2;
}

static void
check_shares(void)
{
	for (int i = 0; i < nmembers; i++)
		for (int j = 0; j < nmembers; j++)
		{
			const QsTurns *a = &turns[ring[i]];
			const QsTurns *b = &turns[ring[j]];

			CHECK(served[ring[i]] * b->weight - served[ring[j]] * a->weight <=
				  (int64_t) rounds * a->weight * b->weight);
		}
}

static void
take(int wanted)
{
	int			member = ring[0];
	bool		alone = nmembers == 1;
	bool		over;
	int			jobs = qs_turns_take(&turns[member], wanted, alone, &over);

	CHECK(jobs >= 1 && jobs <= wanted);
	CHECK(alone ? jobs == wanted : jobs <= turns[member].weight);
	CHECK(turns[member].left >= 1 && turns[member].left <= turns[member].weight);
	CHECK(over || jobs == wanted);
	if (alone)
		begin_count();
	else
		served[member] += jobs;
	if (over)
		push(pop());
	check_shares();
}

static void
run_program(void)
{
	nmembers = 0;
	for (int i = 0; i < MEMBERS; i++)
	{
		qs_turns_begin(&turns[i], take_byte(10));
		push(i);
	}
	begin_count();
	rounds = 1;
	while (input_left > 0)
	{
		int			member;

		step++;
		switch (take_byte(40))
		{
			case 0:
				member = ring[take_byte(nmembers)];
				qs_turns_change(&turns[member], take_byte(10));
				CHECK(turns[member].left <= turns[member].weight);
				begin_count();
				break;
			case 1:				/* it leaves */
				if (nmembers > 1)
					(void) pop();
				begin_count();
				break;
			case 2:				/* all come back */
				for (int i = 0; i < MEMBERS; i++)
				{
					int			n = 0;

					while (n < nmembers && ring[n] != i)
						n++;
					if (n < nmembers)
						continue;
					qs_turns_begin(&turns[i], turns[i].weight);
					push(i);
				}
				begin_count();
				break;
			default:
				take(1 + take_byte(20));
				break;
		}
	}
}
