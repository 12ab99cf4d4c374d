/*
 * handler.c
 *	  A job, and the process that handles it: see handler.h.
 *
 * A handler gets the payload on its standard input and what else there is in its
 * environment. It runs in a process group of its own, so that what it started is
 * stopped with it; and where the system can, it ends with us.
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "clock.h"
#include "handler.h"
#include "text.h"

#define MAX_OUTPUT ((size_t) 64 * 1024)	/* bytes that are kept as the result */
#define MAX_ERRORS 2000			/* bytes that are kept of standard error */
#define CHUNK ((size_t) 64 * 1024)

extern char **environ;

static void
fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", PROGRAM, what, strerror(errno));
	exit(EX_OSERR);
}

/* A pipe that no other handler inherits. */
static void
make_pipe(int ends[2])
{
#ifdef __linux__
	if (pipe2(ends, O_CLOEXEC) != 0)
		fail("could not make a pipe");
#else
	if (pipe(ends) != 0)
		fail("could not make a pipe");
	for (int i = 0; i < 2; i++)
		(void) fcntl(ends[i], F_SETFD, FD_CLOEXEC);
#endif
}

static int
our_end(int fd)
{
	(void) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return fd;
}

static void
close_end(int *fd)
{
	if (*fd >= 0)
		(void) close(*fd);
	*fd = -1;
}

/* Sets QUEUE_<NAME> to a column of the job; not at all if that is null. */
static void
set_variable(const char *name, PGresult *jobs, int row, const char *column)
{
	int			number = PQfnumber(jobs, column);

	if (PQgetisnull(jobs, row, number))
		(void) unsetenv(name);
	else if (setenv(name, PQgetvalue(jobs, row, number), 1) != 0)
		fail("could not set a variable");
}

static void
set_environment(PGresult *jobs, int row)
{
	set_variable("QUEUE_JOB_ID", jobs, row, "job_id");
	set_variable("QUEUE_TENANT_ID", jobs, row, "tenant_id");
	set_variable("QUEUE_NAME", jobs, row, "queue");
	set_variable("QUEUE_JOB_TYPE", jobs, row, "job_type");
	set_variable("QUEUE_HEADERS", jobs, row, "headers");
	set_variable("QUEUE_ATTEMPT", jobs, row, "attempt");
	set_variable("QUEUE_MAX_ATTEMPTS", jobs, row, "max_attempts");
	set_variable("QUEUE_PRIORITY", jobs, row, "priority");
	set_variable("QUEUE_ENQUEUED_AT", jobs, row, "enqueued_at");
}

/* In the child: becomes the handler. */
static void
become(char **command, int in, int out, int err, pid_t parent)
{
	sigset_t	none;

	(void) setpgid(0, 0);
#ifdef __linux__
	(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EX_OSERR);		/* it was over before that */
#else
	(void) parent;
#endif
	(void) dup2(in, STDIN_FILENO);
	(void) dup2(out, STDOUT_FILENO);
	(void) dup2(err, STDERR_FILENO);
	(void) signal(SIGPIPE, SIG_DFL);
	(void) signal(SIGINT, SIG_DFL);
	(void) sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	(void) execvp(command[0], command);
	fprintf(stderr, "%s: could not run \"%s\": %s\n", PROGRAM, command[0],
			strerror(errno));
	_exit(127);
}

/* Starts the handler of a job that was claimed, in a place where there is none. */
void
handler_start(Job *job, const Options *options, PGresult *jobs, int row)
{
	int			in[2];
	int			out[2];
	int			err[2];
	pid_t		parent = getpid();
	const char *payload = PQgetvalue(jobs, row, PQfnumber(jobs, "payload"));

	memset(job, 0, sizeof(*job));
	job->id = pg_strdup(PQgetvalue(jobs, row, PQfnumber(jobs, "job_id")));
	job->token = pg_strdup(PQgetvalue(jobs, row, PQfnumber(jobs, "lease_token")));
	job->type = pg_strdup(PQgetvalue(jobs, row, PQfnumber(jobs, "job_type")));
	job->attempt = pg_strdup(PQgetvalue(jobs, row, PQfnumber(jobs, "attempt")));
	initPQExpBuffer(&job->input);
	initPQExpBuffer(&job->output);
	initPQExpBuffer(&job->errors);
	initPQExpBuffer(&job->error);
	appendPQExpBufferStr(&job->input, payload);
	make_pipe(in);
	make_pipe(out);
	make_pipe(err);
	set_environment(jobs, row);
	job->began = now();
	job->deadline = options->timeout > 0 ? job->began + options->timeout : NEVER;
	job->kill_at = NEVER;
	job->pid = fork();
	if (job->pid < 0)
		fail("could not fork");
	if (job->pid == 0)
		become(options->command, in[0], out[1], err[1], parent);
	/* whoever comes first: it may be stopped at once */
	(void) setpgid(job->pid, job->pid);
	(void) close(in[0]);
	(void) close(out[1]);
	(void) close(err[1]);
	job->in = our_end(in[1]);
	job->out = our_end(out[0]);
	job->err = our_end(err[0]);
	job->state = JOB_RUNS;
}

/* What to wait for: HANDLER_FDS of them. */
void
handler_poll(const Job *job, struct pollfd *polls)
{
	bool		runs = job->state == JOB_RUNS;

	polls[0].fd = runs ? job->in : -1;
	polls[0].events = POLLOUT;
	polls[1].fd = runs ? job->out : -1;
	polls[1].events = POLLIN;
	polls[2].fd = runs ? job->err : -1;
	polls[2].events = POLLIN;
	for (int i = 0; i < HANDLER_FDS; i++)
		polls[i].revents = 0;
}

