/*
 * turns.c
 *	  The worker's turns: see turns.h.
 *
 * One loop waits for whatever happens next: a handler reads, writes or ends, the
 * server answers, time passes, a signal comes. There are two connections. One
 * runs the statements of jobs, one after the other; the other one waits for work
 * by queue_wait() when a claim has found less than there is room for.
 *
 * Invariants:
 *	 A job that was claimed stays in its place until the server has answered what
 *	 became of it. An answer that got lost is asked for again: the lease token
 *	 makes sure that it counts once.
 *	 A handler whose lease is lost is stopped, and nothing is said of its job.
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "clock.h"
#include "database.h"
#include "handler.h"
#include "report.h"
#include "text.h"
#include "turns.h"

#define WAIT_SECONDS "30"		/* for work, at a time */
#define PAUSE 1					/* seconds, after a statement failed */
#define HEARTBEATS 3			/* in a lease */

#define CONNECTION_FDS 3		/* two connections, and signals */

/* what the first connection is busy with */
typedef enum Statement
{
	STATEMENT_NONE,
	STATEMENT_TURN,				/* completes jobs, and claims others */
	STATEMENT_END,				/* tells another verdict about one job */
	STATEMENT_HEARTBEAT
} Statement;

typedef struct Worker
{
	const Options *options;
	Report		report;
	Database	work;
	Database	wait;
	Job		   *jobs;			/* options->concurrency places */
	struct pollfd *polls;

	Statement	statement;
	int			asked;			/* jobs that the claim under way is for */
	bool		hungry;			/* there may be something to claim */
	bool		drained;		/* a claim found nothing, and no job runs */
	double		heartbeat_at;
	double		pause_until;	/* nothing is sent before */
	bool		stopping;
	double		give_up_at;		/* if the server cannot be reached, then */
	int			status;			/* to exit with */
} Worker;

/* Signals come through a pipe, so that the loop wakes. */
static int	signal_pipe[2];

static void
note_signal(int number)
{
	int			saved = errno;
	char		byte = (char) number;

	/* if it is full, the loop will wake anyway */
	if (write(signal_pipe[1], &byte, 1) < 0)
		errno = saved;
	errno = saved;
}

static void
catch_signals(void)
{
	static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT};
	struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};

	if (pipe(signal_pipe) != 0)
		abort();
	for (int i = 0; i < 2; i++)
	{
		(void) fcntl(signal_pipe[i], F_SETFD, FD_CLOEXEC);
		(void) fcntl(signal_pipe[i], F_SETFL, O_NONBLOCK);
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void) sigaction(numbers[i], &action, NULL);
	(void) signal(SIGPIPE, SIG_IGN);
}

static int
count_jobs(const Worker *worker, JobState state)
{
	int			count = 0;

	for (int i = 0; i < worker->options->concurrency; i++)
		count += worker->jobs[i].state == state;
	return count;
}

/* An array of a column of the jobs that were sent, or that run, as SQL has it. */
static void
append_array(const Worker *worker, JobState state, PQExpBuffer ids,
			 PQExpBuffer tokens)
{
	const char *comma = "";

	appendPQExpBufferChar(ids, '{');
	appendPQExpBufferChar(tokens, '{');
	for (int i = 0; i < worker->options->concurrency; i++)
	{
		const Job  *job = &worker->jobs[i];

		if (job->state != state)
			continue;
		appendPQExpBuffer(ids, "%s%s", comma, job->id);
		appendPQExpBuffer(tokens, "%s%s", comma, job->token);
		comma = ",";
	}
	appendPQExpBufferChar(ids, '}');
	appendPQExpBufferChar(tokens, '}');
}

/* The results of the jobs that were sent, as an array of JSON. */
static void
append_results(const Worker *worker, PQExpBuffer results)
{
	const char *comma = "";

	appendPQExpBufferChar(results, '[');
	for (int i = 0; i < worker->options->concurrency; i++)
	{
		const Job  *job = &worker->jobs[i];

		if (job->state != JOB_SENT)
			continue;
		appendPQExpBufferStr(results, comma);
		if (job->output.len == 0 || job->without_result)
			appendPQExpBufferStr(results, "null");
		else
			append_json(results, job->output.data, job->output.len);
		comma = ",";
	}
	appendPQExpBufferChar(results, ']');
}

