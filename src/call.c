/*
 * call.c
 *	  The frame of a call: see call.h.
 *
 * The functions are SECURITY INVOKER: who may execute one is checked by
 * PostgreSQL, and who calls is read here before anything else happens. From
 * qs_begin() to qs_end() the code then runs as the owner of the tables, as
 * the checks of foreign keys do (ri_triggers.c): users need no privilege on
 * the tables, and triggers on them run as the owner. FORCE ROW LEVEL SECURITY
 * does not apply meanwhile, so whatever reads or writes a row compares its
 * tenant_id with that of the call.
 *
 * An error on the way needs no clean-up here: the end of the transaction or
 * subtransaction puts back role, search_path and snapshot.
 */
#include "postgres.h"

#include "access/xact.h"
#include "call.h"
#include "compat.h"
#include "errors.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(queue_tenant);
PG_FUNCTION_INFO_V1(qs_queue_all_tenants);

/*
 * Reads a uuid in its canonical form, 36 characters with lower-case digits.
 * No other form will do: the policy on the tables compares text.
 */
bool
qs_parse_tenant(const char *text, pg_uuid_t *tenant)
{
	for (int i = 0, byte = 0; i < 36; i++)
	{
		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (text[i] != '-')
				return false;
			continue;
		}

		for (int half = 0; half < 2; half++)
		{
			char		c = text[i + half];
			unsigned	digit;

			if (c >= '0' && c <= '9')
				digit = c - '0';
			else if (c >= 'a' && c <= 'f')
				digit = c - 'a' + 10;
			else
				return false;
			if (half == 0)
				tenant->data[byte] = digit << 4;
			else
				tenant->data[byte++] |= digit;
		}
		i++;
	}
	return text[36] == '\0';
}

/* Whether role may do what is not for tenants, and serve all of them. */
bool
qs_is_platform(const QsCatalog *cat, Oid role)
{
	return superuser_arg(role) ||
		(OidIsValid(cat->all_tenants) && qs_may_execute(cat->all_tenants, role));
}

static void
identify(QsCall *call, QsScope scope)
{
	const char *setting = GetConfigOption("app.current_tenant", true, false);

	if (scope == QS_NO_TENANT)
		return;
	call->has_tenant = setting != NULL && setting[0] != '\0';
	if (call->has_tenant)
	{
		if (!qs_parse_tenant(setting, &call->tenant))
			ereport(ERROR,
					(errcode(QS_TENANT_MALFORMED),
					 errmsg("app.current_tenant is not a uuid in canonical form"),
					 errhint("Set it to the tenant's id as lower-case text, such as id::text gives.")));
		return;
	}

	if (scope == QS_ONE_TENANT ||
		!qs_is_platform(call->cat, call->caller_role))
		ereport(ERROR,
				(errcode(QS_TENANT_NOT_SET),
				 errmsg("app.current_tenant is not set"),
				 errhint("Use SET LOCAL app.current_tenant = '<the tenant''s id>'.")));
}

static void
begin(QsCall *call, FunctionCallInfo fcinfo, QsScope scope)
{
	memset(call, 0, sizeof(*call));
	call->cat = qs_catalog(fcinfo);
	GetUserIdAndSecContext(&call->caller_role, &call->caller_context);
	identify(call, scope);
}

static void
become_owner(QsCall *call)
{
	SetUserIdAndSecContext(call->cat->owner,
						   call->caller_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
	call->in_tables = true;
	call->now = GetCurrentTimestamp();
}

/*
 * Begins a call that writes. verb is what an error calls the function; it
 * comes in a read-only transaction and on a standby (SQLSTATE 25006).
 * What the transaction did before, and what others committed, is visible from
 * here on in a new active snapshot (at READ COMMITTED).
 */
void
qs_begin(QsCall *call, FunctionCallInfo fcinfo, const char *verb, QsScope scope)
{
	qs_begin_outside(call, fcinfo, verb, scope);
	qs_enter_tables(call);
}

/*
 * The same for a call that may get by without the tables. It stays the
 * caller's, without a time and a snapshot, until qs_enter_tables().
 */
void
qs_begin_outside(QsCall *call, FunctionCallInfo fcinfo, const char *verb,
				 QsScope scope)
{
	PreventCommandIfReadOnly(verb);
	PreventCommandIfParallelMode(verb);
	begin(call, fcinfo, scope);
}

/* Becomes the owner of the tables, with a snapshot; once a call. */
void
qs_enter_tables(QsCall *call)
{
	if (call->in_tables)
		return;
	become_owner(call);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Begins a call that only reads, under the snapshot of the caller's query. */
void
qs_begin_read(QsCall *call, FunctionCallInfo fcinfo, QsScope scope)
{
	begin(call, fcinfo, scope);
	become_owner(call);
	PushActiveSnapshot(GetActiveSnapshot());
}

/*
 * Puts the latest snapshot in place of the active one (at READ COMMITTED). It
 * shows what others committed meanwhile, but not what this call wrote.
 */
void
qs_advance_snapshot(void)
{
	PopActiveSnapshot();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* The same, and shows what this call wrote; while no table is open. */
void
qs_renew_snapshot(void)
{
	CommandCounterIncrement();
	qs_advance_snapshot();
}

/*
 * Pins search_path until qs_end(), for SQL and for whatever of the user's may
 * run. By a setting and not by an override, which would also hide what a
 * trigger function sets for itself.
 */
void
qs_pin_search_path(QsCall *call)
{
	if (call->guc_nest_level != 0)
		return;
	call->guc_nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

void
qs_end(QsCall *call)
{
	if (!call->in_tables)
		return;
	PopActiveSnapshot();
	/* as at the end of a function: puts back, but keeps what triggers set */
	if (call->guc_nest_level != 0)
		AtEOXact_GUC(true, call->guc_nest_level);
	SetUserIdAndSecContext(call->caller_role, call->caller_context);
}

/* SQL: queue_tenant() returns uuid */
Datum
queue_tenant(PG_FUNCTION_ARGS pg_attribute_unused())
{
	const char *setting = GetConfigOption("app.current_tenant", true, false);
	pg_uuid_t  *tenant = palloc(sizeof(pg_uuid_t));

	if (setting == NULL || !qs_parse_tenant(setting, tenant))
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(tenant);
}

/* SQL: _queue_all_tenants() returns void; only the right to execute it counts */
Datum
qs_queue_all_tenants(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_VOID();
}
