/*
 * token.c
 *	  Random tokens: see token.h.
 */
#include "postgres.h"

#include "token.h"

/* As many as a double has, so that readers of JSON keep them. */
#define TOKEN_BITS 53

/* A token, never 0. Random bits are fetched for many at once: a fetch is dear. */
int64
qs_random_token(void)
{
	static uint64 random[64];
	static int	left = 0;
	uint64		token;

	do
	{
		if (left == 0)
		{
			if (!pg_strong_random(random, sizeof(random)))
				ereport(ERROR,
						(errcode(ERRCODE_INTERNAL_ERROR),
						 errmsg("could not generate random values")));
			left = lengthof(random);
		}
		token = random[--left] & ((UINT64CONST(1) << TOKEN_BITS) - 1);
	} while (token == 0);
	return (int64) token;
}
