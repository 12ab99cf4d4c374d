/*
 * ready.h
 *	  Finds and locks claimable jobs of a queue, in the order in which they are
 *	  to be claimed.
 */
#ifndef QS_READY_H
#define QS_READY_H

#include "ready_direct.h"

typedef struct QsReadyScan
{
	bool		is_direct;		/* only direct is in use */
	QsDirectScan direct;

	QsTable    *table;
	Relation	index;
	IndexScanDesc scan;
	ScanKeyData keys[2];		/* queue_id =, priority <= */
	TimestampTz now;
	int			restarts;		/* how often it began anew */
	bool		missed;			/* a row changed between snapshot and lock */
} QsReadyScan;

extern void qs_ready_begin(QsReadyScan *ready, QsTable *table,
						   const pg_uuid_t *queue_id);
extern bool qs_ready_next(QsReadyScan *ready);
extern void qs_ready_end(QsReadyScan *ready);

#endif							/* QS_READY_H */
