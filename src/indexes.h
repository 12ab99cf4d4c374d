/*
 * indexes.h
 *	  Puts rows of the extension's tables into their indexes.
 */
#ifndef QS_INDEXES_H
#define QS_INDEXES_H

#include "nodes/execnodes.h"
#include "utils/relcache.h"

typedef struct QsIndexes QsIndexes;

extern QsIndexes *qs_indexes_describe(Relation rel, EState *estate);
extern bool qs_indexes_include(const QsIndexes *indexes, Oid relid);
extern Relation *qs_indexes_open(const QsIndexes *indexes);
extern void qs_indexes_insert(const QsIndexes *indexes, Relation *open,
							  Relation rel, TupleTableSlot *slot,
							  const Bitmapset *changed);
extern void qs_indexes_close(const QsIndexes *indexes, Relation *open);

#endif							/* QS_INDEXES_H */
