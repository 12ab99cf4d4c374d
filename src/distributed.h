/*
 * distributed.h
 *	  Refuses tables whose rows are on other servers.
 *
 * What Citus has distributed (or made a reference table, or added to its
 * metadata) is an empty shell here: its planner hook sends SQL to where the rows
 * are, but a claim that reads pages would find nothing, and a job that is
 * written to the shell would be lost.
 *
 * Invariant: no call works on a table that Citus lists. All tables are looked at
 * when a session finds the extension's objects (catalog.c), and those that C
 * code writes once more when they are locked and described (table_info.c), as
 * Citus may have had the lock until then. Both are kept until the relcache says
 * that a table changed, which Citus has it say. So it costs a call nothing.
 */
#ifndef QS_DISTRIBUTED_H
#define QS_DISTRIBUTED_H

extern void qs_refuse_distributed(const Oid *tables, int count);

#endif							/* QS_DISTRIBUTED_H */
