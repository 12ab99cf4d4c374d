/*
 * recent.c
 *	  Where the jobs are that this session leased lately: see recent.h.
 *
 * A worker ends what it claimed, mostly in the same session and before anybody
 * else wrote the row. Then the row is still where the claim put it, and need
 * not be looked for in the primary key.
 *
 * A place is a guess, right if the row there is visible to the snapshot and has
 * the id, since no id has two such rows. So nothing need ever be taken back,
 * whatever became of the row, its table or our transaction.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog.h"
#include "recent.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define PLACES 1024				/* a power of 2; a later job takes the place of another */

typedef struct Place
{
	pg_uuid_t	id;
	Oid			relid;
	ItemPointerData tid;
} Place;

static Place places[PLACES];

/* An id ends in random bits. */
static Place *
place_of(const pg_uuid_t *id)
{
	return &places[(id->data[14] << 8 | id->data[15]) % PLACES];
}

/* Notes where the row is that was just written. */
void
qs_recent_note(const QsTable *table)
{
	const pg_uuid_t *id = DatumGetUUIDP(qs_get(table, QS_JOB_ID));
	Place	   *place = place_of(id);

	place->id = *id;
	place->relid = RelationGetRelid(table->rel);
	place->tid = table->new->tts_tid;
}

/*
 * Puts the row with this id into the table's slot of what is found, if it is
 * where it was noted. The lock on the table keeps it from getting shorter.
 */
bool
qs_recent_find(QsTable *table, const pg_uuid_t *id)
{
	Place	   *place = place_of(id);
	bool		isnull;

	if (memcmp(&place->id, id, UUID_LEN) != 0 ||
		place->relid != RelationGetRelid(table->rel))
		return false;
	if (table->nblocks == 0)
		table->nblocks = RelationGetNumberOfBlocks(table->rel);
	return ItemPointerGetBlockNumber(&place->tid) < table->nblocks &&
		table_tuple_fetch_row_version(table->rel, &place->tid,
									  GetActiveSnapshot(), table->old) &&
		memcmp(DatumGetUUIDP(slot_getattr(table->old, QS_JOB_ID, &isnull)), id,
			   UUID_LEN) == 0;
}
