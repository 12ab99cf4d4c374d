/*
 * bound_tenant.c
 *	  app.current_tenant as a setting that a tenant cannot change.
 *
 * PostgreSQL lets anybody set a name with a dot in it that no library has
 * defined. With queue_service.bind_tenant this one defines app.current_tenant
 * before any session exists, for superusers and for roles with SET on the
 * parameter. All ways to a setting go through the same check: SET, SET LOCAL,
 * set_config(), pg_settings, PGOPTIONS, the SET of a function, ALTER ROLE. What
 * RESET ALL and DISCARD ALL put in place is what the session began with.
 *
 * Invariants:
 * - Bound means bound in every session. So the variable is defined in the
 *	 postmaster only; a library that is loaded later refuses to be, rather than
 *	 serve tenants that the configuration calls bound.
 * - Any value is taken. One that is stored for a role and refused when it logs
 *	 in would leave the session without a tenant, and so serving all, if the
 *	 role may; as it is, a bad one is an error in each call.
 * - RESET ALL does reset it: a pooler's clean-up must not leave a tenant to the
 *	 next client.
 */
#include "postgres.h"

#include "bound_tenant.h"
#include "errors.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

static bool bind_tenant = false;

/* NULL while tenants are not bound; read by the setting's name in either case */
static char *current_tenant = NULL;

/*
 * Defines the settings. First of all that the library does when it is loaded,
 * as it may raise an error.
 */
void
qs_bound_tenant_init(void)
{
	bool		preloaded = process_shared_preload_libraries_in_progress;

	if (!preloaded)
	{
		const char *setting = GetConfigOption("queue_service.bind_tenant",
											  true, false);
		bool		wanted;

		if (setting != NULL && !(parse_bool(setting, &wanted) && !wanted))
			ereport(ERROR,
					(errcode(QS_NOT_PRELOADED),
					 errmsg("queue_service.bind_tenant needs the library to be preloaded"),
					 errhint("Add queue_service to shared_preload_libraries and restart the server, or remove the setting.")));
	}

	DefineCustomBoolVariable("queue_service.bind_tenant",
							 "Only superusers, and roles with SET on the parameter, set app.current_tenant.",
							 NULL, &bind_tenant, false,
							 preloaded ? PGC_POSTMASTER : PGC_SIGHUP,
							 0, NULL, NULL, NULL);
	if (preloaded && bind_tenant)
		DefineCustomStringVariable("app.current_tenant",
								   "The tenant that the session acts for.",
								   NULL, &current_tenant, "",
								   PGC_SUSET, 0, NULL, NULL, NULL);
}

bool
qs_tenants_are_bound(void)
{
	return bind_tenant && current_tenant != NULL;
}
