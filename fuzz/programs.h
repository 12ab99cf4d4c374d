/*
 * programs.h
 *	  What the checks of pure modules share: an input is a program, each byte of
 *	  which chooses an operation or an argument of it.
 *
 * Included once, by the file that defines run_program(). Built with -DQS_FUZZ
 * that is a target of libFuzzer; else main() runs programs of fixed seeds, of
 * PROGRAM_BYTES each. A file that has more to run defines OWN_MAIN, and main().
 */
#ifndef QS_PROGRAMS_H
#define QS_PROGRAMS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: step %d: not true: %s\n", \
					__FILE__, __LINE__, step, #condition); \
			abort(); \
		} \
	} while (0)

static int	step;				/* of the program, for who reads a failure */
static const uint8_t *input;
static size_t input_left;

static void run_program(void);

/* The next byte, as a number below limit; 0 once the program has ended. */
static int
take_byte(int limit)
{
	if (input_left == 0)
		return 0;
	input_left--;
	return *input++ % limit;
}

static void
run(const uint8_t *data, size_t size)
{
	input = data;
	input_left = size;
	step = 0;
	run_program();
}

#ifdef QS_FUZZ

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(data, size);
	return 0;
}

#else

#ifndef PROGRAM_BYTES
#define PROGRAM_BYTES 3000
#endif

/* Runs random programs, as many as the argument says. */
static void
run_seeds(int argc, char **argv)
{
	static uint8_t data[PROGRAM_BYTES];
	int			seeds = argc > 1 ? atoi(argv[1]) : 200;

	for (int seed = 1; seed <= seeds; seed++)
	{
		uint64_t	state = (uint64_t) seed * UINT64_C(0x9e3779b97f4a7c15);

		for (size_t i = 0; i < sizeof(data); i++)
		{
			/* xorshift */
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			data[i] = (uint8_t) (state >> 24);
		}
		run(data, sizeof(data));
	}
	printf("%d programs\n", seeds);
}

#ifndef OWN_MAIN

int
main(int argc, char **argv)
{
	run_seeds(argc, argv);
	return 0;
}

#endif							/* OWN_MAIN */
#endif							/* QS_FUZZ */
#endif							/* QS_PROGRAMS_H */
