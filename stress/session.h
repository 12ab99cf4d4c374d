/*
 * session.h
 *	  What client.c needs of session.c.
 */
#ifndef SESSION_H
#define SESSION_H

#include "stress.h"

/* when a statement began, and what is put behind its columns */
#define TIMES "us(statement_timestamp()), us(clock_timestamp())"

/* choices */
extern int	pick(Client *client, int n);
extern bool chance(Client *client, int percent);

/* jobs that clients of a tenant know of */
extern void remember(int tenant, Id job);
extern bool recall(Client *client, Id *job);
extern long made_jobs(void);

/* answers */
extern void note_result(Client *client, PGresult *result, const char *extra_state);
extern int64_t number(PGresult *result, int row, int column);
extern Event *add_event(Client *client, Op op, Id job, PGresult *result, int row);

/* transactions */
extern void begin(Client *client);
extern void end(Client *client, Fate fate);
extern void finish(Client *client, bool commit);
extern void finish_statement(Client *client);

#endif							/* SESSION_H */
