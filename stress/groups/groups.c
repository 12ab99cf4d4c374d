/*
 * groups.c
 *	  Clients against the groups of two queues, while sessions are ended and a
 *	  backend is killed: were there ever more jobs of a group at once than
 *	  group_concurrency, did one overtake another, was one left behind?
 *
 * usage: groups SECONDS, with libpq's environment, and the extension in the
 * database. Clients and server share a clock.
 *
 * In the queue "one" jobs of a group run one after the other, and one that
 * fails for good blocks it until the supervisor sends it back. In "three" three
 * run at once, and a failed one lets the next pass.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/at_once.h"
#include "../lib/connection.h"
#include "check.h"

#define CLIENTS 64
#define WAITING 600				/* jobs that producers leave */
#define MAX_JOBS 1000000

static const char *const queues[] = {"one", "three"};

#define ONE 0
#define THREE 1

typedef struct Client
{
	Connection	link;
	Run		   *runs;
	int			count;
	int			allocated;

	/* the lease that it holds */
	char		id[40];
	char		token[24];
	double		until;
	Run			run;
} Client;

static Client clients[CLIENTS];
static Job *jobs;
static int	njobs = 0;
static int	unfinished = 0;		/* about */
static volatile bool producing = true;
static volatile bool stopping = false;

/* A number for a job that is to be enqueued; it counts once acknowledged. */
static int
new_job(Client *client, int queue)
{
	int			job = __atomic_fetch_add(&njobs, 1, __ATOMIC_SEQ_CST);

	if (job >= MAX_JOBS)
		exit(3);
	jobs[job].queue = queue;
	jobs[job].group = pick(&client->link, GROUPS);
	jobs[job].sent = now();
	jobs[job].acknowledged = 1e18;
	return job;
}

static int
enqueue_sql(Client *client, char *sql, size_t size, int queue)
{
	int			job = new_job(client, queue);

	if (pick(&client->link, 3) == 0)
		snprintf(sql, size, "INSERT INTO jobs (queue_id, payload, group_key, max_attempts)"
				 " SELECT id, '%d', 'group %d', 5 FROM queues WHERE name = '%s'",
				 job, jobs[job].group, queues[queue]);
	else
		snprintf(sql, size, "SELECT queue_enqueue('%s', '%d', group_key => 'group %d')",
				 queues[queue], job, jobs[job].group);
	return job;
}

static void
acknowledge(int job, bool ok)
{
	if (!ok)
		return;
	jobs[job].acknowledged = now();
	__atomic_fetch_add(&unfinished, 1, __ATOMIC_SEQ_CST);
}

/* Enqueues one job, or two in a transaction that commits or does not. */
static void
produce(Client *client)
{
	char		first[300];
	char		second[300];
	char		sql[700];
	int			queue = pick(&client->link, 3) == 0 ? THREE : ONE;
	int			a = enqueue_sql(client, first, sizeof(first), queue);
	int			b;
	int			what = pick(&client->link, 10);

	if (what >= 3)
	{
		acknowledge(a, succeeds(&client->link, first));
		return;
	}
	b = enqueue_sql(client, second, sizeof(second), queue);
	snprintf(sql, sizeof(sql), what == 0 ? "BEGIN; %s; SAVEPOINT s; %s; ROLLBACK TO s" :
			 "BEGIN; %s; %s", first, second);
	if (!succeeds(&client->link, sql))
		return;
	usleep(pick(&client->link, 3000));
	if (!succeeds(&client->link, what == 1 ? "ROLLBACK" : "COMMIT"))
		return;
	acknowledge(a, what != 1);
	acknowledge(b, what == 2);
}

/* Keeps what must have been of the lease: until then, or until it expired. */
static void
keep(Client *client, double until)
{
	if (client->count == client->allocated)
	{
		client->allocated = client->allocated ? 2 * client->allocated : 1024;
		client->runs = realloc(client->runs, client->allocated * sizeof(Run));
	}
	client->run.until = earlier(until, client->until);
	client->runs[client->count++] = client->run;
}

#define CLAIMED "job_id, lease_token, payload, extract(epoch FROM leased_until)"

/* Takes what a claim gave, if it gave any. */
static bool
take(Client *client, PGresult *result)
{
	bool		claimed = result != NULL && PQntuples(result) == 1;

	if (claimed)
	{
		snprintf(client->id, sizeof(client->id), "%s", PQgetvalue(result, 0, 0));
		snprintf(client->token, sizeof(client->token), "%s", PQgetvalue(result, 0, 1));
		client->run.job = atoi(PQgetvalue(result, 0, 2));
		client->until = atof(PQgetvalue(result, 0, 3));
		client->run.from = now();
	}
	PQclear(result);
	return claimed;
}

