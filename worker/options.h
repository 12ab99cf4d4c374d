/*
 * options.h
 *	  What queue_worker was told to do.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#define PROGRAM "queue_worker"

typedef struct Options
{
	const char *database;		/* a connection string or URI; empty: the defaults */
	const char *tenant;			/* NULL: what the role has set, or all tenants */
	const char *queue;
	const char *name;			/* of this worker, for people */
	int			concurrency;	/* handlers at once */
	int			lease;			/* seconds */
	int			timeout;		/* seconds that a handler may run; 0: any */
	int			grace;			/* seconds from SIGTERM to SIGKILL */
	bool		drain;			/* end when there is nothing to claim */
	bool		progress;		/* a line for people, not JSON for programs */
	char	  **command;
} Options;

#endif							/* OPTIONS_H */
