/*
 * claim_only.c
 *	  Commits claims asynchronously: see claim_only.h.
 *
 * A claim that is lost in a crash makes the job claimable again, which at-least-
 * once delivery allows, and its worker's late completion is refused, as the
 * next claim has another token. A completion waits for its own WAL, and so for
 * that of the claim before it.
 *
 * Whether a transaction did nothing else can only be known at its end, as a
 * pipeline, or other parts of the same statement, may write after the claim:
 *	 it had no transaction id before its first claim, so it had written nothing,
 *	 and its last WAL record is the one that its last claim ended with.
 * Whatever else writes WAL, pruning included, makes the commit synchronous.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "claim_only.h"
#include "utils/guc.h"

/* GUC: queue_service.async_claim */
static bool async_claim = true;

static bool only_claims = false;	/* this transaction, so far */
static XLogRecPtr last_record;	/* at the end of its last claim */

static void
at_commit(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT && only_claims && async_claim &&
		XactLastRecEnd == last_record &&
		synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "off",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);
	only_claims = false;
}

void
qs_claim_only_init(void)
{
	DefineCustomBoolVariable("queue_service.async_claim",
							 "Lets a transaction that only claimed commit without waiting for its WAL.",
							 "If it is lost in a crash, its jobs are claimable again.",
							 &async_claim, true, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	RegisterXactCallback(at_commit, NULL);
}

/* Before a claim has written anything. */
void
qs_claim_only_begin(void)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		only_claims = true;
	else if (XactLastRecEnd != last_record)
		only_claims = false;
}

/* After it has. What a user's code wrote is the user's to decide about. */
void
qs_claim_only_end(bool ran_user_code)
{
	last_record = XactLastRecEnd;
	if (ran_user_code)
		only_claims = false;
}
