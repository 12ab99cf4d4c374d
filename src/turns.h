/*
 * turns.h
 *	  How members of a ring share it: deficit round robin, a job being the unit.
 *	  Pure arithmetic; nothing here allocates, waits or fails.
 *
 * A round gives each member as many jobs as its weight, one after another. Who
 * wants fewer than are left leaves the rest to the next one who comes, and the
 * member stays at the head until its share is used up. What a member does not
 * use is not kept: it begins its next round with its weight, no more.
 */
#ifndef QS_TURNS_H
#define QS_TURNS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct QsTurns
{
	int32_t		weight;			/* jobs in a round, at least 1 */
	int32_t		left;			/* of this round, from 1 to weight */
} QsTurns;

extern void qs_turns_begin(QsTurns *turns, int32_t weight);
extern void qs_turns_change(QsTurns *turns, int32_t weight);
extern int32_t qs_turns_take(QsTurns *turns, int32_t wanted, bool alone,
							 bool *over);

#endif							/* QS_TURNS_H */
