/*
 * permits.c
 *	  Permits: see permits.h. Who holds them is in holders.c.
 *
 * A server that starts does not know the permits that were given before, by
 * itself or by the server that it followed until it was promoted. Those are
 * waited for: none is given until max_hold after limits are first used, which
 * is after the promotion, as no standby gives any.
 *
 * It need not wait if none can be out: if no permit was ever given by this
 * server and its timeline is the first, or if it was stopped cleanly with none
 * out, and goes on in the same timeline. A file tells. It says so only while
 * none was given since: the first permit in a server's life is given after the
 * file says "out", and that is on disk.
 *
 * Permits expire by the limits' clock.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "errors.h"
#include "holders.h"
#include "limit_clock.h"
#include "miscadmin.h"
#include "permits.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "shmem.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#define FILE_NAME PGSTAT_STAT_PERMANENT_DIRECTORY "/queue_service_permits"
#define FILE_MAGIC 0x71735031

/* No permit is held for longer, whatever its limit (CHECK concurrent_valid). */
#define LONGEST_HOLD USECS_PER_DAY

typedef struct Note
{
	uint32		magic;
	TimeLineID	none_out;		/* in this timeline; 0: some may be */
} Note;

typedef struct Shared
{
	LWLock	   *lock;			/* held to write the file */
	TimeLineID	none_out;		/* what the file said at the start */
	pg_atomic_uint32 noted;		/* the file says that some may be out */
	pg_atomic_uint64 first_use; /* of limits; 0: not yet */
	pg_atomic_uint64 out;		/* given and not released; may have expired */
	pg_atomic_uint64 last_until;	/* when all have expired */
} Shared;

static Shared *shared = NULL;

/* What the file says; without one, that none was out in timeline 1. */
static TimeLineID
read_note(void)
{
	FILE	   *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	Note		note;
	bool		valid;

	if (file == NULL)
		return errno == ENOENT ? 1 : 0;
	valid = fread(&note, sizeof(note), 1, file) == 1 && note.magic == FILE_MAGIC;
	FreeFile(file);
	return valid ? note.none_out : 0;
}

static bool
write_note(TimeLineID none_out, int elevel)
{
	Note		note = {FILE_MAGIC, none_out};
	FILE	   *file = AllocateFile(FILE_NAME ".tmp", PG_BINARY_W);
	bool		written = file != NULL && fwrite(&note, sizeof(note), 1, file) == 1;

	if (file != NULL && FreeFile(file) != 0)
		written = false;
	if (!written)
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", FILE_NAME ".tmp")));
	return written && durable_rename(FILE_NAME ".tmp", FILE_NAME, elevel) == 0;
}

/* Whether this life of the server began with no permit out. */
static bool
began_with_none(void)
{
	return shared->none_out != 0 &&
		shared->none_out == GetWALInsertionTimeLine();
}

/* At the end of the postmaster: notes if none is out. */
static void
at_stop(int code, Datum arg pg_attribute_unused())
{
	TimestampTz now = qs_limit_clock();
	int64		first_use = (int64) pg_atomic_read_u64(&shared->first_use);

	if (code != 0 || RecoveryInProgress() ||
		(pg_atomic_read_u64(&shared->out) > 0 &&
		 (int64) pg_atomic_read_u64(&shared->last_until) > now))
		return;
	/* those of an earlier life */
	if (!began_with_none() && (first_use == 0 || now - first_use < LONGEST_HOLD))
		return;
	(void) write_note(GetWALInsertionTimeLine(), LOG);
}

static Size
permits_size(void)
{
	return sizeof(Shared);
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	shared = memory;
	if (found)
		return;
	shared->lock = &locks[0].lock;
	shared->none_out = read_note();
	pg_atomic_init_u32(&shared->noted, 0);
	pg_atomic_init_u64(&shared->first_use, 0);
	pg_atomic_init_u64(&shared->out, 0);
	pg_atomic_init_u64(&shared->last_until, 0);
	if (!IsUnderPostmaster)
		on_shmem_exit(at_stop, (Datum) 0);
}

static const QsShmem part = {
	.name = "queue_service_permits", .nlocks = 1,
	.size = permits_size, .attach = attach
};

void
qs_permits_init(void)
{
	(void) qs_shmem_use(&part);
}

/* To be called whenever limits are used. */
void
qs_permits_use(TimestampTz now)
{
	uint64		unused = 0;

	if (shared != NULL && pg_atomic_read_u64(&shared->first_use) == 0)
		(void) pg_atomic_compare_exchange_u64(&shared->first_use, &unused,
											  (uint64) now);
}

/* How long until those of an earlier life have all expired. */
static int64
wait_for_earlier(const QsLimit *limit, TimestampTz now)
{
	int64		first_use = (int64) pg_atomic_read_u64(&shared->first_use);

	if (began_with_none())
		return 0;
	return Max((first_use == 0 ? now : first_use) + limit->max_hold - now, 0);
}

static void
make_key(QsHoldersKey *key, const QsLimit *limit)
{
	memset(key, 0, sizeof(*key));
	key->database = limit->bucket.key.database;
	key->kind = limit->is_share ? QS_PERMITS_OF_TENANT : QS_PERMITS_OF_SERVICE;
	memcpy(&key->id, limit->bucket.key.id, sizeof(key->id));
}

/* Before the first permit: the file must not say any more that none is out. */
static void
note_out(void)
{
	if (pg_atomic_read_u32(&shared->noted))
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (!pg_atomic_read_u32(&shared->noted))
	{
		(void) write_note(0, ERROR);
		pg_atomic_write_u32(&shared->noted, 1);
	}
	LWLockRelease(shared->lock);
}

/* Takes a permit of a limit that has a max_concurrent, until a time. */
QsHoldersAnswer
qs_permit_take(const QsLimit *limit, int64 permit, TimestampTz now,
			   TimestampTz until)
{
	QsHoldersLimit places = {limit->max_concurrent, limit->max_concurrent};
	QsHolder	holder = {permit, until, false};
	QsHoldersKey key;
	uint64		last;
	int64		free_at;
	QsHoldersAnswer answer;

	if (wait_for_earlier(limit, now) > 0)
		return QS_FULL;
	note_out();
	make_key(&key, limit);
	pg_atomic_fetch_add_u64(&shared->out, 1);
	last = pg_atomic_read_u64(&shared->last_until);
	while ((int64) last < until &&
		   !pg_atomic_compare_exchange_u64(&shared->last_until, &last,
										   (uint64) until))
		;
	answer = qs_holders_take(&key, &places, &holder, now, &free_at);
	if (answer != QS_GRANTED)
		pg_atomic_fetch_sub_u64(&shared->out, 1);
	return answer;
}

/* Gives it back; false if it was released, or expired and given to another. */
bool
qs_permit_release(const QsLimit *limit, int64 permit)
{
	QsHoldersKey key;

	make_key(&key, limit);
	if (!qs_holders_release(&key, permit))
		return false;
	pg_atomic_fetch_sub_u64(&shared->out, 1);
	return true;
}

/* How long until one can be had, and how many are out. */
int64
qs_permit_wait(const QsLimit *limit, TimestampTz now, int32 *out)
{
	QsHoldersLimit places = {limit->max_concurrent, limit->max_concurrent};
	QsHoldersKey key;
	QsHoldersState state;
	int64		wait = wait_for_earlier(limit, now);

	make_key(&key, limit);
	if (qs_holders_look(&key, &places, false, now, &state) != QS_GRANTED)
		wait = Max(wait, state.free_at - now);
	*out = state.normal;
	return wait;
}
