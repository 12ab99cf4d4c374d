/*
 * client.c
 *	  What a client does: at random, but by the seed, one thing after another,
 *	  alone or in a transaction that may be rolled back.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

#define NKEYS 4					/* idempotency keys in use at a time */

/* Producing ---------------------------------------------------------------- */

static void
enqueued(Client *client, Id job, int queue, bool effect, int key,
		 PGresult *result, int row)
{
	Event	   *event = add_event(client, OP_ENQUEUED, job, result, row);

	event->queue = queue;
	event->effect = effect;
	event->key = key;
	remember(client->tenant, job);
}

static Id
random_id(Client *client)
{
	Id			id = {random_next(&client->random), random_next(&client->random)};

	return id;
}

/* By INSERT or COPY, under ids of our own. */
static void
insert_jobs(Client *client, int queue, bool copy)
{
	Id			ids[10];
	int			count = 1 + pick(client, 10);
	bool		effect = chance(client, 30);
	char		rows[10 * 150];
	size_t		length = 0;
	PGresult   *result;

	for (int i = 0; i < count; i++)
	{
		char		id[37];

		ids[i] = random_id(client);
		format_id(ids[i], id);
		length += snprintf(rows + length, sizeof(rows) - length,
						   copy ? "%s%s\t%s\t%s\t%d\n" : "%s('%s', '%s', '%s', %d)",
						   copy || i == 0 ? "" : ", ", id,
						   queue_ids[client->tenant][queue],
						   effect ? "effect" : "plain", pick(client, 3));
	}
	if (copy)
	{
		result = client_query(client, "COPY jobs (id, queue_id, job_type, priority) FROM STDIN");
		if (PQresultStatus(result) == PGRES_COPY_IN)
		{
			PQputCopyData(client->conn, rows, (int) length);
			PQputCopyEnd(client->conn, NULL);
			PQclear(result);
			while ((result = PQgetResult(client->conn)) != NULL)
			{
				note_result(client, result, NULL);
				PQclear(result);
			}
		}
		note_result(client, result, NULL);
	}
	else
		result = client_query(client, "INSERT INTO jobs (id, queue_id, job_type, priority) VALUES %s",
							  rows);
	PQclear(result);
	/* what is unknown must be in the history too: it may be there */
	if (!client->failed || (client->broken && !client->in_block))
		for (int i = 0; i < count; i++)
			enqueued(client, ids[i], queue, effect, 0, NULL, 0);
	finish_statement(client);
}

static void
enqueue_many(Client *client, int queue)
{
	bool		effect = chance(client, 30);
	PGresult   *result =
	client_query(client, "SELECT id, " TIMES " FROM queue_enqueue_many('%s',"
				 " array_fill('1'::jsonb, ARRAY[%d]), job_type => '%s') id",
				 queues[queue].name, 1 + pick(client, 20),
				 effect ? "effect" : "plain");

	for (int i = 0; i < PQntuples(result); i++)
	{
		Id			job;

		parse_id(PQgetvalue(result, i, 0), &job);
		enqueued(client, job, queue, effect, 0, result, i);
	}
	PQclear(result);
	finish_statement(client);
}

