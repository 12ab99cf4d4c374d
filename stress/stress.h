/*
 * stress.h
 *	  A stress test that keeps the history of what its clients were told, and
 *	  checks that against what is left in the database. See README.md.
 *
 *	  main.c	options, set-up, disturbance, draining, report
 *	  client.c	what a client does
 *	  session.c	its connection and transactions
 *	  history.c	what clients were told
 *	  check.c	whether that can be true
 */
#ifndef STRESS_H
#define STRESS_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NTENANTS 3
#define NQUEUES 4
#define MAX_CLIENTS 256

typedef struct Id
{
	uint64_t	high;
	uint64_t	low;
} Id;

typedef enum Op
{
	OP_ENQUEUED,				/* a job was made, by whatever way */
	OP_KNOWN,					/* an enqueue returned the job that had its key */
	OP_CLAIMED,
	OP_HELD,					/* a heartbeat was granted */
	OP_DONE,
	OP_GIVEN_BACK,				/* failed with attempts left, snoozed, released */
	OP_DIED,					/* failed for good */
	OP_CANCELLED,
	OP_CANCEL_REQUESTED,
	OP_RETRIED,
	OP_REFUSED,					/* a lease was lost */
	NOPS
} Op;

/* Aborted: certainly undone. Unknown: the connection broke in the commit. */
typedef enum Fate
{
	FATE_OPEN,
	FATE_COMMITTED,
	FATE_ABORTED,
	FATE_UNKNOWN
} Fate;

/* One answer about one job. Times are the server's, in microseconds. */
typedef struct Event
{
	Id			job;
	int64_t		token;			/* 0 if no lease was shown */
	int64_t		start;			/* the statement began */
	int64_t		end;			/* and had its result */
	int64_t		until;			/* end of the lease: OP_CLAIMED, OP_HELD */
	int			key;			/* 0, or the idempotency key: OP_ENQUEUED */
	short		client;
	uint8_t		op;
	uint8_t		fate;
	uint8_t		tenant;
	uint8_t		queue;
	bool		effect;			/* completed with an effect in its transaction */
} Event;

typedef struct History
{
	Event	   *events;
	size_t		count;
	size_t		space;
	size_t		open;			/* first event of the transaction that is open */
} History;

/* The queues of each tenant. */
typedef struct Queue
{
	const char *name;
	bool		keeps;			/* completed jobs */
	bool		dead_letters;
} Queue;

extern const Queue queues[NQUEUES];
extern char tenants[NTENANTS][37];
extern char queue_ids[NTENANTS][NQUEUES][37];

typedef struct Lease
{
	Id			job;
	int64_t		token;
	int64_t		until;
	uint8_t		tenant;
	uint8_t		queue;
	bool		effect;
} Lease;

#define MAX_LEASES 64

typedef struct Client
{
	int			number;
	int			tenant;			/* -1: serves all tenants */
	bool		calm;			/* READ COMMITTED, and no timeouts */
	uint64_t	random;
	PGconn	   *conn;
	int64_t		sent_at;		/* the last statement */
	volatile int pid;			/* for whoever wants to kill it; 0 if none */
	bool		in_block;		/* a transaction block is open */
	bool		failed;			/* and can only be rolled back */
	bool		broken;			/* the connection is gone */
	History		history;
	Lease		leases[MAX_LEASES];
	int			nleases;
	int			ncommitted;		/* the first of these are held for certain */
	long		statements;
} Client;

/* An SQLSTATE that clients met; it is either to be expected or a failure. */
typedef struct ErrorCount
{
	char		state[6];
	bool		expected;
	long		count;
	char		message[160];	/* the last one */
} ErrorCount;

#define MAX_ERRORS 64
extern ErrorCount error_counts[MAX_ERRORS];
extern int	nerror_counts;

extern const char *conninfo;
extern volatile bool stopping;

/* client.c and session.c */
extern void *client_main(void *arg);
extern void client_connect(Client *client);
extern PGresult *client_query(Client *client, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern int	client_claim(Client *client, int queue, int max_jobs, int lease_ms);
extern void client_complete(Client *client, int first, int count, bool and_claim);
extern void count_error(PGresult *result, const char *extra_state);
extern uint64_t random_next(uint64_t *state);
extern long outstanding(void);
extern volatile long wanted_depth;

/* history.c */
extern const char *const op_names[NOPS];
extern Event *history_add(History *history, Op op, Id job);
extern void history_end(History *history, Fate fate);
extern void history_undo(History *history, size_t first);
extern bool parse_id(const char *text, Id *id);
extern void format_id(Id id, char *text);
extern int	compare_ids(const Id *a, const Id *b);
extern int64_t now_us(void);

/* check.c */
extern void check_all(PGconn *conn, Client *clients, int nclients,
					  const char *log_file, int *passed, int *failed);

#endif							/* STRESS_H */