#define RESULTS \
	"ARRAY(SELECT nullif(e, 'null') FROM jsonb_array_elements($3::jsonb)" \
	" WITH ORDINALITY r (e, i) ORDER BY i)"

/* Completes the jobs that are done, and claims as many as there is room for. */
static void
send_turn(Worker *worker)
{
	const Options *options = worker->options;
	PQExpBufferData ids;
	PQExpBufferData tokens;
	PQExpBufferData results;
	char		count[16];
	char		lease[32];
	const char *values[] = {NULL, NULL, NULL, options->queue, options->name,
	count, lease};

	initPQExpBuffer(&ids);
	initPQExpBuffer(&tokens);
	initPQExpBuffer(&results);
	for (int i = 0; i < options->concurrency; i++)
		if (worker->jobs[i].state == JOB_ENDED &&
			worker->jobs[i].verdict == VERDICT_DONE)
			worker->jobs[i].state = JOB_SENT;
	append_array(worker, JOB_SENT, &ids, &tokens);
	append_results(worker, &results);
	values[0] = ids.data;
	values[1] = tokens.data;
	values[2] = results.data;
	worker->asked = worker->stopping ? 0 :
		count_jobs(worker, JOB_NONE) + count_jobs(worker, JOB_SENT);
	(void) snprintf(count, sizeof(count), "%d", worker->asked);
	(void) snprintf(lease, sizeof(lease), "%d seconds", options->lease);
	if (worker->asked > 0)
		database_send(&worker->work,
					  "SELECT * FROM queue_complete_and_claim($4, $1::uuid[], $2::bigint[], "
					  RESULTS ", $5, $6::integer, $7::interval)", 7, values);
	else
		database_send(&worker->work,
					  "SELECT 'refused' AS kind, job_id FROM queue_complete_many($1::uuid[], $2::bigint[], "
					  RESULTS ") WHERE outcome = 'lost'", 3, values);
	worker->statement = STATEMENT_TURN;
	worker->hungry = false;
	termPQExpBuffer(&ids);
	termPQExpBuffer(&tokens);
	termPQExpBuffer(&results);
}

/* Tells another verdict than done. */
static void
send_end(Worker *worker, Job *job)
{
	char		retry_in[64];
	const char *values[] = {
		job->id, job->token, job->error.data, NULL,
		job->verdict == VERDICT_DEAD ? "true" : "false"
	};

	if (job->retry_in >= 0)
	{
		(void) snprintf(retry_in, sizeof(retry_in), "%.6f seconds", job->retry_in);
		values[3] = retry_in;
	}
	if (job->verdict == VERDICT_RELEASE)
		database_send(&worker->work,
					  "SELECT outcome FROM queue_release($1::uuid, $2::bigint)",
					  2, values);
	else
		database_send(&worker->work,
					  "SELECT outcome FROM queue_fail($1::uuid, $2::bigint, $3, $4::interval, $5::boolean)",
					  5, values);
	worker->statement = STATEMENT_END;
	job->state = JOB_SENT;
}

static void
send_heartbeat(Worker *worker)
{
	PQExpBufferData ids;
	PQExpBufferData tokens;
	char		lease[32];
	const char *values[3];

	initPQExpBuffer(&ids);
	initPQExpBuffer(&tokens);
	append_array(worker, JOB_RUNS, &ids, &tokens);
	(void) snprintf(lease, sizeof(lease), "%d seconds", worker->options->lease);
	values[0] = ids.data;
	values[1] = tokens.data;
	values[2] = lease;
	database_send(&worker->work,
				  "SELECT job_id, held, cancel_requested FROM queue_heartbeat_many($1::uuid[], $2::bigint[], $3::interval)",
				  3, values);
	worker->statement = STATEMENT_HEARTBEAT;
	worker->heartbeat_at = now() + (double) worker->options->lease / HEARTBEATS;
	termPQExpBuffer(&ids);
	termPQExpBuffer(&tokens);
}

/* A job that has ended, and whose verdict is not that it is done. */
static Job *
find_failed(Worker *worker)
{
	for (int i = 0; i < worker->options->concurrency; i++)
		if (worker->jobs[i].state == JOB_ENDED &&
			worker->jobs[i].verdict != VERDICT_DONE)
			return &worker->jobs[i];
	return NULL;
}

