/*
 * group_look.h
 *	  What there is of a group of jobs: the jobs of a queue with one group_key,
 *	  critical ones included.
 *
 * Every unfinished job of a group is either held, or admitted: it waits, runs
 * or is tried again as any other job.
 */
#ifndef QS_GROUP_LOOK_H
#define QS_GROUP_LOOK_H

#include "call.h"

typedef struct QsGroup
{
	pg_uuid_t	tenant;
	pg_uuid_t	queue;
	Datum		key;			/* text, not toasted */
} QsGroup;

typedef struct QsGroupJob
{
	QsTableKind kind;
	pg_uuid_t	id;
} QsGroupJob;

/* Where a walk over the groups that have held jobs has come to. */
typedef struct QsGroupPlace
{
	QsTableKind kind;
	QsGroup		group;
} QsGroupPlace;

extern void qs_group_look_begin(void);
extern void qs_group_look_end(void);
extern int	qs_group_admitted(QsCall *call, const QsGroup *group, int max);
extern int	qs_group_held(QsCall *call, const QsGroup *group, int max,
						  QsGroupJob *jobs);
extern bool qs_group_blocked(QsCall *call, const QsGroup *group);
extern bool qs_group_next(QsCall *call, QsGroupPlace *place, int *steps);

#endif							/* QS_GROUP_LOOK_H */
