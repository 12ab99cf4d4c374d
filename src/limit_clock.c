/*
 * limit_clock.c
 *	  The clock that limits run by: see limit_clock.h.
 *
 * It shows the time of day at the start of the server, and goes on with the
 * monotonic clock: a time of day that is set forward refills no bucket and
 * lets no permit expire, one that is set back keeps none waiting. Should the
 * monotonic clock itself go back (it must not), this one stands still until it
 * goes on.
 *
 * Without shared memory it is the time of day.
 */
#include "postgres.h"

#include "limit_clock.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "shmem.h"
#include "utils/timestamp.h"

/* How far a reading may be from the latest one that is noted. */
#define NOTED_EVERY (100 * INT64CONST(1000))

typedef struct Clock
{
	pg_atomic_uint64 offset;	/* from the monotonic clock */
	pg_atomic_uint64 noted;		/* a reading; no later ones are far from it */
} Clock;

static Clock *shared_clock = NULL;

static int64
monotonic(void)
{
	instr_time	time;

	INSTR_TIME_SET_CURRENT(time);
	return (int64) INSTR_TIME_GET_MICROSEC(time);
}

static Size
clock_size(void)
{
	return sizeof(Clock);
}

static void
attach(void *memory, LWLockPadded *locks pg_attribute_unused(), bool found)
{
	TimestampTz now = GetCurrentTimestamp();

	shared_clock = memory;
	if (found)
		return;
	pg_atomic_init_u64(&shared_clock->offset, (uint64) (now - monotonic()));
	pg_atomic_init_u64(&shared_clock->noted, (uint64) now);
}

static const QsShmem part = {
	.name = "queue_service_clock", .nlocks = 0,
	.size = clock_size, .attach = attach
};

void
qs_limit_clock_init(void)
{
	(void) qs_shmem_use(&part);
}

/*
 * The time now: in one process, or ordered by a lock, no reading is before an
 * earlier one, but for the steps of a clock that goes back.
 */
TimestampTz
qs_limit_clock(void)
{
	if (shared_clock == NULL)
		return GetCurrentTimestamp();
	for (;;)
	{
		uint64		offset = pg_atomic_read_u64(&shared_clock->offset);
		uint64		noted = pg_atomic_read_u64(&shared_clock->noted);
		TimestampTz now;

		/* what was noted before the clock is read is before what it shows */
		pg_read_barrier();
		now = monotonic() + (int64) offset;
		if (now >= (int64) noted)
		{
			if (now - (int64) noted > NOTED_EVERY)
				(void) pg_atomic_compare_exchange_u64(&shared_clock->noted,
													  &noted, (uint64) now);
			return now;
		}
		(void) pg_atomic_compare_exchange_u64(&shared_clock->offset, &offset,
											  offset + (noted - (uint64) now));
	}
}