static void
enqueue_one(Client *client, int queue)
{
	static const char *const conflicts[] = {"return", "reject", "replace", "debounce"};
	int			key = 0;
	bool		critical = chance(client, 15);
	bool		effect = chance(client, 30);
	const char *conflict = conflicts[pick(client, critical ? 3 : 4)];
	char		options[200] = "";
	PGresult   *result;

	if (critical || chance(client, 30))
	{
		/* a debounce makes a new job while one runs, so has keys of its own */
		key = 1 + (int) (made_jobs() / 400) +
			pick(client, NKEYS);
		snprintf(options, sizeof(options),
				 ", idempotency_key => '%s %d', on_conflict => '%s'",
				 conflict[0] == 'd' ? "debounced" : "key", key, conflict);
		key = conflict[0] == 'd' ? 0 : critical ? -key : key;
	}
	result = client_query(client, "SELECT job_id, created, " TIMES
						  " FROM queue_enqueue%s('%s', '1', job_type => '%s',"
						  " priority => %d, run_at => clock_timestamp() + interval '%d ms',"
						  " max_attempts => %d%s)",
						  critical ? "_critical" : "", queues[queue].name,
						  effect ? "effect" : "plain", pick(client, 3) - 1,
						  chance(client, 80) ? 0 : pick(client, 1000),
						  1 + pick(client, 5), options);
	if (PQntuples(result) == 1)
	{
		Id			job;

		parse_id(PQgetvalue(result, 0, 0), &job);
		if (PQgetvalue(result, 0, 1)[0] == 't')
			enqueued(client, job, queue, effect, key, result, 0);
		else
			add_event(client, OP_KNOWN, job, result, 0);
	}
	PQclear(result);
	finish_statement(client);
}

static void
produce(Client *client)
{
	/* the last queue is always almost empty */
	int			queue = pick(client, chance(client, 3) ? NQUEUES : NQUEUES - 1);
	int			how = pick(client, 100);

	if (client->tenant < 0 || outstanding() > wanted_depth)
		return;
	if (how < 60)
		enqueue_one(client, queue);
	else if (how < 75)
		enqueue_many(client, queue);
	else
		insert_jobs(client, queue, how >= 88);
}

/* Consuming ---------------------------------------------------------------- */

/* Takes the rows of a claim, the first column of which has this number. */
static void
take_leases(Client *client, int queue, PGresult *result, int first)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		Lease		lease = {.queue = queue};
		Event	   *event;

		if (first > 0 && strcmp(PQgetvalue(result, i, 0), "claimed") != 0)
			continue;
		parse_id(PQgetvalue(result, i, first), &lease.job);
		lease.token = number(result, i, first + 1);
		lease.until = number(result, i, first + 2);
		lease.effect = strcmp(PQgetvalue(result, i, first + 3), "effect") == 0;
		while (lease.tenant < NTENANTS - 1 &&
			   strcmp(PQgetvalue(result, i, first + 4), tenants[lease.tenant]) != 0)
			lease.tenant++;
		event = add_event(client, OP_CLAIMED, lease.job, result, i);
		event->token = lease.token;
		event->until = lease.until;
		event->queue = queue;
		event->tenant = lease.tenant;
		if (client->nleases < MAX_LEASES)
			client->leases[client->nleases++] = lease;
	}
}

#define CLAIM_COLUMNS "job_id, lease_token, us(leased_until), job_type, tenant_id, " TIMES

/* Returns how many were claimed. */
int
client_claim(Client *client, int queue, int max_jobs, int lease_ms)
{
	PGresult   *result =
	client_query(client, "SELECT " CLAIM_COLUMNS " FROM queue_claim('%s',"
				 " 'client %d', %d, interval '%d ms')",
				 queues[queue].name, client->number, max_jobs, lease_ms);
	int			count = PQntuples(result);

	take_leases(client, queue, result, 0);
	PQclear(result);
	finish_statement(client);
	return count;
}

/* In microseconds to 3 seconds, so that some expire while they are held. */
static int
lease_length(Client *client)
{
	static const int lengths[] = {1, 20, 200, 1000, 3000};

	return lengths[pick(client, 5)];
}

static void
claim(Client *client)
{
	if (client->nleases + 10 <= MAX_LEASES)
		(void) client_claim(client, pick(client, NQUEUES),
							chance(client, 60) ? 1 : 1 + pick(client, 10),
							lease_length(client));
}

/* Forgets leases, as their jobs are not ours any more. */
static void
drop_leases(Client *client, int first, int count)
{
	memmove(&client->leases[first], &client->leases[first + count],
			(client->nleases - first - count) * sizeof(Lease));
	client->nleases -= count;
	if (client->ncommitted > first)
		client->ncommitted -= client->ncommitted - first < count ?
			client->ncommitted - first : count;
}

