/*
 * shmem.h
 *	  Shared memory for the modules that need some, if the library is preloaded.
 */
#ifndef QS_SHMEM_H
#define QS_SHMEM_H

#include "storage/lwlock.h"

/*
 * A setting that says how much. Without preload it has no effect, but may stand
 * in a file all the same.
 */
typedef struct QsShmemSetting
{
	const char *name;			/* NULL: there is none */
	const char *description;
	int		   *value;			/* what it is by default, to begin with */
	int			min;
	int			max;
	int			flags;			/* GUC_UNIT_... */
} QsShmemSetting;

/* what one module needs */
typedef struct QsShmem
{
	const char *name;			/* of the memory, and of the tranche of its locks */
	int			nlocks;
	Size		(*size) (void); /* the same each time in the life of a server */

	/*
	 * Takes over the memory. found is false if it is new, and to be filled
	 * with what it begins with.
	 */
	void		(*attach) (void *memory, LWLockPadded *locks, bool found);

	QsShmemSetting setting;
} QsShmem;

extern bool qs_shmem_use(const QsShmem *part);

#endif							/* QS_SHMEM_H */
