/*
 * group_look.c
 *	  Looks at groups through their indexes: see group_look.h.
 *
 * A look is under a snapshot of its own, the latest at any isolation level, that
 * shows also what the running command has written: a row of a COPY counts for
 * the next one.
 *
 * The index of a job table begins with (tenant_id, held, queue_id, group_key,
 * finished_at) and goes on in the order of the ready index. Jobs without a
 * group have no entry, nor those that have finished, unless they failed for
 * good: these may block their group, as letters do.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "group_look.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* key columns of a job table's index, as far as they are looked for */
enum Column
{
	COLUMN_TENANT_ID = 1,
	COLUMN_HELD,
	COLUMN_QUEUE_ID,
	COLUMN_GROUP_KEY,
	COLUMN_FINISHED_AT
};

typedef struct GroupScan
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *row;
	IndexScanDesc scan;
} GroupScan;

/* Everything that is committed, and all that is our own. */
void
qs_group_look_begin(void)
{
	PushCopiedSnapshot(GetLatestSnapshot());
	GetActiveSnapshot()->curcid = InvalidCommandId;
}

void
qs_group_look_end(void)
{
	PopActiveSnapshot();
}

static void
begin(GroupScan *scan, QsCall *call, QsTableKind kind, int nkeys)
{
	static const char *const names[QS_NTABLES] = {
		"jobs_group_idx", "critical_jobs_group_idx", "dead_letter_jobs_group_idx"
	};

	scan->rel = table_open(call->cat->table[kind], AccessShareLock);
	scan->index = index_open(qs_find_relation(call->cat->schema, names[kind]),
							 AccessShareLock);
	scan->row = table_slot_create(scan->rel, NULL);
	scan->scan = qs_index_beginscan(scan->rel, scan->index, GetActiveSnapshot(),
									nkeys);
}

static void
end(GroupScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->row);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
}

static void
equals(ScanKey key, const GroupScan *scan, int column, RegProcedure equal, Datum value)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
						   scan->index->rd_indcollation[column - 1], equal, value);
}

/*
 * Counts the group's jobs of a table, up to max: held or not, unfinished or
 * failed for good. Notes their ids unless jobs is NULL.
 */
static int
count_jobs(QsCall *call, const QsGroup *group, QsTableKind kind, bool held,
		   bool finished, int max, QsGroupJob *jobs)
{
	ScanKeyData keys[5];
	GroupScan	scan;
	int			count = 0;

	if (max <= 0)
		return 0;
	begin(&scan, call, kind, lengthof(keys));
	equals(&keys[0], &scan, COLUMN_TENANT_ID, F_UUID_EQ, UUIDPGetDatum(&group->tenant));
	equals(&keys[1], &scan, COLUMN_HELD, F_BOOLEQ, BoolGetDatum(held));
	equals(&keys[2], &scan, COLUMN_QUEUE_ID, F_UUID_EQ, UUIDPGetDatum(&group->queue));
	equals(&keys[3], &scan, COLUMN_GROUP_KEY, F_TEXTEQ, group->key);
	ScanKeyEntryInitialize(&keys[4], SK_ISNULL |
						   (finished ? SK_SEARCHNOTNULL : SK_SEARCHNULL),
						   COLUMN_FINISHED_AT, InvalidStrategy, InvalidOid,
						   InvalidOid, InvalidOid, (Datum) 0);
	index_rescan(scan.scan, keys, lengthof(keys), NULL, 0);
	while (count < max &&
		   index_getnext_slot(scan.scan, ForwardScanDirection, scan.row))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (jobs != NULL)
		{
			jobs[count].kind = kind;
			jobs[count].id = *DatumGetUUIDP(slot_getattr(scan.row, QS_JOB_ID, &isnull));
		}
		count++;
	}
	end(&scan);
	return count;
}

/* How many jobs are admitted; max if that many are, or more. */
int
qs_group_admitted(QsCall *call, const QsGroup *group, int max)
{
	int			count = count_jobs(call, group, QS_JOBS, false, false, max, NULL);

	return count + count_jobs(call, group, QS_CRITICAL_JOBS, false, false,
							  max - count, NULL);
}

/* The first held jobs, in order; returns how many, up to max. */
int
qs_group_held(QsCall *call, const QsGroup *group, int max, QsGroupJob *jobs)
{
	int			count = count_jobs(call, group, QS_CRITICAL_JOBS, true, false,
								   max, jobs);

	return count + count_jobs(call, group, QS_JOBS, true, false, max - count,
							  jobs + count);
}