static void
lease_event(Client *client, Op op, const Lease *lease, PGresult *result, int row)
{
	Event	   *event = add_event(client, op, lease->job, result, row);

	event->token = lease->token;
	event->queue = lease->queue;
	event->tenant = lease->tenant;
	event->effect = lease->effect;
}

/* What happened to a lease if the connection broke: maybe op. */
static void
maybe(Client *client, Op op, const Lease *leases, int count)
{
	if (client->broken && !client->in_block)
		for (int i = 0; i < count; i++)
			lease_event(client, op, &leases[i], NULL, 0);
}

/*
 * A worker that is late may find that another one's effect is there already;
 * not so after its completion was granted.
 */
static void
put_effects(Client *client, const Lease *leases, int count, bool late)
{
	char		rows[MAX_LEASES * 48];
	size_t		length = 0;

	rows[0] = '\0';
	for (int i = 0; i < count; i++)
	{
		char		id[37];

		format_id(leases[i].job, id);
		if (leases[i].effect)
			length += snprintf(rows + length, sizeof(rows) - length, "%s('%s')",
							   length ? ", " : "", id);
	}
	if (length > 0)
		PQclear(client_query(client, "INSERT INTO effects%s VALUES %s",
							 late ? " AS late" : "", rows));
}

/*
 * Completes leases, and may claim in the same turn. Jobs that have an effect
 * are completed strictly, in one transaction with it.
 */
void
client_complete(Client *client, int first, int count, bool and_claim)
{
	Lease		leases[MAX_LEASES];
	char		ids[MAX_LEASES * 40] = "";
	char		tokens[MAX_LEASES * 24] = "";
	bool		strict = false;
	bool		block = client->in_block;
	bool		effect_first = chance(client, 50);
	PGresult   *result;

	memcpy(leases, &client->leases[first], count * sizeof(Lease));
	drop_leases(client, first, count);
	/* a job that is given twice has lost its lease the second time */
	if (!and_claim && !client->calm && count < MAX_LEASES && chance(client, 5))
		leases[count++] = leases[0];
	for (int i = 0; i < count; i++)
	{
		char		id[37];

		format_id(leases[i].job, id);
		sprintf(ids + strlen(ids), "%s%s", i ? "," : "", id);
		sprintf(tokens + strlen(tokens), "%s%lld", i ? "," : "",
				(long long) leases[i].token);
		strict |= leases[i].effect;
	}
	if (strict)
	{
		if (!block)
			begin(client);
		if (!client->failed && effect_first)
			put_effects(client, leases, count, true);
		if (client->failed)
		{
			if (!block)
				finish(client, false);
			return;
		}
	}

	if (and_claim)
	{
		int			queue = leases[0].queue;
		int			refused = 0;

		result = client_query(client, "SELECT kind, " CLAIM_COLUMNS
							  " FROM queue_complete_and_claim('%s', '{%s}', '{%s}',"
							  " worker => 'client %d', max_jobs => %d, lease => '%d ms',"
							  " strict => %s)", queues[queue].name, ids, tokens,
							  client->number, count, lease_length(client),
							  strict ? "true" : "false");
		/* refused ones come first, in the order of the leases */
		for (int i = 0; i < count && PQresultStatus(result) == PGRES_TUPLES_OK; i++)
		{
			Id			job = {0, 0};
			bool		lost;

			if (refused < PQntuples(result) &&
				strcmp(PQgetvalue(result, refused, 0), "refused") == 0)
				parse_id(PQgetvalue(result, refused, 1), &job);
			lost = compare_ids(&job, &leases[i].job) == 0;
			if (lost)
				lease_event(client, OP_REFUSED, &leases[i], result, refused++);
			else
				lease_event(client, OP_DONE, &leases[i], NULL, 0);
		}
		take_leases(client, queue, result, 1);
	}
	else
	{
		result = count > 1 || chance(client, 20) ?
			client_query(client, "SELECT job_id, outcome, " TIMES
						 " FROM queue_complete_many('{%s}', '{%s}', strict => %s)",
						 ids, tokens, strict ? "true" : "false") :
			client_query(client, "SELECT job_id, outcome, " TIMES
						 " FROM queue_complete('%s', %s, '1', strict => %s)",
						 ids, tokens, strict ? "true" : "false");
		for (int i = 0; i < PQntuples(result); i++)
			lease_event(client, strcmp(PQgetvalue(result, i, 1), "done") == 0 ?
						OP_DONE : OP_REFUSED, &leases[i], result, i);
	}
	PQclear(result);
	maybe(client, OP_DONE, leases, count);
	if (strict && !client->failed && !effect_first)
		put_effects(client, leases, count, false);
	if (strict && !block)
		finish(client, true);
	else
		finish_statement(client);
}