/* Sends what is most urgent, if the connection is free. */
static void
send_next(Worker *worker)
{
	Job		   *failed;
	int			room = count_jobs(worker, JOB_NONE);
	int			running = count_jobs(worker, JOB_RUNS);
	int			ended = count_jobs(worker, JOB_ENDED);

	if (worker->work.state != DB_IDLE || now() < worker->pause_until)
		return;
	if (running > 0 && now() >= worker->heartbeat_at)
		send_heartbeat(worker);
	else if ((failed = find_failed(worker)) != NULL)
		send_end(worker, failed);
	else if (ended > 0 || (worker->hungry && room > 0 && !worker->stopping))
		send_turn(worker);
}

/* Waits for work, if there is room for it, and none was found. */
static void
wait_for_work(Worker *worker)
{
	static const char *const seconds = WAIT_SECONDS;
	const char *values[] = {worker->options->queue, seconds};

	if (worker->wait.state == DB_IDLE && !worker->hungry && !worker->stopping &&
		!worker->options->drain && worker->statement != STATEMENT_TURN &&
		count_jobs(worker, JOB_NONE) > 0 && now() >= worker->pause_until)
		database_send(&worker->wait, "CALL queue_wait($1, $2::interval)", 2, values);
}

static Job *
find_job(Worker *worker, const char *id)
{
	for (int i = 0; i < worker->options->concurrency; i++)
		if (worker->jobs[i].state != JOB_NONE &&
			strcmp(worker->jobs[i].id, id) == 0)
			return &worker->jobs[i];
	return NULL;
}

static void
finish_job(Worker *worker, Job *job, const char *outcome)
{
	report_job(&worker->report, job, outcome);
	handler_forget(job);
}

static void
finish_sent(Worker *worker, const char *outcome)
{
	for (int i = 0; i < worker->options->concurrency; i++)
		if (worker->jobs[i].state == JOB_SENT)
			finish_job(worker, &worker->jobs[i], outcome);
}

static void
start_job(Worker *worker, PGresult *jobs, int row)
{
	for (int i = 0; i < worker->options->concurrency; i++)
		if (worker->jobs[i].state == JOB_NONE)
		{
			if (count_jobs(worker, JOB_RUNS) == 0)
				worker->heartbeat_at =
					now() + (double) worker->options->lease / HEARTBEATS;
			handler_start(&worker->jobs[i], worker->options, jobs, row);
			return;
		}
}

/* The answer to send_turn(): jobs that were lost, then those that were claimed. */
static void
take_turn(Worker *worker, PGresult *rows)
{
	int			claimed = 0;
	int			row;

	for (row = 0; row < PQntuples(rows) &&
		 strcmp(PQgetvalue(rows, row, 0), "refused") == 0; row++)
	{
		Job		   *job = find_job(worker, PQgetvalue(rows, row, 1));

		if (job != NULL)
			finish_job(worker, job, "lost");
	}
	finish_sent(worker, "done");
	for (; row < PQntuples(rows); row++, claimed++)
		start_job(worker, rows, row);
	worker->hungry = claimed == worker->asked;
	worker->drained = worker->options->drain && worker->asked > 0 && claimed == 0;
}

static void
take_heartbeat(Worker *worker, PGresult *rows)
{
	for (int row = 0; row < PQntuples(rows); row++)
	{
		Job		   *job = find_job(worker, PQgetvalue(rows, row, 0));

		if (job == NULL || job->state != JOB_RUNS)
			continue;
		if (strcmp(PQgetvalue(rows, row, 1), "f") == 0)
			handler_stop(job, STOP_LOST, worker->options->grace);
		else if (strcmp(PQgetvalue(rows, row, 2), "t") == 0)
			handler_stop(job, STOP_CANCELLED, worker->options->grace);
	}
}

/* What was sent was not answered: it is sent again. */
static void
send_again(Worker *worker)
{
	for (int i = 0; i < worker->options->concurrency; i++)
		if (worker->jobs[i].state == JOB_SENT)
			worker->jobs[i].state = JOB_ENDED;
	worker->statement = STATEMENT_NONE;
	worker->hungry = true;
}

