/*
 * queue_worker.c
 *	  Runs a command for each job of a queue. See queue_worker.1, or --help.
 */
#include "postgres_fe.h"

#include <getopt.h>
#include <sysexits.h>
#include <unistd.h>

#include "turns.h"

#define MAX_CONCURRENCY 1000
#define MAX_SECONDS 31536000

static const char usage[] =
"Runs a command for each job of a queue of queue_service.\n"
"\n"
"Usage: queue_worker --queue NAME [OPTION ...] -- COMMAND [ARGUMENT ...]\n"
"\n"
"The command reads the payload from its standard input; QUEUE_JOB_ID,\n"
"QUEUE_ATTEMPT, QUEUE_HEADERS and others are in its environment. Exit status 0:\n"
"done, with what it wrote as the result. 75: again later (after as many seconds\n"
"as it wrote, if it wrote a number). 65: never again. Any other, or a signal:\n"
"failed, and again as the queue says.\n"
"\n"
"  -q, --queue NAME        the queue\n"
"  -d, --database TEXT     connection string or URI (default: PGHOST etc.)\n"
"  -t, --tenant UUID       the tenant (default: as the role has it, or all)\n"
"  -c, --concurrency N     commands at once (default: 1)\n"
"  -n, --name NAME         of this worker (default: host and process)\n"
"  -l, --lease SECONDS     renewed as long as the command runs (default: 30)\n"
"      --timeout SECONDS   stop a command that runs for longer\n"
"      --grace SECONDS     from SIGTERM to SIGKILL of a command (default: 10)\n"
"      --drain             end when there is nothing to claim\n"
"      --json              lines of JSON, also on a terminal\n"
"  -h, --help              this\n"
"  -V, --version           the version\n";

enum
{
	OPTION_TIMEOUT = 256,
	OPTION_GRACE,
	OPTION_DRAIN,
	OPTION_JSON
};

static const struct option long_options[] = {
	{"queue", required_argument, NULL, 'q'},
	{"database", required_argument, NULL, 'd'},
	{"tenant", required_argument, NULL, 't'},
	{"concurrency", required_argument, NULL, 'c'},
	{"name", required_argument, NULL, 'n'},
	{"lease", required_argument, NULL, 'l'},
	{"timeout", required_argument, NULL, OPTION_TIMEOUT},
	{"grace", required_argument, NULL, OPTION_GRACE},
	{"drain", no_argument, NULL, OPTION_DRAIN},
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0}
};

static void
refuse(const char *what)
{
	fprintf(stderr, "%s: %s\nTry \"%s --help\".\n", PROGRAM, what, PROGRAM);
	exit(EX_USAGE);
}

static int
number(const char *text, int min, int max, const char *what)
{
	char	   *end;
	long		value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
	{
		fprintf(stderr, "%s: %s must be a number between %d and %d\n", PROGRAM,
				what, min, max);
		exit(EX_USAGE);
	}
	return (int) value;
}

static const char *
default_name(void)
{
	static char name[128];
	char		host[64] = "";

	(void) gethostname(host, sizeof(host) - 1);
	(void) snprintf(name, sizeof(name), "%s:%d", host, (int) getpid());
	return name;
}

static void
take_option(Options *options, int option)
{
	switch (option)
	{
		case 'q':
			options->queue = optarg;
			break;
		case 'd':
			options->database = optarg;
			break;
		case 't':
			options->tenant = optarg;
			break;
		case 'c':
			options->concurrency = number(optarg, 1, MAX_CONCURRENCY, "concurrency");
			break;
		case 'n':
			options->name = optarg;
			break;
		case 'l':
			options->lease = number(optarg, 1, MAX_SECONDS, "lease");
			break;
		case OPTION_TIMEOUT:
			options->timeout = number(optarg, 1, MAX_SECONDS, "timeout");
			break;
		case OPTION_GRACE:
			options->grace = number(optarg, 0, MAX_SECONDS, "grace");
			break;
		case OPTION_DRAIN:
			options->drain = true;
			break;
		case OPTION_JSON:
			options->progress = false;
			break;
		case 'h':
			(void) fputs(usage, stdout);
			exit(EX_OK);
		case 'V':
			(void) puts(PROGRAM " " VERSION);
			exit(EX_OK);
		default:
			refuse("an option is not understood");
	}
}

int
main(int argc, char **argv)
{
	Options		options = {
		.database = "", .concurrency = 1, .lease = 30, .grace = 10,
		.progress = isatty(STDOUT_FILENO) != 0
	};
	int			option;

	while ((option = getopt_long(argc, argv, "+q:d:t:c:n:l:hV", long_options,
								 NULL)) != -1)
		take_option(&options, option);
	if (options.queue == NULL)
		refuse("--queue is missing");
	if (optind == argc)
		refuse("the command is missing");
	options.command = argv + optind;
	if (options.name == NULL)
		options.name = default_name();
	return work(&options);
}