static void
complete(Client *client)
{
	int			count = chance(client, 60) ? 1 : 1 + pick(client, 5);
	int			first;

	if (client->nleases == 0)
		return;
	if (count > client->nleases)
		count = client->nleases;
	first = pick(client, client->nleases - count + 1);
	client_complete(client, first, count,
					client->nleases < MAX_LEASES - 10 && chance(client, 30));
}

/* Fails, snoozes or releases a job. */
static void
give_back(Client *client)
{
	int			n;
	int			how = pick(client, 4);
	char		id[37];
	Lease		lease;
	PGresult   *result;

	if (client->nleases == 0)
		return;
	n = pick(client, client->nleases);
	lease = client->leases[n];
	format_id(lease.job, id);
	drop_leases(client, n, 1);
	if (how == 0)
		result = client_query(client, "SELECT outcome, " TIMES
							  " FROM queue_snooze('%s', %lld, interval '%d ms')", id,
							  (long long) lease.token, pick(client, 200));
	else if (how == 1)
		result = client_query(client, "SELECT outcome, " TIMES
							  " FROM queue_release('%s', %lld)", id,
							  (long long) lease.token);
	else
		result = client_query(client, "SELECT outcome, " TIMES
							  " FROM queue_fail('%s', %lld, 'no', dead => %s)", id,
							  (long long) lease.token,
							  chance(client, 10) ? "true" : "false");
	for (int i = 0; i < PQntuples(result); i++)
	{
		const char *outcome = PQgetvalue(result, i, 0);

		lease_event(client, strcmp(outcome, "lost") == 0 ? OP_REFUSED :
					strcmp(outcome, "dead") == 0 ? OP_DIED :
					strcmp(outcome, "cancelled") == 0 ? OP_CANCELLED :
					OP_GIVEN_BACK, &lease, result, i);
	}
	PQclear(result);
	maybe(client, OP_GIVEN_BACK, &lease, 1);
	finish_statement(client);
}

static void
heartbeat(Client *client)
{
	int			n;
	char		id[37];
	Lease	   *lease;
	PGresult   *result;

	if (client->nleases == 0)
		return;
	n = pick(client, client->nleases);
	lease = &client->leases[n];
	format_id(lease->job, id);
	result = chance(client, 50) ?
		client_query(client, "SELECT held, us(leased_until), " TIMES
					 " FROM queue_heartbeat('%s', %lld, interval '%d ms')", id,
					 (long long) lease->token, lease_length(client)) :
		client_query(client, "SELECT held, us(leased_until), " TIMES
					 " FROM queue_heartbeat_many('{%s}', '{%lld}', interval '%d ms')",
					 id, (long long) lease->token, lease_length(client));
	if (PQntuples(result) == 1)
	{
		bool		held = PQgetvalue(result, 0, 0)[0] == 't';

		lease_event(client, held ? OP_HELD : OP_REFUSED, lease, result, 0);
		if (held)
			client->history.events[client->history.count - 1].until =
				number(result, 0, 1);
		else
			drop_leases(client, n, 1);
	}
	PQclear(result);
	finish_statement(client);
}

