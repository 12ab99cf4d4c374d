/*
 * disturb.c
 *	  What disturbs clients while they run, and the phases that they go through.
 *
 * Each has a thread, and a connection that is made anew when the server crashes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stress.h"

#define MAX_PREPARED 1000000
#define MAX_PENDING 8			/* prepared transactions at a time, about */

typedef struct Prepared
{
	bool		acknowledged;
	bool		found;			/* it was there when it was ended */
} Prepared;

const char *const fault_names[NFAULTS] = {"any", "backend", "claim", "cancel", "command"};
volatile Phase phase = {WIDTH_FEW, 0, 50};
Disturbances disturbances;
volatile bool faults_done = false;

static uint64_t seed;
static Client *clients;
static int	nclients;
static const FaultPlan *plan;
static pthread_t threads[6];
static int	nthreads = 0;

static Prepared prepared[MAX_PREPARED];
static int	nprepared = 0;
static volatile int pending = 0;
static volatile bool no_more = false;	/* who may wait for prepared transactions */
static volatile bool holding = false;	/* a snapshot */

static bool
chance(uint64_t *random, int percent)
{
	return random_next(random) % 100 < (uint64_t) percent;
}

/* Runs a statement; NULL, and a new connection, if the server crashed. */
static PGresult *
run(PGconn **conn, const char *sql)
{
	PGresult   *result = PQexec(*conn, sql);

	/* who prepared it may not be done with it */
	if (PQresultStatus(result) == PGRES_FATAL_ERROR)
		count_error(result, strstr(sql, " PREPARED ") ? "55000" : NULL);
	if (PQstatus(*conn) == CONNECTION_OK)
		return result;
	PQclear(result);
	PQfinish(*conn);
	*conn = connect_patiently();
	return NULL;
}

/* Waits, but not for long after the end. */
static void
wait_for(double seconds)
{
	int64_t		until = now_us() + (int64_t) (seconds * 1e6);

	while (!stopping && now_us() < until)
		usleep(10000);
}

/* Kills a client's session, or cancels what it does, every now and then. */
static void *
kill_main(void *arg)
{
	PGconn	   *conn = connect_patiently();
	uint64_t	random = seed + 1000003;

	(void) arg;
	while (!stopping)
	{
		int			pid = clients[random_next(&random) % (uint64_t) nclients].pid;
		bool		cancel = chance(&random, 30);
		char		sql[100];
		PGresult   *result;

		usleep(20000 + random_next(&random) % 100000);
		if (pid == 0)
			continue;
		snprintf(sql, sizeof(sql), "SELECT pg_%s_backend(pid)"
				 " FROM pg_stat_activity WHERE pid = %d", cancel ? "cancel" : "terminate", pid);
		result = run(&conn, sql);
		*(cancel ? &disturbances.cancelled : &disturbances.terminated) += PQntuples(result);
		PQclear(result);
	}
	PQfinish(conn);
	return NULL;
}

/* Indexes that a REINDEX left behind that failed, or when the server crashed. */
static void
drop_invalid_indexes(PGconn **conn)
{
	PGresult   *result = run(conn, "SELECT format('DROP INDEX %s', indexrelid::regclass)"
							 " FROM pg_index WHERE NOT indisvalid");

	for (int i = 0; i < PQntuples(result); i++)
		PQclear(run(conn, PQgetvalue(result, i, 0)));
	PQclear(result);
}

/* Vacuums, reindexes, counts, and changes queues. */
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
	PGconn	   *conn = connect_patiently();
	uint64_t	random = seed + 2000003;
	char		sql[200];

	(void) arg;
	while (!stopping)
	{
		int			what = (int) (random_next(&random) % 100);
		PGresult   *result = NULL;

		usleep(random_next(&random) % (settling ? 20000 : 200000));
		if (what < 25)
		{
			snprintf(sql, sizeof(sql), "VACUUM %s%s", what % 3 ? "" : "(FREEZE) ",
					 what % 2 ? "jobs" : "critical_jobs, dead_letter_jobs, idempotency_keys");
			result = run(&conn, sql);
			disturbances.vacuums++;
		}
		else if (what < 45 && !holding && !settling)
		{
			result = run(&conn, reindex[random_next(&random) % 6]);
			if (PQresultStatus(result) != PGRES_COMMAND_OK)
				drop_invalid_indexes(&conn);
			disturbances.reindexes++;
		}
		else if (what < 65)
		{
			snprintf(sql, sizeof(sql), "SET app.current_tenant = '%s'; SELECT queue_%s",
					 tenants[random_next(&random) % NTENANTS],
					 what < 52 ? "pause('kept')" : what < 60 ? "resume('kept')" :
					 "set('gone', description => 'changed')");
			result = run(&conn, sql);
			disturbances.settings++;
		}
		else if (what < 85 || settling)
		{
			result = run(&conn, "SELECT _queue_task('recount') FROM generate_series(1, 50)");
			disturbances.recounts += PQntuples(result);
		}
		PQclear(result);
	}
	drop_invalid_indexes(&conn);
	PQfinish(conn);
	return NULL;
}

