/*
 * connection.c
 *	  A client's connection: see connection.h.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "connection.h"

/* a session of a client, at random */
#define VICTIM " FROM pg_stat_activity WHERE query LIKE '%queue_%'" \
	" AND backend_type = 'client backend' AND pid <> pg_backend_pid()" \
	" ORDER BY random() LIMIT 1"

Refused refused;

double
now(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return tv.tv_sec + tv.tv_usec / 1e6;
}

double
earlier(double a, double b)
{
	return a < b ? a : b;
}

/* A number from 0 to n - 1. */
int
pick(Connection *link, int n)
{
	return rand_r(&link->seed) % n;
}

/* Connects, however long that takes. */
void
connect_link(Connection *link)
{
	while (link->conn == NULL)
	{
		PGconn	   *conn = PQconnectdb("");

		/* a claim that a crash undoes would be counted all the same */
		if (PQstatus(conn) == CONNECTION_OK)
			PQclear(PQexec(conn, "SET app.current_tenant = '" TENANT "';"
						   " SET client_min_messages = error;"
						   " SET queue_service.async_claim = off"));
		if (PQstatus(conn) == CONNECTION_OK)
			link->conn = conn;
		else
		{
			PQfinish(conn);
			usleep(20000);
		}
	}
}

static void
note_error(Connection *link, const char *sql, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state != NULL && strcmp(state, "40P01") == 0)
		refused.deadlocks++;
	else if (state != NULL && strcmp(state, "40001") == 0)
		refused.serialization++;
	else
	{
		refused.others++;
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(link->conn));
	}
}

/* NULL if that failed; the connection is renewed if it broke. */
PGresult *
run(Connection *link, const char *sql)
{
	PGresult   *result = PQexec(link->conn, sql);
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return result;
	if (PQstatus(link->conn) == CONNECTION_OK)
	{
		note_error(link, sql, result);
		PQclear(PQexec(link->conn, "ROLLBACK"));
	}
	else
	{
		PQfinish(link->conn);
		link->conn = NULL;
		connect_link(link);
	}
	PQclear(result);
	return NULL;
}

bool
succeeds(Connection *link, const char *sql)
{
	PGresult   *result = run(link, sql);
	bool		ok = result != NULL;

	PQclear(result);
	return ok;
}

/* The one value of a result, or -1. */
int
number(Connection *link, const char *sql)
{
	PGresult   *result = run(link, sql);
	int			value = result != NULL && PQntuples(result) == 1 ?
		atoi(PQgetvalue(result, 0, 0)) : -1;

	PQclear(result);
	return value;
}

/* Ends a client's session. */
void
end_session(Connection *link)
{
	(void) number(link, "SELECT CASE WHEN pg_terminate_backend(pid) THEN 1 END" VICTIM);
}

/* Ends a client's backend in a way that makes the server start anew. */
void
kill_backend(Connection *link)
{
	int			pid = number(link, "SELECT pid" VICTIM);

	if (pid > 0)
		kill(pid, SIGKILL);
}
