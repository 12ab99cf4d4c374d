/*
 * repair.h
 *	  What sends dead letters back.
 */
#ifndef QS_REPAIR_H
#define QS_REPAIR_H

#include "lifecycle.h"

extern bool qs_redrive_letter(QsJobs *jobs, const pg_uuid_t *letter,
							  TimestampTz run_at);

#endif							/* QS_REPAIR_H */
