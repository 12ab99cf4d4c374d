/*
 * bound_tenant.h
 *	  Whether tenants are bound to app.current_tenant.
 */
#ifndef QS_BOUND_TENANT_H
#define QS_BOUND_TENANT_H

extern void qs_bound_tenant_init(void);
extern bool qs_tenants_are_bound(void);

#endif							/* QS_BOUND_TENANT_H */
