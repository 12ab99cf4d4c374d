/*
 * main.c
 *	  Sets up, lets clients loose, drains the queues, and reports. Usage: stress
 *	  [LOG_FILE]; the server is libpq's default, and LOG_FILE its log. See
 *	  README.md for what may be set. Or stress --self-test, without a server.
 *	  The exit status is 0 if all is well, 1 if a check failed, 2 if it could not
 *	  be run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stress.h"

#define DRAIN_SECONDS 15		/* without anything to claim */

const Kind	kinds[NKINDS] = {
	{"gone", false, true},
	{"kept", true, true},
	{"letterless", true, false},
	{"scarce", false, true}
};
int			nqueues;
char		tenants[NTENANTS][37];
char		(*queue_ids[NTENANTS])[37];
char		(*queue_names)[32];

volatile bool stopping = false;
volatile bool settling = false;

static Client clients[MAX_CLIENTS + 1];
static int	nclients;
static uint64_t seed;

/* the server has a standby, which commits wait for */
bool		has_standby;
/* so many blocks of 100 are READ COMMITTED */
long		read_committed;

/* Whether the text has one of those in it that a variable lists, with | between. */
bool
listed(const char *name, const char *text)
{
	const char *list = getenv(name);

	while (list != NULL && *list != '\0')
	{
		int			length = (int) strcspn(list, "|");
		char		item[200];

		snprintf(item, sizeof(item), "%.*s", length, list);
		if (length > 0 && strstr(text, item) != NULL)
			return true;
		list += length + (list[length] == '|');
	}
	return false;
}

static long
setting(const char *name, long value, long min, long max)
{
	const char *text = getenv(name);

	if (text != NULL && *text != '\0')
		value = atol(text);
	if (value < min || value > max)
	{
		fprintf(stderr, "%s must be between %ld and %ld\n", name, min, max);
		exit(2);
	}
	return value;
}

