/*
 * by_hand.c
 *	  What clients do by plain SQL, as whoever has the right to may.
 */
#include <stdio.h>
#include <string.h>

#include "session.h"

static Id
random_id(Client *client)
{
	Id			id = {random_next(&client->random), random_next(&client->random)};

	return id;
}

/* By INSERT or COPY, under ids of our own. */
void
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

/* What has no part in the history. */
static const char *const changes[] = {
	"priority = (priority + 1) % 3",
	"payload = '2'",
	"run_at = clock_timestamp() + random() * interval '300 ms'",
	"run_at = clock_timestamp() - random() * interval '300 ms'"
};

/* What has: the lease is that of before. */
static const struct
{
	Op			op;
	const char *set;
	const char *condition;
}			steps[] = {
	{OP_CUT, "leased_until = clock_timestamp() - interval '1 ms'",
	"j.status = 'processing'"},
	{OP_HELD, "leased_until = greatest(j.leased_until, clock_timestamp() + interval '300 ms')",
	"j.status = 'processing'"},
	{OP_GIVEN_BACK, "status = 'pending', lease_token = NULL, leased_until = NULL,"
		" attempts = greatest(j.attempts - 1, 0)",
	"j.status = 'processing'"},
	{OP_DONE, "status = 'completed', finish_reason = 'completed',"
		" finished_at = clock_timestamp(), lease_token = NULL", "j.finished_at IS NULL"},
	{OP_CANCELLED, "status = 'failed', finish_reason = 'cancelled',"
		" finished_at = clock_timestamp(), lease_token = NULL", "j.finished_at IS NULL"},
	{OP_REOPENED, "status = 'pending', finish_reason = NULL, finished_at = NULL, attempts = 0",
	"j.finished_at IS NOT NULL AND j.job_type = 'plain'"},
	{OP_CLAIMED, "status = 'processing', attempts = j.attempts + 1, leased_by = 'by hand',"
		" leased_until = clock_timestamp() + interval '300 ms', lease_token = ",
	"j.status = 'pending' AND j.attempts < j.max_attempts"}
};

#define NSTEPS (int) (sizeof(steps) / sizeof(*steps))

static void
note_step(Client *client, const Known *known, int64_t token, Op op, PGresult *result)
{
	Event	   *event = add_event(client, op, known->job, result, 0);

	event->token = token;
	event->queue = known->queue;
	event->tenant = known->tenant;
	event->by_hand = true;
}

/* Makes a job take a step in its life. */
static void
step(Client *client, const Known *known)
{
	int			n = pick(client, NSTEPS);
	Op			op = steps[n].op;
	int64_t		token = 1 + (int64_t) (random_next(&client->random) >> 12);
	char		set[300];
	char		id[37];
	PGresult   *result;

	if (op == OP_CLAIMED && client->nleases == MAX_LEASES)
		return;
	format_id(known->job, id);
	snprintf(set, sizeof(set), "%s", steps[n].set);
	if (op == OP_CLAIMED)
		snprintf(set + strlen(set), sizeof(set) - strlen(set), "%lld", (long long) token);
	result = client_query(client, "WITH old AS (SELECT id, lease_token FROM jobs"
						  " WHERE id = '%s' FOR UPDATE)"
						  " UPDATE jobs j SET %s FROM old WHERE j.id = old.id AND %s"
						  " RETURNING old.lease_token, us(j.leased_until), j.job_type, " TIMES,
						  id, set, steps[n].condition);
	if (PQntuples(result) == 1 && op == OP_CLAIMED)
	{
		Lease		lease = {
			.job = known->job, .token = token, .until = number(result, 0, 1),
			.tenant = known->tenant, .queue = known->queue,
			.effect = strcmp(PQgetvalue(result, 0, 2), "effect") == 0
		};

		take_lease(client, &lease, 1, result, 0);
	}
	else if (PQntuples(result) == 1)
	{
		note_step(client, known, number(result, 0, 0), op, result);
		if (op == OP_HELD)
			client->history.events[client->history.count - 1].until =
				number(result, 0, 1);
	}
	/* whose lease that was, if it was, is not known */
	if (client->broken && !client->in_block && op != OP_CLAIMED)
	{
		note_step(client, known, 0, op, NULL);
		note_step(client, known, 0, OP_RETRIED, NULL);
	}
	PQclear(result);
	finish_statement(client);
}

void
update(Client *client)
{
	Known		known;
	char		id[37];

	if (!recall(client, &known))
		return;
	if (chance(client, 50))
	{
		step(client, &known);
		return;
	}
	format_id(known.job, id);
	if (chance(client, 20))
		PQclear(client_query(client, "INSERT INTO notes SELECT id FROM jobs WHERE id = '%s'", id));
	else
		PQclear(client_query(client, "UPDATE jobs SET %s WHERE id = '%s' AND finished_at IS NULL",
							 changes[pick(client, 4)], id));
	finish_statement(client);
}
