/*
 * groups.c
 *	  Who of a group is held, and who is next: see groups.h.
 *
 * What a call takes away is noted, and settled at its end for all groups in the
 * order of their locks, so that batches do not deadlock. Transactions that call
 * several times may, and PostgreSQL's detector ends one of them.
 *
 * A queue has 1024 locks for its groups, so that a transaction may write any
 * number of them. Groups that share one wait for each other without need.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "compat.h"
#include "fault.h"
#include "groups.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "waiters.h"

#define LOCKS 1024

/* Jobs that a settlement admits although fewer left; the task does the rest. */
#define MORE_THAN_LEFT 100

/* A group that jobs have left, or that may have room for another reason. */
typedef struct Left
{
	QsGroup		group;
	LOCKTAG		tag;
	int			jobs;
} Left;

/*
 * The group that a job was put into last. What was found under its lock holds
 * while the same command runs: nobody else changes it, and we count.
 */
static struct
{
	LocalTransactionId lxid;
	SubTransactionId subid;
	CommandId	cid;
	pg_uuid_t	queue;
	int			key_length;
	char		key[512];
	int			room;
}			last;

static void
forget_last(void)
{
	last.lxid = InvalidLocalTransactionId;
}

static bool
is_last(const QsGroup *group)
{
	return last.lxid == qs_local_transaction_id() &&
		last.subid == GetCurrentSubTransactionId() &&
		last.cid == GetCurrentCommandId(false) &&
		memcmp(&last.queue, &group->queue, UUID_LEN) == 0 &&
		last.key_length == (int) VARSIZE_ANY_EXHDR(DatumGetPointer(group->key)) &&
		memcmp(last.key, VARDATA_ANY(DatumGetPointer(group->key)), last.key_length) == 0;
}

static void
remember_last(const QsGroup *group, int room)
{
	int			length = VARSIZE_ANY_EXHDR(DatumGetPointer(group->key));

	forget_last();
	if (length > (int) sizeof(last.key))
		return;					/* a CHECK is about to refuse it */
	last.lxid = qs_local_transaction_id();
	last.subid = GetCurrentSubTransactionId();
	last.cid = GetCurrentCommandId(false);
	last.queue = group->queue;
	last.key_length = length;
	memcpy(last.key, VARDATA_ANY(DatumGetPointer(group->key)), length);
	last.room = room;
}

/* Locks of objects of a class that is no catalog are nobody else's. */
static void
lock_tag(const QsCall *call, const QsGroup *group, LOCKTAG *tag)
{
	uint32		queue = hash_bytes(group->queue.data, UUID_LEN);
	uint32		key = hash_bytes((unsigned char *) VARDATA_ANY(DatumGetPointer(group->key)),
								 VARSIZE_ANY_EXHDR(DatumGetPointer(group->key)));

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, call->cat->table[QS_CRITICAL_JOBS],
					   queue, key % LOCKS);
}

/* False if others have the lock, and it is not to be waited for. */
static bool
lock(const LOCKTAG *tag, bool wait)
{
	if (LockAcquire(tag, ExclusiveLock, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	QS_FAULT_POINT("group");
	return true;
}

/*
 * How many more jobs may be admitted. Behind held ones nobody is: if there is
 * room all the same, *unsettled is set.
 */
static int
find_room(QsCall *call, const QsQueue *queue, const QsGroup *group,
		  bool goes_first, bool *unsettled)
{
	QsGroupJob	held;
	int			room;

	qs_group_look_begin();
	room = queue->group_concurrency -
		qs_group_admitted(call, group, queue->group_concurrency);
	if (!goes_first && room > 0)
	{
		if (queue->group_blocks && qs_group_blocked(call, group))
			room = 0;
		else if (qs_group_held(call, group, 1, &held) > 0)
		{
			room = 0;
			*unsettled = true;
		}
	}
	qs_group_look_end();
	return room;
}

/* Whether a job that comes to the group is held. Takes the group's lock. */
static bool
must_hold(QsCall *call, const QsQueue *queue, const QsGroup *group,
		  bool goes_first, bool *unsettled)
{
	LOCKTAG		tag;

	if (queue->group_concurrency == 0)
		return false;
	if (goes_first || !is_last(group))
	{
		lock_tag(call, group, &tag);
		(void) lock(&tag, true);
		remember_last(group, find_room(call, queue, group, goes_first, unsettled));
		if (!is_last(group))
			return false;
	}
	if (last.room <= 0)
		return true;
	last.room--;
	if (goes_first)
		forget_last();
	return false;
}

/* The same for a row that SQL inserts. */
bool
qs_group_must_hold(QsCall *call, const QsQueue *queue, const QsGroup *group)
{
	bool		unsettled = false;

	return must_hold(call, queue, group, false, &unsettled);
}

static void
take_group(const Datum *values, int key, QsGroup *group)
{
	group->tenant = *DatumGetUUIDP(values[QS_JOB_TENANT_ID - 1]);
	group->queue = *DatumGetUUIDP(values[QS_JOB_QUEUE_ID - 1]);
	group->key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[key - 1]));
}

