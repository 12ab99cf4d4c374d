/*
 * spawn COUNT AT_ONCE COMMAND: the bare loop that queue_worker is measured
 * against. Runs a command so often, so many at once, by fork and exec.
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	int			count = argc > 3 ? atoi(argv[1]) : 0;
	int			at_once = argc > 3 ? atoi(argv[2]) : 0;

	for (int started = 0, ended = 0; ended < count;)
	{
		if (started < count && started - ended < at_once)
		{
			pid_t		pid = fork();

			if (pid < 0)
				return EXIT_FAILURE;
			if (pid == 0)
			{
				execv(argv[3], argv + 3);
				_exit(127);
			}
			started++;
		}
		else if (wait(NULL) < 0)
			return EXIT_FAILURE;
		else
			ended++;
	}
	return EXIT_SUCCESS;
}
