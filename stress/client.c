/*
 * client.c
 *	  What a client does: at random, but by the seed, one thing after another,
 *	  alone or in a transaction that may be rolled back.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

volatile long truncates = 0;

#define NKEYS 4					/* idempotency keys in use at a time */

/* Producing ---------------------------------------------------------------- */

void
enqueued(Client *client, Id job, int queue, bool effect, int key,
		 PGresult *result, int row)
{
	Event	   *event = add_event(client, OP_ENQUEUED, job, result, row);

	event->queue = queue;
	event->effect = effect;
	event->key = key;
	remember(client->tenant, queue, job);
}

static void
enqueue_many(Client *client, int queue)
{
	bool		effect = chance(client, 30);
	PGresult   *result =
	client_query(client, "SELECT id, " TIMES " FROM queue_enqueue_many('%s',"
				 " array_fill('1'::jsonb, ARRAY[%d]), job_type => '%s') id",
				 queue_names[queue], 1 + pick(client, 20),
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
						  critical ? "_critical" : "", queue_names[queue],
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

/* A queue that is in use; half of many at once are where something goes on. */
static int
pick_queue(Client *client)
{
	Known		known;

	if (phase.width == WIDTH_ONE)
		return phase.queue;
	if (phase.width == WIDTH_FEW)
		return pick(client, NKINDS);
	return chance(client, 50) && recall(client, &known) ? known.queue :
		pick(client, nqueues);
}

static void
produce(Client *client)
{
	int			queue = pick_queue(client);
	int			how = pick(client, 100);

	if (client->tenant < 0 || outstanding() > phase.depth)
		return;
	/* the first queue of the last kind is always almost empty */
	if (queue == NKINDS - 1 && phase.width == WIDTH_FEW && !chance(client, 10))
		return;
	if (how < 60)
		enqueue_one(client, queue);
	else if (how < 75)
		enqueue_many(client, queue);
	else
		insert_jobs(client, queue, how >= 88);
}

/* Consuming ---------------------------------------------------------------- */

/* Notes a claim that asked for so many jobs at most. */
void
take_lease(Client *client, const Lease *lease, int asked, PGresult *result, int row)
{
	Event	   *event = add_event(client, OP_CLAIMED, lease->job, result, row);

	event->token = lease->token;
	event->until = lease->until;
	event->queue = lease->queue;
	event->tenant = lease->tenant;
	event->asked = asked;
	if (client->nleases < MAX_LEASES)
		client->leases[client->nleases++] = *lease;
}

/* Takes the rows of a claim, the first column of which has this number. */
static void
take_leases(Client *client, int queue, int asked, PGresult *result, int first)
{
	for (int i = 0; i < PQntuples(result); i++)
	{
		Lease		lease = {.queue = queue};

		if (first > 0 && strcmp(PQgetvalue(result, i, 0), "claimed") != 0)
			continue;
		parse_id(PQgetvalue(result, i, first), &lease.job);
		lease.token = number(result, i, first + 1);
		lease.until = number(result, i, first + 2);
		lease.effect = strcmp(PQgetvalue(result, i, first + 3), "effect") == 0;
		while (lease.tenant < NTENANTS - 1 &&
			   strcmp(PQgetvalue(result, i, first + 4), tenants[lease.tenant]) != 0)
			lease.tenant++;
		take_lease(client, &lease, asked, result, i);
	}
}

#define CLAIM_COLUMNS "job_id, lease_token, us(leased_until), job_type, tenant_id, " TIMES

/* A claim was answered. */
static void
claim_answered(Client *client, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	client->claiming = false;
	if (state != NULL && strcmp(state, "57014") == 0)
		__atomic_add_fetch(&disturbances.in_claim, 1, __ATOMIC_RELAXED);
}

/* Returns how many were claimed. */
int
client_claim(Client *client, int queue, int max_jobs, int lease_ms)
{
	PGresult   *result;
	int			count;

	client->claiming = true;
	result = client_query(client, "SELECT " CLAIM_COLUMNS " FROM queue_claim('%s',"
						  " 'client %d', %d, interval '%d ms')",
						  queue_names[queue], client->number, max_jobs, lease_ms);
	claim_answered(client, result);
	count = PQntuples(result);
	take_leases(client, queue, max_jobs, result, 0);
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
		(void) client_claim(client, pick_queue(client),
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

/* Ids and tokens with commas between them, for the arrays of a call. */
static void
list_leases(const Lease *leases, int count, char *ids, char *tokens)
{
	*ids = *tokens = '\0';
	for (int i = 0; i < count; i++)
	{
		char		id[37];

		format_id(leases[i].job, id);
		ids += sprintf(ids, "%s%s", i ? "," : "", id);
		tokens += sprintf(tokens, "%s%lld", i ? "," : "",
						  (long long) leases[i].token);
	}
}

/*
 * Completes leases, and may claim in the same turn. Jobs that have an effect
 * are completed strictly, in one transaction with it.
 */
void
client_complete(Client *client, int first, int count, bool and_claim)
{
	Lease		leases[MAX_LEASES];
	char		ids[MAX_LEASES * 40];
	char		tokens[MAX_LEASES * 24];
	bool		strict = false;
	bool		block = client->in_block;
	bool		effect_first = chance(client, 50);
	PGresult   *result;

	memcpy(leases, &client->leases[first], count * sizeof(Lease));
	drop_leases(client, first, count);
	/* a job that is given twice has lost its lease the second time */
	if (!and_claim && !client->calm && count < MAX_LEASES && chance(client, 5))
		leases[count++] = leases[0];
	list_leases(leases, count, ids, tokens);
	for (int i = 0; i < count; i++)
		strict |= leases[i].effect;
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

		client->claiming = true;
		result = client_query(client, "SELECT kind, " CLAIM_COLUMNS
							  " FROM queue_complete_and_claim('%s', '{%s}', '{%s}',"
							  " worker => 'client %d', max_jobs => %d, lease => '%d ms',"
							  " strict => %s)", queue_names[queue], ids, tokens,
							  client->number, count, lease_length(client),
							  strict ? "true" : "false");
		claim_answered(client, result);
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
		take_leases(client, queue, count, result, 1);
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
	Lease		leases[5];
	char		ids[5 * 40];
	char		tokens[5 * 24];
	int			count = chance(client, 50) ? 1 : 1 + pick(client, 5);
	int			first;
	PGresult   *result;

	if (client->nleases == 0)
		return;
	if (count > client->nleases)
		count = client->nleases;
	first = pick(client, client->nleases - count + 1);
	memcpy(leases, &client->leases[first], count * sizeof(Lease));
	list_leases(leases, count, ids, tokens);
	result = count == 1 && chance(client, 70) ?
		client_query(client, "SELECT held, us(leased_until), " TIMES
					 " FROM queue_heartbeat('%s', %s, interval '%d ms')", ids,
					 tokens, lease_length(client)) :
		client_query(client, "SELECT held, us(leased_until), " TIMES
					 " FROM queue_heartbeat_many('{%s}', '{%s}', interval '%d ms')",
					 ids, tokens, lease_length(client));
	/* backwards, since those that were lost are dropped on the way */
	for (int i = PQntuples(result) - 1; i >= 0; i--)
	{
		bool		held = PQgetvalue(result, i, 0)[0] == 't';

		lease_event(client, held ? OP_HELD : OP_REFUSED, &leases[i], result, i);
		if (held)
			client->history.events[client->history.count - 1].until =
				number(result, i, 1);
		else
			drop_leases(client, first + i, 1);
	}
	PQclear(result);
	finish_statement(client);
}

/* Anybody's jobs ----------------------------------------------------------- */

static void
repair(Client *client)
{
	Known		known;
	Id			job;
	char		id[37];
	bool		cancel = chance(client, 40);
	PGresult   *result;

	if (!recall(client, &known))
		return;
	job = known.job;
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
							 queue_names[pick_queue(client)], 1 + pick(client, 20)));
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

/*
 * Empties a table of jobs, claims, and takes that back. What is learned of the
 * empty table must not be believed of the full one.
 */
static void
truncate_and_claim(Client *client)
{
	static volatile int64_t last = 0;

	if (client->calm || now_us() - last < 500000)
	{
		act(client);
		return;
	}
	last = now_us();
	PQclear(client_query(client, "SET LOCAL lock_timeout = '400 ms'"));
	if (!client->failed)
		PQclear(client_query(client, "TRUNCATE %s", chance(client, 80) ?
							 "jobs, notes" : "critical_jobs"));
	if (!client->failed)
		__atomic_add_fetch(&truncates, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4 && !client->failed; i++)
		claim(client);
	if (!client->failed)
		produce(client);
	if (!client->failed)
		claim(client);
}

static void
act_in_block(Client *client)
{
	int			count = 1 + pick(client, 4);

	begin(client);
	for (int i = 0; i < count && !client->failed; i++)
	{
		Client		before = *client;
		bool		truncate = chance(client, 3);

		if (!truncate && !chance(client, 25))
		{
			act(client);
			continue;
		}
		PQclear(client_query(client, "SAVEPOINT s"));
		if (client->failed)
			break;
		if (truncate)
			truncate_and_claim(client);
		else
			act(client);
		if (client->broken || (!truncate && chance(client, 40)))
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

/* While one queue is in use, all but those who serve all serve its tenant. */
static void
follow_phase(Client *client)
{
	int			tenant = client->home < 0 ? -1 :
	phase.width == WIDTH_ONE ? 0 : client->home;

	if (tenant == client->tenant)
		return;
	client->tenant = tenant;
	client->nleases = client->ncommitted = 0;
	PQclear(client_query(client, "SET app.current_tenant = '%s'", tenants[tenant]));
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
			end(client, FATE_ABORTED, 0);
			client_connect(client);
		}
		follow_phase(client);
		/* a worker with many leases ends them, or forgets some of them */
		if (client->nleases > MAX_LEASES / 2)
			drop_leases(client, 0, pick(client, client->nleases));
		if (client->failed)
			continue;
		if (chance(client, 50))
			act_in_block(client);
		else
			act(client);
		client->failed = false;
	}
	return NULL;
}
