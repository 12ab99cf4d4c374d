/*
 * queue_service.c
 *	  A job queue inside PostgreSQL: what happens when the library is loaded.
 */
#include "postgres.h"

#include "args.h"
#include "bound_tenant.h"
#include "buckets.h"
#include "catalog.h"
#include "claim_only.h"
#include "claim_tokens.h"
#include "enqueue.h"
#include "fault.h"
#include "fmgr.h"
#include "holders.h"
#include "limit.h"
#include "limit_clock.h"
#include "permits.h"
#include "progress.h"
#include "queue.h"
#include "queue_note.h"
#include "range_cache.h"
#include "resume.h"
#include "ring.h"
#include "slots.h"
#include "stats_note.h"
#include "stats_table.h"
#include "table_info.h"
#include "task.h"
#include "task_log.h"
#include "utils/guc.h"
#include "waiters.h"
#include "worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	qs_bound_tenant_init();
	qs_catalog_init();
	qs_queue_init();
	qs_limit_init();
	qs_table_info_init();
	qs_args_init();
	qs_enqueue_init();
	qs_cache_init();
	qs_ring_init();
	qs_waiters_init();
	qs_queue_note_init();
	qs_holders_init();
	qs_slots_init();
	qs_limit_clock_init();
	qs_buckets_init();
	qs_permits_init();
	qs_tokens_init();
	qs_stats_table_init();
	qs_stats_note_init();
	qs_claim_only_init();
	qs_task_log_init();
	qs_progress_init();
	qs_launcher_init();
	qs_resume_init();
	qs_retention_init();
	qs_alerts_init();
	qs_fault_init();
	MarkGUCPrefixReserved("queue_service");
}
