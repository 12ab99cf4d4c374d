/*
 * check.c
 *	  Whether what clients were told can be true, given what is left.
 *
 * Every check is one-sided: where the order of two answers is not certain, or
 * the fate of a transaction is unknown, the benefit of the doubt is given. So
 * what is reported is wrong for certain.
 *
 * A weak answer may have been undone by the crash of its server. It holds for
 * answers of the same life of the server, and for later ones it is as unknown.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define MAX_SHOWN 3				/* examples of one kind of failure */

const char *const check_names[NCHECKS] = {
	"no acknowledged job is lost",
	"no job of a rolled back transaction is there",
	"no job is claimed while another lease holds",
	"no token is accepted after its lease was lost",
	"no lease is refused while it holds",
	"no job is completed twice, or claimed after it",
	"what was completed is complete",
	"every dead letter is kept",
	"one effect for each job completed with one",
	"one job for each idempotency key",
	"no claim returns more than it was asked for",
	"no prepared transaction is lost",
	"nothing is left unfinished",
	"no job has more attempts than it may",
	"only errors that are to be expected",
	"counters equal what there is",
	"indexes and tables are sound (amcheck)",
	"the server's log has no warning"
};

long		violations[NCHECKS];
bool		check_quietly = false;

/* Notes, and shows a few times, that a check failed. */
void
violate(Check check, const char *format,...)
{
	va_list		args;

	if (violations[check]++ >= MAX_SHOWN || check_quietly)
		return;
	va_start(args, format);
	printf("FAILED: %s: ", check_names[check]);
	vprintf(format, args);
	printf("\n");
	va_end(args);
}

/* What is left ------------------------------------------------------------- */

static Left *left;
static int	nleft;
static Id  *effects;
static int	neffects;

/* Takes over what is left, in the order of ids. */
void
check_set_left(Left *new_left, int new_nleft, Id *new_effects, int new_neffects)
{
	left = new_left;
	nleft = new_nleft;
	effects = new_effects;
	neffects = new_neffects;
}

static int
compare_left(const void *a, const void *b)
{
	return compare_ids(&((const Left *) a)->job, &((const Left *) b)->job);
}

static int
compare_effects(const void *a, const void *b)
{
	return compare_ids(a, b);
}

static PGresult *
must(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "%s%s\n", PQerrorMessage(conn), sql);
		exit(1);
	}
	return result;
}

static void
load(PGconn *conn)
{
	PGresult   *result =
	must(conn, "SELECT id, CASE WHEN finished_at IS NULL THEN 1"
		 " WHEN status = 'completed' THEN 2 ELSE 3 END, NULL::uuid"
		 " FROM (SELECT id, finished_at, status FROM jobs"
		 " UNION ALL SELECT id, finished_at, status FROM critical_jobs) j"
		 " UNION ALL SELECT id, 4, redriven_as FROM dead_letter_jobs");

	nleft = PQntuples(result);
	left = calloc(nleft + 1, sizeof(Left));
	for (int i = 0; i < nleft; i++)
	{
		parse_id(PQgetvalue(result, i, 0), &left[i].job);
		left[i].where = (Where) atoi(PQgetvalue(result, i, 1));
		left[i].redriven = !PQgetisnull(result, i, 2);
		if (left[i].redriven)
			parse_id(PQgetvalue(result, i, 2), &left[i].redriven_as);
	}
	PQclear(result);
	qsort(left, nleft, sizeof(Left), compare_left);
	for (int i = 1; i < nleft; i++)
		if (compare_ids(&left[i - 1].job, &left[i].job) == 0)
		{
			char		id[37];

			format_id(left[i].job, id);
			violate(CHECK_LETTER, "job %s is in two tables", id);
		}

	result = must(conn, "SELECT job_id FROM effects");
	neffects = PQntuples(result);
	effects = calloc(neffects + 1, sizeof(Id));
	for (int i = 0; i < neffects; i++)
		parse_id(PQgetvalue(result, i, 0), &effects[i]);
	PQclear(result);
	qsort(effects, neffects, sizeof(Id), compare_effects);
}

