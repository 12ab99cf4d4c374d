/*
 * turns.c
 *	  How members of a ring share it: see turns.h.
 */
#include "turns.h"

/* The member begins a round. */
void
qs_turns_begin(QsTurns *turns, int32_t weight)
{
	turns->weight = weight < 1 ? 1 : weight;
	turns->left = turns->weight;
}

/* The member has another weight, from this round on if that is less. */
void
qs_turns_change(QsTurns *turns, int32_t weight)
{
	turns->weight = weight < 1 ? 1 : weight;
	if (turns->left > turns->weight)
		turns->left = turns->weight;
}

/*
 * How many jobs the member at the head may have, of those that are wanted; at
 * least 1. All of them if it is alone: its rounds follow one another. *over says
 * whether its share of the round is used up, and it has begun another.
 */
int32_t
qs_turns_take(QsTurns *turns, int32_t wanted, bool alone, bool *over)
{
	int32_t		jobs = alone || wanted < turns->left ? wanted : turns->left;
	int32_t		used = jobs % turns->weight;

	*over = jobs >= turns->left;
	if (used < turns->left)
		turns->left -= used;
	else
		turns->left += turns->weight - used;
	return jobs;
}
