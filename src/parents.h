/*
 * parents.h
 *	  Holds on to the queue and the tenant of a row that is inserted.
 */
#ifndef QS_PARENTS_H
#define QS_PARENTS_H

#include "table.h"

typedef struct QsParents QsParents;

extern QsParents *qs_parents_describe(Relation rel);
extern List *qs_parents_triggers(const QsParents *parents);
extern void qs_parents_lock(QsTable *table, const pg_uuid_t *tenant,
							const pg_uuid_t *queue);

#endif							/* QS_PARENTS_H */
