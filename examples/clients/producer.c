/*
 * Takes orders: a row and its job, both or neither.
 *
 *	cc -o producer -I$(pg_config --includedir) producer.c -lpq
 *	TENANT=01890000-... PGUSER=shop ./producer 4711 4712
 *
 * Whether a commit arrived is not known when the connection breaks, so the
 * transaction is made to be repeated: the order's number makes the row unique,
 * the idempotency key makes the job so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libpq-fe.h>

/* Runs a statement with one parameter, or none; true if it succeeded. */
static int
run(PGconn *conn, const char *sql, const char *value)
{
	PGresult   *result = PQexecParams(conn, sql, value != NULL, NULL, &value, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(result);

	PQclear(result);
	return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

static int
take_order(PGconn *conn, const char *number)
{
	return run(conn, "BEGIN", NULL) &&
		run(conn, "SELECT set_config('app.current_tenant', $1, true)", getenv("TENANT")) &&
		run(conn, "INSERT INTO orders (number) VALUES ($1::bigint) ON CONFLICT DO NOTHING", number) &&
		run(conn, "SELECT queue_enqueue('invoices', jsonb_build_object('order', $1::bigint),"
			" idempotency_key => 'invoice of ' || $1::bigint)", number) &&
		run(conn, "COMMIT", NULL);
}

int
main(int argc, char **argv)
{
	PGconn	   *conn = PQconnectdb("");

	for (int i = 1; i < argc; i++)
	{
		while (!take_order(conn, argv[i]))
		{
			fprintf(stderr, "%s", PQerrorMessage(conn));
			/* an error of ours; what was done is undone */
			if (PQstatus(conn) == CONNECTION_OK)
				return EXIT_FAILURE;
			sleep(1);
			PQreset(conn);
		}
		printf("took order %s\n", argv[i]);
	}
	PQfinish(conn);
	return EXIT_SUCCESS;
}
