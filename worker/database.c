/*
 * database.c
 *	  A connection that runs one statement at a time: see database.h.
 *
 * A statement is sent as a pipeline that is a transaction of its own, and sets
 * the tenant first: so nothing of the session is needed, and a pooler may put
 * each on another.
 */
#include "postgres_fe.h"

#include "clock.h"
#include "database.h"

#define FIRST_DELAY 0.1			/* seconds, before connecting again */
#define LONGEST_DELAY 5

/* Sees to it that the next step begins to connect. */
void
database_begin(Database *db, const Options *options)
{
	memset(db, 0, sizeof(*db));
	db->options = options;
	db->delay = FIRST_DELAY;
	db->state = DB_DOWN;
	db->retry_at = now();
}

void
database_end(Database *db)
{
	PQclear(db->result);
	PQfinish(db->conn);
	db->result = NULL;
	db->conn = NULL;
	db->state = DB_DOWN;
	db->retry_at = NEVER;
}

/* *error is what libpq says; the caller frees it. */
static DatabaseEvent
lose(Database *db, char **error)
{
	*error = pg_strdup(PQerrorMessage(db->conn));
	database_end(db);
	db->retry_at = now() + db->delay;
	db->delay = fmin(2 * db->delay, LONGEST_DELAY);
	return DB_LOST;
}

static DatabaseEvent
connect_anew(Database *db, char **error)
{
	const char *const keywords[] = {
		"dbname", "client_encoding", "fallback_application_name", NULL
	};
	const char *const values[] = {db->options->database, "UTF8", PROGRAM, NULL};

	db->conn = PQconnectStartParams(keywords, values, 1);
	if (db->conn == NULL)
		abort();				/* out of memory */
	db->state = DB_CONNECTING;
	db->wanted = PGRES_POLLING_WRITING;
	/* it may have failed at once, and then has no socket to wait for */
	return PQstatus(db->conn) == CONNECTION_BAD ? lose(db, error) : DB_NOTHING;
}

static DatabaseEvent
go_on_connecting(Database *db, char **error)
{
	db->wanted = PQconnectPoll(db->conn);
	if (db->wanted == PGRES_POLLING_FAILED)
		return lose(db, error);
	if (db->wanted != PGRES_POLLING_OK)
		return DB_NOTHING;
	if (PQsetnonblocking(db->conn, 1) != 0 || !PQenterPipelineMode(db->conn))
		return lose(db, error);
	db->delay = FIRST_DELAY;
	db->state = DB_IDLE;
	return DB_CONNECTED;
}

/*
 * Sends a statement, whose end database_step() tells. That a connection is lost
 * is seen there as well.
 */
void
database_send(Database *db, const char *sql, int count,
			  const char *const *values)
{
	PQclear(db->result);
	db->result = NULL;
	db->state = DB_BUSY;
	if (db->options->tenant != NULL)
		(void) PQsendQueryParams(db->conn, "SELECT set_config('app.current_tenant', $1, true)",
								 1, NULL, &db->options->tenant, NULL, NULL, 0);
	(void) PQsendQueryParams(db->conn, sql, count, NULL, values, NULL, NULL, 0);
	(void) PQpipelineSync(db->conn);
	(void) PQflush(db->conn);
}

/* Takes results up to the end of the pipeline; true if that came. */
static bool
take_results(Database *db)
{
	while (!PQisBusy(db->conn))
	{
		PGresult   *result = PQgetResult(db->conn);
		ExecStatusType status;

		if (result == NULL)
		{
			if (PQstatus(db->conn) == CONNECTION_BAD)
				return false;
			continue;			/* the next of the pipeline */
		}
		status = PQresultStatus(result);
		if (status == PGRES_PIPELINE_SYNC)
		{
			PQclear(result);
			return true;
		}
		/* what follows an error is not run */
		if (status == PGRES_PIPELINE_ABORTED)
		{
			PQclear(result);
			continue;
		}
		PQclear(db->result);
		db->result = result;
	}
	return false;
}

static DatabaseEvent
go_on_with_statement(Database *db, short revents, char **error)
{
	if ((revents & ~POLLOUT) != 0 && !PQconsumeInput(db->conn))
		return lose(db, error);
	if (PQflush(db->conn) < 0)
		return lose(db, error);
	if (db->state == DB_BUSY && take_results(db))
	{
		db->state = DB_IDLE;
		return DB_RESULT;
	}
	return PQstatus(db->conn) == CONNECTION_BAD ? lose(db, error) : DB_NOTHING;
}

/*
 * Does what there is to do when poll() has returned these events. With DB_LOST,
 * *error is to be freed.
 */
DatabaseEvent
database_step(Database *db, short revents, char **error)
{
	switch (db->state)
	{
		case DB_DOWN:
			return now() >= db->retry_at ? connect_anew(db, error) : DB_NOTHING;
		case DB_CONNECTING:
			return revents == 0 ? DB_NOTHING : go_on_connecting(db, error);
		default:
			return go_on_with_statement(db, revents, error);
	}
}

/* What to wait for; until retry_at if it is down. */
void
database_poll(const Database *db, struct pollfd *poll)
{
	poll->fd = db->state == DB_DOWN ? -1 : PQsocket(db->conn);
	poll->events = POLLIN;
	if (db->state == DB_CONNECTING && db->wanted == PGRES_POLLING_WRITING)
		poll->events = POLLOUT;
	else if (db->state == DB_BUSY && PQflush(db->conn) > 0)
		poll->events |= POLLOUT;
	poll->revents = 0;
}
