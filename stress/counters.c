/*
 * counters.c
 *	  Whether queue_stats says what there is, to the job.
 *
 * Compared while nobody else is at work. Clients of this file make a mess in a
 * database of their own, of which no history is kept: so they may do what
 * would leave the other checks nothing to go by, as DELETE and TRUNCATE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define DATABASE "stress_counters"
#define NWILD 8
#define NQUEUES 6
#define SETTLE_US 2000000		/* the end of the mess, which leaves counts exact */
#define MAX_RUNS 100000			/* of the task that counts */

#define SOME(condition, n) "WHERE id = ANY (ARRAY(SELECT id FROM jobs WHERE" \
	" queue_id = $1 AND " condition " LIMIT " #n " FOR UPDATE SKIP LOCKED))"

/* $1 and $2 are a queue's id and name, $3 is another one's id. */
static const char *const acts[] = {
	"INSERT INTO jobs (queue_id, priority, run_at) SELECT $1, n % 3,"
	" now() + n % 3 * interval '1 second' FROM generate_series(1, 12) n",
	"INSERT INTO jobs (queue_id, status, attempts, lease_token, leased_until)"
	" VALUES ($1, 'processing', 1, 1, now() + interval '1 second')",
	"SELECT count(*) FROM queue_enqueue_many($2, array_fill('1'::jsonb, ARRAY[9]))",
	"SELECT queue_enqueue_critical($2, '1', gen_random_uuid()::text)",
	"UPDATE jobs SET queue_id = $3 " SOME("true", 5),
	"UPDATE jobs SET priority = priority + 1 " SOME("finished_at IS NULL", 5),
	"UPDATE jobs SET status = 'completed', finish_reason = 'completed',"
	" finished_at = now(), lease_token = NULL " SOME("finished_at IS NULL", 4),
	"UPDATE jobs SET status = 'pending', finish_reason = NULL,"
	" finished_at = NULL, attempts = 0 " SOME("finished_at IS NOT NULL", 3),
	"DELETE FROM jobs " SOME("true", 6),
	"DELETE FROM critical_jobs WHERE queue_id = $1 AND priority = 0",
	"SELECT queue_complete(job_id, lease_token) FROM queue_claim($2, max_jobs => 4)",
	"SELECT queue_fail(job_id, lease_token, 'no', retry_in => '0')"
	" FROM queue_claim($2, max_jobs => 3)",
	"SELECT queue_release(job_id, lease_token) FROM queue_claim($2, max_jobs => 2)",
	"SELECT count(*) FROM queue_claim($2, max_jobs => 3, lease => '30 ms')",
	"SELECT queue_cancel(id) FROM jobs " SOME("finished_at IS NULL", 2),
	"SELECT queue_redrive($2, max_jobs => 3)",
	"SELECT queue_purge($2, max_jobs => 3)",
	"TRUNCATE jobs",
	"TRUNCATE critical_jobs"
};

#define NACTS (int) (sizeof(acts) / sizeof(*acts))
#define NTRUNCATES 2			/* the last ones; rare */

static volatile bool wild_ends;
static volatile bool wild_settles;	/* what makes all uncertain is left out */
static uint64_t wild_seed;
static char ids[NQUEUES][37];

static bool
chance(uint64_t *random, int percent)
{
	return random_next(random) % 100 < (uint64_t) percent;
}

/* Comparing ---------------------------------------------------------------- */

/* Waits until no other session of the database is left. */
static void
settle(PGconn *conn)
{
	bool		alone;

	do
	{
		PGresult   *result = PQexec(conn, "SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
									" AND datname = current_database() AND backend_type = 'client backend'");

		alone = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 0;
		PQclear(result);
		usleep(alone ? 0 : 20000);
	} while (!alone);
}

/*
 * Compares what is said to be exact with the truth; all has to be if it was
 * counted since. Returns for how many queues it was said.
 */
static int
compare(PGconn *conn, const char *when, bool counted)
{
	int			exact = 0;
	PGresult   *result =
	PQexec(conn, "SELECT queue_id, queue, counted = 'exact', depth, processing,"
		   " coalesce(waits, 0), coalesce(runs, 0) FROM queue_stats"
		   " LEFT JOIN (SELECT queue_id, count(*) FILTER (WHERE status = 'pending') AS waits,"
		   " count(*) FILTER (WHERE status = 'processing') AS runs"
		   " FROM (SELECT queue_id, status FROM jobs"
		   " UNION ALL SELECT queue_id, status FROM critical_jobs) j GROUP BY 1) t"
		   " USING (queue_id)");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		violate(CHECK_COUNTERS, "%s", PQerrorMessage(conn));
	for (int i = 0; i < PQntuples(result); i++)
	{
		bool		is_exact = *PQgetvalue(result, i, 2) == 't';

		exact += is_exact;
		if (!is_exact && counted)
			violate(CHECK_COUNTERS, "%s: queue \"%s\" is not exact", when,
					PQgetvalue(result, i, 1));
		if (is_exact &&
			(strcmp(PQgetvalue(result, i, 3), PQgetvalue(result, i, 5)) != 0 ||
			 strcmp(PQgetvalue(result, i, 4), PQgetvalue(result, i, 6)) != 0))
			violate(CHECK_COUNTERS, "%s: queue \"%s\" (%s) has %s waiting and %s processing,"
					" not %s and %s", when, PQgetvalue(result, i, 1),
					PQgetvalue(result, i, 0), PQgetvalue(result, i, 5),
					PQgetvalue(result, i, 6), PQgetvalue(result, i, 3),
					PQgetvalue(result, i, 4));
	}
	printf("counters %s: %d of %d queues are exact\n", when, exact, PQntuples(result));
	PQclear(result);
	return exact;
}

