/*
 * uuid7.c
 *	  UUIDs of version 7: a time, then random bits. New ids stand at the end of
 *	  the primary key, which so has few page splits and full-page images.
 */
#include "postgres.h"

#include <time.h>

#include "fmgr.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(queue_new_id);

/*
 * Fills *uuid. Layout (RFC 9562, section 5.7, with method 3 of section 6.2):
 * 48 bits of milliseconds since 1970, the version, 12 bits of fraction of the
 * millisecond, the variant, 62 random bits. The 60 bits of time advance by at
 * least one with each call, whatever the clock does, so that the ids of a
 * session are strictly increasing.
 */
void
qs_uuid7(pg_uuid_t *uuid)
{
	static uint64 last = 0;
	struct timespec clock;
	uint64		time;

	clock_gettime(CLOCK_REALTIME, &clock);
	time = ((uint64) clock.tv_sec * 1000 + clock.tv_nsec / 1000000) << 12 |
		(uint64) (clock.tv_nsec % 1000000) * 4096 / 1000000;
	if (time <= last)
		time = last + 1;
	last = time;

	if (!pg_strong_random(uuid->data + 8, UUID_LEN - 8))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < 6; i++)
		uuid->data[i] = (uint8) (time >> (52 - 8 * i));
	uuid->data[6] = 0x70 | ((time >> 8) & 0x0f);
	uuid->data[7] = (uint8) time;
	uuid->data[8] = 0x80 | (uuid->data[8] & 0x3f);
}

/* SQL: queue_new_id() returns uuid */
Datum
queue_new_id(PG_FUNCTION_ARGS pg_attribute_unused())
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	qs_uuid7(uuid);
	PG_RETURN_UUID_P(uuid);
}