static Left *
find_left(Id job)
{
	Left		key = {.job = job};

	return bsearch(&key, left, nleft, sizeof(Left), compare_left);
}

static bool
has_effect(Id job)
{
	return bsearch(&job, effects, neffects, sizeof(Id), compare_effects) != NULL;
}

/* The events of one job ---------------------------------------------------- */

typedef struct Job
{
	Event	   *events;
	int			count;
	char		id[37];
	Where		where;
	bool		expected;		/* its enqueue was acknowledged */
} Job;

static bool
done(const Event *event)
{
	return event->fate == FATE_COMMITTED;
}

static bool
maybe_done(const Event *event)
{
	return event->fate == FATE_COMMITTED || event->fate == FATE_UNKNOWN;
}

/* Whether it is committed, and will be whatever crashes. */
static bool
kept(const Event *event)
{
	return done(event) && !event->weak;
}

/* Whether event is committed as seen by another answer. */
static bool
stands(const Event *event, const Event *seen_by)
{
	return done(event) && (!event->weak || seen_by->server <= event->server);
}

static int
count_events(const Job *job, Op op, bool (*counts) (const Event *))
{
	int			n = 0;

	for (int i = 0; i < job->count; i++)
		n += job->events[i].op == op && counts(&job->events[i]);
	return n;
}

/* Whether the event ends the lease of its token, or takes all leases away. */
static bool
ends_lease(const Event *event, const Event *claim)
{
	if (event->op == OP_RETRIED || event->op == OP_REOPENED)
		return true;
	return event->token == claim->token &&
		(event->op == OP_DONE || event->op == OP_GIVEN_BACK ||
		 event->op == OP_DIED || event->op == OP_CANCELLED);
}

/* Whether the event could only succeed while the lease of its token was held. */
static bool
proves_lease(const Event *event)
{
	return event->token != 0 && event->op != OP_CLAIMED && event->op != OP_REFUSED;
}

/* Whether both are committed, and neither was undone before the other. */
static bool
both_stand(const Event *a, const Event *b)
{
	return stands(a, b) && stands(b, a);
}

/* Until when a lease held for certain, as seen by another claim. */
static int64_t
certain_end(const Job *job, const Event *claim, const Event *seen_by)
{
	int64_t		until = claim->until;
	int64_t		proved = 0;

	for (int i = 0; i < job->count; i++)
	{
		const Event *event = &job->events[i];

		if (event->op == OP_HELD && event->token == claim->token &&
			both_stand(event, seen_by) && event->until > until)
			until = event->until;
	}
	for (int i = 0; i < job->count; i++)
	{
		const Event *event = &job->events[i];

		if (maybe_done(event) &&
			(ends_lease(event, claim) ||
			 (event->op == OP_CUT && event->token == claim->token)) &&
			event->end > claim->start && event->start < until)
			until = event->start;
		if (both_stand(event, seen_by) && event->token == claim->token &&
			proves_lease(event) && event->start > proved)
			proved = event->start;
	}
	return until > proved ? until : proved;
}

static void
check_claims(const Job *job)
{
	for (int i = 0; i < job->count; i++)
	{
		const Event *claim = &job->events[i];

		if (claim->op != OP_CLAIMED || !done(claim))
			continue;
		for (int j = 0; j < job->count; j++)
		{
			const Event *other = &job->events[j];
			int64_t		until;

			/* the other one was second, or whichever was would be wrong */
			if (j == i || other->op != OP_CLAIMED || !both_stand(claim, other) ||
				(claim->end >= other->start &&
				 (i > j || other->start > claim->end || claim->start > other->end)))
				continue;
			until = certain_end(job, claim, other);
			if (other->end < until &&
				(claim->end < other->start ||
				 claim->end < certain_end(job, other, claim)))
				violate(CHECK_DOUBLE_CLAIM, "job %s, by client %d and %.3f s"
						" later by client %d, %.3f s before the lease ended",
						job->id, claim->client, (other->end - claim->end) / 1e6,
						other->client, (until - other->end) / 1e6);
		}
	}
}

static const Event *
find_claim(const Job *job, int64_t token)
{
	for (int i = 0; i < job->count; i++)
		if (job->events[i].op == OP_CLAIMED && job->events[i].token == token)
			return &job->events[i];
	return NULL;
}

