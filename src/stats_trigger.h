/*
 * stats_trigger.h
 *	  The triggers by which the statistics hear of what SQL removes from the job
 *	  tables; announce.c has that for what it inserts and updates.
 */
#ifndef QS_STATS_TRIGGER_H
#define QS_STATS_TRIGGER_H

#include "catalog.h"
#include "commands/trigger.h"
#include "utils/relcache.h"

extern bool qs_is_counting(Relation rel, const Trigger *trigger,
						   uint64 *version);
extern uint64 qs_stats_triggers(const QsCatalog *cat);

#endif							/* QS_STATS_TRIGGER_H */
