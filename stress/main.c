/*
 * main.c
 *	  Sets up, lets clients loose and disturbs them, drains the queues, and
 *	  reports. Usage: stress [LOG_FILE]; the server is libpq's default, and
 *	  LOG_FILE its log. STRESS_SECONDS, STRESS_CLIENTS and STRESS_SEED may be
 *	  set. The exit status is 0 if all is well, 1 if a check failed, 2 if it
 *	  could not be run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stress.h"

#define DRAIN_SECONDS 60

const Queue queues[NQUEUES] = {
	{"gone", false, true},
	{"kept", true, true},
	{"letterless", true, false},
	{"scarce", false, true}
};
char		tenants[NTENANTS][37];
char		queue_ids[NTENANTS][NQUEUES][37];

const char *conninfo = "";
volatile bool stopping = false;

static Client clients[MAX_CLIENTS + 1];
static int	nclients;
static uint64_t seed;
static long kills = 0;
static long vacuums = 0;
static long reindexes = 0;
static long settings = 0;

static long
setting(const char *name, long value, long max)
{
	const char *text = getenv(name);

	if (text != NULL && *text != '\0')
		value = atol(text);
	if (value < 1 || value > max)
	{
		fprintf(stderr, "%s must be between 1 and %ld\n", name, max);
		exit(2);
	}
	return value;
}

static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static PGconn *
connect_or_exit(void)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(2);
	}
	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	return conn;
}

static PGresult *
run_or_exit(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK &&
		PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "%s%s\n", PQerrorMessage(conn), sql);
		exit(2);
	}
	return result;
}

static void
set_up(PGconn *conn)
{
	char		sql[1000];

	PQclear(run_or_exit(conn,
						"SET client_min_messages = warning;"
						"CREATE EXTENSION IF NOT EXISTS queue_service;"
						"CREATE EXTENSION IF NOT EXISTS amcheck;"
						"CREATE FUNCTION us(timestamptz) RETURNS bigint LANGUAGE sql STABLE"
						" RETURN (extract(epoch FROM $1) * 1000000)::bigint;"
						"CREATE TABLE effects (job_id uuid PRIMARY KEY);"
						"CREATE TABLE notes (job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE);"
						"CREATE INDEX ON notes (job_id)"));
	for (int tenant = 0; tenant < NTENANTS; tenant++)
	{
		PGresult   *result = run_or_exit(conn, "INSERT INTO tenants DEFAULT VALUES RETURNING id");

		snprintf(tenants[tenant], 37, "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
		snprintf(sql, sizeof(sql), "SET app.current_tenant = '%s'", tenants[tenant]);
		PQclear(run_or_exit(conn, sql));
		for (int i = 0; i < NQUEUES; i++)
		{
			snprintf(sql, sizeof(sql), "SELECT queue_id FROM queue_create('%s', keep_completed => '%s',"
					 " dead_letters => %s, backoff_base => '20 ms', backoff_max => '300 ms')",
					 queues[i].name, queues[i].keeps ? "1 day" : "0",
					 queues[i].dead_letters ? "true" : "false");
			result = run_or_exit(conn, sql);
			snprintf(queue_ids[tenant][i], 37, "%s", PQgetvalue(result, 0, 0));
			PQclear(result);
		}
	}
}

/* Kills a client every now and then. */
static void *
kill_main(void *arg)
{
	PGconn	   *conn = connect_or_exit();
	uint64_t	random = seed + 1000003;

	(void) arg;
	while (!stopping)
	{
		int			pid = clients[random_next(&random) % (uint64_t) nclients].pid;
		char		sql[100];
		PGresult   *result;

		usleep(20000 + random_next(&random) % 100000);
		if (pid == 0)
			continue;
		snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(pid)"
				 " FROM pg_stat_activity WHERE pid = %d", pid);
		result = run_or_exit(conn, sql);
		kills += PQntuples(result);
		PQclear(result);
	}
	PQfinish(conn);
	return NULL;
}

/*
 * Vacuums, reindexes, changes queues, lets them fill and run empty, and holds
 * a snapshot open for a while.
 */
static void *
maintain_main(void *arg)
{
	static const char *const reindex[] = {
		"REINDEX INDEX CONCURRENTLY jobs_ready_idx",
		"REINDEX INDEX jobs_ready_idx",
		"REINDEX TABLE CONCURRENTLY critical_jobs",
		"REINDEX INDEX CONCURRENTLY jobs_pkey",
		"REINDEX TABLE CONCURRENTLY jobs",
		"REINDEX TABLE idempotency_keys"
	};
	PGconn	   *conn = connect_or_exit();
	PGconn	   *holder = connect_or_exit();
	uint64_t	random = seed + 2000003;
	bool		holding = false;
	char		sql[200];

	(void) arg;
	while (!stopping)
	{
		int			what = (int) (random_next(&random) % 100);
		PGresult   *result = NULL;

		usleep(random_next(&random) % 200000);
		if (what < 20)
		{
			snprintf(sql, sizeof(sql), "VACUUM %s%s", what % 3 ? "" : "(FREEZE) ",
					 what % 2 ? "jobs" : "critical_jobs, dead_letter_jobs, idempotency_keys");
			result = PQexec(conn, sql);
			vacuums++;
		}
		else if (what < 35 && !holding)
		{
			result = PQexec(conn, reindex[random_next(&random) % 6]);
			reindexes++;
		}
		else if (what < 60)
		{
			snprintf(sql, sizeof(sql), "SET app.current_tenant = '%s'; SELECT queue_%s",
					 tenants[random_next(&random) % NTENANTS],
					 what < 45 ? "pause('kept')" : what < 55 ? "resume('kept')" :
					 "set('gone', description => 'changed')");
			result = PQexec(conn, sql);
			settings++;
		}
		else if (what < 70)
			wanted_depth = what < 65 ? 50 : 2000;
		else if (what < 75)
		{
			PQclear(PQexec(holder, holding ? "COMMIT" :
						   "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenants"));
			holding = !holding;
		}
		if (result != NULL && PQresultStatus(result) == PGRES_FATAL_ERROR)
			count_error(result, NULL);
		PQclear(result);
	}
	PQfinish(holder);
	PQfinish(conn);
	return NULL;
}

