/*
 * group_trigger.h
 *	  Groups of jobs that SQL writes; table.c does the work of the triggers itself.
 */
#ifndef QS_GROUP_TRIGGER_H
#define QS_GROUP_TRIGGER_H

#include "utils/relcache.h"
#include "utils/reltrigger.h"

extern bool qs_is_grouping(Relation rel, const Trigger *trigger);

#endif							/* QS_GROUP_TRIGGER_H */