/* Counts unfinished jobs of the queues that are in use. */
static void
count_depth(PGconn **conn)
{
	char		sql[300];
	char		queue[60] = "";
	PGresult   *result;

	if (phase.width == WIDTH_ONE)
		snprintf(queue, sizeof(queue), " AND queue_id = '%s'", queue_ids[0][phase.queue]);
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM"
			 " (SELECT FROM jobs WHERE finished_at IS NULL%s"
			 " UNION ALL SELECT FROM critical_jobs WHERE finished_at IS NULL%s) j", queue, queue);
	result = run(conn, sql);
	if (PQntuples(result) == 1)
		set_depth(atol(PQgetvalue(result, 0, 0)));
	PQclear(result);
}

/*
 * Goes through the phases: few, one or many queues, almost empty or full, and
 * a snapshot held in every other.
 */
static void *
phase_main(void *arg)
{
	static const long depths[] = {4, 2000, 50};
	PGconn	   *conn = connect_patiently();
	PGconn	   *holder = connect_patiently();
	uint64_t	random = seed + 3000003;

	(void) arg;
	for (int n = 0; !stopping; n++)
	{
		int64_t		start = now_us();
		int64_t		end = start + 800000 + (int64_t) (random_next(&random) % 1500000);
		bool		hold = n % 2 == 1;

		phase.queue = (int) (random_next(&random) % (NKINDS - 1));
		phase.depth = depths[random_next(&random) % 3];
		phase.width = (Width) (n % NWIDTHS);
		holding = hold;
		if (hold)
			PQclear(run(&holder, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenants"));
		while (!stopping && now_us() < end)
		{
			count_depth(&conn);
			wait_for(0.3);
		}
		disturbances.widths[phase.width] += (now_us() - start) / 1e6;
		if (hold)
		{
			if (PQtransactionStatus(holder) == PQTRANS_INTRANS)
				PQclear(run(&holder, "COMMIT"));
			disturbances.held += (now_us() - start) / 1e6;
		}
	}
	PQfinish(holder);
	PQfinish(conn);
	return NULL;
}

/* Prepared transactions ----------------------------------------------------- */

bool
prepared_room(void)
{
	return pending < MAX_PENDING && nprepared < MAX_PREPARED - MAX_CLIENTS;
}

int
prepared_new(void)
{
	return __atomic_fetch_add(&nprepared, 1, __ATOMIC_RELAXED);
}

void
prepared_acknowledged(int number)
{
	prepared[number].acknowledged = true;
}

/* Whether a prepared transaction is to be committed. */
static bool
to_commit(int number)
{
	uint64_t	random = seed + 4000003 + (uint64_t) number;

	return chance(&random, 70);
}

/*
 * How one ended, once none is left. What was never found, though its
 * connection broke, was not prepared.
 */
Fate
prepared_fate(int number)
{
	return prepared[number].found && to_commit(number) ? FATE_COMMITTED : FATE_ABORTED;
}

/* How many were prepared for certain and then not there. */
long
prepared_lost(void)
{
	long		lost = 0;

	for (int i = 0; i < nprepared; i++)
		lost += prepared[i].acknowledged && !prepared[i].found;
	return lost;
}

/*
 * Ends those that were prepared long enough ago. If the server crashes in that,
 * it is done again: only we end them, so one that is gone ended as we asked.
 */
static void
end_prepared(PGconn **conn, bool all)
{
	PGresult   *result = run(conn, "SELECT substr(gid, 8), us(prepared) FROM pg_prepared_xacts");

	pending = PQntuples(result);
	for (int i = 0; i < PQntuples(result); i++)
	{
		int			number = atoi(PQgetvalue(result, i, 0));
		int64_t		since = atoll(PQgetvalue(result, i, 1));
		uint64_t	random = seed + 5000003 + (uint64_t) number;
		int64_t		delay = chance(&random, 15) ? 1500000 : (int64_t) (random_next(&random) % 300000);
		char		sql[60];
		PGresult   *ended;

		if (!all && now_us() < since + delay)
			continue;
		snprintf(sql, sizeof(sql), "%s PREPARED 'stress %d'",
				 to_commit(number) ? "COMMIT" : "ROLLBACK", number);
		prepared[number].found = true;
		ended = run(conn, sql);
		if (PQresultStatus(ended) == PGRES_COMMAND_OK)
			*(to_commit(number) ? &disturbances.committed : &disturbances.rolled_back) += 1;
		PQclear(ended);
	}
	PQclear(result);
}

static void *
prepared_main(void *arg)
{
	PGconn	   *conn = connect_patiently();

	(void) arg;
	while (!no_more)
	{
		end_prepared(&conn, false);
		usleep(20000);
	}
	PQfinish(conn);
	return NULL;
}

/* Faults ------------------------------------------------------------------- */

/*
 * Waits until the server has noticed that a backend is gone, and is back: until
 * then it takes new connections, and breaks them. The backend may just have
 * ended by itself; then nothing happens.
 */
static void
wait_for_crash(PGconn **conn)
{
	int64_t		until = now_us() + 5000000;

	while (now_us() < until)
	{
		PGresult   *result = run(conn, "SELECT pg_sleep(0.01)");

		if (result == NULL)
			break;
		PQclear(result);
	}
}

/* Notes how long nobody could commit, in a way that waits for the WAL. */
static void
note_away(PGconn **conn, int64_t since)
{
	PGresult   *result = NULL;
	double		away;

	while (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		PQclear(result);
		result = run(conn, "SELECT pg_logical_emit_message(true, 'stress', '')");
	}
	PQclear(result);
	away = (now_us() - since) / 1e6;
	if (disturbances.away < away)
		disturbances.away = away;
}

/* Kills a client's backend with kill -9, which makes the server crash. */
static void
kill_backend(PGconn **conn, uint64_t *random)
{
	while (!settling)
	{
		int			pid = clients[random_next(random) % (uint64_t) nclients].pid;
		int64_t		start = now_us();
		char		sql[100];
		PGresult   *result;
		bool		killed;

		snprintf(sql, sizeof(sql), "SELECT FROM pg_stat_activity WHERE pid = %d"
				 " AND backend_type = 'client backend'", pid);
		result = run(conn, sql);
		killed = PQntuples(result) == 1 && kill(pid, SIGKILL) == 0;
		PQclear(result);
		if (!killed)
			continue;
		disturbances.killed++;
		wait_for_crash(conn);
		note_away(conn, start);
		break;
	}
}

/* A signal to a backend that has been asked to claim, and not answered yet. */
static bool
signal_claim(uint64_t *random, int signal)
{
	while (!settling)
	{
		for (int i = 0; i < nclients; i++)
		{
			Client	   *client = &clients[random_next(random) % (uint64_t) nclients];
			int			pid = client->pid;

			if (pid == 0 || !client->claiming)
				continue;
			/* somewhere in it */
			usleep(random_next(random) % 300);
			if (client->claiming && client->pid == pid && kill(pid, signal) == 0)
				return true;
		}
		usleep(100);
	}
	return false;
}

static void
do_fault(PGconn **conn, uint64_t *random)
{
	int64_t		start = now_us();
	Fault		fault = plan->fault;

	if (fault == FAULT_ANY)
		fault = plan->command != NULL && chance(random, 30) ? FAULT_COMMAND : FAULT_BACKEND;
	if (fault == FAULT_BACKEND)
		kill_backend(conn, random);
	else if (fault == FAULT_CANCEL)
		(void) signal_claim(random, SIGINT);
	else if (fault == FAULT_CLAIM && signal_claim(random, SIGKILL))
	{
		start = now_us();
		disturbances.killed++;
		wait_for_crash(conn);
		note_away(conn, start);
	}
	else if (fault == FAULT_COMMAND)
	{
		if (plan->command == NULL || system(plan->command) != 0)
		{
			fprintf(stderr, "the command of the fault failed\n");
			exit(2);
		}
		disturbances.restarts++;
		note_away(conn, start);
	}
}

static long
count_faults(void)
{
	return plan->fault == FAULT_CANCEL ? disturbances.in_claim :
		disturbances.killed + disturbances.restarts;
}

static void *
fault_main(void *arg)
{
	PGconn	   *conn = connect_patiently();
	uint64_t	random = seed + 6000003;

	(void) arg;
	while (!settling)
	{
		wait_for(plan->every * (0.5 + (random_next(&random) % 1000) / 1000.0));
		if (!settling && !faults_done)
			do_fault(&conn, &random);
		if (plan->count > 0 && count_faults() >= plan->count)
			faults_done = true;
	}
	PQfinish(conn);
	return NULL;
}

static void
start(void *(*function) (void *))
{
	pthread_create(&threads[nthreads++], NULL, function, NULL);
}

void
disturb_start(uint64_t seed_given, Client *clients_given, int nclients_given,
			  const FaultPlan *plan_given)
{
	seed = seed_given;
	clients = clients_given;
	nclients = nclients_given;
	plan = plan_given;
	start(prepared_main);
	start(phase_main);
	start(kill_main);
	start(maintain_main);
	if (plan->every > 0)
		start(fault_main);
}

/*
 * After the clients have ended. The first thread ends last: the others may wait
 * for locks of prepared transactions.
 */
void
disturb_stop(void)
{
	PGconn	   *conn;

	for (int i = 1; i < nthreads; i++)
		pthread_join(threads[i], NULL);
	no_more = true;
	pthread_join(threads[0], NULL);
	conn = connect_patiently();
	do
		end_prepared(&conn, true);
	while (pending > 0);
	PQfinish(conn);
}
