/*
 * horizon.h
 *	  Who keeps VACUUM from removing what is dead in this database.
 *
 * Dead rows stay for as long as a transaction, a prepared one, a replication
 * slot or a standby with hot_standby_feedback may still need them. Of those that
 * have for long, the one that needs the oldest is the culprit: until it lets
 * go, nothing is gained by looking for others.
 *
 * A transaction knows since when it runs. A slot or standby does not: it counts
 * from when it was first seen here to need what it needs now. That is kept in
 * shared memory, or without it in the session.
 */
#ifndef QS_HORIZON_H
#define QS_HORIZON_H

#include "call.h"

typedef struct QsCulprit
{
	const char *message;		/* who it is and what to do, palloc'd */
	double		held;			/* for how many seconds */
} QsCulprit;

extern int	qs_horizon_alert;	/* GUC: after so many seconds; 0: never */

extern void qs_horizon_init(void);
extern bool qs_horizon_culprit(QsCall *call, double least, QsCulprit *culprit);

#endif							/* QS_HORIZON_H */