static bool
all_exact(PGconn *conn)
{
	PGresult   *result = PQexec(conn, "SELECT FROM queue_stats WHERE counted <> 'exact'");
	bool		exact = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 0;

	PQclear(result);
	return exact;
}

static void
recount(PGconn *conn)
{
	for (int i = 0; i < MAX_RUNS && (i % 100 != 0 || !all_exact(conn)); i++)
		PQclear(PQexec(conn, "SELECT FROM _queue_task('recount')"));
}

/* Whether the server counts at all, and no worker is at work meanwhile. */
static bool
counts(PGconn *conn)
{
	PGresult   *result = PQexec(conn, "SELECT FROM pg_settings"
								" WHERE name = 'shared_preload_libraries'"
								" AND setting LIKE '%queue_service%' AND NOT EXISTS (SELECT"
								" FROM pg_stat_activity WHERE datname = current_database()"
								" AND backend_type = 'queue_service worker')");
	bool		preloaded = PQntuples(result) == 1;

	PQclear(result);
	return preloaded;
}

/* Compares as it is, and once more when all is counted. */
void
counters_check(PGconn *conn, const char *when)
{
	char		later[100];

	if (!counts(conn))
		return;
	settle(conn);
	(void) compare(conn, when, false);
	recount(conn);
	snprintf(later, sizeof(later), "%s, and counted", when);
	(void) compare(conn, later, true);
}

/* The mess ----------------------------------------------------------------- */

static PGconn *
connect_wild(void)
{
	PGconn	   *conn = connect_patiently();
	char		sql[200];

	snprintf(sql, sizeof(sql), "SET app.current_tenant = '%s'; SET application_name = 'wild';"
			 " SET lock_timeout = '300 ms'; SET statement_timeout = '2 s'", tenants[0]);
	PQclear(PQexec(conn, sql));
	return conn;
}

static void
copy(PGconn *conn, const char *queue)
{
	PGresult   *result = PQexec(conn, "COPY jobs (queue_id) FROM STDIN");
	char		row[40];

	snprintf(row, sizeof(row), "%s\n", queue);
	if (PQresultStatus(result) == PGRES_COPY_IN)
	{
		for (int i = 0; i < 5; i++)
			PQputCopyData(conn, row, (int) strlen(row));
		PQputCopyEnd(conn, NULL);
		while (PQclear(result), (result = PQgetResult(conn)) != NULL)
			;
	}
	PQclear(result);
}

static void
act(PGconn *conn, uint64_t *random)
{
	static const Oid types[] = {2950, 25, 2950};
	int			queue = (int) (random_next(random) % NQUEUES);
	char		name[2] = {(char) ('a' + queue), '\0'};
	const char *values[] = {ids[queue], name, ids[random_next(random) % NQUEUES]};
	int			n = (int) (random_next(random) % (NACTS - NTRUNCATES + 1));

	if (chance(random, 1) && !wild_settles)
		n = NACTS - 1 - (int) (random_next(random) % NTRUNCATES);
	else if (n == NACTS - NTRUNCATES)
	{
		copy(conn, ids[queue]);
		return;
	}
	PQclear(PQexecParams(conn, acts[n], 3, types, values, NULL, NULL, 0));
}

/* A few acts, some of them taken back, in a transaction that may be, too. */
static void
transact(PGconn *conn, uint64_t *random)
{
	char		sql[60];

	PQclear(PQexec(conn, "BEGIN"));
	for (int i = (int) (random_next(random) % 4); i >= 0; i--)
	{
		bool		savepoint = chance(random, 50);

		if (savepoint)
			PQclear(PQexec(conn, "SAVEPOINT s"));
		act(conn, random);
		if (savepoint && (chance(random, 40) || PQtransactionStatus(conn) == PQTRANS_INERROR))
			PQclear(PQexec(conn, "ROLLBACK TO s"));
		else if (savepoint && chance(random, 50))
			PQclear(PQexec(conn, "RELEASE s"));
	}
	snprintf(sql, sizeof(sql), "PREPARE TRANSACTION 'wild %llu'",
			 (unsigned long long) random_next(random));
	PQclear(PQexec(conn, chance(random, 20) ? "ROLLBACK" :
				   !wild_settles && chance(random, 5) ? sql : "COMMIT"));
	/* there may be too many prepared ones */
	if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		PQclear(PQexec(conn, "ROLLBACK"));
}

