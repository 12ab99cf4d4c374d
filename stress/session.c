/*
 * session.c
 *	  A client's connection, its transactions, and what it and all clients
 *	  remember of them.
 *
 * A client may be killed at any time. What it was doing then is aborted for
 * certain if it was in a transaction block that it had not begun to commit;
 * else its fate is unknown.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

#define MAX_SQL 65536
#define RECENT 512				/* jobs of a tenant that clients know of */

/* errors that these disturbances cause */
static const char *const expected_states[] = {
	"57P01",					/* killed */
	"57P02",					/* the server crashed */
	"57014",					/* statement_timeout, cancel */
	"40P01",					/* deadlock */
	"40001",					/* REPEATABLE READ and above */
	"QS030",					/* lease lost, strict */
	"QS031",					/* key taken, reject */
	"QS011"						/* no such job (any more) */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Known recent[NTENANTS][RECENT];
static int	nrecent[NTENANTS];
static int64_t servers[MAX_SERVERS];	/* when each began */
static int	nservers = 0;
static long made = 0;
static long ended = 0;

ErrorCount	error_counts[MAX_ERRORS];
int			nerror_counts = 0;

/* splitmix64 */
uint64_t
random_next(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int
pick(Client *client, int n)
{
	return (int) (random_next(&client->random) % (uint64_t) n);
}

bool
chance(Client *client, int percent)
{
	return pick(client, 100) < percent;
}

/* About how many jobs are unfinished in the queues that are in use. */
long
outstanding(void)
{
	return __atomic_load_n(&made, __ATOMIC_RELAXED) -
		__atomic_load_n(&ended, __ATOMIC_RELAXED);
}

/* Sets that to what was counted: not all jobs end by a client's doing. */
void
set_depth(long depth)
{
	__atomic_store_n(&ended, __atomic_load_n(&made, __ATOMIC_RELAXED) - depth,
					 __ATOMIC_RELAXED);
}

void
remember(int tenant, int queue, Id job)
{
	Known		known = {job, tenant, queue};

	pthread_mutex_lock(&mutex);
	recent[tenant][nrecent[tenant]++ % RECENT] = known;
	pthread_mutex_unlock(&mutex);
}

bool
recall(Client *client, Known *known)
{
	int			tenant = client->tenant < 0 ? pick(client, NTENANTS) : client->tenant;
	int			n;

	pthread_mutex_lock(&mutex);
	n = nrecent[tenant] < RECENT ? nrecent[tenant] : RECENT;
	if (n > 0)
		*known = recent[tenant][pick(client, n)];
	pthread_mutex_unlock(&mutex);
	return n > 0;
}

/* Notes an error; extra_state is one more that is to be expected, or NULL. */
void
count_error(PGresult *result, const char *extra_state)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	bool		expected = false;
	int			i;

	if (state == NULL)
		return;					/* the connection broke without a word */
	for (i = 0; i < (int) (sizeof(expected_states) / sizeof(*expected_states)); i++)
		expected |= strcmp(state, expected_states[i]) == 0;
	expected |= extra_state != NULL && strcmp(state, extra_state) == 0;
	expected |= listed("STRESS_EXPECT", state);

	pthread_mutex_lock(&mutex);
	for (i = 0; i < nerror_counts; i++)
		if (strcmp(error_counts[i].state, state) == 0 &&
			error_counts[i].expected == expected)
			break;
	if (i < MAX_ERRORS)
	{
		if (i == nerror_counts)
			nerror_counts++;
		snprintf(error_counts[i].state, sizeof(error_counts[i].state), "%s", state);
		snprintf(error_counts[i].message, sizeof(error_counts[i].message), "%s",
				 message ? message : "");
		error_counts[i].expected = expected;
		error_counts[i].count++;
	}
	pthread_mutex_unlock(&mutex);
}

static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

/* A cancel ends the wait for a standby, not the commit, which is acknowledged. */
static void
note_notice(void *arg, const PGresult *result)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (message != NULL && strstr(message, "wait for synchronous replication") != NULL)
		((Client *) arg)->unreplicated = true;
}

