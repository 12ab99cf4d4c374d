/*
 * table_info.h
 *	  What a session knows of the extension's tables, so that a write does not
 *	  look it up.
 */
#ifndef QS_TABLE_INFO_H
#define QS_TABLE_INFO_H

#include "catalog.h"
#include "indexes.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

/* An expression of the table's definition. */
typedef struct QsExpr
{
	Node	   *expr;			/* NULL if there is none */
	ExprState  *kept;			/* NULL if it must be compiled for each call */
	int16		length;			/* of its type */
	bool		by_value;
	const char *name;			/* of a CHECK constraint */
	Bitmapset  *reads;			/* columns that it depends on, if nothing else */
	int			number;			/* among all expressions of the table */
} QsExpr;

/*
 * What is known of a table until its relcache entry changes. Lives in cxt. A
 * call may still use it when it was invalidated, so it is freed only when the
 * transaction ends that found it so.
 */
typedef struct QsTableInfo
{
	Oid			relid;
	uint64		version;		/* no other description has it */
	bool		valid;
	MemoryContext cxt;
	struct QsTableInfo *next;	/* the next one to be freed */
	EState	   *estate;			/* to compile in and to evaluate what is kept */
	Oid			pkey;
	QsIndexes  *indexes;		/* NULL if the executor must write them */
	int			natts;
	int			nchecks;
	QsExpr	   *checks;
	QsExpr	   *generated;		/* by column */
	QsExpr	   *defaults;		/* by column; only those that the user added */
	int			nexprs;			/* of all of these */
	bool		runs_user_code; /* search_path must be pinned */
	struct QsParents *parents;	/* that inserts lock */
	List	   *replaced;		/* triggers that table.c does the work of */
	bool		update_row_triggers;	/* after triggers that an update needs */
	bool		sees_before;	/* triggers before an update or delete of a row */
	uint64		trigger;		/* version of the announcing one; 0 if not in order */
} QsTableInfo;

extern void qs_table_info_init(void);
extern QsTableInfo *qs_table_describe(Relation rel, QsTableKind kind);
extern uint64 qs_table_version(QsTableKind kind, Oid relid);

#endif							/* QS_TABLE_INFO_H */