static void *
wild_main(void *arg)
{
	uint64_t	random = wild_seed + 100 + (uint64_t) (intptr_t) arg;
	PGconn	   *conn = connect_wild();

	while (!wild_ends)
	{
		if (PQstatus(conn) != CONNECTION_OK)
		{
			PQfinish(conn);
			conn = connect_wild();
		}
		if (chance(&random, 30))
			act(conn, &random);
		else
			transact(conn, &random);
	}
	PQfinish(conn);
	return NULL;
}

/*
 * Counts again and again, if it is not ended in that; in the end also what is
 * exact, as it is by a clock of days later.
 */
static void *
recount_main(void *arg)
{
	PGconn	   *conn = connect_wild();
	char		sql[100];

	(void) arg;
	for (int days = 0; !wild_ends; days += 2)
	{
		if (PQstatus(conn) != CONNECTION_OK)
		{
			PQfinish(conn);
			conn = connect_wild();
		}
		if (wild_settles)
			PQclear(PQexec(conn, "SET application_name = 'spared'"));
		snprintf(sql, sizeof(sql), "SELECT FROM _queue_task('recount', now() + interval '%d days')",
				 wild_settles ? days : 0);
		PQclear(PQexec(conn, sql));
		usleep(2000);
	}
	PQfinish(conn);
	return NULL;
}

/* Ends what is prepared, some of it with a commit. */
static void
end_wild_prepared(PGconn *conn, uint64_t *random)
{
	PGresult   *result = PQexec(conn, "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'wild %'"
								" AND database = current_database()");

	for (int i = 0; i < PQntuples(result); i++)
	{
		char		sql[100];

		snprintf(sql, sizeof(sql), "%s PREPARED '%s'", chance(random, 60) ? "COMMIT" : "ROLLBACK",
				 PQgetvalue(result, i, 0));
		PQclear(PQexec(conn, sql));
	}
	PQclear(result);
}

static void
make_wild_queues(PGconn *conn)
{
	char		sql[300];

	PQclear(PQexec(conn, "CREATE EXTENSION queue_service"));
	snprintf(sql, sizeof(sql), "INSERT INTO tenants VALUES ('%s'); SET app.current_tenant = '%s'",
			 tenants[0], tenants[0]);
	PQclear(PQexec(conn, sql));
	for (int i = 0; i < NQUEUES; i++)
	{
		PGresult   *result;

		snprintf(sql, sizeof(sql), "SELECT queue_id FROM queue_create('%c',"
				 " keep_completed => '%s', dead_letters => %s)", 'a' + i,
				 i % 2 ? "1 day" : "0", i % 3 ? "true" : "false");
		result = PQexec(conn, sql);
		snprintf(ids[i], sizeof(ids[i]), "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
	}
}

/* Disturbs the clients for so many seconds. Returns how often it ended one. */
static int
disturb(PGconn *conn, int seconds, uint64_t *random)
{
	int64_t		end = now_us() + seconds * INT64_C(1000000);
	int			ended = 0;

	while (now_us() < end)
	{
		PGresult   *result;

		wild_settles = now_us() > end - SETTLE_US;
		result = PQexec(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
						" WHERE application_name = 'wild' ORDER BY random() LIMIT 1");

		ended += PQntuples(result);
		PQclear(result);
		end_wild_prepared(conn, random);
		usleep(50000);
	}
	return ended;
}

/* Compares beside a prepared transaction, and when all has ended. */
static void
compare_wild(PGconn *conn, uint64_t *random)
{
	char		sql[200];
	int			exact;

	end_wild_prepared(conn, random);
	snprintf(sql, sizeof(sql), "BEGIN; INSERT INTO jobs (queue_id) VALUES ('%s');"
			 " PREPARE TRANSACTION 'wild'", ids[0]);
	PQclear(PQexec(conn, sql));
	settle(conn);
	exact = compare(conn, "beside a prepared transaction", false);
	if (exact == 0 || exact == NQUEUES)
		violate(CHECK_COUNTERS, "%d queues are exact beside a prepared transaction", exact);
	PQclear(PQexec(conn, "COMMIT PREPARED 'wild'"));
	counters_check(conn, "after the mess");
}

/* Lets clients make a mess for so many seconds, and compares. */
void
counters_stress(PGconn *conn, int seconds, uint64_t seed)
{
	const char *database = PQdb(conn);
	pthread_t	threads[NWILD + 1];
	uint64_t	random = wild_seed = seed + 7000003;
	PGconn	   *wild;

	if (!counts(conn))
		return;
	PQclear(PQexec(conn, "CREATE DATABASE " DATABASE));
	setenv("PGDATABASE", DATABASE, 1);
	wild = connect_patiently();
	make_wild_queues(wild);
	for (intptr_t i = 0; i < NWILD; i++)
		pthread_create(&threads[i], NULL, wild_main, (void *) i);
	pthread_create(&threads[NWILD], NULL, recount_main, NULL);
	printf("counters: %d sessions terminated in a mess of %d s\n",
		   disturb(wild, seconds, &random), seconds);
	wild_ends = true;
	for (int i = 0; i <= NWILD; i++)
		pthread_join(threads[i], NULL);
	compare_wild(wild, &random);
	PQfinish(wild);
	setenv("PGDATABASE", database, 1);
}