/* Completes what is left, as a plain worker does, until nothing is. */
static void
drain(PGconn *conn)
{
	Client	   *client = &clients[nclients];
	int64_t		give_up = now_us() + DRAIN_SECONDS * INT64_C(1000000);
	long		unfinished = 1;

	client->number = nclients;
	client->calm = true;
	client->random = seed;
	PQclear(run_or_exit(conn, "UPDATE queues SET paused = false WHERE paused"));
	while (unfinished > 0 && now_us() < give_up)
	{
		PGresult   *result;
		int			claimed = 0;

		for (int i = 0; i < NTENANTS * NQUEUES; i++)
		{
			if (client->conn == NULL || client->tenant != i / NQUEUES)
			{
				client->tenant = i / NQUEUES;
				client_connect(client);
			}
			claimed += client_claim(client, i % NQUEUES, 50, 5000);
			if (client->nleases > 0)
				client_complete(client, 0, client->nleases, false);
		}
		if (claimed > 0)
			continue;
		result = run_or_exit(conn, "SELECT count(*) FROM (SELECT FROM jobs WHERE finished_at IS NULL"
							 " UNION ALL SELECT FROM critical_jobs WHERE finished_at IS NULL) j");
		unfinished = atol(PQgetvalue(result, 0, 0));
		PQclear(result);
		usleep(20000);
	}
	PQfinish(client->conn);
}

static void
report(double seconds)
{
	long		counts[NOPS][4] = {{0}};
	long		statements = 0;

	for (int i = 0; i <= nclients; i++)
	{
		statements += clients[i].statements;
		for (size_t j = 0; j < clients[i].history.count; j++)
			counts[clients[i].history.events[j].op][clients[i].history.events[j].fate]++;
	}
	printf("\n%-24s %12s %12s %12s\n", "event", "acknowledged", "rolled back", "unknown");
	for (int op = 0; op < NOPS; op++)
		printf("%-24s %12ld %12ld %12ld\n", op_names[op], counts[op][FATE_COMMITTED],
			   counts[op][FATE_ABORTED] + counts[op][FATE_OPEN], counts[op][FATE_UNKNOWN]);
	printf("\n%ld statements of %d clients in %.0f s (seed %llu); %ld kills, %ld vacuums, "
		   "%ld reindexes, %ld changes of queues\n", statements, nclients, seconds,
		   (unsigned long long) seed, kills, vacuums, reindexes, settings);
	for (int i = 0; i < nerror_counts; i++)
		printf("%8ld errors %s%s: %s\n", error_counts[i].count, error_counts[i].state,
			   error_counts[i].expected ? "" : " (unexpected)", error_counts[i].message);
	printf("\n");
}

int
main(int argc, char **argv)
{
	long		seconds = setting("STRESS_SECONDS", 30, 1000000);
	pthread_t	threads[MAX_CLIENTS];
	pthread_t	killer;
	pthread_t	maintainer;
	PGconn	   *conn;
	int64_t		start;
	int			passed = 0;
	int			failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	nclients = (int) setting("STRESS_CLIENTS", 16, MAX_CLIENTS);
	seed = (uint64_t) setting("STRESS_SEED", 1 + (long) (now_us() % 1000000), INT64_MAX);
	conn = connect_or_exit();
	set_up(conn);

	printf("%d clients for %ld seconds, seed %llu ...\n", nclients, seconds,
		   (unsigned long long) seed);
	start = now_us();
	for (int i = 0; i < nclients; i++)
	{
		clients[i].number = i;
		clients[i].tenant = i % 8 == 7 ? -1 : i % NTENANTS;
		clients[i].random = seed * 1000 + (uint64_t) i;
		pthread_create(&threads[i], NULL, client_main, &clients[i]);
	}
	pthread_create(&killer, NULL, kill_main, NULL);
	pthread_create(&maintainer, NULL, maintain_main, NULL);
	sleep((unsigned) seconds);
	stopping = true;
	pthread_join(killer, NULL);
	for (int i = 0; i < nclients; i++)
	{
		pthread_join(threads[i], NULL);
		PQfinish(clients[i].conn);
	}
	pthread_join(maintainer, NULL);
	printf("draining ...\n");
	drain(conn);
	report((now_us() - start) / 1e6);
	check_all(conn, clients, nclients + 1, argc > 1 ? argv[1] : NULL, &passed, &failed);
	PQfinish(conn);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
