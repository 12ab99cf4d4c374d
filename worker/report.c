/*
 * report.c
 *	  What the worker says on standard output: see report.h.
 */
#include "postgres_fe.h"

#include <sys/time.h>

#include "clock.h"
#include "report.h"
#include "text.h"

#define SHOW_EVERY 0.25			/* seconds */

void
report_begin(Report *report, const Options *options)
{
	memset(report, 0, sizeof(*report));
	report->progress = options->progress;
	report->queue = options->queue;
	report->began = now();
}

/* Begins a line of JSON with the time and what happened. */
static void
begin_line(PQExpBuffer line, const char *event)
{
	struct timeval time;
	struct tm	utc;
	char		text[32];

	initPQExpBuffer(line);
	(void) gettimeofday(&time, NULL);
	(void) gmtime_r(&time.tv_sec, &utc);
	(void) strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	appendPQExpBuffer(line, "{\"time\": \"%s.%03dZ\", \"event\": \"%s\"", text,
					  (int) (time.tv_usec / 1000), event);
}

static void
add_member(PQExpBuffer line, const char *name, const char *value)
{
	appendPQExpBuffer(line, ", \"%s\": ", name);
	append_json(line, value, strlen(value));
}

static void
end_line(PQExpBuffer line)
{
	(void) printf("%s}\n", line->data);
	(void) fflush(stdout);
	termPQExpBuffer(line);
}

static void
count(Report *report, const char *outcome)
{
	if (strcmp(outcome, "done") == 0)
		report->done++;
	else if (strcmp(outcome, "retry") == 0)
		report->retried++;
	else if (strcmp(outcome, "released") == 0)
		report->released++;
	else if (strcmp(outcome, "lost") == 0)
		report->lost++;
	else
		report->dead++;			/* or cancelled */
}

/* The server knows what became of a job; or it was not ours any more. */
void
report_job(Report *report, const Job *job, const char *outcome)
{
	PQExpBufferData line;

	count(report, outcome);
	if (report->progress)
		return;
	begin_line(&line, outcome);
	add_member(&line, "job", job->id);
	add_member(&line, "type", job->type);
	appendPQExpBuffer(&line, ", \"attempt\": %s, \"seconds\": %.3f", job->attempt,
					  job->ended - job->began);
	if (job->error.len > 0)
		add_member(&line, "error", job->error.data);
	end_line(&line);
}

/* What is not about a job. */
void
report_event(Report *report, const char *event, const char *text)
{
	PQExpBufferData line;

	if (report->progress)
	{
		/* in place of the line that shows how far it is */
		(void) printf("\r\033[K%s%s%s\n", event, text[0] != '\0' ? ": " : "", text);
		(void) fflush(stdout);
		return;
	}
	begin_line(&line, event);
	if (text[0] != '\0')
		add_member(&line, "text", text);
	end_line(&line);
}

static void
show(const Report *report, int running, const char *state)
{
	(void) printf("\r\033[K%s: %d running, %lu done, %lu to be retried, %lu failed for good",
				  report->queue, running, report->done, report->retried,
				  report->dead);
	if (report->released + report->lost > 0)
		(void) printf(", %lu given up", report->released + report->lost);
	(void) printf("; %.1f/s, %s", report->done / (now() - report->began), state);
	(void) fflush(stdout);
}

void
report_progress(Report *report, int running, const char *state)
{
	if (!report->progress || now() - report->shown_at < SHOW_EVERY)
		return;
	report->shown_at = now();
	show(report, running, state);
}

void
report_end(Report *report)
{
	PQExpBufferData line;

	if (report->progress)
	{
		show(report, 0, "stopped");
		(void) printf("\n");
		return;
	}
	begin_line(&line, "stopped");
	appendPQExpBuffer(&line, ", \"done\": %lu, \"retried\": %lu, \"dead\": %lu, \"released\": %lu, \"lost\": %lu",
					  report->done, report->retried, report->dead,
					  report->released, report->lost);
	end_line(&line);
}