/*
 * Whether an error is one that will go away: of the connection, of resources, of
 * others who do the same. All else is wrong with what we were told.
 */
static bool
is_passing(const char *sqlstate)
{
	static const char *const classes[] = {"08", "25", "40", "53", "55", "57", "58"};

	if (sqlstate == NULL)
		return true;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

static void
stop(Worker *worker)
{
	if (worker->stopping)
		return;
	worker->stopping = true;
	worker->give_up_at = now() + worker->options->grace;
	/* nobody needs to hear that there is work */
	database_end(&worker->wait);
}

static void
take_error(Worker *worker, PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	report_event(&worker->report, "error", message ? message : "no answer");
	if (sqlstate != NULL && strcmp(sqlstate, "QS022") == 0)
	{
		for (int i = 0; i < worker->options->concurrency; i++)
			if (worker->jobs[i].state == JOB_SENT)
				worker->jobs[i].without_result = true;
	}
	else if (is_passing(sqlstate))
		worker->pause_until = now() + PAUSE;
	else if (worker->stopping)
	{
		/* nothing more can be done for them */
		finish_sent(worker, "lost");
	}
	else
	{
		worker->status = EX_CONFIG;
		stop(worker);
	}
	send_again(worker);
}

/* The first connection has answered. */
static void
take_answer(Worker *worker)
{
	PGresult   *result = worker->work.result;
	Statement	statement = worker->statement;

	worker->statement = STATEMENT_NONE;
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		take_error(worker, result);
	else if (statement == STATEMENT_TURN)
		take_turn(worker, result);
	else if (statement == STATEMENT_HEARTBEAT)
		take_heartbeat(worker, result);
	else
		finish_sent(worker, PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "lost");
}

static void
step_connections(Worker *worker)
{
	char	   *error = NULL;

	switch (database_step(&worker->work, worker->polls[0].revents, &error))
	{
		case DB_RESULT:
			take_answer(worker);
			break;
		case DB_CONNECTED:
			report_event(&worker->report, "connected", "");
			worker->hungry = true;
			break;
		case DB_LOST:
			report_event(&worker->report, "disconnected", error);
			send_again(worker);
			break;
		case DB_NOTHING:
			break;
	}
	free(error);
	error = NULL;
	switch (database_step(&worker->wait, worker->polls[1].revents, &error))
	{
		case DB_RESULT:
			worker->hungry = true;
			if (PQresultStatus(worker->wait.result) != PGRES_COMMAND_OK)
				worker->pause_until = now() + PAUSE;
			break;
		case DB_LOST:
			worker->hungry = true;
			break;
		default:
			break;
	}
	free(error);
}

/* Finds the handlers that have ended. */
static void
reap(Worker *worker)
{
	siginfo_t	info;

	for (;;)
	{
		Job		   *job = NULL;

		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
			info.si_pid == 0)
			return;
		for (int i = 0; i < worker->options->concurrency && job == NULL; i++)
			if (worker->jobs[i].state == JOB_RUNS &&
				worker->jobs[i].pid == info.si_pid)
				job = &worker->jobs[i];
		if (job == NULL)
		{
			(void) waitpid(info.si_pid, NULL, 0);
			continue;
		}
		handler_ended(job);
		if (job->verdict == VERDICT_NONE)
			finish_job(worker, job, "lost");
	}
}

/* The first time nothing new is begun; the second time what runs is stopped. */
static void
shut_down(Worker *worker)
{
	if (!worker->stopping)
		report_event(&worker->report, "stopping", "waits for the handlers that run");
	else
		for (int i = 0; i < worker->options->concurrency; i++)
			if (worker->jobs[i].state == JOB_RUNS)
				handler_stop(&worker->jobs[i], STOP_SHUTDOWN, worker->options->grace);
	stop(worker);
}

static void
take_signals(Worker *worker)
{
	char		byte;

	while (read(signal_pipe[0], &byte, 1) == 1)
		if (byte == SIGCHLD)
			reap(worker);
		else
			shut_down(worker);
}

