/*
 * slots.c
 *	  Clients against a queue with max_concurrency, while sessions are ended and
 *	  the server crashes: were there ever more leases than slots, and were the
 *	  slots busy?
 *
 * usage: slots SECONDS, with libpq's environment, and the extension in the
 * database. Clients and server share a clock.
 *
 * What counts is what must have been: a lease from the answer of its claim until
 * its end was asked for, or it expired. What a session that reads all leases
 * sees at once is counted as well.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/at_once.h"
#include "../lib/connection.h"

#define CLIENTS 64
#define SLOTS 10
#define RESERVE 2

typedef struct Interval
{
	double		from;
	double		until;
	bool		critical;
} Interval;

typedef struct Client
{
	Connection	link;
	Interval   *history;
	int			count;
	int			allocated;

	/* the lease that it holds */
	char		id[40];
	char		token[24];
	Interval	lease;
} Client;

static Client clients[CLIENTS + 1];
static volatile bool stopping = false;
static volatile double crashed = 0; /* when */
static volatile double recovered = 0;
static int	seen_all = 0;
static int	seen_normal = 0;
static int	looks = 0;
static double seen_sum = 0;		/* of all looks, for the average */
static double could_sum = 0;	/* as many as could have been */
static volatile double begin = 0;

/* Keeps what must have been of the lease: until then, or until it expired. */
static void
keep(Client *client, double until)
{
	if (client->count == client->allocated)
	{
		client->allocated = client->allocated ? 2 * client->allocated : 1024;
		client->history = realloc(client->history,
								  client->allocated * sizeof(Interval));
	}
	client->history[client->count] = client->lease;
	client->history[client->count++].until = earlier(until, client->lease.until);
}

#define CLAIMED "job_id, lease_token, critical, extract(epoch FROM leased_until)"

/* Takes what a claim gave, if it gave any. */
static bool
take(Client *client, PGresult *result)
{
	bool		claimed = result != NULL && PQntuples(result) == 1;

	if (claimed)
	{
		snprintf(client->id, sizeof(client->id), "%s", PQgetvalue(result, 0, 0));
		snprintf(client->token, sizeof(client->token), "%s", PQgetvalue(result, 0, 1));
		client->lease.critical = PQgetvalue(result, 0, 2)[0] == 't';
		client->lease.until = atof(PQgetvalue(result, 0, 3));
		client->lease.from = now();
	}
	PQclear(result);
	return claimed;
}

static bool
claim(Client *client, const char *lease)
{
	char		sql[200];

	snprintf(sql, sizeof(sql),
			 "SELECT " CLAIMED " FROM queue_claim('q', 'w', lease => '%s')", lease);
	return take(client, run(&client->link, sql));
}

/* Ends the lease by a verb. */
static void
end(Client *client, const char *verb, const char *more)
{
	char		sql[200];
	double		sent = now();

	snprintf(sql, sizeof(sql), "SELECT %s('%s', %s%s)", verb, client->id,
			 client->token, more);
	(void) succeeds(&client->link, sql);
	keep(client, sent);
}

static void
heartbeat(Client *client)
{
	char		sql[200];
	PGresult   *result;

	snprintf(sql, sizeof(sql), "SELECT held, extract(epoch FROM leased_until)"
			 " FROM queue_heartbeat('%s', %s, '2 seconds')", client->id, client->token);
	result = run(&client->link, sql);
	if (result != NULL && PQgetvalue(result, 0, 0)[0] == 't')
	{
		if (now() > client->lease.until)
		{
			keep(client, client->lease.until);
			client->lease.from = now();
		}
		client->lease.until = atof(PQgetvalue(result, 0, 1));
	}
	PQclear(result);
}

static void
work(Client *client)
{
	usleep(50000 + pick(&client->link, 100000));
}

/* Ends one lease and begins another in one transaction, or does not. */
static bool
turn(Client *client)
{
	char		sql[400];
	double		sent;
	Client		next = *client;
	bool		commits = pick(&client->link, 2);
	bool		claimed;

	snprintf(sql, sizeof(sql), "BEGIN; SELECT queue_complete('%s', %s);"
			 " SAVEPOINT s; SELECT queue_claim('q', 'w'); ROLLBACK TO s",
			 client->id, client->token);
	sent = now();
	if (!succeeds(&client->link, sql))
	{
		keep(client, client->lease.until);
		return false;
	}
	next.link = client->link;
	claimed = take(&next, run(&client->link, "SELECT " CLAIMED " FROM queue_claim('q', 'w')"));
	sent = now();
	if (!succeeds(&client->link, commits ? "COMMIT" : "ROLLBACK"))
	{
		keep(client, sent);
		return false;
	}
	if (!commits)
		return true;
	keep(client, sent);
	if (!claimed)
		return false;
	memcpy(client->id, next.id, sizeof(client->id));
	memcpy(client->token, next.token, sizeof(client->token));
	client->lease = next.lease;
	client->lease.from = now();
	return true;
}

static bool
complete_and_claim(Client *client)
{
	char		sql[400];
	double		sent = now();
	PGresult   *result;

	snprintf(sql, sizeof(sql), "SELECT " CLAIMED " FROM queue_complete_and_claim("
			 "'q', ARRAY['%s']::uuid[], ARRAY[%s], worker => 'w') WHERE kind = 'claimed'",
			 client->id, client->token);
	result = run(&client->link, sql);
	keep(client, sent);
	return take(client, result);
}

