/*
 * parents.c
 *	  Holds on to the queue and the tenant of a row that is inserted: see
 *	  parents.h.
 *
 * A foreign key is checked by a trigger after each row, which runs a query
 * that locks the parent FOR KEY SHARE (RI_FKey_check() in ri_triggers.c). All
 * rows of a call have the same parents, and two queries a row are dearer than
 * the row. So inserts lock the parents here, once, and if nothing but our own
 * code runs meanwhile, table.c leaves out the triggers.
 *
 * Invariants:
 *	 A row is inserted only while its transaction holds a lock on each parent
 *	 that the triggers would have taken: the same strength, on a version of the
 *	 parent that they would have found, taken after whatever the transaction did
 *	 to the parents itself.
 *	 Who deletes a parent waits for the lock, and looks for children after that
 *	 under a new snapshot. So it does not matter that the lock comes before the
 *	 row: it ends with the (sub)transaction that inserts the row, as the row
 *	 does if that fails.
 *	 A trigger is left out only if PostgreSQL would fire it at once, for every
 *	 row, and no user's code runs between the lock and the row, which could
 *	 delete the parent or put the row under another one.
 *
 * Everything else goes the triggers' way: another key of a user's, one that was
 * made deferrable or whose triggers are not enabled as usual, one to a
 * partitioned table. Where no trigger fires for the role of the session, no
 * lock is taken.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "errors.h"
#include "parents.h"
#include "table_info.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MAX_COLUMNS 2			/* of a key */

/* A key of the table to tenants or to queues. */
typedef struct QsParent
{
	Oid			relid;
	Oid			trigger;		/* that checks it when a row is inserted */
	int			ncolumns;
	bool		is_queue;
	/* in the order of the parent's index */
	bool		by_queue[MAX_COLUMNS];	/* the queue's id, else the tenant's */
	AttrNumber	columns[MAX_COLUMNS];
} QsParent;

struct QsParents
{
	int			count;
	QsParent   *each;
};

/* The trigger that checks a constraint when a row is inserted. */
static const Trigger *
find_check(Relation rel, Oid constraint)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgconstraint == constraint &&
			trigger->tgfoid == F_RI_FKEY_CHECK_INS)
			return trigger;
	}
	return NULL;
}

/*
 * Whether the key's columns are the tenant's and the queue's, as uuids. All our
 * tables with a queue have them second and third.
 */
static bool
has_our_columns(const ForeignKeyCacheInfo *key)
{
	if (key->nkeys > MAX_COLUMNS)
		return false;
	for (int i = 0; i < key->nkeys; i++)
		if ((key->conkey[i] != QS_JOB_TENANT_ID &&
			 key->conkey[i] != QS_JOB_QUEUE_ID) ||
			get_opcode(key->conpfeqop[i]) != F_UUID_EQ)
			return false;
	return true;
}

/* Notes what each column of the index is compared with; false if it cannot. */
static bool
match_index(QsParent *parent, Relation index, const ForeignKeyCacheInfo *key)
{
	if (index->rd_rel->relam != BTREE_AM_OID ||
		IndexRelationGetNumberOfKeyAttributes(index) != key->nkeys)
		return false;
	for (int i = 0; i < key->nkeys; i++)
	{
		int			j = 0;

		while (j < key->nkeys &&
			   key->confkey[j] != index->rd_index->indkey.values[i])
			j++;
		if (j == key->nkeys)
			return false;
		parent->columns[i] = key->confkey[j];
		parent->by_queue[i] = key->conkey[j] == QS_JOB_QUEUE_ID;
	}
	parent->ncolumns = key->nkeys;
	return true;
}

/* Describes the key; false if it is to be left to its triggers. */
static bool
describe_key(QsParent *parent, Relation rel, const ForeignKeyCacheInfo *key)
{
	/* locked before the trigger is looked at: see current_index() */
	Relation	parent_rel = table_open(key->confrelid, AccessShareLock);
	const Trigger *trigger = find_check(rel, key->conoid);
	bool		usable = false;

	if (parent_rel->rd_rel->relkind == RELKIND_RELATION &&
		trigger != NULL && trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN &&
		!trigger->tgdeferrable && trigger->tgqual == NULL)
	{
		Relation	index;

		parent->relid = key->confrelid;
		parent->trigger = trigger->tgoid;
		index = index_open(trigger->tgconstrindid, AccessShareLock);
		usable = match_index(parent, index, key);
		index_close(index, AccessShareLock);
	}
	table_close(parent_rel, AccessShareLock);
	return usable;
}

static void
describe_keys(QsParents *parents, Relation rel, List *keys, const char *name)
{
	Oid			relid = get_relname_relid(name, RelationGetNamespace(rel));
	ListCell   *cell;

	foreach(cell, keys)
	{
		const ForeignKeyCacheInfo *key = lfirst(cell);

		if (key->confrelid == relid && has_our_columns(key) &&
			describe_key(&parents->each[parents->count], rel, key))
			parents->count++;
	}
}

/*
 * Describes, in the current context, the keys of a table that inserts look
 * after. Queues come first: who waits for one that is being dropped should not
 * have its tenant meanwhile, which may be next.
 */
QsParents *
qs_parents_describe(Relation rel)
{
	QsParents  *parents = palloc0(sizeof(QsParents));
	List	   *keys = copyObject(RelationGetFKeyList(rel));

	parents->each = palloc0(list_length(keys) * sizeof(QsParent));
	describe_keys(parents, rel, keys, "queues");
	for (int i = 0; i < parents->count; i++)
		parents->each[i].is_queue = true;
	describe_keys(parents, rel, keys, "tenants");
	list_free_deep(keys);
	return parents;
}

