/*
 * shmem.h
 *	  Shared memory for the modules that need some, if the library is preloaded.
 */
#ifndef QS_SHMEM_H
#define QS_SHMEM_H

#include "storage/lwlock.h"

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
} QsShmem;

extern bool qs_shmem_use(const QsShmem *part);

#endif							/* QS_SHMEM_H */
