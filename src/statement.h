/*
 * statement.h
 *	  SQL statements with a plan that is kept for the session.
 */
#ifndef QS_STATEMENT_H
#define QS_STATEMENT_H

#include "call.h"
#include "executor/spi.h"

#define QS_STATEMENT_ARGS 32

/*
 * Declared static by the module that runs it. In sql an @ stands for the
 * extension's schema, with the dot: UPDATE @queues SET ...
 */
typedef struct QsStatement
{
	const char *sql;
	int			nargs;
	Oid			argtypes[QS_STATEMENT_ARGS];

	/* kept by qs_execute() */
	SPIPlanPtr	plan;
	uint64		generation;
} QsStatement;

extern void qs_connect(void);
extern uint64 qs_execute(QsStatement *statement, QsCall *call, int expected,
						 Datum *args, const char *nulls, long limit);
extern uint64 qs_read(QsStatement *statement, QsCall *call, Datum *args,
					  const char *nulls, long limit);
extern Datum qs_result(int row, int column, bool *isnull);

#endif							/* QS_STATEMENT_H */
