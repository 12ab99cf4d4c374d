/*
 * shmem.c
 *	  Shared memory for the modules that need some: see shmem.h.
 *
 * What is needed must be said while the server starts; the memory exists some
 * time after that, and anew after a crash.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#define MAX_PARTS 16

static const QsShmem *parts[MAX_PARTS];
static int	nparts = 0;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	for (int i = 0; i < nparts; i++)
	{
		RequestAddinShmemSpace(parts[i]->size());
		RequestNamedLWLockTranche(parts[i]->name, parts[i]->nlocks);
	}
}

static void
startup(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nparts; i++)
	{
		bool		found;
		void	   *memory = ShmemInitStruct(parts[i]->name, parts[i]->size(),
											 &found);

		parts[i]->attach(memory, GetNamedLWLockTranche(parts[i]->name), found);
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
define(const QsShmemSetting *setting)
{
	DefineCustomIntVariable(setting->name, setting->description, NULL,
							setting->value, *setting->value, setting->min,
							setting->max,
							process_shared_preload_libraries_in_progress ?
							PGC_POSTMASTER : PGC_SIGHUP,
							setting->flags, NULL, NULL, NULL);
}

/*
 * Defines a module's setting, and asks for its shared memory. False if the library is loaded too late
 * for any; the module is then never attached.
 */
bool
qs_shmem_use(const QsShmem *part)
{
	if (part->setting.name != NULL)
		define(&part->setting);
	if (!process_shared_preload_libraries_in_progress)
		return false;
	if (nparts == 0)
	{
		previous_request_hook = shmem_request_hook;
		shmem_request_hook = request;
		previous_startup_hook = shmem_startup_hook;
		shmem_startup_hook = startup;
	}
	Assert(nparts < MAX_PARTS);
	parts[nparts++] = part;
	return true;
}