static void
step_handlers(Worker *worker)
{
	double		time = now();

	for (int i = 0; i < worker->options->concurrency; i++)
	{
		Job		   *job = &worker->jobs[i];

		if (job->state != JOB_RUNS)
			continue;
		handler_step(job, &worker->polls[CONNECTION_FDS + i * HANDLER_FDS]);
		if (time >= job->deadline)
			handler_stop(job, STOP_TIMEOUT, worker->options->grace);
		if (time >= job->kill_at)
			handler_kill(job);
	}
}

static bool
is_connected(const Worker *worker)
{
	return worker->work.state == DB_IDLE || worker->work.state == DB_BUSY;
}

/* Milliseconds until something is to be done without being told. */
static int
next_time(const Worker *worker)
{
	double		time = worker->options->progress ? now() + 1 : NEVER;

	if (worker->work.state == DB_DOWN)
		time = fmin(time, worker->work.retry_at);
	if (worker->wait.state == DB_DOWN)
		time = fmin(time, worker->wait.retry_at);
	if (worker->stopping && !is_connected(worker))
		time = fmin(time, worker->give_up_at);
	if (worker->pause_until > now())
		time = fmin(time, worker->pause_until);
	for (int i = 0; i < worker->options->concurrency; i++)
		if (worker->jobs[i].state == JOB_RUNS)
		{
			time = fmin(time, fmin(worker->jobs[i].deadline, worker->jobs[i].kill_at));
			if (worker->work.state == DB_IDLE)
				time = fmin(time, worker->heartbeat_at);
		}
	if (time == NEVER)
		return -1;
	return time <= now() ? 0 : (int) ceil(fmin(time - now(), 3600) * 1000);
}

static void
wait_for_anything(Worker *worker)
{
	int			count = CONNECTION_FDS;

	database_poll(&worker->work, &worker->polls[0]);
	database_poll(&worker->wait, &worker->polls[1]);
	worker->polls[2].fd = signal_pipe[0];
	worker->polls[2].events = POLLIN;
	worker->polls[2].revents = 0;
	for (int i = 0; i < worker->options->concurrency; i++, count += HANDLER_FDS)
		handler_poll(&worker->jobs[i], &worker->polls[count]);
	if (poll(worker->polls, count, next_time(worker)) < 0)
		for (int i = 0; i < count; i++)
			worker->polls[i].revents = 0;
}

static const char *
state_of(const Worker *worker)
{
	if (worker->stopping)
		return "stopping";
	if (!is_connected(worker))
		return "connecting";
	return worker->wait.state == DB_BUSY ? "waiting for work" : "working";
}

/*
 * Whether nothing is left to do, or to be done: jobs that the server does not hear
 * of are claimed again when their leases have run out.
 */
static bool
is_over(Worker *worker)
{
	if (worker->stopping && !is_connected(worker) &&
		now() >= worker->give_up_at && count_jobs(worker, JOB_RUNS) == 0)
	{
		worker->status = EX_UNAVAILABLE;
		return true;
	}
	return (worker->stopping || worker->drained) &&
		worker->statement == STATEMENT_NONE &&
		count_jobs(worker, JOB_NONE) == worker->options->concurrency;
}

/* Works until told to stop, or until all is drained. The status to exit with. */
int
work(const Options *options)
{
	Worker		worker = {.options = options};

	worker.jobs = pg_malloc0(options->concurrency * sizeof(Job));
	worker.polls = pg_malloc0((CONNECTION_FDS + options->concurrency * HANDLER_FDS) *
							  sizeof(struct pollfd));
	catch_signals();
	report_begin(&worker.report, options);
	database_begin(&worker.work, options);
	database_begin(&worker.wait, options);
	while (!is_over(&worker))
	{
		send_next(&worker);
		wait_for_work(&worker);
		report_progress(&worker.report, count_jobs(&worker, JOB_RUNS),
						state_of(&worker));
		wait_for_anything(&worker);
		take_signals(&worker);
		step_handlers(&worker);
		step_connections(&worker);
	}
	/* the server does not hear of these */
	for (int i = 0; i < options->concurrency; i++)
		if (worker.jobs[i].state != JOB_NONE)
			finish_job(&worker, &worker.jobs[i], "lost");
	report_end(&worker.report);
	database_end(&worker.work);
	database_end(&worker.wait);
	free(worker.jobs);
	free(worker.polls);
	return worker.status;
}
