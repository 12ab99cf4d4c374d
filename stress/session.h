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
extern void remember(int tenant, int queue, Id job);
extern bool recall(Client *client, Known *known);
extern long outstanding(void);
extern long made_jobs(void);

/* answers */
extern void note_result(Client *client, PGresult *result, const char *extra_state);
extern int64_t number(PGresult *result, int row, int column);
extern Event *add_event(Client *client, Op op, Id job, PGresult *result, int row);

/* transactions */
extern void begin(Client *client);
extern void end(Client *client, Fate fate, int prepared);
extern void finish(Client *client, bool commit);
extern void finish_statement(Client *client);

/* client.c: what by_hand.c needs of it */
extern void enqueued(Client *client, Id job, int queue, bool effect, int key,
					 PGresult *result, int row);
extern void take_lease(Client *client, const Lease *lease, int asked,
					   PGresult *result, int row);

/* by_hand.c */
extern void insert_jobs(Client *client, int queue, bool copy);
extern void update(Client *client);

#endif							/* SESSION_H */