static FaultPlan
fault_plan(void)
{
	const char *every = getenv("STRESS_CRASH");
	const char *name = getenv("STRESS_FAULT");
	FaultPlan	plan = {
		.every = every != NULL && *every != '\0' ? atof(every) : 10,
		.count = setting("STRESS_FAULTS", 0, 0, 1000000),
		.command = getenv("STRESS_COMMAND")
	};

	while (name != NULL && *name != '\0' && strcmp(name, fault_names[plan.fault]) != 0)
		if (++plan.fault == NFAULTS)
		{
			fprintf(stderr, "STRESS_FAULT cannot be \"%s\"\n", name);
			exit(2);
		}
	return plan;
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

/* Makes the queues of a kind for the tenant that is set. */
static void
make_queues(PGconn *conn, int tenant, int kind)
{
	char		sql[600];
	PGresult   *result;

	snprintf(sql, sizeof(sql), "SELECT n, name, queue_id FROM (SELECT n, '%s' ||"
			 " CASE n WHEN 0 THEN '' ELSE ' ' || n END AS name FROM generate_series(0, %d) n) q,"
			 " LATERAL queue_create(name, keep_completed => '%s', dead_letters => %s,"
			 " backoff_base => '20 ms', backoff_max => '300 ms')",
			 kinds[kind].name, nqueues / NKINDS - 1, kinds[kind].keeps ? "1 day" : "0",
			 kinds[kind].dead_letters ? "true" : "false");
	result = run_or_exit(conn, sql);
	for (int i = 0; i < PQntuples(result); i++)
	{
		int			queue = atoi(PQgetvalue(result, i, 0)) * NKINDS + kind;

		snprintf(queue_names[queue], 32, "%s", PQgetvalue(result, i, 1));
		snprintf(queue_ids[tenant][queue], 37, "%s", PQgetvalue(result, i, 2));
	}
	PQclear(result);
}

static void
set_up(PGconn *conn)
{
	char		sql[200];

	PQclear(run_or_exit(conn,
						"CREATE EXTENSION IF NOT EXISTS queue_service;"
						"CREATE EXTENSION IF NOT EXISTS amcheck;"
						"CREATE FUNCTION us(timestamptz) RETURNS bigint LANGUAGE sql STABLE"
						" RETURN (extract(epoch FROM $1) * 1000000)::bigint;"
						"CREATE TABLE effects (job_id uuid PRIMARY KEY);"
						"CREATE TABLE notes (job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE);"
						"CREATE INDEX ON notes (job_id)"));
	queue_names = calloc(nqueues, sizeof(*queue_names));
	for (int tenant = 0; tenant < NTENANTS; tenant++)
	{
		PGresult   *result = run_or_exit(conn, "INSERT INTO tenants DEFAULT VALUES RETURNING id");

		snprintf(tenants[tenant], 37, "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
		snprintf(sql, sizeof(sql), "SET app.current_tenant = '%s'", tenants[tenant]);
		PQclear(run_or_exit(conn, sql));
		queue_ids[tenant] = calloc(nqueues, sizeof(**queue_ids));
		for (int kind = 0; kind < NKINDS; kind++)
			make_queues(conn, tenant, kind);
	}
}

/*
 * Completes what can be claimed of the queues of a name, for all tenants.
 * Returns how many that were.
 */
static int
drain_queue(Client *client, int queue)
{
	int			claimed;

	if (client->conn == NULL)
		client_connect(client);
	claimed = client_claim(client, queue, 50, 5000);
	if (client->nleases > 0)
		client_complete(client, 0, client->nleases, false);
	return claimed;
}

static int
find_name(const char *name)
{
	for (int i = 0; i < nqueues; i++)
		if (strcmp(queue_names[i], name) == 0)
			return i;
	abort();
}

/*
 * Completes what is left, as a plain worker for all tenants does, until nothing
 * is, or nothing more can be claimed. All that is delayed or leased is due sooner than that.
 * If jobs come back for ever, it gives up after so many seconds.
 */
static void
drain(PGconn *conn, long seconds)
{
	Client	   *client = &clients[nclients];
	int64_t		progress = now_us();
	int64_t		end = progress + seconds * INT64_C(1000000);
	int			queues;

	client->number = nclients;
	client->tenant = -1;
	client->calm = true;
	client->random = seed;
	PQclear(run_or_exit(conn, "UPDATE queues SET paused = false WHERE paused"));
	do
	{
		PGresult   *result =
		run_or_exit(conn, "SELECT DISTINCT name FROM queues"
					" WHERE id IN (SELECT queue_id FROM jobs WHERE finished_at IS NULL"
					" UNION ALL SELECT queue_id FROM critical_jobs WHERE finished_at IS NULL)"
					" ORDER BY 1");

		queues = PQntuples(result);
		for (int i = 0; i < queues; i++)
			if (drain_queue(client, find_name(PQgetvalue(result, i, 0))) > 0)
				progress = now_us();
		PQclear(result);
		usleep(20000);
	} while (queues > 0 && now_us() < end &&
			 now_us() < progress + DRAIN_SECONDS * INT64_C(1000000));
	PQfinish(client->conn);
}

static void
report(double seconds)
{
	long		counts[NOPS][4] = {{0}};
	const Disturbances *d = &disturbances;
	long		statements = 0;
	long		weak = 0;

	for (int i = 0; i <= nclients; i++)
	{
		statements += clients[i].statements;
		for (size_t j = 0; j < clients[i].history.count; j++)
		{
			const Event *event = &clients[i].history.events[j];

			counts[event->op][event->fate]++;
			weak += event->weak;
		}
	}
	printf("\n%-24s %12s %12s %12s\n", "event", "acknowledged", "rolled back", "unknown");
	for (int op = 0; op < NOPS; op++)
		printf("%-24s %12ld %12ld %12ld\n", op_names[op], counts[op][FATE_COMMITTED],
			   counts[op][FATE_ABORTED] + counts[op][FATE_OPEN], counts[op][FATE_UNKNOWN]);
	printf("\n%ld statements of %d clients in %.0f s (seed %llu)\n", statements,
		   nclients, seconds, (unsigned long long) seed);
	printf("%.0f s with one queue, %.0f s with %d, %.0f s with %d of each of %d tenants;"
		   " a snapshot held for %.0f s\n", d->widths[WIDTH_ONE], d->widths[WIDTH_FEW], NKINDS,
		   d->widths[WIDTH_MANY], nqueues, NTENANTS, d->held);
	printf("%ld sessions terminated, %ld cancels, %ld vacuums, %ld reindexes,"
		   " %ld recounts, %ld changes of queues, %ld truncations rolled back\n", d->terminated,
		   d->cancelled, d->vacuums, d->reindexes, d->recounts, d->settings, truncates);
	printf("%ld prepared transactions committed, %ld rolled back; %ld crashes by kill -9,"
		   " %ld by the command, away for %.2f s at most; %ld claims cancelled; %ld weak answers\n\n",
		   d->committed, d->rolled_back, d->killed, d->restarts, d->away, d->in_claim, weak);
	for (int i = 0; i < nerror_counts; i++)
		printf("%8ld errors %s%s: %s\n", error_counts[i].count, error_counts[i].state,
			   error_counts[i].expected ? "" : " (unexpected)", error_counts[i].message);
	printf("\n");
}

int
main(int argc, char **argv)
{
	long		seconds = setting("STRESS_SECONDS", 30, 1, 1000000);
	long		settle = seconds < 20 ? seconds / 4 : 5;
	FaultPlan	plan = fault_plan();
	long		counters = setting("STRESS_COUNTERS", seconds < 12 ? 4 : seconds / 3, 0, 1000000);
	pthread_t	threads[MAX_CLIENTS];
	PGconn	   *conn;
	int64_t		start;
	int			server;
	int			passed = 0;
	int			failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && strcmp(argv[1], "--self-test") == 0)
	{
		self_test(&passed, &failed);
		printf("%d passed, %d failed\n", passed, failed);
		return failed > 0;
	}
	nclients = (int) setting("STRESS_CLIENTS", 16, 1, MAX_CLIENTS);
	nqueues = (int) setting("STRESS_QUEUES", 1000, NKINDS, MAX_QUEUES) / NKINDS * NKINDS;
	read_committed = setting("STRESS_READ_COMMITTED", 90, 0, 100);
	has_standby = setting("STRESS_STANDBY", 0, 0, 1) > 0;
	seed = (uint64_t) setting("STRESS_SEED", 1 + (long) (now_us() % 1000000), 1, INT64_MAX);
	conn = connect_patiently();
	set_up(conn);
	PQfinish(conn);

	printf("%d clients for %ld seconds, seed %llu ...\n", nclients, seconds,
		   (unsigned long long) seed);
	start = now_us();
	for (int i = 0; i < nclients; i++)
	{
		clients[i].number = i;
		clients[i].home = clients[i].tenant = i % 8 == 7 ? -1 : i % NTENANTS;
		clients[i].random = seed * 1000 + (uint64_t) i;
		pthread_create(&threads[i], NULL, client_main, &clients[i]);
	}
	disturb_start(seed, clients, nclients, &plan);
	if (plan.count == 0)
		sleep((unsigned) (seconds - settle));
	while (plan.count > 0 && !faults_done)
		usleep(20000);
	settling = true;
	sleep((unsigned) settle);
	stopping = true;
	for (int i = 0; i < nclients; i++)
	{
		pthread_join(threads[i], NULL);
		PQfinish(clients[i].conn);
	}
	disturb_stop();
	do
		conn = connect_once(&server);
	while (conn == NULL);
	printf("comparing, and draining ...\n");
	counters_check(conn, "when all has ended");
	drain(conn, 60 + seconds);
	counters_check(conn, "when all is drained");
	if (counters > 0)
		counters_stress(conn, (int) counters, seed);
	for (int i = 0; i <= nclients; i++)
		history_resolve(&clients[i].history, server);
	report((now_us() - start) / 1e6);
	check_all(conn, clients, nclients + 1, argc > 1 ? argv[1] : NULL, &passed, &failed);
	PQfinish(conn);
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