/* What must be known when the token of a claim is shown. */
static void
check_tokens(const Job *job)
{
	for (int i = 0; i < job->count; i++)
	{
		const Event *event = &job->events[i];
		const Event *claim = event->token && event->op != OP_CLAIMED ?
		find_claim(job, event->token) : NULL;
		bool		may_end = false;
		bool		redriven = true;
		int64_t		until;

		if (claim == NULL)
			continue;
		until = claim->until;
		for (int j = 0; j < job->count; j++)
		{
			const Event *other = &job->events[j];
			bool		takes = ends_lease(other, claim) ||
			(other->op == OP_CLAIMED && other->token != claim->token);
			bool		cuts = other->op == OP_CUT && other->token == claim->token;

			/* who claims what he makes, and prepares that, cannot see it for a while */
			if (other->op == OP_ENQUEUED && other->prepared)
				may_end = true;
			if (other->op == OP_ENQUEUED)
				redriven = false;
			if (j == i || (!takes && !cuts && other->op != OP_HELD))
				continue;
			if (other->op == OP_HELD)
			{
				if (stands(other, event) && other->token == claim->token &&
					other->end < event->start && other->until > until)
					until = other->until;
				continue;
			}
			/* an open block of the same client may end it, and be undone later */
			if (other->end > claim->start && other->start < event->end &&
				(maybe_done(other) || other->client == event->client))
				may_end = true;
			if (takes && proves_lease(event) && done(event) && stands(other, event) &&
				other->start > claim->end && other->end < event->start)
				violate(CHECK_STALE, "job %s, %s of client %d, %.3f s after: %s",
						job->id, op_names[event->op], event->client,
						(event->start - other->end) / 1e6, op_names[other->op]);
		}
		/* a redrive makes a job too, of which only the claim may tell */
		if (redriven && claim->prepared)
			may_end = true;
		if (event->op == OP_REFUSED && stands(claim, event) && !may_end &&
			event->end < until && claim->end < event->start)
			violate(CHECK_REFUSED, "job %s, client %d, %.3f s before the lease ended",
					job->id, event->client, (until - event->end) / 1e6);
	}
}

/* Whether the job may have been opened again after it was completed. */
static bool
is_reopened(const Job *job, const Event *completed)
{
	for (int i = 0; i < job->count; i++)
		if (job->events[i].op == OP_REOPENED && maybe_done(&job->events[i]) &&
			job->events[i].end > completed->start)
			return true;
	return false;
}

static void
check_completion(const Job *job)
{
	for (int i = 0; i < job->count; i++)
	{
		const Event *completed = &job->events[i];
		Where		where;

		if (completed->op != OP_DONE || !done(completed) || is_reopened(job, completed))
			continue;
		for (int j = 0; j < job->count; j++)
		{
			const Event *other = &job->events[j];

			if (j > i && other->op == OP_DONE && both_stand(completed, other))
				violate(CHECK_TWICE, "job %s, by clients %d and %d", job->id,
						completed->client, other->client);
			if (other->op == OP_CLAIMED && other->start > completed->end &&
				done(other) && stands(completed, other))
				violate(CHECK_TWICE, "job %s was claimed %.3f s after it was completed",
						job->id, (other->start - completed->end) / 1e6);
		}
		where = completed->by_hand || kinds[completed->queue % NKINDS].keeps ?
			COMPLETED : GONE;
		/* the server's worker deletes what is older than the queue keeps it */
		if (job->where == GONE && !kinds[completed->queue % NKINDS].keeps)
			where = GONE;
		if (kept(completed) && job->where != where)
			violate(CHECK_UNDONE, "job %s was completed by client %d in queue \"%s\", and is %s",
					job->id, completed->client, kinds[completed->queue % NKINDS].name,
					job->where == GONE ? "gone" : job->where == UNFINISHED ? "unfinished" :
					job->where == DEAD ? "dead" : job->where == FAILED ? "failed" : "kept");
	}
}