/* Whether the row that is about to be written comes into its group held. */
static bool
comes_held(QsTable *table, const Datum *values)
{
	QsGroup		group;
	QsQueue		queue;
	bool		unsettled = false;
	bool		held;

	take_group(values, QS_JOB_GROUP_KEY, &group);
	if (!qs_queue_by_id(table->call, &group.queue, &queue))
		return false;
	held = must_hold(table->call, &queue, &group, table->goes_first, &unsettled);
	if (unsettled)
		qs_group_note_left(table->jobs, &group, 1);
	return held;
}

/* Before an insert of table.c, after triggers that may have set the key. */
void
qs_group_before_insert(QsTable *table)
{
	Datum	   *values = table->new->tts_values;
	bool	   *nulls = table->new->tts_isnull;

	if (table->kind == QS_DEAD_LETTER_JOBS)
		return;
	slot_getallattrs(table->new);
	if (!nulls[QS_JOB_GROUP_KEY - 1] && nulls[QS_JOB_FINISHED_AT - 1] &&
		!DatumGetBool(values[QS_JOB_HELD - 1]))
		values[QS_JOB_HELD - 1] = BoolGetDatum(comes_held(table, values));
}

/* Whether two rows, as columns, are of one group. Their queue is the same. */
static bool
is_same_group(const Datum *a, const bool *a_nulls, const Datum *b, const bool *b_nulls)
{
	int			key = QS_JOB_GROUP_KEY - 1;

	if (a_nulls[key] || b_nulls[key])
		return a_nulls[key] && b_nulls[key];
	return DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID,
												a[key], b[key]));
}

static bool
is_in_same_group(const QsTable *table)
{
	return is_same_group(table->old->tts_values, table->old->tts_isnull,
						 table->values, table->nulls);
}

/* Before an update of table.c: a job may come back, or into another group. */
void
qs_group_before_update(QsTable *table)
{
	const bool *old_nulls = table->old->tts_isnull;

	if (table->kind == QS_DEAD_LETTER_JOBS ||
		(qs_is_null(table, QS_JOB_GROUP_KEY) && old_nulls[QS_JOB_GROUP_KEY - 1]) ||
		!qs_is_null(table, QS_JOB_FINISHED_AT) ||
		(old_nulls[QS_JOB_FINISHED_AT - 1] && is_in_same_group(table)))
		return;
	qs_set(table, QS_JOB_HELD,
		   BoolGetDatum(!qs_is_null(table, QS_JOB_GROUP_KEY) &&
						comes_held(table, table->values)));
}

/* Notes that a job of the row that was written has left its group. */
static void
note_row(QsTable *table, int key)
{
	QsGroup		group;

	take_group(table->old->tts_values, key, &group);
	qs_group_note_left(table->jobs, &group, 1);
}

/* Whether the job has neither finished nor is held. */
static bool
is_admitted(const Datum *values, const bool *nulls)
{
	return nulls[QS_JOB_FINISHED_AT - 1] && !DatumGetBool(values[QS_JOB_HELD - 1]);
}

/* Whether the row that was written took part in its group before. */
static bool
took_part(const QsTable *table)
{
	const Datum *values = table->old->tts_values;
	const bool *nulls = table->old->tts_isnull;

	return is_admitted(values, nulls) || !nulls[QS_JOB_FINISHED_AT - 1];
}

/* After an update of table.c. */
void
qs_group_after_update(QsTable *table)
{
	const bool *old_nulls = table->old->tts_isnull;

	if (table->kind == QS_DEAD_LETTER_JOBS)
	{
		if (!old_nulls[QS_DEAD_GROUP_KEY - 1])
			note_row(table, QS_DEAD_GROUP_KEY);
		return;
	}
	if (old_nulls[QS_JOB_GROUP_KEY - 1] || !took_part(table) ||
		(is_admitted(table->old->tts_values, old_nulls) &&
		 is_admitted(table->values, table->nulls) && is_in_same_group(table)))
		return;
	note_row(table, QS_JOB_GROUP_KEY);
}

/* After a delete of table.c. */
void
qs_group_after_delete(QsTable *table)
{
	if (table->kind != QS_DEAD_LETTER_JOBS &&
		!table->old->tts_isnull[QS_JOB_GROUP_KEY - 1] && took_part(table))
		note_row(table, QS_JOB_GROUP_KEY);
}

/* Notes that jobs have left a group, to be settled at the end of the call. */
void
qs_group_note_left(QsJobs *jobs, const QsGroup *group, int jobs_left)
{
	Left	   *left = palloc(sizeof(Left));

	left->group = *group;
	left->group.key = PointerGetDatum(PG_DETOAST_DATUM_COPY(group->key));
	left->jobs = jobs_left;
	lock_tag(jobs->call, group, &left->tag);
	jobs->groups_left = lappend(jobs->groups_left, left);
}

