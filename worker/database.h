/*
 * database.h
 *	  A connection that runs one statement at a time, without waiting for it, and
 *	  comes back when it was lost.
 */
#ifndef DATABASE_H
#define DATABASE_H

#include <poll.h>

#include "libpq-fe.h"
#include "options.h"

typedef enum DatabaseState
{
	DB_DOWN,					/* until retry_at */
	DB_CONNECTING,
	DB_IDLE,
	DB_BUSY						/* with a statement */
} DatabaseState;

typedef struct Database
{
	const Options *options;
	DatabaseState state;
	PGconn	   *conn;
	PostgresPollingStatusType wanted;	/* while it connects */
	double		retry_at;
	double		delay;			/* before the next but one attempt to connect */
	PGresult   *result;			/* of the statement, as far as it is there */
} Database;

/* what a step brought */
typedef enum DatabaseEvent
{
	DB_NOTHING,
	DB_CONNECTED,
	DB_LOST,					/* with the statement, if it was busy */
	DB_RESULT					/* is in result, of whatever status */
} DatabaseEvent;

extern void database_begin(Database *db, const Options *options);
extern void database_end(Database *db);
extern void database_send(Database *db, const char *sql, int count,
						  const char *const *values);
extern DatabaseEvent database_step(Database *db, short revents, char **error);
extern void database_poll(const Database *db, struct pollfd *poll);

#endif							/* DATABASE_H */