static bool
has_letter(QsCall *call, const QsGroup *group)
{
	ScanKeyData keys[3];
	GroupScan	scan;
	bool		found;

	begin(&scan, call, QS_DEAD_LETTER_JOBS, lengthof(keys));
	equals(&keys[0], &scan, 1, F_UUID_EQ, UUIDPGetDatum(&group->tenant));
	equals(&keys[1], &scan, 2, F_UUID_EQ, UUIDPGetDatum(&group->queue));
	equals(&keys[2], &scan, 3, F_TEXTEQ, group->key);
	index_rescan(scan.scan, keys, lengthof(keys), NULL, 0);
	found = index_getnext_slot(scan.scan, ForwardScanDirection, scan.row);
	end(&scan);
	return found;
}

/* Whether a job of the group failed for good, and nobody has seen to it yet. */
bool
qs_group_blocked(QsCall *call, const QsGroup *group)
{
	return has_letter(call, group) ||
		count_jobs(call, group, QS_JOBS, false, true, 1, NULL) > 0 ||
		count_jobs(call, group, QS_CRITICAL_JOBS, false, true, 1, NULL) > 0;
}

/* Positions a scan behind what is held of a group. */
static void
go_behind(GroupScan *scan, const QsGroup *group, ScanKeyData *members)
{
	ScanKeyData row = {.sk_flags = SK_ROW_HEADER, .sk_attno = 1,
		.sk_strategy = BTGreaterStrategyNumber,
	.sk_argument = PointerGetDatum(members)};
	const RegProcedure compare[] = {F_UUID_CMP, F_BTBOOLCMP, F_UUID_CMP, F_BTTEXTCMP};
	Datum		values[] = {UUIDPGetDatum(&group->tenant), BoolGetDatum(true),
	UUIDPGetDatum(&group->queue), group->key};

	for (int i = 0; i < (int) lengthof(values); i++)
		ScanKeyEntryInitialize(&members[i], SK_ROW_MEMBER |
							   (i == lengthof(values) - 1 ? SK_ROW_END : 0),
							   i + 1, BTGreaterStrategyNumber, InvalidOid,
							   scan->index->rd_indcollation[i], compare[i], values[i]);
	index_rescan(scan->scan, &row, 1, NULL, 0);
}

/*
 * Moves on to the next group of the table that has held jobs, or had before
 * vacuum; each descent of the index is one of *steps. False at the end of the
 * table, or if no step is left.
 */
bool
qs_group_next(QsCall *call, QsGroupPlace *place, int *steps)
{
	ScanKeyData members[4];
	GroupScan	scan;
	bool		held = false;

	begin(&scan, call, place->kind, 1);
	scan.scan->xs_want_itup = true;
	while (!held && *steps > 0)
	{
		QsGroup    *group = &place->group;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		(*steps)--;
		go_behind(&scan, group, members);
		if (index_getnext_tid(scan.scan, ForwardScanDirection) == NULL)
			break;
		/* NOLINTBEGIN(clang-analyzer-core.NullDereference): of columns that are NOT NULL */
		group->tenant = *DatumGetUUIDP(index_getattr(scan.scan->xs_itup, COLUMN_TENANT_ID,
													 scan.scan->xs_itupdesc, &isnull));
		held = DatumGetBool(index_getattr(scan.scan->xs_itup, COLUMN_HELD,
										  scan.scan->xs_itupdesc, &isnull));
		if (!held)
		{
			/* the first of another tenant: behind it, what is held of his */
			memset(&group->queue, 0, UUID_LEN);
			group->key = PointerGetDatum(cstring_to_text(""));
			continue;
		}
		group->queue = *DatumGetUUIDP(index_getattr(scan.scan->xs_itup, COLUMN_QUEUE_ID,
													scan.scan->xs_itupdesc, &isnull));
		group->key = PointerGetDatum(PG_DETOAST_DATUM_COPY(
														   index_getattr(scan.scan->xs_itup, COLUMN_GROUP_KEY,
																		 scan.scan->xs_itupdesc, &isnull)));
		/* NOLINTEND(clang-analyzer-core.NullDereference) */
	}
	end(&scan);
	return held;
}