static bool
claim(Client *client, int queue, const char *lease)
{
	char		sql[200];

	snprintf(sql, sizeof(sql), "SELECT " CLAIMED " FROM queue_claim('%s', 'w', lease => '%s')",
			 queues[queue], lease);
	return take(client, run(&client->link, sql));
}

/* Ends the lease, by a statement with a place for id and token. */
static bool
end(Client *client, const char *format)
{
	char		sql[500];
	double		sent = now();
	bool		ok;

	snprintf(sql, sizeof(sql), format, client->id, client->token);
	ok = succeeds(&client->link, sql);
	keep(client, sent);
	return ok;
}

static void
complete(Client *client)
{
	if (end(client, pick(&client->link, 2) ? "SELECT queue_complete('%s', %s)" :
			"SELECT queue_complete_many(ARRAY['%s']::uuid[], ARRAY[%s])"))
		__atomic_fetch_sub(&unfinished, 1, __ATOMIC_SEQ_CST);
}

/* Completes in vain first: with a savepoint, or in a transaction that ends so. */
static void
complete_twice(Client *client)
{
	char		sql[300];

	snprintf(sql, sizeof(sql), pick(&client->link, 2) ?
			 "BEGIN; SAVEPOINT s; SELECT queue_complete('%s', %s); ROLLBACK TO s" :
			 "BEGIN; SELECT queue_complete('%s', %s); ROLLBACK; BEGIN",
			 client->id, client->token);
	if (!succeeds(&client->link, sql))
	{
		keep(client, client->until);
		return;
	}
	complete(client);
	(void) succeeds(&client->link, "COMMIT");
}

static bool
complete_and_claim(Client *client, int queue)
{
	char		sql[400];
	double		sent = now();
	PGresult   *result;

	snprintf(sql, sizeof(sql), "SELECT " CLAIMED " FROM queue_complete_and_claim("
			 "'%s', ARRAY['%s']::uuid[], ARRAY[%s], worker => 'w') WHERE kind = 'claimed'",
			 queues[queue], client->id, client->token);
	result = run(&client->link, sql);
	keep(client, sent);
	if (result != NULL)
		__atomic_fetch_sub(&unfinished, 1, __ATOMIC_SEQ_CST);
	return take(client, result);
}

static void
consume(Client *client)
{
	int			what = pick(&client->link, 100);
	int			queue = pick(&client->link, 3) == 0 ? THREE : ONE;

	if (!claim(client, queue, what < 5 ? "30 ms" : "1 second"))
	{
		usleep(5000 + pick(&client->link, 10000));
		return;
	}
	usleep(pick(&client->link, 4000));
	while (what >= 60 && what < 75 && !stopping)
	{
		if (!complete_and_claim(client, queue))
			return;
		usleep(pick(&client->link, 4000));
	}
	if (what < 5)
	{
		/* its lease runs out under it, and it may be late or not */
		usleep(25000 + pick(&client->link, 20000));
		(void) end(client, "SELECT queue_complete('%s', %s)");
	}
	else if (what < 12)
		(void) end(client, "SELECT queue_fail('%s', %s, 'no', retry_in => '5 ms')");
	else if (what < 15)
		(void) end(client, "SELECT queue_fail('%s', %s, 'no', dead => true)");
	else if (what < 18)
		(void) end(client, "SELECT queue_snooze('%s', %s, '3 ms')");
	else if (what < 20)
		(void) end(client, "SELECT queue_release('%s', %s)");
	else if (what < 30)
		complete_twice(client);
	else
		complete(client);
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;

	connect_link(&client->link);
	while (!stopping)
	{
		if (producing && pick(&client->link, 2) == 0 &&
			__atomic_load_n(&unfinished, __ATOMIC_SEQ_CST) < WAITING)
			produce(client);
		else
			consume(client);
	}
	PQfinish(client->link.conn);
	return NULL;
}

/* Sends back what failed for good, and runs maintenance. */
static void *
run_supervisor(void *arg)
{
	Client	   *client = arg;

	connect_link(&client->link);
	for (int n = 0; !stopping; n++)
	{
		(void) succeeds(&client->link, "SELECT queue_redrive('one')");
		(void) succeeds(&client->link, "SELECT queue_redrive('three')");
		if (n % 20 == 0)
			(void) succeeds(&client->link, "SELECT queue_maintain()");
		usleep(50000);
	}
	PQfinish(client->link.conn);
	return NULL;
}

