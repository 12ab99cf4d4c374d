/*
 * announce.h
 *	  Tells the range cache of entries that writes leave in a ready index.
 */
#ifndef QS_ANNOUNCE_H
#define QS_ANNOUNCE_H

#include "range_cache.h"
#include "table.h"
#include "utils/reltrigger.h"

extern uint64 qs_trigger_version(Oid relid, const char *name);
extern bool qs_is_announcing(Relation rel, const Trigger *trigger,
							 uint64 *version);
extern bool qs_cache_source(const QsTable *table, Relation index,
							QsCacheSource *source);
extern void qs_cache_key(QsTableKind kind, const pg_uuid_t *queue,
						 QsCacheKey *key);
extern void qs_announce_insert(QsTable *table);
extern void qs_announce_update(QsTable *table, bool new_entries);

#endif							/* QS_ANNOUNCE_H */
