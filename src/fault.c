/*
 * fault.c
 *	  Places where a test can stop a session: see fault.h.
 */
#include "postgres.h"

#include "fault.h"

#ifdef QS_FAULT_POINTS

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"

/* GUC: queue_service.fault_point */
static char *fault_point = NULL;

void
qs_fault_init(void)
{
	DefineCustomStringVariable("queue_service.fault_point",
							   "Where this session waits while pg_advisory_lock(42) is held.",
							   NULL, &fault_point, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
}

void
qs_fault_point(const char *name)
{
	LOCKTAG		tag;

	if (fault_point == NULL || strcmp(fault_point, name) != 0)
		return;
	/* as pg_advisory_lock_shared() does it */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 42, 1);
	(void) LockAcquire(&tag, ShareLock, true, false);
	(void) LockRelease(&tag, ShareLock, true);
}

#endif							/* QS_FAULT_POINTS */
