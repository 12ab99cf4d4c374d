/*
 * range_cache.h
 *	  What all sessions know of the keys of ready indexes that need not be
 *	  looked at: the part that is in shared memory.
 *
 * A claimer asks qs_cache_register() where it stands, jumps over what
 * qs_cache_jump() knows, and tells qs_cache_publish() what it found out on the
 * way. A writer that leaves a new entry in a ready index, or makes an entry
 * claimable earlier than it was, tells so by qs_cache_announce().
 *
 * Why no job is lost. A claimer may only publish a range if each entry in it
 * was looked at, and was then dead, or leased, or in progress by the one
 * transaction, after it registered.
 *	 announce:	Whoever adds an entry announces its key after the entry is in
 *				the index and before it commits. Until the commit nobody may
 *				claim it; from the announcement on no range covers it.
 *	 register:	An announcement is either before the registration: then the
 *				entry was in the index when the scan began, and was seen; or
 *				after it: then it stands in the ring of announcements that
 *				publishing compares with, or the ring has gone around, and
 *				nothing is published.
 *	 idle:		A scan that came to the end, and found nothing on its way that
 *				could become claimable before a time other than by an
 *				announcement, says so of the whole queue. Any announcement for
 *				the queue voids that, also one that came while it scanned.
 *	 earlier:	What makes a leased entry claimable before its time, other than
 *				by time, announces its key as well.
 *	 source:	What was learned of one index file, under one state of the
 *				announcing trigger, is void for any other: an index of a
 *				rolled back TRUNCATE was empty, and rows that came while the
 *				trigger was off were not announced.
 */
#ifndef QS_RANGE_CACHE_H
#define QS_RANGE_CACHE_H

#include "key_range.h"
#include "utils/uuid.h"

/* one queue's entries in one of the ready indexes of a database */
typedef struct QsCacheKey
{
	Oid			database;
	int32		kind;			/* QsTableKind */
	pg_uuid_t	queue;
} QsCacheKey;

/* where knowledge comes from; what has another source is void */
typedef struct QsCacheSource
{
	uint64		tablespace;		/* as wide as the others: no padding to compare */
	uint64		file;			/* of the index */
	uint64		trigger;		/* version of the announcing trigger */
} QsCacheSource;

/* what a claimer holds between register and publish */
typedef struct QsCacheTicket
{
	QsCacheKey	key;
	QsCacheSource source;
	uint32		hash;
	uint64		announced;		/* number of announcements at registration */
	int64		now;
} QsCacheTicket;

/* counters since the server started */
typedef struct QsCacheStatistics
{
	uint64		claims;
	uint64		visited;		/* index entries */
	uint64		visited_max;
	uint64		visited_p99;	/* upper end of its class, a power of two */
	uint64		full_scans;		/* claims that looked at 256 entries or more */
	uint64		jumps;
	uint64		published;
	uint64		refused;		/* published too late, or without room */
	uint64		announced;
	uint64		queues;
	uint64		queues_max;
	uint64		evicted;
	uint64		ranges;
	uint64		ranges_max;
	uint64		bytes;
} QsCacheStatistics;

extern void qs_cache_init(void);
extern bool qs_cache_exists(void);

extern void qs_cache_register(const QsCacheKey *key, const QsCacheSource *source,
							  int64 now, QsCacheTicket *ticket);
extern bool qs_cache_jump(const QsCacheTicket *ticket, QsRangeKey *key,
						  QsRangeJump *jump);
extern void qs_cache_publish(QsCacheTicket *ticket, const QsRange *ranges,
							 int count);
extern void qs_cache_publish_idle(const QsCacheTicket *ticket, uint64 since,
								  int64 until);
extern int64 qs_cache_idle_until(const QsCacheKey *key,
								 const QsCacheSource *source);
extern void qs_cache_announce(const QsCacheKey *key, const QsRangeKey *range_key,
							  TransactionId xid);
extern void qs_cache_count_claim(uint64 visited);
extern void qs_cache_statistics(QsCacheStatistics *statistics);

#endif							/* QS_RANGE_CACHE_H */
