/*
 * connection.h
 *	  A client's connection, for the stress tests of limits and of groups.
 *
 * It acts for one tenant, and is renewed when it breaks. Clients and server share
 * a clock.
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <libpq-fe.h>
#include <stdbool.h>

#define TENANT "01890000-0000-7000-8000-000000000001"

typedef struct Connection
{
	PGconn	   *conn;
	unsigned	seed;
} Connection;

/* statements that failed, by their SQLSTATE; the others are printed */
typedef struct Refused
{
	long		deadlocks;
	long		serialization;
	long		others;
} Refused;

extern Refused refused;

extern double now(void);
extern double earlier(double a, double b);
extern int	pick(Connection *link, int n);
extern void connect_link(Connection *link);
extern PGresult *run(Connection *link, const char *sql);
extern bool succeeds(Connection *link, const char *sql);
extern int	number(Connection *link, const char *sql);
extern void end_session(Connection *link);
extern void kill_backend(Connection *link);

#endif							/* CONNECTION_H */
