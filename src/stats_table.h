/*
 * stats_table.h
 *	  Statistics of queues in shared memory, if the library is preloaded.
 *
 * An entry for each queue counts what committed transactions did to it: how many
 * jobs are waiting and processing now (the gauges), how many events there
 * were since the entry was made, and how long jobs waited and ran.
 *
 * The gauges are changes until a recount says what they change. It counts rows
 * under a snapshot while others go on to commit. Invariants:
 *	 applied:	What a transaction changed is added to an entry once, after its
 *				commit is visible to all, or never.
 *	 marked:	A session that has changes to apply is marked with its transaction
 *				from the first change on, which is before its commit, until they
 *				are applied.
 *	 snapshot:	A recount takes its snapshot under the lock of the entry. So
 *				what was applied before is in the snapshot, and whoever applies
 *				later finds the recount under way.
 *	 since:		Who then applies what the snapshot does not show adds it to what
 *				is since the recount began, too. What the snapshot shows is in
 *				the count, and is not added to that.
 *	 waited:	Who is visible in the snapshot was marked before it was taken. The
 *				recount waits for those of them that have not applied yet: they
 *				would else add what it has counted to what it found.
 *	 In the end the gauges are the count and what is since, under the lock.
 *	 prepared:	A prepared transaction applies nothing, as nothing runs when it
 *				ends: its queues are not certain until a recount whose snapshot
 *				shows that it has ended. In a first recount any transaction that
 *				is prepared may have been so before there was an entry.
 *	 watched:	Rows that are written while the triggers of a table are off are not
 *				seen. A count holds for one state of the triggers.
 *	 locked:	A recount locks the tables before it takes its snapshot: what
 *				rewrites or empties one does not keep to snapshots.
 *	 recounter:	What the transaction of the recount itself wrote is not counted;
 *				it is applied after that, like that of any other.
 *
 * A recount that fails or whose session dies is given up as its transaction
 * ends. After a crash there are no entries. None of the functions can fail but
 * qs_stats_recount_begin(), nor wait for more than a short lock.
 */
#ifndef QS_STATS_TABLE_H
#define QS_STATS_TABLE_H

#include "datatype/timestamp.h"
#include "histogram.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* what happens to jobs */
typedef enum QsStatsEvent
{
	QS_ENQUEUED,
	QS_CLAIMED,
	QS_COMPLETED,
	QS_FAILED,					/* an attempt */
	QS_DIED,					/* failed for good */
	QS_ENDED_CANCELLED
} QsStatsEvent;

#define QS_NEVENTS (QS_ENDED_CANCELLED + 1)

typedef struct QsStatsCounts
{
	int64		waiting;
	int64		processing;
	int64		events[QS_NEVENTS];
} QsStatsCounts;

/* what a transaction did to a queue */
typedef struct QsStatsChange
{
	bool		any;			/* of what follows, but flushed */
	QsStatsCounts counts;
	QsHistogram wait;			/* from due to claimed */
	QsHistogram run;			/* from claimed to completed */
	int64		promised;		/* jobs that it may add: see qs_stats_promise() */
	int64		removed;		/* unfinished ones that it made no more */
	uint64		created;		/* the queue, under these triggers; 0: not */
	uint64		flushed;		/* the version that was written to its row */
} QsStatsChange;

/* what is said to who wants to add jobs */
typedef enum QsStatsPromise
{
	QS_STATS_PROMISED,
	QS_STATS_FULL,
	QS_STATS_NOT_COUNTED
} QsStatsPromise;

typedef enum QsStatsState
{
	QS_STATS_NONE,				/* there is no entry */
	QS_STATS_UNCOUNTED,			/* the gauges are not known */
	QS_STATS_UNCERTAIN,			/* nor is what was prepared */
	QS_STATS_EXACT
} QsStatsState;

/* the events of an entry at some time */
typedef struct QsStatsMark
{
	TimestampTz at;
	int64		events[QS_NEVENTS];
} QsStatsMark;

/* what was seen when a queue was last looked at */
typedef struct QsStatsLook
{
	TimestampTz at;				/* 0: never */
	int64		delayed;
	TimestampTz oldest;			/* run_at of the oldest claimable job, or 0 */
} QsStatsLook;

/* an entry, for who reads it */
typedef struct QsStatsView
{
	pg_uuid_t	queue;
	QsStatsState state;
	uint64		version;		/* another one after each change */
	uint64		flushed;		/* that is in the queue's row */
	uint64		sampled;		/* that the last sample is of */
	TransactionId first_prepared;	/* of those that make it uncertain */
	TransactionId last_prepared;
	TimestampTz flush_due;
	int64		flush_wait;		/* until then from the flush before */
	TimestampTz counted_at;		/* 0: never */
	TimestampTz changed_at;
	TimestampTz claimed_at;		/* 0: not since the entry was made */
	QsStatsCounts counts;
	bool		totals_known;	/* of the events, with those before the entry */
	int64		totals[QS_NEVENTS];
	QsStatsMark sample;			/* the last one */
	QsStatsMark before;			/* the last but one */
	QsHistogram wait[2];		/* since the last sample, and before it */
	QsHistogram run[2];
	QsStatsLook look;
} QsStatsView;

typedef struct QsStatsUse
{
	uint64		queues;
	uint64		queues_max;
	uint64		refused;
	uint64		bytes;
} QsStatsUse;

extern void qs_stats_table_init(void);
extern bool qs_stats_exist(void);
extern int	qs_stats_queues_max(void);

extern void qs_stats_mark(TransactionId xid);
extern void qs_stats_unmark(void);
extern void qs_stats_apply(const pg_uuid_t *queue, const QsStatsChange *change,
						   TransactionId xid, TimestampTz now);
extern bool qs_stats_is_counted(const pg_uuid_t *queue, uint64 triggers);
extern QsStatsPromise qs_stats_promise(const pg_uuid_t *queue, int64 count,
									   int64 max, uint64 triggers);
extern void qs_stats_give_up(const pg_uuid_t *queue, int64 promised);
extern void qs_stats_prepared(const pg_uuid_t *queue, int64 promised,
							  TransactionId xid);
extern void qs_stats_emptied(void);

extern bool qs_stats_view(const pg_uuid_t *queue, uint64 triggers,
						  QsStatsView *view);
extern bool qs_stats_next(int *position, uint64 triggers, QsStatsView *view);
extern void qs_stats_remove(const pg_uuid_t *queue);
extern void qs_stats_set_totals(const pg_uuid_t *queue, const int64 *before);
extern void qs_stats_set_flush(const pg_uuid_t *queue, TimestampTz due,
							   int64 wait);
extern bool qs_stats_sample(const pg_uuid_t *queue, uint64 triggers,
							const QsStatsLook *look, QsStatsView *view);
extern void qs_stats_use(QsStatsUse *use);

extern bool qs_stats_reserve(const pg_uuid_t *queue, TimestampTz now);
extern bool qs_stats_claim_recount(void);
extern void qs_stats_release_recount(void);
extern Snapshot qs_stats_recount_begin(const pg_uuid_t *queue, uint64 triggers,
									   TransactionId first_prepared,
									   TransactionId last_prepared);
extern TransactionId qs_stats_recount_awaits(void);
extern bool qs_stats_recount_end(const QsStatsCounts *counted,
								 const QsStatsLook *look);

#endif							/* QS_STATS_TABLE_H */