static void
one_job(Client *client)
{
	int			what = pick(&client->link, 100);

	if (what < 5)
	{
		(void) succeeds(&client->link, "BEGIN; SELECT queue_claim('q', 'w'); ROLLBACK");
		return;
	}
	if (!claim(client, what < 10 ? "60 ms" : "2 seconds"))
	{
		(void) succeeds(&client->link, "CALL queue_wait('q', '1 second')");
		return;
	}
	work(client);
	if (what < 20)
		heartbeat(client);
	while (what >= 50 && what < 75 && !stopping)
	{
		if (!complete_and_claim(client))
			return;
		work(client);
	}
	if (what >= 75 && what < 90 && !turn(client))
		return;
	if (what >= 90 && what < 95)
		end(client, "queue_fail", ", 'no', retry_in => '0'");
	else if (what >= 95)
		end(client, "queue_release", "");
	else
		end(client, "queue_complete", "");
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;

	connect_link(&client->link);
	while (!stopping)
		one_job(client);
	PQfinish(client->link.conn);
	return NULL;
}

/* What one snapshot sees. */
static void *
run_monitor(void *arg)
{
	Client	   *client = arg;

	bool		broke = false;

	connect_link(&client->link);
	while (!stopping)
	{
		PGresult   *result = run(&client->link, "SELECT"
								 " (SELECT count(*) FROM jobs WHERE status = 'processing' AND leased_until > clock_timestamp()),"
								 " (SELECT count(*) FROM critical_jobs WHERE status = 'processing' AND leased_until > clock_timestamp()),"
								 " EXISTS (SELECT FROM critical_jobs WHERE status = 'pending')");

		if (result != NULL)
		{
			int			normal = atoi(PQgetvalue(result, 0, 0));
			int			all = normal + atoi(PQgetvalue(result, 0, 1));

			seen_all = all > seen_all ? all : seen_all;
			seen_normal = normal > seen_normal ? normal : seen_normal;
			looks++;
			if (broke && recovered == 0)
				recovered = now();
			if (begin > 0 &&
				(crashed == 0 || (recovered > 0 && now() > recovered + 1)))
			{
				seen_sum += all;
				could_sum += PQgetvalue(result, 0, 2)[0] == 't' ? SLOTS :
					SLOTS - RESERVE + all - normal;
			}
		}
		else if (crashed > 0)
			broke = true;
		PQclear(result);
		usleep(5000);
	}
	PQfinish(client->link.conn);
	return NULL;
}

static void
disturb(Connection *link, double seconds)
{
	while (now() < begin + seconds)
	{
		usleep(200000);
		if (crashed == 0 && now() > begin + seconds / 2)
		{
			crashed = now();
			kill_backend(link);
		}
		else
			end_session(link);
	}
}

static int
most_at_once(bool critical_too)
{
	Event	   *events;
	Event	   *end;
	int			count = 0;
	int			most;

	for (int i = 0; i < CLIENTS; i++)
		count += 2 * clients[i].count;
	events = end = malloc((count + 1) * sizeof(Event));
	for (int i = 0; i < CLIENTS; i++)
		for (int n = 0; n < clients[i].count; n++)
		{
			Interval   *interval = &clients[i].history[n];

			if (critical_too || !interval->critical)
				end = note_interval(end, interval->from, interval->until);
		}
	most = most_events(events, end - events);
	free(events);
	return most;
}

int
main(int argc, char **argv)
{
	double		seconds = argc > 1 ? atof(argv[1]) : 60;
	pthread_t	threads[CLIENTS + 1];
	Connection	control = {0};
	double		average;
	int			claims = 0;
	int			failed = 0;
	char		sql[500];

	connect_link(&control);
	snprintf(sql, sizeof(sql), "INSERT INTO tenants (id) VALUES ('" TENANT "');"
			 " SELECT queue_create('q', max_concurrency => %d, critical_reserve => %d,"
			 " default_lease => '2 seconds', max_attempts => 1000, keep_completed => '0')", SLOTS, RESERVE);
	if (!succeeds(&control, sql))
		return 1;
	snprintf(sql, sizeof(sql), "SELECT queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[10000]))"
			 " FROM generate_series(1, %d)", (int) (seconds / 30) + 1);
	if (!succeeds(&control, sql))
		return 1;
	snprintf(sql, sizeof(sql), "SELECT count(queue_enqueue_critical('q', '1', i::text))"
			 " FROM generate_series(1, %d) i", (int) (seconds * 30));
	if (!succeeds(&control, sql))
		return 1;

	for (int i = 0; i <= CLIENTS; i++)
	{
		clients[i].link.seed = i + 1;
		pthread_create(&threads[i], NULL, i < CLIENTS ? run_client : run_monitor,
					   &clients[i]);
	}
	usleep(1000000);
	begin = now();
	disturb(&control, seconds);
	stopping = true;
	for (int i = 0; i <= CLIENTS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < CLIENTS; i++)
		claims += clients[i].count;

	average = could_sum > 0 ? SLOTS * seen_sum / could_sum : 0;
	printf("%d leases, %d looks, %.1f s without a server\n", claims, looks,
		   recovered - crashed);
	failed += report("there were leases", claims > 20 * seconds, claims);
	failed += report("never more leases than slots", most_at_once(true) <= SLOTS,
					 most_at_once(true));
	failed += report("never more normal ones than theirs",
					 most_at_once(false) <= SLOTS - RESERVE, most_at_once(false));
	failed += report("never more seen at once", seen_all <= SLOTS, seen_all);
	failed += report("never more normal ones seen", seen_normal <= SLOTS - RESERVE,
					 seen_normal);
	failed += report("slots are busy, on average", average >= 0.95 * SLOTS, average);
	return failed > 0;
}
