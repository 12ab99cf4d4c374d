/*
 * stress.h
 *	  A stress test that keeps the history of what its clients were told, and
 *	  checks that against what is left in the database. See README.md.
 *
 *	  main.c	options, set-up, draining, report
 *	  client.c	what a client does
 *	  by_hand.c	and what it does by plain SQL, without our functions
 *	  session.c	its connection and transactions
 *	  disturb.c	phases, and what disturbs clients
 *	  history.c	what clients were told
 *	  check.c	whether that can be true
 *	  counters.c	whether statistics are
 *	  self_test.c	whether check.c can tell
 */
#ifndef STRESS_H
#define STRESS_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NTENANTS 3
#define NKINDS 4
#define MAX_QUEUES 10000
#define MAX_CLIENTS 256
#define MAX_SERVERS 10000

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
	OP_CUT,						/* its lease ends now, by plain SQL */
	OP_REOPENED,				/* a finished job waits again, by plain SQL */
	OP_REFUSED,					/* a lease was lost */
	NOPS
} Op;

/*
 * Aborted: certainly undone. Unknown: the connection broke in the commit.
 * Prepared: as the prepared transaction will end.
 */
typedef enum Fate
{
	FATE_OPEN,
	FATE_COMMITTED,
	FATE_ABORTED,
	FATE_UNKNOWN,
	FATE_PREPARED
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
	uint16_t	queue;
	uint16_t	server;			/* which of its lives, counted from 0 */
	uint16_t	asked;			/* for so many jobs at most: OP_CLAIMED */
	uint8_t		op;
	uint8_t		fate;
	uint8_t		tenant;
	bool		effect;			/* completed with an effect in its transaction */
	bool		by_hand;		/* by plain SQL, so the row stays: OP_DONE */
	bool		weak;			/* the crash of its server may have undone it */
	bool		prepared;		/* and so committed later */
} Event;

/* How a transaction ended. Times are ours, of the same clock. */
typedef struct Outcome
{
	Fate		fate;
	bool		durable;		/* it waited for its WAL */
	int			prepared;		/* its number */
	int			server;
	int64_t		sent;			/* the commit */
	int64_t		acknowledged;
} Outcome;

/* Transactions of which more is known in the end: prepared, not durable. */
typedef struct Late
{
	size_t		first;			/* its events */
	size_t		end;
	Outcome		outcome;
} Late;

typedef struct History
{
	Event	   *events;
	size_t		count;
	size_t		space;
	size_t		open;			/* first event of the transaction that is open */
	Late	   *late;
	size_t		nlate;
	size_t		late_space;
} History;

/* What all queues are like whose number leaves this one, divided by NKINDS. */
typedef struct Kind
{
	const char *name;
	bool		keeps;			/* completed jobs */
	bool		dead_letters;
} Kind;

/* How many queues are in use. One means that it is one of one tenant. */
typedef enum Width
{
	WIDTH_FEW,
	WIDTH_ONE,
	WIDTH_MANY,
	NWIDTHS
} Width;

/* What clients go by; a thread of its own changes it. */
typedef struct Phase
{
	Width		width;
	int			queue;			/* the one */
	long		depth;			/* about so many jobs */
} Phase;

extern const Kind kinds[NKINDS];
extern int	nqueues;			/* of each tenant */
extern char tenants[NTENANTS][37];
extern char (*queue_ids[NTENANTS])[37];
extern char (*queue_names)[32];
extern volatile Phase phase;

typedef struct Lease
{
	Id			job;
	int64_t		token;
	int64_t		until;
	uint8_t		tenant;
	uint16_t	queue;
	bool		effect;
} Lease;

/* A job that clients know of. */
typedef struct Known
{
	Id			job;
	uint8_t		tenant;
	uint16_t	queue;
} Known;

#define MAX_LEASES 64