static int
compare_groups(const QsGroup *a, const QsGroup *b)
{
	text	   *keys[2] = {DatumGetTextPP(a->key), DatumGetTextPP(b->key)};
	int			lengths[2] = {VARSIZE_ANY_EXHDR(keys[0]), VARSIZE_ANY_EXHDR(keys[1])};
	int			result = memcmp(&a->queue, &b->queue, UUID_LEN);

	if (result == 0)
		result = lengths[0] - lengths[1];
	return result != 0 ? result :
		memcmp(VARDATA_ANY(keys[0]), VARDATA_ANY(keys[1]), lengths[0]);
}

/* In the order of locks, then of groups that share one. */
static int
compare_left(const ListCell *a, const ListCell *b)
{
	const Left *x = lfirst(a);
	const Left *y = lfirst(b);
	int			result = memcmp(&x->tag, &y->tag, sizeof(LOCKTAG));

	return result != 0 ? result : compare_groups(&x->group, &y->group);
}

/* The groups that were noted, each once, in order; none is noted any more. */
static List *
take_left(QsJobs *jobs)
{
	List	   *all = jobs->groups_left;
	List	   *each = NIL;
	ListCell   *cell;

	jobs->groups_left = NIL;
	list_sort(all, compare_left);
	foreach(cell, all)
	{
		Left	   *left = lfirst(cell);
		Left	   *before = each == NIL ? NULL : llast(each);

		if (before != NULL && compare_groups(&before->group, &left->group) == 0)
			before->jobs += left->jobs;
		else
			each = lappend(each, left);
	}
	return each;
}

/* Up to max jobs that are to be admitted now. */
static int
find_next(QsCall *call, const QsQueue *queue, const QsGroup *group, int max,
		  QsGroupJob *jobs)
{
	int			limit = queue->group_concurrency;
	int			count;

	qs_group_look_begin();
	count = qs_group_held(call, group, 1, jobs);
	if (count > 0 && limit > 0)
	{
		if (queue->group_blocks && qs_group_blocked(call, group))
			max = 0;
		else
			max = Min(max, limit - qs_group_admitted(call, group, limit));
	}
	if (count > 0)
		count = qs_group_held(call, group, max, jobs);
	qs_group_look_end();
	return count;
}

/*
 * Locks a job that was found held. False if it is not any more, or another
 * transaction has it, and is not to be waited for.
 */
static bool
lock_held(QsJobs *jobs, const QsGroup *group, const QsGroupJob *job)
{
	QsTable    *table = qs_jobs_table(jobs, job->kind);
	QsGroup		now;
	bool		found;

	/* it may be newer than the call's snapshot */
	qs_group_look_begin();
	found = jobs->impatient ? qs_try_lock_by_id(table, &job->id) :
		qs_lock_by_id(table, &job->id);
	qs_group_look_end();
	if (!found || !DatumGetBool(qs_get(table, QS_JOB_HELD)) ||
		!qs_is_null(table, QS_JOB_FINISHED_AT) ||
		qs_is_null(table, QS_JOB_GROUP_KEY))
		return false;
	take_group(table->values, QS_JOB_GROUP_KEY, &now);
	return compare_groups(&now, group) == 0;
}

/* Admits jobs of a locked group as long as there are some, and room. */
static int
admit(QsJobs *jobs, const QsQueue *queue, const QsGroup *group, int max)
{
	QsGroupJob *next = palloc(max * sizeof(QsGroupJob));
	int			admitted = 0;
	int			count;
	int			refused;

	do
	{
		count = find_next(jobs->call, queue, group, max - admitted, next);
		refused = 0;
		for (int i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (!lock_held(jobs, group, &next[i]))
			{
				/* nobody may overtake one that is only locked */
				if (jobs->impatient)
					return admitted;
				refused++;
				continue;
			}
			qs_set(&jobs->tables[next[i].kind], QS_JOB_HELD, BoolGetDatum(false));
			if (!qs_try_update(&jobs->tables[next[i].kind]))
				return admitted;	/* a trigger of the user's keeps it */
			qs_note_name(&queue->id, queue->name);
			admitted++;
		}
	} while (refused > 0 && admitted < max);
	pfree(next);
	return admitted;
}

static int
settle(QsJobs *jobs, const Left *left)
{
	QsQueue		queue;

	if (!qs_queue_by_id(jobs->call, &left->group.queue, &queue) ||
		!lock(&left->tag, !jobs->impatient))
		return 0;
	if (!jobs->impatient)
		jobs->call->now = GetCurrentTimestamp();
	return admit(jobs, &queue, &left->group, Max(left->jobs, MORE_THAN_LEFT));
}

/*
 * Admits whoever is next in the groups that were noted. Returns how many were
 * admitted.
 */
int
qs_groups_settle(QsJobs *jobs)
{
	List	   *each;
	ListCell   *cell;
	int			admitted = 0;

	if (jobs->groups_left == NIL)
		return 0;
	each = take_left(jobs);
	forget_last();
	qs_see_own_writes(jobs);
	foreach(cell, each)
		admitted += settle(jobs, lfirst(cell));
	return admitted;
}
