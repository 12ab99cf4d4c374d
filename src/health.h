/*
 * health.h
 *	  What is as it should be, and what is not, item by item.
 */
#ifndef QS_HEALTH_H
#define QS_HEALTH_H

#include "fmgr.h"

typedef void (*QsHealthFound) (const char *item, bool ok, const char *detail,
							   void *arg);

extern void qs_health_look(FunctionCallInfo fcinfo, QsHealthFound found,
						   void *arg);

#endif							/* QS_HEALTH_H */