/* The number of the server's life that began then. */
static int
server_number(int64_t began)
{
	int			n;

	pthread_mutex_lock(&mutex);
	for (n = nservers; n > 0 && servers[n - 1] != began; n--)
		;
	if (n == 0)
	{
		if (nservers == MAX_SERVERS)
			abort();
		servers[nservers++] = began;
		n = nservers;
	}
	pthread_mutex_unlock(&mutex);
	return n - 1;
}

/*
 * A connection, or NULL if the server takes none now. The checkpointer lives as
 * long as the server does between two crashes.
 */
PGconn *
connect_once(int *server)
{
	PGconn	   *conn = PQconnectdb("options='-c client_min_messages=warning'");
	PGresult   *result = NULL;

	PQsetNoticeReceiver(conn, ignore_notice, NULL);
	if (PQstatus(conn) == CONNECTION_OK)
		result = PQexec(conn, "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint"
						" FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
	{
		PQclear(result);
		PQfinish(conn);
		return NULL;
	}
	if (server != NULL)
		*server = server_number(strtoll(PQgetvalue(result, 0, 0), NULL, 10));
	PQclear(result);
	return conn;
}

/* Waits for the server to come back from a crash. */
static PGconn *
connect_to(int *server)
{
	for (int i = 0; i < 6000; i++)
	{
		PGconn	   *conn = connect_once(server);

		if (conn != NULL)
			return conn;
		usleep(20000);
	}
	fprintf(stderr, "the server takes no connections\n");
	exit(2);
}

PGconn *
connect_patiently(void)
{
	return connect_to(NULL);
}

void
client_connect(Client *client)
{
	char		sql[200];

	do
	{
		PQfinish(client->conn);
		client->conn = connect_to(&client->server);
		client->synchronous = client->number % 4 != 1;
		snprintf(sql, sizeof(sql),
				 "SET app.current_tenant = '%s'; SET synchronous_commit = %s",
				 client->tenant < 0 ? "" : tenants[client->tenant],
				 client->synchronous ? "on" : "off");
		PQclear(PQexec(client->conn, sql));
	} while (PQstatus(client->conn) != CONNECTION_OK);
	PQsetNoticeReceiver(client->conn, note_notice, client);
	client->broken = client->in_block = client->failed = client->unreplicated = false;
	client->pid = PQbackendPID(client->conn);
}

void
note_result(Client *client, PGresult *result, const char *extra_state)
{
	ExecStatusType status = PQresultStatus(result);

	if (result != NULL &&
		(status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE))
	{
		count_error(result, extra_state);
		client->failed = true;
	}
	if (PQstatus(client->conn) != CONNECTION_OK)
	{
		client->pid = 0;
		client->broken = client->failed = true;
	}
}

/*
 * Runs a statement. If it failed, client->failed, and broken if the connection
 * is gone; the result then has no rows.
 */
PGresult *
client_query(Client *client, const char *format,...)
{
	static __thread char sql[MAX_SQL];
	va_list		args;
	PGresult   *result;

	va_start(args, format);
	if (vsnprintf(sql, sizeof(sql), format, args) >= (int) sizeof(sql))
		abort();
	va_end(args);
	client->statements++;
	client->sent_at = now_us();
	result = PQexec(client->conn, sql);
	/* only notes refer to a job, which may be gone */
	note_result(client, result, strstr(sql, "INTO notes") ? "23503" :
				strstr(sql, "INTO effects AS late") ? "23505" :
				strncmp(sql, "TRUNCATE", 8) == 0 ? "55P03" : NULL);
	return result;
}

int64_t
number(PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/*
 * Adds an event about one row of a result, whose last columns are TIMES; or,
 * with no result, about the last statement.
 */
Event *
add_event(Client *client, Op op, Id job, PGresult *result, int row)
{
	Event	   *event = history_add(&client->history, op, job);
	int			n = result ? PQnfields(result) : 0;

	event->client = client->number;
	event->tenant = client->tenant < 0 ? 0 : client->tenant;
	event->server = client->server;
	event->start = result ? number(result, row, n - 2) : client->sent_at;
	event->end = result ? number(result, row, n - 1) : now_us();
	return event;
}

/* Transactions ------------------------------------------------------------- */

void
begin(Client *client)
{
	static const char *const levels[] = {"REPEATABLE READ", "SERIALIZABLE"};
	int			level = client->calm ? 0 : pick(client, 100);

	PQclear(client_query(client, "BEGIN ISOLATION LEVEL %s",
						 level < read_committed ? "READ COMMITTED" : levels[level % 2]));
	client->in_block = true;
	if (!client->failed && !client->calm && chance(client, 4))
		PQclear(client_query(client, "SET LOCAL statement_timeout = %d",
							 1 + pick(client, 15)));
}

static void
count_jobs(const History *history)
{
	for (size_t i = history->open; i < history->count; i++)
	{
		Op			op = (Op) history->events[i].op;

		if (history->events[i].fate != FATE_OPEN)
			continue;
		if (op == OP_ENQUEUED)
			__atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
		else if (op == OP_DONE || op == OP_DIED || op == OP_CANCELLED)
			__atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
	}
}

/*
 * Whether the open transaction, if acknowledged, has waited for its WAL, and for
 * the standby if there is one. One that only claimed need not, and one that
 * enqueued a critical job must.
 */
static bool
is_durable(const Client *client)
{
	const History *history = &client->history;

	if (client->unreplicated)
		return false;
	for (size_t i = history->open; i < history->count; i++)
	{
		const Event *event = &history->events[i];

		if (event->fate != FATE_OPEN)
			continue;
		if (event->op == OP_ENQUEUED && event->key < 0)
			return true;
		if (client->synchronous && event->op != OP_CLAIMED &&
			event->op != OP_KNOWN && event->op != OP_REFUSED)
			return true;
	}
	return false;
}

/* Leases that were claimed in a transaction are held once it has committed. */
void
end(Client *client, Fate fate, int prepared)
{
	bool		kept = fate == FATE_COMMITTED || fate == FATE_PREPARED;
	Outcome		outcome = {
		.fate = fate, .durable = is_durable(client), .prepared = prepared,
		.server = client->server, .sent = client->sent_at,
		.acknowledged = now_us()
	};

	if (kept)
		count_jobs(&client->history);
	history_end(&client->history, &outcome);
	if (kept)
		client->ncommitted = client->nleases;
	else
		client->nleases = client->ncommitted;
	client->in_block = client->failed = client->unreplicated = false;
}

/* Ends the block if there is one still; statement_timeout may hit this too. */
static void
roll_back(Client *client)
{
	while (!client->broken && PQtransactionStatus(client->conn) != PQTRANS_IDLE)
		PQclear(client_query(client, "ROLLBACK"));
}

/* Leaves the transaction to somebody else to commit or roll back. */
static void
prepare(Client *client)
{
	int			number = prepared_new();
	bool		prepared;

	PQclear(client_query(client, "PREPARE TRANSACTION 'stress %d'", number));
	prepared = !client->failed;
	if (prepared && !client->unreplicated)
	{
		prepared_acknowledged(number);
		note_durable(client->server, client->sent_at);
	}
	roll_back(client);
	end(client, prepared || client->broken ? FATE_PREPARED : FATE_ABORTED, number);
}

void
finish(Client *client, bool commit)
{
	PGresult   *result;
	bool		committed;
	bool		unknown;

	if (client->broken || !commit || client->failed)
	{
		roll_back(client);
		end(client, FATE_ABORTED, 0);
		return;
	}
	/* a standby has it for certain only if it was waited for */
	if (!client->calm && chance(client, 3) && prepared_room() &&
		(client->synchronous || !has_standby))
	{
		prepare(client);
		return;
	}
	result = client_query(client, "COMMIT");
	committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
	unknown = client->broken;
	PQclear(result);
	roll_back(client);
	end(client, committed ? FATE_COMMITTED : unknown ? FATE_UNKNOWN : FATE_ABORTED, 0);
}

/* After a statement that may have been a transaction of its own. */
void
finish_statement(Client *client)
{
	if (!client->in_block)
		end(client, client->broken ? FATE_UNKNOWN :
			client->failed ? FATE_ABORTED : FATE_COMMITTED, 0);
}

/* About how many jobs were made. */
long
made_jobs(void)
{
	return __atomic_load_n(&made, __ATOMIC_RELAXED);
}