/* The triggers that qs_parents_lock() does the work of. */
List *
qs_parents_triggers(const QsParents *parents)
{
	List	   *triggers = NIL;

	for (int i = 0; i < parents->count; i++)
		triggers = lappend_oid(triggers, parents->each[i].trigger);
	return triggers;
}

/*
 * The parent's index by which the key is checked. REINDEX CONCURRENTLY may have
 * put another in its place, but not while the parent is locked: it waits for
 * that before the old one is neglected.
 */
static Oid
current_index(Relation rel, const QsParent *parent)
{
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
		if (rel->trigdesc->triggers[i].tgoid == parent->trigger)
			return rel->trigdesc->triggers[i].tgconstrindid;
	elog(ERROR, "a foreign key of \"%s\" disappeared",
		 RelationGetRelationName(rel));
}

/* The values to be found, in the order of the index. */
typedef const pg_uuid_t *QsParentKey[MAX_COLUMNS];

/* Finds the parent as of the snapshot. */
static bool
find_parent(Relation rel, Relation index, const QsParent *parent,
			QsParentKey key, Snapshot snapshot, TupleTableSlot *slot)
{
	IndexScanDesc scan = qs_index_beginscan(rel, index, snapshot,
											parent->ncolumns);
	ScanKeyData keys[MAX_COLUMNS];
	bool		found;

	for (int i = 0; i < parent->ncolumns; i++)
		ScanKeyInit(&keys[i], i + 1, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(key[i]));
	index_rescan(scan, keys, parent->ncolumns, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	return found;
}

/* Whether the locked version, not the one that was found, has the key. */
static bool
still_has(const QsParent *parent, QsParentKey key, TupleTableSlot *slot)
{
	for (int i = 0; i < parent->ncolumns; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, parent->columns[i], &isnull);

		if (isnull || memcmp(DatumGetUUIDP(value), key[i], UUID_LEN) != 0)
			return false;
	}
	return true;
}

/* Locks the parent in slot as ExecLockRows() does; false if it is gone. */
static bool
lock_found(Relation rel, const QsParent *parent, QsParentKey key,
		   Snapshot snapshot, TupleTableSlot *slot)
{
	ItemPointerData tid = slot->tts_tid;
	int			flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	TM_FailureData tmfd;
	TM_Result	result;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	result = table_tuple_lock(rel, &tid, snapshot, slot,
							  GetCurrentCommandId(true), LockTupleKeyShare,
							  LockWaitBlock, flags, &tmfd);
	if (result == TM_Ok)
		return !tmfd.traversed || still_has(parent, key, slot);
	if (IsolationUsesXactSnapshot())
		qs_serialization_failure();
	if (result != TM_Deleted)
		elog(ERROR, "unexpected result %d of locking a row of \"%s\"", result,
			 RelationGetRelationName(rel));
	return false;
}

/*
 * The parent is not there. At REPEATABLE READ and above it may only be newer
 * than the snapshot, under which the triggers, too, would look for it.
 */
static void
missing(Relation rel, Relation index, const QsParent *parent, QsParentKey key,
		TupleTableSlot *slot)
{
	if (IsolationUsesXactSnapshot())
	{
		Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());

		if (find_parent(rel, index, parent, key, latest, slot))
			qs_serialization_failure();
		UnregisterSnapshot(latest);
	}
	if (parent->is_queue)
		ereport(ERROR,
				(errcode(QS_QUEUE_UNKNOWN),
				 errmsg("the queue does not exist any more")));
	ereport(ERROR,
			(errcode(QS_TENANT_UNKNOWN),
			 errmsg("the tenant does not exist any more")));
}

static void
lock_parent(Relation child, const QsParent *parent, const pg_uuid_t *tenant,
			const pg_uuid_t *queue)
{
	Relation	rel = table_open(parent->relid, RowShareLock);
	Relation	index = index_open(current_index(child, parent), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	QsParentKey key;

	for (int i = 0; i < parent->ncolumns; i++)
		key[i] = parent->by_queue[i] ? queue : tenant;
	if (!find_parent(rel, index, parent, key, snapshot, slot) ||
		!lock_found(rel, parent, key, snapshot, slot))
		missing(rel, index, parent, key, slot);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

/*
 * Locks the parents of a row that is to be inserted, waiting for whoever is
 * about to delete them. QS_QUEUE_UNKNOWN if the queue is gone, a serialization
 * failure if it went, or came, since the snapshot of the transaction.
 *
 * A parent that was locked is not locked again unless another command of the
 * transaction, of a trigger of the user's say, could have deleted it since.
 */
void
qs_parents_lock(QsTable *table, const pg_uuid_t *tenant,
				const pg_uuid_t *queue)
{
	const QsParents *parents = table->info->parents;
	QsHeld	   *held = &table->held;

	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ||
		(held->any && held->command == GetCurrentCommandId(false) &&
		 memcmp(&held->tenant, tenant, UUID_LEN) == 0 &&
		 memcmp(&held->queue, queue, UUID_LEN) == 0))
		return;
	for (int i = 0; i < parents->count; i++)
		lock_parent(table->rel, &parents->each[i], tenant, queue);
	held->any = true;
	held->command = GetCurrentCommandId(false);
	held->tenant = *tenant;
	held->queue = *queue;
}
