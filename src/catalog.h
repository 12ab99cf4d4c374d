/*
 * catalog.h
 *	  Where the extension's objects are, and what their columns are.
 */
#ifndef QS_CATALOG_H
#define QS_CATALOG_H

#include "fmgr.h"

/* columns of jobs and of critical_jobs, which are alike */
enum QsJobColumn
{
	QS_JOB_ID = 1,
	QS_JOB_TENANT_ID,
	QS_JOB_QUEUE_ID,
	QS_JOB_RUN_AT,
	QS_JOB_ENQUEUED_AT,
	QS_JOB_MAX_ATTEMPTS,
	QS_JOB_PRIORITY,
	QS_JOB_HELD,
	QS_JOB_CANCEL_REQUESTED,
	QS_JOB_ATTEMPTS,
	QS_JOB_FINAL_ATTEMPT,
	QS_JOB_FINISHED_AT,
	QS_JOB_STATUS,
	QS_JOB_LEASE_TOKEN,
	QS_JOB_LEASED_AT,
	QS_JOB_LEASED_UNTIL,
	QS_JOB_LEASED_BY,
	QS_JOB_FINISH_REASON,
	QS_JOB_LAST_ERROR,
	QS_JOB_ERRORS,
	QS_JOB_RESULT,
	QS_JOB_JOB_TYPE,
	QS_JOB_PAYLOAD,
	QS_JOB_HEADERS,
	QS_JOB_GROUP_KEY,
	QS_JOB_IDEMPOTENCY_KEY,
	QS_JOB_SCHEDULE_ID,
	QS_JOB_NCOLUMNS = QS_JOB_SCHEDULE_ID
};

enum QsDeadColumn
{
	QS_DEAD_ID = 1,
	QS_DEAD_TENANT_ID,
	QS_DEAD_QUEUE_ID,
	QS_DEAD_SOURCE_TABLE,
	QS_DEAD_REASON,
	QS_DEAD_DIED_AT,
	QS_DEAD_RUN_AT,
	QS_DEAD_ENQUEUED_AT,
	QS_DEAD_ATTEMPTS,
	QS_DEAD_MAX_ATTEMPTS,
	QS_DEAD_PRIORITY,
	QS_DEAD_JOB_TYPE,
	QS_DEAD_PAYLOAD,
	QS_DEAD_HEADERS,
	QS_DEAD_GROUP_KEY,
	QS_DEAD_IDEMPOTENCY_KEY,
	QS_DEAD_SCHEDULE_ID,
	QS_DEAD_LEASED_BY,
	QS_DEAD_LEASED_AT,
	QS_DEAD_LEASED_UNTIL,
	QS_DEAD_LAST_ERROR,
	QS_DEAD_ERRORS,
	QS_DEAD_REDRIVEN_AT,
	QS_DEAD_REDRIVEN_AS,
	QS_DEAD_NCOLUMNS = QS_DEAD_REDRIVEN_AS
};

/* the tables that C code writes row by row */
typedef enum QsTableKind
{
	QS_JOBS,
	QS_CRITICAL_JOBS,
	QS_DEAD_LETTER_JOBS
} QsTableKind;

#define QS_NTABLES 3
#define QS_NALL_TABLES 11		/* and tenants, and those that SQL writes */

typedef struct QsCatalog
{
	Oid			schema;
	const char *schema_quoted;	/* ready to be put into SQL */
	Oid			owner;			/* of the tables */
	Oid			queues;
	Oid			rate_limiters;
	Oid			rate_limits;
	Oid			table[QS_NTABLES];
	Oid			all_tables[QS_NALL_TABLES]; /* InvalidOid where one is missing */
	Oid			ready_index[QS_NTABLES];	/* none for dead letters */
	Oid			all_tenants;	/* the marker function */
	uint64		generation;		/* a new one with each look-up */
} QsCatalog;

extern void qs_catalog_init(void);
extern const QsCatalog *qs_catalog(FunctionCallInfo fcinfo);
extern Oid	qs_find_relation(Oid schema, const char *name);
extern Oid	qs_ready_index(const QsCatalog *cat, QsTableKind kind);

#endif							/* QS_CATALOG_H */