static void
check_effect(const Job *job)
{
	bool		effect = false;
	bool		certain = false;

	for (int i = 0; i < job->count; i++)
		if (job->events[i].op == OP_DONE && job->events[i].effect)
		{
			effect |= maybe_done(&job->events[i]);
			certain |= kept(&job->events[i]);
		}
	if (certain && !has_effect(job->events[0].job))
		violate(CHECK_EFFECT, "job %s was completed without its effect", job->id);
	if (!effect && has_effect(job->events[0].job))
		violate(CHECK_EFFECT, "job %s was not completed, and has an effect", job->id);
}

/* Where a job is whose enqueue was acknowledged, or undone. */
static void
check_place(const Job *job)
{
	const Event *enqueued = NULL;
	int			completed = count_events(job, OP_DONE, maybe_done);
	int			cancelled = count_events(job, OP_CANCELLED, maybe_done) +
	count_events(job, OP_CANCEL_REQUESTED, maybe_done);
	int			queue = -1;

	for (int i = 0; i < job->count; i++)
	{
		if (job->events[i].op == OP_ENQUEUED)
			enqueued = &job->events[i];
		if (job->events[i].op == OP_ENQUEUED || job->events[i].op == OP_CLAIMED)
			queue = job->events[i].queue;
	}
	if (enqueued != NULL && enqueued->fate == FATE_ABORTED &&
		(job->where != GONE || count_events(job, OP_CLAIMED, done) > 0))
		violate(CHECK_GHOST, "job %s of client %d", job->id, enqueued->client);
	if (job->where == GONE &&
		(job->expected || (enqueued != NULL && kept(enqueued)) ||
		 count_events(job, OP_CLAIMED, kept) > 0) &&
		((queue >= 0 && kinds[queue % NKINDS].keeps) || completed + cancelled == 0))
		violate(CHECK_LOST, "job %s%s", job->id,
				count_events(job, OP_DIED, maybe_done) ? ", which died" :
				count_events(job, OP_CLAIMED, maybe_done) ? ", which was claimed" : "");
	if (job->where == COMPLETED && completed == 0)
		violate(CHECK_UNDONE, "job %s is completed by nobody", job->id);
	for (int i = 0; i < job->count; i++)
		if (job->events[i].op == OP_DIED && kept(&job->events[i]) &&
			kinds[job->events[i].queue % NKINDS].dead_letters && job->where != DEAD)
			violate(CHECK_LETTER, "job %s, of client %d", job->id,
					job->events[i].client);
}