static void
disturb(Connection *link, double seconds)
{
	double		begin = now();
	bool		crashed = false;

	while (now() < begin + seconds)
	{
		usleep(200000);
		if (!crashed && now() > begin + seconds / 2)
		{
			crashed = true;
			kill_backend(link);
		}
		else
			end_session(link);
	}
}

/* Waits until nothing is left, or that takes too long; how many jobs are. */
static int
drain(Connection *link)
{
	double		begin = now();
	int			left;

	do
	{
		usleep(100000);
		left = number(link, "SELECT (SELECT count(*) FROM jobs WHERE finished_at IS NULL)"
					  " + (SELECT count(*) FROM dead_letter_jobs WHERE redriven_at IS NULL)");
	} while (left != 0 && now() < begin + 60);
	return left;
}

/* All runs of all clients. */
static Run *
gather(int *count)
{
	Run		   *all;

	*count = 0;
	for (int i = 0; i < CLIENTS; i++)
		*count += clients[i].count;
	all = malloc((*count + 1) * sizeof(Run));
	*count = 0;
	for (int i = 0; i < CLIENTS; i++)
	{
		memcpy(all + *count, clients[i].runs, clients[i].count * sizeof(Run));
		*count += clients[i].count;
	}
	return all;
}

/* Jobs that were acknowledged, and are not there as completed. */
static int
count_lost(Connection *link)
{
	PGresult   *result = run(link, "SELECT payload FROM jobs WHERE status = 'completed'");
	bool	   *completed = calloc(njobs + 1, sizeof(bool));
	int			lost = 0;

	for (int i = 0; result != NULL && i < PQntuples(result); i++)
		completed[atoi(PQgetvalue(result, i, 0))] = true;
	for (int i = 0; i < njobs; i++)
		lost += jobs[i].acknowledged < 1e18 && !completed[i];
	PQclear(result);
	free(completed);
	return lost;
}

int
main(int argc, char **argv)
{
	double		seconds = argc > 1 ? atof(argv[1]) : 60;
	pthread_t	threads[CLIENTS + 1];
	Connection	control = {0};
	Client		supervisor = {0};
	Run		   *runs;
	int			nruns;
	int			left;
	int			failed = 0;

	failed += report("the checks find what is wrong", self_test(), 0);
	jobs = calloc(MAX_JOBS, sizeof(Job));
	connect_link(&control);
	if (!succeeds(&control, "INSERT INTO tenants (id) VALUES ('" TENANT "');"
				  " SELECT queue_create('one', group_concurrency => 1, max_attempts => 5,"
				  " default_lease => '1 second');"
				  " SELECT queue_create('three', group_concurrency => 3, group_on_failure => 'pass',"
				  " max_attempts => 5, default_lease => '1 second')"))
		return 1;
	for (int i = 0; i < CLIENTS; i++)
	{
		clients[i].link.seed = i + 1;
		pthread_create(&threads[i], NULL, run_client, &clients[i]);
	}
	pthread_create(&threads[CLIENTS], NULL, run_supervisor, &supervisor);
	disturb(&control, seconds);
	producing = false;
	left = drain(&control);
	stopping = true;
	for (int i = 0; i <= CLIENTS; i++)
		pthread_join(threads[i], NULL);
	runs = gather(&nruns);

	printf("%d jobs, %d leases, %ld deadlocks, %ld serialization failures, %ld other errors\n",
		   njobs, nruns, refused.deadlocks, refused.serialization, refused.others);
	failed += report("there were leases", nruns > 20 * seconds, nruns);
	failed += report("never two of a group at once", most_at_once(jobs, runs, nruns, ONE) <= 1,
					 most_at_once(jobs, runs, nruns, ONE));
	failed += report("never more of a group than its three",
					 most_at_once(jobs, runs, nruns, THREE) <= 3,
					 most_at_once(jobs, runs, nruns, THREE));
	failed += report("three were at once", most_at_once(jobs, runs, nruns, THREE) >= 3,
					 most_at_once(jobs, runs, nruns, THREE));
	failed += report("never out of order", overtaken(jobs, njobs, runs, nruns, ONE) == 0,
					 overtaken(jobs, njobs, runs, nruns, ONE));
	failed += report("none is stuck", left == 0, left);
	left = count_lost(&control);
	failed += report("none is lost", left == 0, left);
	failed += report("no other errors", refused.others == 0, refused.others);
	return failed > 0;
}