typedef struct Client
{
	int			number;
	int			home;			/* its tenant */
	int			tenant;			/* whom it serves now; -1: all */
	bool		calm;			/* READ COMMITTED, no timeouts, all is committed */
	bool		synchronous;	/* commits wait for their WAL */
	uint64_t	random;
	PGconn	   *conn;
	int			server;			/* which of its lives */
	int64_t		sent_at;		/* the last statement */
	volatile int pid;			/* for whoever wants to kill it; 0 if none */
	volatile bool claiming;		/* a claim was sent, and not answered */
	bool		in_block;		/* a transaction block is open */
	bool		failed;			/* and can only be rolled back */
	bool		broken;			/* the connection is gone */
	bool		unreplicated;	/* the wait for a standby was cancelled */
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

extern volatile bool stopping;
/* the end comes: no more crashes or REINDEX, which void what is in shared memory */
extern volatile bool settling;

/* client.c and session.c */
extern void *client_main(void *arg);
extern void client_connect(Client *client);
extern PGresult *client_query(Client *client, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern int	client_claim(Client *client, int queue, int max_jobs, int lease_ms);
extern void client_complete(Client *client, int first, int count, bool and_claim);
extern void count_error(PGresult *result, const char *extra_state);
extern uint64_t random_next(uint64_t *state);
extern PGconn *connect_once(int *server);
extern PGconn *connect_patiently(void);
extern void set_depth(long depth);
extern volatile long truncates;

/* main.c */
extern bool listed(const char *name, const char *text);
extern bool has_standby;
extern long read_committed;

/* disturb.c */
typedef struct Disturbances
{
	long		terminated;
	long		cancelled;
	long		vacuums;
	long		reindexes;
	long		settings;
	long		recounts;
	long		killed;			/* with kill -9 */
	long		restarts;		/* or whatever else the command does */
	long		in_claim;		/* cancelled in a claim */
	long		committed;		/* prepared transactions */
	long		rolled_back;
	double		widths[NWIDTHS];	/* seconds */
	double		held;
	double		away;			/* seconds, of the longest time without a server */
} Disturbances;

/* What is done to the server, or to a session, every now and then. */
typedef enum Fault
{
	FAULT_ANY,					/* FAULT_BACKEND, or FAULT_COMMAND if there is one */
	FAULT_BACKEND,				/* kill -9 of a client's backend */
	FAULT_CLAIM,				/* ... while it claims */
	FAULT_CANCEL,				/* cancel of a claim */
	FAULT_COMMAND,				/* what STRESS_COMMAND does */
	NFAULTS
} Fault;

typedef struct FaultPlan
{
	Fault		fault;
	double		every;			/* seconds, on average; 0: never */
	long		count;			/* the run ends after so many; 0: by time */
	const char *command;		/* or NULL */
} FaultPlan;

extern Disturbances disturbances;
extern const char *const fault_names[NFAULTS];
extern volatile bool faults_done;
extern void disturb_start(uint64_t seed, Client *clients, int nclients,
						  const FaultPlan *plan);
extern void disturb_stop(void);
extern int	prepared_new(void);
extern void prepared_acknowledged(int number);
extern bool prepared_room(void);
extern Fate prepared_fate(int number);
extern long prepared_lost(void);

/* history.c */
extern const char *const op_names[NOPS];
extern Event *history_add(History *history, Op op, Id job);
extern void history_end(History *history, const Outcome *outcome);
extern void history_undo(History *history, size_t first);
extern void history_resolve(History *history, int last_server);
extern void note_durable(int server, int64_t sent);
extern bool parse_id(const char *text, Id *id);
extern void format_id(Id id, char *text);
extern int	compare_ids(const Id *a, const Id *b);
extern int64_t now_us(void);

/* check.c */
extern void check_all(PGconn *conn, Client *clients, int nclients,
					  const char *log_file, int *passed, int *failed);

/* counters.c */
extern void counters_check(PGconn *conn, const char *when);
extern void counters_stress(PGconn *conn, int seconds, uint64_t seed);

/* self_test.c */
extern void self_test(int *passed, int *failed);

#endif							/* STRESS_H */
