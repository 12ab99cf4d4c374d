/*
 * stats_entries.h
 *	  How statistics lie in shared memory, for stats_table.c and stats_counter.c.
 *
 * The table is cut into partitions by the hash of the key, each with a LWLock
 * that guards all of its entries. One recount runs at a time in the server: the
 * last lock guards whose it is. The rest of the recount is guarded by the
 * lock of the partition that its queue is in, while it runs.
 *
 * A queue for which there is no room is not counted. An entry makes room for
 * another once nothing has changed it for a while, and its row has all.
 */
#ifndef QS_STATS_ENTRIES_H
#define QS_STATS_ENTRIES_H

#include "port/atomics.h"
#include "stats_table.h"
#include "storage/lwlock.h"

#define QS_STATS_PARTITIONS 16

typedef struct QsStatsKey
{
	Oid			database;
	pg_uuid_t	queue;
} QsStatsKey;

typedef struct QsStatsEntry
{
	QsStatsKey key;
	int32		next;			/* in the chain of its hash, or of free ones */
	bool		used;
	bool		recounting;		/* it is the queue of the recount */
	bool		counted;		/* the gauges are what they should be */
	bool		totals_known;
	uint64		triggers;		/* under which that is so */

	/* jobs that may be added to the gauges, by those that run, or are prepared */
	int64		promised;
	int64		promised_prepared;

	/* transactions that were prepared with changes; the gauges have none */
	TransactionId first_prepared;
	TransactionId last_prepared;

	uint64		version;
	uint64		flushed;
	uint64		sampled;
	TimestampTz flush_due;
	int64		flush_wait;
	TimestampTz counted_at;
	TimestampTz changed_at;
	TimestampTz claimed_at;		/* of the last claim */
	QsStatsCounts counts;
	int64		before[QS_NEVENTS]; /* events that the row has from before */
	QsStatsMark marks[2];		/* the last sample, and the one before */
	QsHistogram wait[2];
	QsHistogram run[2];
	QsStatsLook look;
} QsStatsEntry;

typedef struct QsStatsPartition
{
	LWLock	   *lock;
	uint64		refused;
	int32		used;
	int32		free;			/* first free entry, or -1 */
	int32		hand;
	QsStatsEntry *entries;
	int32	   *chains;			/* as many as entries */
} QsStatsPartition;

typedef struct QsStatsRecount
{
	LWLock	   *lock;
	bool		taken;			/* by a session, under this lock */

	QsStatsKey key;
	uint64		triggers;
	bool		voided;			/* a table was emptied since */
	QsStatsCounts since;		/* only the gauges */

	/* the snapshot */
	TransactionId xmax;
	int			nrunning;
	TransactionId *running;
} QsStatsRecount;

typedef struct QsStatsMemory
{
	int32		entries;		/* in each partition */
	Size		bytes;
	QsStatsRecount recount;
	QsStatsPartition partitions[QS_STATS_PARTITIONS];
	pg_atomic_uint32 marks[FLEXIBLE_ARRAY_MEMBER];	/* by backend: its xid, or 0 */
} QsStatsMemory;

extern QsStatsMemory *qs_stats_memory;

extern void qs_stats_make_key(QsStatsKey *key, const pg_uuid_t *queue);
extern QsStatsPartition *qs_stats_partition_of(const QsStatsKey *key);
extern QsStatsEntry *qs_stats_find(QsStatsPartition *partition,
									const QsStatsKey *key);
extern QsStatsEntry *qs_stats_get_entry(QsStatsPartition *partition,
										 const QsStatsKey *key, TimestampTz now);
extern void qs_stats_free_entry(QsStatsPartition *partition,
								QsStatsEntry *entry);
extern QsStatsEntry *qs_stats_lock_entry(const pg_uuid_t *queue,
										  LWLock **lock);

/* stats_table.c */
extern void qs_stats_note_prepared(QsStatsEntry *entry, TransactionId xid);

/* stats_counter.c */
extern void qs_stats_recount_init(void);
extern bool qs_stats_is_running(TransactionId xid);

#endif							/* QS_STATS_ENTRIES_H */
