/*
 * horizon.c
 *	  Finds out who holds back VACUUM: see horizon.h.
 */
#include "postgres.h"

#include "access/transam.h"
#include "horizon.h"
#include "shmem.h"
#include "statement.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Slots and standbys that are remembered; the one seen last is forgotten. */
#define SEEN_MAX 64
#define SEEN_NAME (2 * NAMEDATALEN)

typedef struct Seen
{
	char		name[SEEN_NAME];	/* empty: none */
	TransactionId xmin;
	TimestampTz since;
	TimestampTz looked_at;
} Seen;

static Seen own[SEEN_MAX];
static Seen *seen = own;
static LWLock *lock = NULL;		/* guards them, if they are shared */

int			qs_horizon_alert = 600;

/*
 * What needs old rows of this database: of which kind, its name, what more is
 * known of it, since when, the oldest transaction id that it needs, and how many
 * ids ago that was. VACUUM itself does not count, as no other heeds it; a logical
 * slot needs old rows of the catalogs only, but these as well as others grow.
 */
static QsStatement select_pins = {
	.sql = "SELECT 'transaction', pid::text,"
	" format('role \"%s\", application \"%s\"', usename, application_name),"
	" xact_start, NULL::text, greatest(age(backend_xmin), age(backend_xid))"
	" FROM pg_stat_activity a"
	" WHERE datname = current_database() AND pid <> pg_backend_pid()"
	" AND backend_type <> 'walsender' AND backend_type <> 'autovacuum worker'"
	" AND leader_pid IS NULL"
	" AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"
	" AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)"
	" UNION ALL SELECT 'prepared', gid, NULL, prepared, NULL, age(transaction)"
	" FROM pg_prepared_xacts WHERE database = current_database()"
	" UNION ALL SELECT 'slot', slot_name, NULL, NULL,"
	" coalesce(xmin, catalog_xmin)::text, greatest(age(xmin), age(catalog_xmin))"
	" FROM pg_replication_slots WHERE xmin IS NOT NULL"
	" OR catalog_xmin IS NOT NULL AND database = current_database()"
	" UNION ALL SELECT 'standby', application_name, NULL, NULL,"
	" backend_xmin::text, age(backend_xmin)"
	" FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
	" ORDER BY 6 DESC NULLS LAST"
};

static Size
shared_size(void)
{
	return sizeof(own);
}

static void
attach(void *memory, LWLockPadded *locks, bool found)
{
	seen = memory;
	lock = &locks[0].lock;
	if (!found)
		memset(seen, 0, shared_size());
}

static const QsShmem part = {
	.name = "queue_service horizon", .nlocks = 1,
	.size = shared_size, .attach = attach
};

void
qs_horizon_init(void)
{
	DefineCustomIntVariable("queue_service.alert_horizon",
							"Alerts when somebody holds back VACUUM for this long.",
							"0 turns that off.", &qs_horizon_alert, 600, 0,
							PG_INT32_MAX, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	(void) qs_shmem_use(&part);
}

/* Since when a slot or standby is known to need the same. */
static TimestampTz
seen_since(const char *name, TransactionId xmin, TimestampTz now)
{
	Seen	   *entry = &seen[0];
	TimestampTz since;

	if (lock)
		LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < SEEN_MAX; i++)
	{
		if (strcmp(seen[i].name, name) == 0)
		{
			entry = &seen[i];
			break;
		}
		if (seen[i].looked_at < entry->looked_at)
			entry = &seen[i];
	}
	if (strcmp(entry->name, name) != 0 ||
		!TransactionIdEquals(entry->xmin, xmin) || entry->since > now)
	{
		strlcpy(entry->name, name, sizeof(entry->name));
		entry->xmin = xmin;
		entry->since = now;
	}
	entry->looked_at = now;
	since = entry->since;
	if (lock)
		LWLockRelease(lock);
	return since;
}

static char *
get_text(int row, int column)
{
	bool		isnull;
	Datum		value = qs_result(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* For how many seconds a row of the statement has held back VACUUM. */
static double
held_for(int row, TimestampTz now)
{
	char	   *xmin = get_text(row, 5);
	bool		isnull;
	Datum		since = qs_result(row, 4, &isnull);

	if (xmin != NULL)
	{
		char		name[SEEN_NAME];

		snprintf(name, sizeof(name), "%s %s", get_text(row, 1), get_text(row, 2));
		since = TimestampTzGetDatum(seen_since(name,
											   (TransactionId) strtoul(xmin, NULL, 10),
											   now));
	}
	else if (isnull)
		return 0;
	return (now - DatumGetTimestampTz(since)) / 1000000.0;
}

static char *
describe(int row)
{
	char	   *kind = get_text(row, 1);
	char	   *name = get_text(row, 2);

	if (strcmp(kind, "transaction") == 0)
		return psprintf("the transaction of process %s (%s) holds back vacuum: "
						"let it end, or call pg_terminate_backend(%s)",
						name, get_text(row, 3), name);
	if (strcmp(kind, "prepared") == 0)
		return psprintf("the prepared transaction \"%s\" holds back vacuum: "
						"COMMIT PREPARED or ROLLBACK PREPARED it", name);
	if (strcmp(kind, "slot") == 0)
		return psprintf("the replication slot \"%s\" holds back vacuum: have its "
						"consumer go on, or call pg_drop_replication_slot()", name);
	return psprintf("the standby \"%s\" holds back vacuum: end what runs there "
					"for long, or turn off its hot_standby_feedback", name);
}

/*
 * Finds who needs the oldest rows of all that have for at least so many
 * seconds; false if nobody has.
 */
bool
qs_horizon_culprit(QsCall *call, double least, QsCulprit *culprit)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		found = false;
	int			count;

	qs_connect();
	count = (int) qs_read(&select_pins, call, NULL, NULL, 0);
	/* all are looked at, so that all are remembered */
	for (int i = 0; i < count; i++)
	{
		double		held = held_for(i, call->now);

		if (found || held < least)
			continue;
		culprit->held = held;
		culprit->message = MemoryContextStrdup(caller, describe(i));
		found = true;
	}
	SPI_finish();
	return found;
}
