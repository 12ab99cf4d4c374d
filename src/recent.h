/*
 * recent.h
 *	  Where the jobs are that this session leased lately.
 */
#ifndef QS_RECENT_H
#define QS_RECENT_H

#include "table.h"

extern void qs_recent_note(const QsTable *table);
extern bool qs_recent_find(QsTable *table, const pg_uuid_t *id);

#endif							/* QS_RECENT_H */
