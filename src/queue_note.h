/*
 * queue_note.h
 *	  What a transaction does to queues, told to rings and waiters at its end.
 */
#ifndef QS_QUEUE_NOTE_H
#define QS_QUEUE_NOTE_H

#include "access/htup.h"
#include "utils/relcache.h"

extern void qs_queue_note_init(void);
extern void qs_queue_note_row(Relation queues, HeapTuple old, HeapTuple new);
extern bool qs_queue_notes_any(void);

#endif							/* QS_QUEUE_NOTE_H */
