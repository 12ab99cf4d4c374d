/*
 * ready_entry.h
 *	  What an entry of a ready index leads to.
 *
 * Rules:
 *	 An entry is dead only if all members of its chain are, as seen under the
 *	 lock of the page. A member that goes on at another page has an entry of
 *	 its own there, which its writer announces.
 *	 Of a lease is believed that it goes on as long as it already has, and some
 *	 more, never that it lasts until its end: most jobs end long before, and
 *	 what is dead then should become part of the one range of what is dead.
 */
#ifndef QS_READY_ENTRY_H
#define QS_READY_ENTRY_H

#include "ready_direct.h"

typedef enum QsEntryState
{
	ENTRY_DEAD,					/* for ever */
	ENTRY_LEASED,				/* until a time */
	ENTRY_BUSY,					/* while a transaction runs */
	ENTRY_CLAIMABLE,
	ENTRY_OTHER					/* nothing that can be said for longer */
} QsEntryState;

typedef struct QsEntry
{
	QsEntryState	state;
	QsRangeKey	key;
	TimestampTz until;			/* of a lease */
	TimestampTz goes_on;		/* that it is believed to; not after until */
	TransactionId xid;			/* that is busy with it */
	ItemPointerData tid;		/* of the row that is claimable */
	bool		all_dead;		/* the index may forget the entry */
	bool		over;			/* a lease that ran out, to be the last */
} QsEntry;

extern void qs_classify_entry(QsDirectScan *direct, ItemPointer tid,
							  QsEntry *entry);

#endif							/* QS_READY_ENTRY_H */
