/*
 * report.h
 *	  What the worker says on standard output: a line that shows how far it is, for
 *	  people, or a line of JSON for each event.
 */
#ifndef REPORT_H
#define REPORT_H

#include "handler.h"

typedef struct Report
{
	bool		progress;
	const char *queue;
	double		began;
	double		shown_at;
	unsigned long done;
	unsigned long retried;
	unsigned long dead;
	unsigned long released;
	unsigned long lost;
} Report;

extern void report_begin(Report *report, const Options *options);
extern void report_job(Report *report, const Job *job, const char *outcome);
extern void report_event(Report *report, const char *event, const char *text);
extern void report_progress(Report *report, int running, const char *state);
extern void report_end(Report *report);

#endif							/* REPORT_H */
