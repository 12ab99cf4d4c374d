/*
 * call.h
 *	  The frame of a call of one of the extension's functions: who calls, for
 *	  which tenant, and the switch to the owner of the tables.
 */
#ifndef QS_CALL_H
#define QS_CALL_H

#include "catalog.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* for whom a function works */
typedef enum QsScope
{
	QS_ONE_TENANT,				/* app.current_tenant must be set */
	QS_ANY_TENANT,				/* may be unset, for who serves all tenants */
	QS_NO_TENANT				/* whatever is set; the caller of qs_begin() sees
								 * to it that it is the platform */
} QsScope;

typedef struct QsCall
{
	const QsCatalog *cat;
	TimestampTz now;			/* the clock, once a call */
	uint64		visited;		/* entries of ready indexes that it looked at */
	bool		has_tenant;		/* false: the call serves all tenants */
	pg_uuid_t	tenant;

	/* to be put back by qs_end() */
	bool		in_tables;		/* it acts as the owner, under a snapshot */
	Oid			caller_role;
	int			caller_context;
	int			guc_nest_level; /* 0 while search_path is the caller's */
} QsCall;

extern void qs_begin(QsCall *call, FunctionCallInfo fcinfo, const char *verb,
					 QsScope scope);
extern void qs_begin_outside(QsCall *call, FunctionCallInfo fcinfo,
							 const char *verb, QsScope scope);
extern void qs_enter_tables(QsCall *call);
extern void qs_begin_read(QsCall *call, FunctionCallInfo fcinfo, QsScope scope);
extern void qs_advance_snapshot(void);
extern void qs_renew_snapshot(void);
extern void qs_pin_search_path(QsCall *call);
extern void qs_end(QsCall *call);

extern bool qs_parse_tenant(const char *text, pg_uuid_t *tenant);
extern bool qs_is_platform(const QsCatalog *cat, Oid role);

#endif							/* QS_CALL_H */
