/*
 * Writes an invoice for each order, exactly once. See README.md.
 *
 *	cc -o worker -I$(pg_config --includedir) worker.c -lpq
 *	TENANT=01890000-... PGUSER=shop ./worker
 */
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define RUN(conn, ...) run(conn, (Statement[]) {__VA_ARGS__, {0}})
typedef struct { const char *sql, *values[3]; } Statement;

static volatile sig_atomic_t stopping;

static void
stop(int number)
{
	stopping = number;
}

/* Runs statements in a transaction for the tenant. The last one's result, or the first error. */
static PGresult *
run(PGconn *conn, const Statement *s)
{
	const char *tenant[] = {getenv("TENANT")};
	PGresult   *result;

	PQclear(PQexec(conn, "BEGIN"));
	result = PQexecParams(conn, "SELECT set_config('app.current_tenant', $1, true)",
						  1, NULL, tenant, NULL, NULL, 0);
	for (; s->sql != NULL && PQresultErrorField(result, PG_DIAG_SEVERITY) == NULL; s++)
	{
		PQclear(result);
		result = PQexecParams(conn, s->sql, !!s->values[0] + !!s->values[1] + !!s->values[2],
							  NULL, s->values, NULL, NULL, 0);
	}
	PQclear(PQexec(conn, "COMMIT"));	/* after an error this rolls back */
	return result;
}

static void
write_invoice(PGconn *conn, const char *id, const char *token, const char *payload)
{
	/* the effect and the completion, both or neither */
	PGresult   *done = RUN(conn, {"INSERT INTO invoices (order_number, written_by)"
						   " VALUES (($1::jsonb->>'order')::bigint, 'worker.c')", {payload}},
						   {"SELECT queue_complete($1, $2, strict => true)", {id, token}});
	const char *state = PQresultErrorField(done, PG_DIAG_SQLSTATE);

	/* QS030: the lease was lost, and the job is somebody else's; no state: the server is gone */
	if (state != NULL && strcmp(state, "QS030") != 0)
		PQclear(RUN(conn, {"SELECT queue_fail($1, $2, $3)",
					{id, token, PQresultErrorField(done, PG_DIAG_MESSAGE_PRIMARY)}}));
	PQclear(done);
}

int
main(void)
{
	PGconn	   *conn = PQconnectdb("");

	signal(SIGTERM, stop);
	for (; !stopping; PQstatus(conn) != CONNECTION_OK ? sleep(1), PQreset(conn) : (void) 0)
	{
		PGresult   *job = RUN(conn, {"SELECT job_id, lease_token, payload"
							  " FROM queue_claim('invoices', worker => 'worker.c')", {0}});

		if (PQntuples(job) > 0)
			write_invoice(conn, PQgetvalue(job, 0, 0), PQgetvalue(job, 0, 1), PQgetvalue(job, 0, 2));
		else
			PQclear(RUN(conn, {"CALL queue_wait('invoices', '5 seconds')", {0}}));
		PQclear(job);
	}
	PQfinish(conn);
	return 0;
}