static int
compare_events(const void *a, const void *b)
{
	const Event *x = a;
	const Event *y = b;
	int			by_id = compare_ids(&x->job, &y->job);

	if (by_id != 0)
		return by_id;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* By tenant, queue and key; keys of critical jobs, below 0, are the tenant's. */
static int
compare_keys(const void *a, const void *b)
{
	const Event *x = a;
	const Event *y = b;

	if (x->tenant != y->tenant)
		return x->tenant - y->tenant;
	if (x->key != y->key)
		return x->key - y->key;
	return x->key < 0 ? 0 : x->queue - y->queue;
}

static void
check_keys(Event *events, size_t count)
{
	Event	   *last = NULL;

	qsort(events, count, sizeof(Event), compare_keys);
	for (size_t i = 0; i < count; i++)
	{
		if (events[i].op != OP_ENQUEUED || events[i].key == 0 || !kept(&events[i]))
			continue;
		if (last != NULL && compare_keys(last, &events[i]) == 0)
			violate(CHECK_KEY, "key %d of tenant %d, by clients %d and %d",
					events[i].key, events[i].tenant, last->client, events[i].client);
		last = &events[i];
	}
}

/* The answers of one claim stand together, before events are sorted. */
static void
check_asked(const Event *events, size_t count)
{
	int			n = 0;

	for (size_t i = 0; i < count; i++)
	{
		if (events[i].op != OP_CLAIMED)
			continue;
		n = i > 0 && events[i - 1].op == OP_CLAIMED &&
			events[i - 1].client == events[i].client &&
			events[i - 1].start == events[i].start ? n + 1 : 1;
		if (n > events[i].asked)
			violate(CHECK_ASKED, "client %d asked for %d", events[i].client,
					events[i].asked);
	}
}

static long
count_violations(void)
{
	long		count = 0;

	for (int i = 0; i < NCHECKS; i++)
		count += violations[i];
	return count;
}

/* Tells all that is known of a job, times from its first answer on. */
static void
show_job(const Job *job)
{
	static const char *const fates[] = {"open", "", "rolled back", "unknown", "prepared"};

	for (int i = 0; i < job->count; i++)
	{
		const Event *event = &job->events[i];

		printf("    %9.6f to %9.6f  client %d, server %d: %s, token %lld, until %.6f%s%s%s %s\n",
			   (event->start - job->events[0].start) / 1e6,
			   (event->end - job->events[0].start) / 1e6, event->client, event->server,
			   op_names[event->op], (long long) event->token,
			   event->until ? (event->until - job->events[0].start) / 1e6 : 0,
			   event->by_hand ? ", by hand" : "", event->weak ? ", weak" : "",
			   event->prepared ? ", prepared" : "", fates[event->fate]);
	}
}

static void
check_jobs(Event *events, size_t count)
{
	int			shown = 0;
	size_t		next;

	qsort(events, count, sizeof(Event), compare_events);
	for (size_t i = 0; i < count; i = next)
	{
		Job			job = {.events = &events[i]};
		Left	   *found = find_left(events[i].job);
		long		before = count_violations();

		for (next = i; next < count &&
			 compare_ids(&events[i].job, &events[next].job) == 0; next++)
			;
		job.count = (int) (next - i);
		job.where = found ? found->where : GONE;
		format_id(events[i].job, job.id);
		check_claims(&job);
		check_tokens(&job);
		check_completion(&job);
		check_effect(&job);
		check_place(&job);
		if (count_violations() > before && !check_quietly && shown++ < MAX_SHOWN)
			show_job(&job);
	}

	/* a dead letter that was sent back is a job again */
	for (int i = 0; i < nleft; i++)
	{
		Event		key = {.job = left[i].redriven_as};
		size_t		low = 0;
		size_t		high = count;
		Job			job = {.expected = true};

		if (!left[i].redriven || find_left(left[i].redriven_as) != NULL)
			continue;
		while (low < high)
		{
			size_t		middle = (low + high) / 2;

			if (compare_ids(&events[middle].job, &key.job) < 0)
				low = middle + 1;
			else
				high = middle;
		}
		job.events = &events[low];
		while (low + job.count < count &&
			   compare_ids(&events[low + job.count].job, &key.job) == 0)
			job.count++;
		format_id(key.job, job.id);
		check_place(&job);
	}
}

/* Checks a history, given what is left; changes its order. */
void
check_history(Event *events, size_t count)
{
	check_asked(events, count);
	check_jobs(events, count);
	check_keys(events, count);
}

/* The server --------------------------------------------------------------- */

static void
check_queries(PGconn *conn)
{
	PGresult   *result;

	for (int i = 0; i < nleft; i++)
		if (left[i].where == UNFINISHED)
		{
			char		id[37];

			format_id(left[i].job, id);
			violate(CHECK_STUCK, "job %s", id);
		}
	result = must(conn, "SELECT id, attempts, max_attempts FROM jobs WHERE attempts > max_attempts"
				  " UNION ALL SELECT id, attempts, max_attempts FROM critical_jobs WHERE attempts > max_attempts"
				  " UNION ALL SELECT id, attempts, max_attempts FROM dead_letter_jobs WHERE attempts > max_attempts");
	for (int i = 0; i < PQntuples(result); i++)
		violate(CHECK_ATTEMPTS, "job %s has %s of %s", PQgetvalue(result, i, 0),
				PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
	PQclear(result);

	for (int i = 0; i < nerror_counts; i++)
		if (!error_counts[i].expected)
			violate(CHECK_ERRORS, "%ld of SQLSTATE %s: %s", error_counts[i].count,
					error_counts[i].state, error_counts[i].message);
}

#define OURS " FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid" \
	" AND e.extname = 'queue_service' JOIN pg_class t ON t.oid = d.objid" \
	" AND t.relkind = 'r'"

static void
check_pages(PGconn *conn)
{
	PGresult   *result;
	PGresult   *indexes;

	result = must(conn, "SELECT t.relname, h.blkno, h.msg" OURS
				  " , LATERAL verify_heapam(t.oid) h");
	for (int i = 0; i < PQntuples(result); i++)
		violate(CHECK_AMCHECK, "table %s, block %s: %s", PQgetvalue(result, i, 0),
				PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
	PQclear(result);
	indexes = must(conn, "SELECT i.indexrelid::regclass" OURS
				   " JOIN pg_index i ON i.indrelid = t.oid AND i.indisvalid");
	for (int i = 0; i < PQntuples(indexes); i++)
	{
		char		sql[300];

		snprintf(sql, sizeof(sql), "SELECT bt_index_check('%s', heapallindexed => true)",
				 PQgetvalue(indexes, i, 0));
		result = PQexec(conn, sql);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			violate(CHECK_AMCHECK, "index %s: %s", PQgetvalue(indexes, i, 0),
					PQerrorMessage(conn));
		PQclear(result);
	}
	PQclear(indexes);
}

static void
check_log(const char *log_file)
{
	static const char *const bad[] = {
		"PANIC:", "FATAL:", "WARNING:", "TRAP:", "unexpected", " XX0",
		"was terminated by signal"
	};
	static const char *const harmless[] = {
		"terminating connection due to administrator command",
		"terminating autovacuum process due to administrator command",
		"terminating connection because of crash of another server process",
		"terminating connection due to immediate shutdown command",
		"terminating connection due to unexpected postmaster exit",
		"the database system is starting up",
		"the database system is in recovery mode",
		"the database system is shutting down",
		"the database system is not yet accepting connections",
		"could not send data to client",
		"could not send signal to process",	/* it was gone as well */
		"unexpected pageaddr",	/* where the WAL ends */
		"cannot reindex invalid index",	/* which a crash left behind */
		"skipping reindex of invalid index",	/* the same, since 18 */
		"is not a PostgreSQL backend process"	/* it was gone when it was to be killed */
	};
	FILE	   *file = fopen(log_file, "r");
	char		line[4096];
	long		killed = 0;

	if (file == NULL)
	{
		violate(CHECK_LOG, "\"%s\" cannot be read", log_file);
		return;
	}
	while (fgets(line, sizeof(line), file) != NULL)
	{
		bool		is_bad = false;

		for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
			is_bad |= strstr(line, bad[i]) != NULL;
		for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++)
			is_bad &= strstr(line, harmless[i]) == NULL;
		is_bad &= !listed("STRESS_LOG_EXPECT", line);
		/* we did that, if not more often than we did */
		if (strstr(line, "was terminated by signal 9") != NULL &&
			++killed <= disturbances.killed)
			is_bad = false;
		if (is_bad)
		{
			line[strcspn(line, "\n")] = '\0';
			violate(CHECK_LOG, "%s", line);
		}
	}
	fclose(file);
}

/* Checks everything, and prints a line for each check. */
void
check_all(PGconn *conn, Client *clients, int nclients, const char *log_file,
		  int *passed, int *failed)
{
	Event	   *events;
	size_t		count = 0;

	for (int i = 0; i < nclients; i++)
		count += clients[i].history.count;
	events = malloc((count + 1) * sizeof(Event));
	count = 0;
	for (int i = 0; i < nclients; i++)
	{
		memcpy(events + count, clients[i].history.events,
			   clients[i].history.count * sizeof(Event));
		count += clients[i].history.count;
	}

	load(conn);
	check_history(events, count);
	if (prepared_lost() > 0)
		violate(CHECK_PREPARED, "%ld", prepared_lost());
	check_queries(conn);
	check_pages(conn);
	if (log_file != NULL)
		check_log(log_file);

	printf("\n");
	for (int i = 0; i < NCHECKS; i++)
	{
		if (i == CHECK_LOG && log_file == NULL)
			continue;
		if (violations[i] > 0)
			printf("%-52s FAILED (%ld)\n", check_names[i], violations[i]);
		else
			printf("%-52s ok\n", check_names[i]);
		*(violations[i] > 0 ? failed : passed) += 1;
	}
	free(events);
}
