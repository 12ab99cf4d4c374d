/*
 * stats_note.h
 *	  Notes what a transaction does to queues, for the statistics in shared
 *	  memory (stats_table.h). Without these all of it does nothing.
 */
#ifndef QS_STATS_NOTE_H
#define QS_STATS_NOTE_H

#include "access/htup.h"
#include "stats_table.h"
#include "table.h"

extern void qs_stats_note_init(void);

extern void qs_stats_after_insert(QsTable *table);
extern void qs_stats_after_update(QsTable *table);
extern void qs_stats_after_delete(QsTable *table);
extern void qs_stats_after_sql(TupleDesc desc, HeapTuple old, HeapTuple new);
extern void qs_stats_after_truncate(void);
extern QsStatsPromise qs_stats_note_promise(const pg_uuid_t *queue, int64 count,
											int64 max, uint64 triggers);
extern void qs_stats_queue_created(const pg_uuid_t *queue, uint64 triggers);
extern void qs_stats_queue_flushed(const pg_uuid_t *queue, uint64 version);

/*
 * What the next write of the loaded row does to the job beside what can be seen
 * of the row: an attempt fails, or a job ends that is deleted.
 */
static inline void
qs_stats_write_does(QsTable *table, QsStatsEvent event)
{
	table->events |= 1 << event;
}

#endif							/* QS_STATS_NOTE_H */
