/*
 * table.h
 *	  Reads and writes rows of the extension's tables through the table and
 *	  index access methods, without SQL.
 *
 * The tables of a call, a QsJobs, are opened, used and closed within it; an
 * error in between needs no clean-up. A QsTable holds one row at a time: a row
 * is found and locked (qs_lock_by_id(), or the scan of ready_direct.h), its
 * columns are read and set by number, and qs_update() or qs_delete() writes it.
 * One that is found only (qs_find_by_id()) is written if it is still the same.
 * Or qs_new_row() starts an empty one, and qs_insert() writes it.
 *
 * Everything that a user may have added to the table is honoured: triggers for
 * rows and statements, CHECK and NOT NULL, generated columns, defaults, indexes
 * and constraints of any kind, foreign keys in both directions. Triggers with
 * transition tables, rules, and another access method than heap are refused
 * with an error.
 */
#ifndef QS_TABLE_H
#define QS_TABLE_H

#include "access/genam.h"
#include "call.h"
#include "compat.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

struct QsTableInfo;
struct QsJobs;

/* The queue and tenant that were locked last, for rows to be inserted. */
typedef struct QsHeld
{
	bool		any;
	CommandId	command;		/* the last one when they were locked */
	pg_uuid_t	tenant;
	pg_uuid_t	queue;
} QsHeld;

typedef struct QsTable
{
	struct QsJobs *jobs;
	QsCall	   *call;
	QsTableKind kind;
	Relation	rel;
	struct QsTableInfo *info;
	EState	   *estate;			/* NULL until a row is loaded or begun */
	ResultRelInfo *rri;
	Bitmapset **updated_columns;	/* where the executor looks for them */
	ExprState **states;			/* of expressions that are not kept */
	ExprContext *context;		/* for these; NULL if there were none */
	CommandId	cid;

	TupleTableSlot *old;		/* the row as it was found, locked */
	TupleTableSlot *new;		/* the row as it is written */
	TupleTableSlot *formed;		/* the same as the heap takes it */
	Datum	   *values;			/* of new */
	bool	   *nulls;
	Bitmapset  *changed;		/* columns that were set, as the executor counts */
	int			events;			/* that the next write is, as stats_note.h says */
	bool		goes_first;		/* the next write brings back a job to its group */

	QsHeld		held;			/* of parents.c */
	BlockNumber nblocks;		/* of rel, once it was asked for; else 0 */
	Relation	pkey;			/* opened when a row is looked for by id */
	IndexScanDesc by_id;		/* over it; NULL until then */
	Relation   *indexes;		/* opened by indexes.c */
	bool		indexes_open;	/* by the executor */
	bool		statement_triggers[CMD_DELETE + 1]; /* fired before */
} QsTable;

/* The tables of one call, each opened when it is first needed. */
typedef struct QsJobs
{
	QsCall	   *call;
	bool		after_triggers; /* the queue of after triggers is open */
	bool		impatient;		/* does not wait to admit jobs (groups.h) */
	List	   *groups_left;	/* that it has to settle */
	bool		open[QS_NTABLES];
	QsTable		tables[QS_NTABLES];
} QsJobs;

extern void qs_jobs_begin(QsJobs *jobs, QsCall *call);
extern QsTable *qs_jobs_table(QsJobs *jobs, QsTableKind kind);
extern void qs_jobs_end(QsJobs *jobs);
extern void qs_look_open(QsTable *table, QsCall *call, QsTableKind kind);
extern void qs_look_close(QsTable *table);
extern bool qs_runs_user_code(const QsJobs *jobs);
extern uint64 qs_announcing_version(const QsTable *table);

extern void qs_see_own_writes(QsJobs *jobs);
qs_noreturn extern void qs_serialization_failure(void);
extern bool qs_find_by_id(QsTable *table, const pg_uuid_t *id);
extern bool qs_lock_by_id(QsTable *table, const pg_uuid_t *id);
extern bool qs_try_lock_by_id(QsTable *table, const pg_uuid_t *id);
extern void qs_load(QsTable *table);
extern void qs_new_row(QsTable *table);

extern bool qs_try_update(QsTable *table);
extern void qs_update(QsTable *table);
extern void qs_insert(QsTable *table);
extern void qs_delete(QsTable *table);
extern bool qs_update_if_same(QsTable *table);
extern bool qs_delete_if_same(QsTable *table);

static inline Datum
qs_get(const QsTable *table, int column)
{
	return table->values[column - 1];
}

static inline bool
qs_is_null(const QsTable *table, int column)
{
	return table->nulls[column - 1];
}

/* Whether a text that is not null and not compressed, as a status, is value. */
static inline bool
qs_text_is(Datum text, const char *value)
{
	size_t		length = strlen(value);

	return VARSIZE_ANY_EXHDR(DatumGetPointer(text)) == length &&
		memcmp(VARDATA_ANY(DatumGetPointer(text)), value, length) == 0;
}

extern void qs_set(QsTable *table, int column, Datum value);
extern void qs_set_null(QsTable *table, int column);

#endif							/* QS_TABLE_H */
