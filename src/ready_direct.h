/*
 * ready_direct.h
 *	  Finds claimable jobs of a queue through its ready index and the heap.
 */
#ifndef QS_READY_DIRECT_H
#define QS_READY_DIRECT_H

#include "access/genam.h"
#include "access/skey.h"
#include "ageing.h"
#include "range_cache.h"
#include "table.h"
#include "utils/snapmgr.h"

#define QS_MAX_FOUND 8			/* ranges that are published together */

/* A run of entries that are not claimable for one reason. */
typedef struct QsRun
{
	QsRange		range;			/* hi is set when the run ends */
	bool		after_range;	/* it starts where a known range ends */
	bool		any_live;		/* last_live is set */
	QsRangeKey	last_live;		/* key of the last entry that was not dead */
	QsRangeKey	last;			/* key of the last entry */
	int			streak;			/* dead entries at the end of the run */
	QsRangeKey	streak_key;		/* key of the first of them */
} QsRun;

typedef struct QsDirectScan
{
	QsTable    *table;
	Relation	index;
	IndexScanDesc scan;
	ScanKeyData keys[2];		/* queue_id =, (priority, run_at, id) >= */
	ScanKeyData members[3];		/* of the second */
	QsRangeKey	from;			/* their values */
	GlobalVisState *horizon;
	Buffer		buffer;			/* heap page that is pinned */
	uint64		visited;		/* index entries */
	bool		moved;			/* a row did, since the call began */
	int			restarts;		/* how often the scan began anew for that */

	QsLevels	levels;			/* to be merged */
	bool		looks;			/* at what is claimable, and claims nothing */
	QsRangeKey	at;				/* what it looks at */
	bool		at_over;		/* that is a lease that ran out, to be the last */
	bool		cached;			/* the cache is used; ticket is set */
	QsCacheTicket ticket;
	uint64		announced;		/* when it began */
	bool		stepping;		/* over the entries before step_to */
	QsRangeKey	step_to;
	QsRangeJump jump;			/* until: when something seen becomes claimable */
	bool		open;			/* something seen may become so at any time */
	bool		at_end;			/* all of the queue was seen */
	bool		idle;			/* when it ended: nothing before jump.until */
	QsRun		run;
	QsRange		found[QS_MAX_FOUND];
	int			nfound;
	uint64		published_at;	/* visited, when ranges were published last */
} QsDirectScan;

extern bool qs_direct_source(QsCall *call, QsTableKind kind,
							 QsCacheSource *source);
extern TimestampTz qs_direct_idle_until(const QsCall *call, QsTableKind kind,
										const pg_uuid_t *queue_id);
extern void qs_direct_begin(QsDirectScan *direct, QsTable *table,
							const pg_uuid_t *queue_id, int64 ageing);
extern bool qs_direct_next(QsDirectScan *direct);
extern void qs_direct_end(QsDirectScan *direct);
extern void qs_direct_begin_look(QsDirectScan *direct, QsTable *table,
								 const pg_uuid_t *queue_id);
extern bool qs_direct_next_level(QsDirectScan *direct);
extern bool qs_direct_look(QsTable *table, const pg_uuid_t *queue_id,
						   TimestampTz *next_due);
extern bool qs_direct_oldest(QsTable *table, const pg_uuid_t *queue_id,
							 TimestampTz *oldest);
extern int64 qs_direct_delayed(QsTable *table, const pg_uuid_t *queue_id,
							   int64 most);

#endif							/* QS_READY_DIRECT_H */