/* Anybody's jobs ----------------------------------------------------------- */

static void
repair(Client *client)
{
	Id			job;
	char		id[37];
	bool		cancel = chance(client, 40);
	PGresult   *result;

	if (!recall(client, &job))
		return;
	format_id(job, id);
	result = client_query(client, "SELECT outcome, job_id, " TIMES " FROM queue_%s('%s')",
						  cancel ? "cancel" : "retry", id);
	if (PQntuples(result) == 1)
	{
		const char *outcome = PQgetvalue(result, 0, 0);

		if (strcmp(outcome, "cancelled") == 0)
			add_event(client, OP_CANCELLED, job, result, 0);
		else if (strcmp(outcome, "requested") == 0)
			add_event(client, OP_CANCEL_REQUESTED, job, result, 0);
		else if (strcmp(outcome, "retry") == 0)
			add_event(client, OP_RETRIED, job, result, 0);
	}
	if (client->broken && !client->in_block)
		add_event(client, cancel ? OP_CANCEL_REQUESTED : OP_RETRIED, job, NULL, 0);
	PQclear(result);
	finish_statement(client);
}

static void
redrive(Client *client)
{
	if (client->tenant >= 0)
		PQclear(client_query(client, "SELECT queue_redrive('%s', max_jobs => %d)",
							 queues[pick(client, NQUEUES)].name, 1 + pick(client, 20)));
	finish_statement(client);
}

/* Rows of jobs may be updated by whoever has the right to. */
static void
update(Client *client)
{
	Id			job;
	char		id[37];
	int			how = pick(client, 4);

	if (!recall(client, &job))
		return;
	format_id(job, id);
	if (how == 3)
		PQclear(client_query(client, "INSERT INTO notes SELECT id FROM jobs WHERE id = '%s'", id));
	else
		PQclear(client_query(client, "UPDATE jobs SET %s WHERE id = '%s' AND finished_at IS NULL",
							 how == 0 ? "priority = (priority + 1) % 3" :
							 how == 1 ? "payload = '2'" :
							 "run_at = clock_timestamp() + random() * interval '300 ms'",
							 id));
	finish_statement(client);
}

static void
act(Client *client)
{
	int			what = pick(client, 100);

	if (what < 22)
		produce(client);
	else if (what < 52)
		claim(client);
	else if (what < 74)
		complete(client);
	else if (what < 82)
		give_back(client);
	else if (what < 88)
		heartbeat(client);
	else if (what < 92)
		repair(client);
	else if (what < 93)
		redrive(client);
	else
		update(client);
}

static void
act_in_block(Client *client)
{
	int			count = 1 + pick(client, 4);

	begin(client);
	for (int i = 0; i < count && !client->failed; i++)
	{
		Client		before = *client;

		if (!chance(client, 25))
		{
			act(client);
			continue;
		}
		PQclear(client_query(client, "SAVEPOINT s"));
		if (client->failed)
			break;
		act(client);
		if (client->broken || chance(client, 40))
			continue;
		/* after an error too; what was ended there is held again */
		client->failed = false;
		PQclear(client_query(client, "ROLLBACK TO s"));
		history_undo(&client->history, before.history.count);
		memcpy(client->leases, before.leases, sizeof(before.leases));
		client->nleases = before.nleases;
		client->ncommitted = before.ncommitted;
	}
	if (chance(client, 10))
		usleep(pick(client, 30000));
	finish(client, chance(client, 80));
}

void *
client_main(void *arg)
{
	Client	   *client = arg;

	client_connect(client);
	while (!stopping)
	{
		if (client->broken)
		{
			end(client, FATE_ABORTED);
			client_connect(client);
		}
		/* a worker with many leases ends them, or forgets some of them */
		if (client->nleases > MAX_LEASES / 2)
			drop_leases(client, 0, pick(client, client->nleases));
		if (chance(client, 50))
			act_in_block(client);
		else
			act(client);
		client->failed = false;
	}
	return NULL;
}