static void
write_input(Job *job)
{
	ssize_t		n = write(job->in, job->input.data + job->written,
						  job->input.len - job->written);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		job->written += n;
	/* it need not read what it does not want */
	if (n < 0 || job->written == job->input.len)
		close_end(&job->in);
}

/* Reads what is there; false at the end. */
static bool
read_some(int fd, char *chunk, size_t *length)
{
	ssize_t		n = read(fd, chunk, CHUNK);

	*length = n > 0 ? n : 0;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void
keep_end(PQExpBuffer buffer, const char *chunk, size_t length, size_t max)
{
	if (length > max)
	{
		chunk += length - max;
		length = max;
	}
	if (buffer->len + length > max)
	{
		size_t		drop = buffer->len + length - max;

		memmove(buffer->data, buffer->data + drop, buffer->len - drop);
		buffer->len -= drop;
	}
	appendBinaryPQExpBuffer(buffer, chunk, length);
}

static void
read_output(Job *job)
{
	char		chunk[CHUNK];
	size_t		length;

	if (!read_some(job->out, chunk, &length))
		close_end(&job->out);
	if (job->output.len + length > MAX_OUTPUT)
		length = MAX_OUTPUT - job->output.len;
	appendBinaryPQExpBuffer(&job->output, chunk, length);
}

/* What a handler says on standard error is also said by us. */
static void
read_errors(Job *job)
{
	char		chunk[CHUNK];
	size_t		length;

	if (!read_some(job->err, chunk, &length))
		close_end(&job->err);
	(void) fwrite(chunk, 1, length, stderr);
	keep_end(&job->errors, chunk, length, MAX_ERRORS);
}

/* Does what there is to do when poll() has returned these events. */
void
handler_step(Job *job, const struct pollfd *polls)
{
	if (polls[0].revents != 0)
		write_input(job);
	if (polls[1].revents != 0)
		read_output(job);
	if (polls[2].revents != 0)
		read_errors(job);
}

/* Asks the handler to end; after grace seconds it has to. */
void
handler_stop(Job *job, StopReason reason, int grace)
{
	if (job->reason != STOP_NOT)
		return;
	job->reason = reason;
	job->deadline = NEVER;
	job->kill_at = now() + grace;
	(void) kill(-job->pid, SIGTERM);
}

void
handler_kill(Job *job)
{
	job->kill_at = NEVER;
	(void) kill(-job->pid, SIGKILL);
}

static void
trim(PQExpBuffer buffer)
{
	while (buffer->len > 0 && strchr(" \t\r\n", buffer->data[buffer->len - 1]))
		buffer->data[--buffer->len] = '\0';
}

/* Says how it ended, with what it said itself. */
static void
describe(Job *job, int status)
{
	PQExpBuffer said = job->errors.len > 0 ? &job->errors : &job->output;
	size_t		skip = said->len > MAX_ERRORS ? said->len - MAX_ERRORS : 0;

	if (job->reason == STOP_TIMEOUT)
		appendPQExpBuffer(&job->error, "timed out after %.0f seconds",
						  now() - job->began);
	else if (job->reason == STOP_CANCELLED)
		appendPQExpBufferStr(&job->error, "cancelled");
	else if (WIFSIGNALED(status))
		appendPQExpBuffer(&job->error, "killed by signal %d", WTERMSIG(status));
	else
		appendPQExpBuffer(&job->error, "exit status %d", WEXITSTATUS(status));
	if (said->len > 0)
	{
		appendPQExpBufferStr(&job->error, ": ");
		append_text(&job->error, said->data + skip, said->len - skip);
	}
}

/* What becomes of the job: the table in the manual. */
static Verdict
judge(Job *job, int status)
{
	int			code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	job->retry_in = -1;
	if (job->reason == STOP_LOST)
		return VERDICT_NONE;
	if (code == EX_OK && job->reason != STOP_TIMEOUT)
		return VERDICT_DONE;
	if (job->reason == STOP_SHUTDOWN)
		return VERDICT_RELEASE;
	if (code == EX_DATAERR)
		return VERDICT_DEAD;
	if (code == EX_TEMPFAIL && job->output.len > 0)
	{
		char	   *end;
		double		seconds = strtod(job->output.data, &end);

		if (*end == '\0' && seconds >= 0 && seconds <= 365 * 86400.0)
			job->retry_in = seconds;
	}
	return VERDICT_RETRY;
}

/*
 * The process has ended, and was not waited for. What it started and left behind
 * in its group ends with it.
 */
void
handler_ended(Job *job)
{
	int			status = 0;
	size_t		before;

	(void) kill(-job->pid, SIGKILL);
	while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
		;
	job->pid = 0;
	do
	{
		before = job->output.len;
		if (job->out >= 0)
			read_output(job);
	} while (job->output.len > before);
	if (job->err >= 0)
		read_errors(job);
	close_end(&job->in);
	close_end(&job->out);
	close_end(&job->err);
	trim(&job->output);
	trim(&job->errors);
	job->ended = now();
	job->verdict = judge(job, status);
	if (job->verdict != VERDICT_DONE)
		describe(job, status);
	job->state = JOB_ENDED;
}

/* Makes room for another. */
void
handler_forget(Job *job)
{
	free(job->id);
	free(job->token);
	free(job->type);
	free(job->attempt);
	termPQExpBuffer(&job->input);
	termPQExpBuffer(&job->output);
	termPQExpBuffer(&job->errors);
	termPQExpBuffer(&job->error);
	memset(job, 0, sizeof(*job));
}
