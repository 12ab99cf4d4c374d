/* queue_service--1.0.sql
 *
 *  1  loading guard
 *  2  functions that the tables need
 *  3  tenants
 *  4  tables: queues, jobs, critical_jobs, dead_letter_jobs, idempotency_keys,
 *     schedules, rate_limiters, rate_limits, queue_metrics, alert_history
 *  5  triggers
 *  6  seeds
 *  7  functions: queues, produce, schedules, consume, repair, limits, look,
 *     operate
 *  8  a table tenants that is created later
 *  9  privileges
 */

-- 1  loading guard ------------------------------------------------------------

\echo Use "CREATE EXTENSION queue_service" to load this file. \quit

-- 2  functions that the tables need -------------------------------------------

CREATE FUNCTION @extschema@.queue_new_id()
RETURNS uuid
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'queue_new_id';
COMMENT ON FUNCTION @extschema@.queue_new_id() IS
'A new UUID version 7: ordered by time, and strictly increasing within a session.';

CREATE FUNCTION @extschema@.queue_tenant()
RETURNS uuid
LANGUAGE c STABLE STRICT PARALLEL SAFE LEAKPROOF
AS 'MODULE_PATHNAME', 'queue_tenant';
COMMENT ON FUNCTION @extschema@.queue_tenant() IS
'The tenant in app.current_tenant; NULL if that is unset or not a uuid in its canonical lower-case form.';

-- 3  tenants ------------------------------------------------------------------

CREATE FUNCTION @extschema@._queue_tenants_fault()
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
	SELECT CASE
		WHEN c.oid IS NULL THEN 'It does not exist.'
		WHEN c.relkind NOT IN ('r', 'p') THEN 'It is not a table.'
		WHEN c.relpersistence <> 'p' THEN 'It is not a permanent table.'
		WHEN a.attnum IS NULL THEN 'It has no column "id" of type uuid.'
		WHEN NOT EXISTS (
			SELECT FROM pg_index i
			WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
			AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL)
		THEN 'It has no primary key or unique constraint on its column "id" alone.'
		END
	FROM (VALUES (to_regclass('@extschema@.tenants'))) AS tenants (oid)
	LEFT JOIN pg_class c ON c.oid = tenants.oid
	LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND a.atttypid = 'uuid'::regtype
$function$;
COMMENT ON FUNCTION @extschema@._queue_tenants_fault() IS
'Why foreign keys cannot refer to tenants.id; NULL if they can.';

-- A table tenants that is there already is the one to refer to.
DO $do$
DECLARE
	fault text := @extschema@._queue_tenants_fault();
BEGIN
	IF to_regclass('@extschema@.tenants') IS NOT NULL THEN
		IF fault IS NOT NULL THEN
			RAISE EXCEPTION 'cannot refer to "%.tenants" as the table of tenants', '@extschema@'
				USING ERRCODE = 'QS040', DETAIL = fault,
				HINT = 'queue_service refers to a table tenants that is in its schema by a column id of type uuid with a primary key or unique constraint. Mend the table, or choose another schema with CREATE EXTENSION queue_service SCHEMA.';
		END IF;
	ELSE
		CREATE TABLE @extschema@.tenants (
			id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
			name text,
			created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
			CONSTRAINT tenants_pkey PRIMARY KEY (id)
		);
		COMMENT ON TABLE @extschema@.tenants IS
		'The tenants. Brought by queue_service; gives way to a table tenants of your own while it is empty.';
		COMMENT ON COLUMN @extschema@.tenants.id IS 'What app.current_tenant is set to.';
		COMMENT ON COLUMN @extschema@.tenants.name IS 'For people; queue_service does not read it.';
		COMMENT ON COLUMN @extschema@.tenants.created_at IS 'When the tenant was added.';
		PERFORM pg_catalog.pg_extension_config_dump('@extschema@.tenants', '');
	END IF;
END
$do$;

-- 4  tables -------------------------------------------------------------------

-- queues: definition, configuration and a snapshot of the statistics
--
-- fillfactor: statistics are written by HOT updates, for which there is room on
-- the page also while a long transaction forbids to prune it.
CREATE TABLE @extschema@.queues (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	name text NOT NULL,
	description text,
	paused boolean NOT NULL DEFAULT false,
	max_attempts integer NOT NULL DEFAULT 3,
	default_lease interval NOT NULL DEFAULT '1 minute',
	backoff_base interval NOT NULL DEFAULT '5 seconds',
	backoff_factor double precision NOT NULL DEFAULT 2,
	backoff_max interval NOT NULL DEFAULT '1 hour',
	backoff_jitter double precision NOT NULL DEFAULT 0.2,
	keep_completed interval NOT NULL DEFAULT '1 day',
	keep_dead interval NOT NULL DEFAULT '30 days',
	dead_letters boolean NOT NULL DEFAULT true,
	max_depth bigint,
	max_payload integer,
	max_concurrency integer,
	critical_reserve integer NOT NULL DEFAULT 0,
	rate_limiter text,
	enqueue_limiter text,
	weight integer NOT NULL DEFAULT 1,
	ageing interval,
	group_concurrency integer,
	group_on_failure text NOT NULL DEFAULT 'block',
	alert_depth bigint,
	alert_age interval,
	alert_dead bigint,
	config jsonb NOT NULL DEFAULT '{}',
	depth bigint NOT NULL DEFAULT 0,
	delayed bigint NOT NULL DEFAULT 0,
	processing bigint NOT NULL DEFAULT 0,
	oldest_claimable_at timestamptz,
	enqueued_total bigint NOT NULL DEFAULT 0,
	claimed_total bigint NOT NULL DEFAULT 0,
	completed_total bigint NOT NULL DEFAULT 0,
	failed_total bigint NOT NULL DEFAULT 0,
	dead_total bigint NOT NULL DEFAULT 0,
	cancelled_total bigint NOT NULL DEFAULT 0,
	statistics_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT queues_pkey PRIMARY KEY (id),
	CONSTRAINT queues_tenant_id_id_key UNIQUE (tenant_id, id),
	CONSTRAINT queues_tenant_id_name_key UNIQUE (tenant_id, name),
	CONSTRAINT queues_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT name_valid CHECK (name <> '' AND octet_length(name) <= 128),
	CONSTRAINT max_attempts_valid CHECK (max_attempts BETWEEN 1 AND 1000),
	CONSTRAINT default_lease_valid CHECK (default_lease > '0' AND default_lease <= '365 days'),
	CONSTRAINT backoff_valid CHECK (backoff_base >= '0' AND backoff_max >= '0' AND backoff_max <= '365 days'
		AND backoff_base <= '365 days' AND backoff_factor BETWEEN 1 AND 100 AND backoff_jitter BETWEEN 0 AND 1),
	CONSTRAINT keep_valid CHECK (keep_completed >= '0' AND keep_dead >= '0'),
	CONSTRAINT limits_valid CHECK (max_depth > 0 AND max_payload > 0 AND max_concurrency > 0 AND octet_length(rate_limiter) BETWEEN 1 AND 128
		AND octet_length(enqueue_limiter) BETWEEN 1 AND 128
		AND critical_reserve >= 0 AND weight BETWEEN 1 AND 1000 AND ageing > '0' AND ageing <= '365 days' AND group_concurrency > 0),
	CONSTRAINT group_on_failure_valid CHECK (group_on_failure IN ('block', 'pass')),
	CONSTRAINT alerts_valid CHECK (alert_depth > 0 AND alert_age > '0' AND alert_dead > 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.queues IS
'One row a queue: its definition and configuration, and a snapshot of its statistics. Change it with queue_set().';
COMMENT ON COLUMN @extschema@.queues.id IS 'UUID version 7.';
COMMENT ON COLUMN @extschema@.queues.tenant_id IS 'The tenant that the queue belongs to.';
COMMENT ON COLUMN @extschema@.queues.name IS 'Unique within the tenant; 1 to 128 bytes.';
COMMENT ON COLUMN @extschema@.queues.description IS 'For people.';
COMMENT ON COLUMN @extschema@.queues.paused IS 'A paused queue takes jobs and hands none out.';
COMMENT ON COLUMN @extschema@.queues.max_attempts IS 'How often a job of this queue is tried, unless its enqueue says otherwise.';
COMMENT ON COLUMN @extschema@.queues.default_lease IS 'How long a claim holds a job, unless the claim says otherwise.';
COMMENT ON COLUMN @extschema@.queues.backoff_base IS 'Wait after the first failed attempt.';
COMMENT ON COLUMN @extschema@.queues.backoff_factor IS 'By what the wait grows with each further failed attempt.';
COMMENT ON COLUMN @extschema@.queues.backoff_max IS 'The longest wait, before jitter.';
COMMENT ON COLUMN @extschema@.queues.backoff_jitter IS 'The wait is multiplied by a random number between 1 - jitter and 1 + jitter.';
COMMENT ON COLUMN @extschema@.queues.keep_completed IS 'How long a job stays in its table that has finished; 0 deletes a completed or cancelled one as it ends.';
COMMENT ON COLUMN @extschema@.queues.keep_dead IS 'How long a dead letter stays.';
COMMENT ON COLUMN @extschema@.queues.dead_letters IS 'Whether a job that failed for good moves to dead_letter_jobs; if not, it stays with status failed.';
COMMENT ON COLUMN @extschema@.queues.max_depth IS 'Platform: the most unfinished jobs; NULL means no limit. More are refused with QS034.';
COMMENT ON COLUMN @extschema@.queues.max_payload IS 'The largest payload in bytes, and the largest headers; never above queue_service.max_payload, which NULL means.';
COMMENT ON COLUMN @extschema@.queues.max_concurrency IS 'Platform: the most jobs with an unexpired lease; NULL means no limit.';
COMMENT ON COLUMN @extschema@.queues.critical_reserve IS 'Platform: slots of max_concurrency that only critical jobs take.';
COMMENT ON COLUMN @extschema@.queues.rate_limiter IS 'Platform: the service whose tokens a claim takes, one for each job: of the tenant''s own share and of the service; NULL means no limit.';
COMMENT ON COLUMN @extschema@.queues.enqueue_limiter IS 'Platform: the service whose tokens an enqueue takes, one for each job, as a claim does with rate_limiter. Without tokens it is refused with QS035; NULL means no limit.';
COMMENT ON COLUMN @extschema@.queues.weight IS 'Platform: jobs in each round of claims that serve all tenants.';
COMMENT ON COLUMN @extschema@.queues.ageing IS 'How much waiting outweighs one level of priority: jobs go by run_at - priority x ageing. A month counts as 30 days; NULL means no ageing.';
COMMENT ON COLUMN @extschema@.queues.group_concurrency IS 'How many jobs of one group_key are claimable or run at once; 1 means one after the other, in order. The others are held. NULL means no limit.';
COMMENT ON COLUMN @extschema@.queues.group_on_failure IS 'block: a job that failed for good holds its group until it is retried, redriven, cancelled or deleted. pass: the next job goes.';
COMMENT ON COLUMN @extschema@.queues.alert_depth IS 'Alert threshold: waiting jobs; NULL means queue_service.alert_depth.';
COMMENT ON COLUMN @extschema@.queues.alert_age IS 'Alert threshold: age of the oldest claimable job; NULL means queue_service.alert_age.';
COMMENT ON COLUMN @extschema@.queues.alert_dead IS 'Alert threshold: dead letters an hour; NULL means queue_service.alert_dead.';
COMMENT ON COLUMN @extschema@.queues.config IS 'Yours; queue_service does not read it.';
COMMENT ON COLUMN @extschema@.queues.depth IS 'Statistics: jobs waiting, also delayed and held ones, as of statistics_at. queue_stats has what is now.';
COMMENT ON COLUMN @extschema@.queues.delayed IS 'Statistics: waiting jobs whose run_at was still to come.';
COMMENT ON COLUMN @extschema@.queues.processing IS 'Statistics: jobs claimed and not finished.';
COMMENT ON COLUMN @extschema@.queues.oldest_claimable_at IS 'Statistics: run_at of the job that had been claimable for longest; NULL if none was.';
COMMENT ON COLUMN @extschema@.queues.enqueued_total IS 'Statistics: jobs that came, by whatever way.';
COMMENT ON COLUMN @extschema@.queues.claimed_total IS 'Statistics: claims.';
COMMENT ON COLUMN @extschema@.queues.completed_total IS 'Statistics: jobs completed.';
COMMENT ON COLUMN @extschema@.queues.failed_total IS 'Statistics: attempts failed, also those whose lease expired.';
COMMENT ON COLUMN @extschema@.queues.dead_total IS 'Statistics: jobs that failed for good.';
COMMENT ON COLUMN @extschema@.queues.cancelled_total IS 'Statistics: jobs cancelled.';
COMMENT ON COLUMN @extschema@.queues.statistics_at IS 'As of when depth, delayed, processing and oldest_claimable_at are; NULL if they were never written. Maintenance writes them, at most once a minute.';
COMMENT ON COLUMN @extschema@.queues.created_at IS 'When the queue was created.';
COMMENT ON COLUMN @extschema@.queues.updated_at IS 'When the definition was last changed by queue_set(), queue_pause() or queue_resume().';
-- a caller that serves all tenants looks for every queue of a name. An expression
-- that is not leakproof: by a name alone, row-level security would let a tenant's
-- query use the index, and EXPLAIN ANALYZE tell whether another's queue has it.
CREATE INDEX queues_name_idx ON @extschema@.queues ((name || ''), id);
ALTER TABLE @extschema@.queues ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.queues
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.queues AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.queues', '');

-- jobs: one row a job that waits, runs or has finished
--
-- fillfactor: a claim is a HOT update that adds about 50 bytes of lease to a
-- row; a page filled to 45 % has room for the claimed version of every row on
-- it before anything is pruned.
-- order of columns: what is fixed in length, then what a claim and a completion
-- change, then what never changes, so that the WAL of an update leaves out the
-- beginning and the end of the row.
-- autovacuum: a queue's dead rows stand at the low end of its ready index, in
-- the way of every claim, so vacuum comes after a small, almost fixed number
-- of them; statistics only guide reads by people.
CREATE TABLE @extschema@.jobs (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	queue_id uuid NOT NULL,
	run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	max_attempts integer NOT NULL DEFAULT 3,
	priority smallint NOT NULL DEFAULT 0,
	held boolean NOT NULL DEFAULT false,
	cancel_requested boolean NOT NULL DEFAULT false,
	attempts integer NOT NULL DEFAULT 0,
	final_attempt boolean NOT NULL GENERATED ALWAYS AS
		(attempts - (status = 'processing')::integer >= max_attempts - 1) STORED,
	finished_at timestamptz,
	status text NOT NULL DEFAULT 'pending',
	lease_token bigint,
	leased_at timestamptz,
	leased_until timestamptz,
	leased_by text,
	finish_reason text,
	last_error text,
	errors jsonb,
	result jsonb,
	job_type text NOT NULL DEFAULT 'default',
	payload jsonb NOT NULL DEFAULT '{}',
	headers jsonb,
	group_key text,
	idempotency_key text,
	schedule_id uuid,
	CONSTRAINT jobs_pkey PRIMARY KEY (id) WITH (fillfactor = 50),
	CONSTRAINT jobs_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT jobs_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id),
	CONSTRAINT status_valid CHECK (CASE status
		WHEN 'pending' THEN finished_at IS NULL AND finish_reason IS NULL
		WHEN 'processing' THEN finished_at IS NULL AND finish_reason IS NULL
			AND lease_token IS NOT NULL AND leased_until IS NOT NULL
		WHEN 'completed' THEN finished_at IS NOT NULL AND finish_reason = 'completed'
		WHEN 'failed' THEN finished_at IS NOT NULL AND finish_reason IN ('cancelled', 'exhausted', 'dead')
		ELSE false END),
	CONSTRAINT attempts_valid CHECK (attempts >= 0 AND max_attempts BETWEEN 1 AND 1000),
	CONSTRAINT run_at_valid CHECK (isfinite(run_at)),
	CONSTRAINT text_valid CHECK (octet_length(job_type) BETWEEN 1 AND 128
		AND octet_length(group_key) <= 512 AND octet_length(idempotency_key) <= 512)
) WITH (
	fillfactor = 45,
	autovacuum_vacuum_scale_factor = 0.01,
	autovacuum_vacuum_threshold = 1000,
	autovacuum_vacuum_insert_scale_factor = 0.2,
	autovacuum_analyze_scale_factor = 0.05,
	autovacuum_analyze_threshold = 1000
);
COMMENT ON TABLE @extschema@.jobs IS
'The jobs, waiting, running and finished. INSERT works as well as queue_enqueue(), and COPY for who is exempt from row-level security.';
COMMENT ON COLUMN @extschema@.jobs.id IS 'UUID version 7; no other job, critical job or dead letter has it.';
COMMENT ON COLUMN @extschema@.jobs.tenant_id IS 'The tenant that the job belongs to.';
COMMENT ON COLUMN @extschema@.jobs.queue_id IS 'The queue, of the same tenant.';
COMMENT ON COLUMN @extschema@.jobs.run_at IS 'Not claimable before. Within one priority the earlier run_at goes first.';
COMMENT ON COLUMN @extschema@.jobs.enqueued_at IS 'When the job was enqueued.';
COMMENT ON COLUMN @extschema@.jobs.max_attempts IS 'How many attempts the job has.';
COMMENT ON COLUMN @extschema@.jobs.priority IS 'The higher goes first.';
COMMENT ON COLUMN @extschema@.jobs.held IS 'A held job is not claimable until it is let go: as many jobs of its group as group_concurrency allows are before it, or a failed one blocks the group.';
COMMENT ON COLUMN @extschema@.jobs.cancel_requested IS 'queue_cancel() was called while the job ran: its worker is told at the next heartbeat, and the job is not tried again.';
COMMENT ON COLUMN @extschema@.jobs.attempts IS 'Claims so far that count: all but those that ended in snooze or release.';
COMMENT ON COLUMN @extschema@.jobs.final_attempt IS 'Whether the attempt that runs, or else the next one, is the last.';
COMMENT ON COLUMN @extschema@.jobs.finished_at IS 'When the job was completed or failed for good.';
COMMENT ON COLUMN @extschema@.jobs.status IS 'pending, processing, completed or failed.';
COMMENT ON COLUMN @extschema@.jobs.lease_token IS 'Random, new with each claim: who knows it holds the lease.';
COMMENT ON COLUMN @extschema@.jobs.leased_at IS 'When it was claimed last.';
COMMENT ON COLUMN @extschema@.jobs.leased_until IS 'When the lease ends; from then on the job is claimable again.';
COMMENT ON COLUMN @extschema@.jobs.leased_by IS 'The worker that claimed the job last.';
COMMENT ON COLUMN @extschema@.jobs.finish_reason IS 'completed, cancelled, exhausted (no attempt left) or dead (failed for good by its worker).';
COMMENT ON COLUMN @extschema@.jobs.last_error IS 'The error of the last failed attempt, at most 4096 bytes.';
COMMENT ON COLUMN @extschema@.jobs.errors IS 'The failed attempts, the last 100, oldest first: attempt, at, worker, error.';
COMMENT ON COLUMN @extschema@.jobs.result IS 'What queue_complete() was given.';
COMMENT ON COLUMN @extschema@.jobs.job_type IS 'What kind of work it is, for the worker; 1 to 128 bytes.';
COMMENT ON COLUMN @extschema@.jobs.payload IS 'The work, for the worker.';
COMMENT ON COLUMN @extschema@.jobs.headers IS 'Data about the job, such as trace ids.';
COMMENT ON COLUMN @extschema@.jobs.group_key IS 'The group that the job belongs to, at most 512 bytes: of its queue, which may limit how many jobs of a group run at once.';
COMMENT ON COLUMN @extschema@.jobs.idempotency_key IS 'The key that the job was enqueued with, at most 512 bytes.';
COMMENT ON COLUMN @extschema@.jobs.schedule_id IS 'The schedule that made the job.';
-- the order in which jobs are claimed; a claim changes none of its columns
CREATE INDEX jobs_ready_idx ON @extschema@.jobs (queue_id, priority DESC, run_at, id)
	WHERE finished_at IS NULL AND NOT held;
-- expired leases that no claim will repair by another attempt
CREATE INDEX jobs_final_idx ON @extschema@.jobs (queue_id, id)
	WHERE final_attempt AND finished_at IS NULL;
-- reads under row-level security, the key to tenants, and retention: one index
-- for all of them, as a completion puts an entry into each
CREATE INDEX jobs_tenant_idx ON @extschema@.jobs (tenant_id, queue_id, finished_at);
-- the jobs of a group, in the order in which they are let go, and those whose
-- failure may block it; by tenant first, and held first, to walk over the groups
CREATE INDEX jobs_group_idx ON @extschema@.jobs
	(tenant_id, held, queue_id, group_key, finished_at, priority DESC, run_at, id)
	WHERE group_key IS NOT NULL AND (finished_at IS NULL OR finish_reason IN ('exhausted', 'dead'));
ALTER TABLE @extschema@.jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.jobs
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.jobs AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.jobs', '');

-- critical_jobs: the columns of jobs, in the same order; served before them
CREATE TABLE @extschema@.critical_jobs (
	LIKE @extschema@.jobs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING COMMENTS,
	CONSTRAINT critical_jobs_pkey PRIMARY KEY (id) WITH (fillfactor = 50),
	CONSTRAINT critical_jobs_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT critical_jobs_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id)
) WITH (
	fillfactor = 45,
	autovacuum_vacuum_scale_factor = 0.01,
	autovacuum_vacuum_threshold = 1000,
	autovacuum_vacuum_insert_scale_factor = 0.2,
	autovacuum_analyze_scale_factor = 0.05,
	autovacuum_analyze_threshold = 1000
);
ALTER TABLE @extschema@.critical_jobs
	ALTER COLUMN max_attempts SET DEFAULT 5,
	ALTER COLUMN idempotency_key SET NOT NULL;
COMMENT ON TABLE @extschema@.critical_jobs IS
'Jobs of high priority: a claim serves them before any of jobs. Enqueued with queue_enqueue_critical(); the idempotency key is required.';
COMMENT ON COLUMN @extschema@.critical_jobs.idempotency_key IS
'Required, at most 512 bytes; unique within the tenant while the job is unfinished, and for the lifetime that its enqueue gave it.';
CREATE INDEX critical_jobs_ready_idx ON @extschema@.critical_jobs (queue_id, priority DESC, run_at, id)
	WHERE finished_at IS NULL AND NOT held;
CREATE INDEX critical_jobs_final_idx ON @extschema@.critical_jobs (queue_id, id)
	WHERE final_attempt AND finished_at IS NULL;
CREATE UNIQUE INDEX critical_jobs_key_idx ON @extschema@.critical_jobs (tenant_id, idempotency_key)
	WHERE finished_at IS NULL;
CREATE INDEX critical_jobs_tenant_idx ON @extschema@.critical_jobs (tenant_id, queue_id, finished_at);
CREATE INDEX critical_jobs_group_idx ON @extschema@.critical_jobs
	(tenant_id, held, queue_id, group_key, finished_at, priority DESC, run_at, id)
	WHERE group_key IS NOT NULL AND (finished_at IS NULL OR finish_reason IN ('exhausted', 'dead'));
ALTER TABLE @extschema@.critical_jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.critical_jobs
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.critical_jobs AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.critical_jobs', '');

-- dead_letter_jobs: where a job moves that failed for good
CREATE TABLE @extschema@.dead_letter_jobs (
	id uuid NOT NULL,
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	queue_id uuid NOT NULL,
	source_table text NOT NULL,
	reason text NOT NULL,
	died_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	run_at timestamptz NOT NULL,
	enqueued_at timestamptz NOT NULL,
	attempts integer NOT NULL,
	max_attempts integer NOT NULL,
	priority smallint NOT NULL,
	job_type text NOT NULL,
	payload jsonb NOT NULL,
	headers jsonb,
	group_key text,
	idempotency_key text,
	schedule_id uuid,
	leased_by text,
	leased_at timestamptz,
	leased_until timestamptz,
	last_error text,
	errors jsonb,
	redriven_at timestamptz,
	redriven_as uuid,
	CONSTRAINT dead_letter_jobs_pkey PRIMARY KEY (id),
	CONSTRAINT dead_letter_jobs_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT dead_letter_jobs_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id),
	CONSTRAINT source_table_valid CHECK (source_table IN ('jobs', 'critical_jobs')),
	CONSTRAINT reason_valid CHECK (reason IN ('exhausted', 'dead', 'lease_expired', 'cancelled')),
	CONSTRAINT redriven_valid CHECK ((redriven_at IS NULL) = (redriven_as IS NULL))
);
COMMENT ON TABLE @extschema@.dead_letter_jobs IS
'The dead letters: jobs that failed for good, each with the id it had as a job and the history of its errors. queue_redrive() sends them back.';
COMMENT ON COLUMN @extschema@.dead_letter_jobs.id IS 'The id that the job had.';
COMMENT ON COLUMN @extschema@.dead_letter_jobs.source_table IS 'The table that the job came from: jobs or critical_jobs.';
COMMENT ON COLUMN @extschema@.dead_letter_jobs.reason IS 'exhausted (its last attempt failed), dead (its worker gave it up), lease_expired (its last attempt was never heard of again) or cancelled (queue_cancel() gave it up after that).';
COMMENT ON COLUMN @extschema@.dead_letter_jobs.died_at IS 'When it failed for good.';
COMMENT ON COLUMN @extschema@.dead_letter_jobs.redriven_at IS 'When it was last sent back.';
COMMENT ON COLUMN @extschema@.dead_letter_jobs.redriven_as IS 'The id of the job that it was sent back as.';
-- the columns that it shares with jobs mean the same
DO $do$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT d.attname, pg_catalog.col_description(j.attrelid, j.attnum) AS comment
		FROM pg_catalog.pg_attribute d
		JOIN pg_catalog.pg_attribute j ON j.attrelid = '@extschema@.jobs'::regclass AND j.attname = d.attname
		WHERE d.attrelid = '@extschema@.dead_letter_jobs'::regclass AND d.attnum > 0 AND d.attname <> 'id'
	LOOP
		EXECUTE format('COMMENT ON COLUMN @extschema@.dead_letter_jobs.%I IS %L', c.attname, c.comment);
	END LOOP;
END
$do$;
CREATE INDEX dead_letter_jobs_queue_idx ON @extschema@.dead_letter_jobs (tenant_id, queue_id, died_at);
-- letters that may block their group
CREATE INDEX dead_letter_jobs_group_idx ON @extschema@.dead_letter_jobs (tenant_id, queue_id, group_key)
	WHERE group_key IS NOT NULL AND redriven_at IS NULL AND reason <> 'cancelled';
ALTER TABLE @extschema@.dead_letter_jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.dead_letter_jobs
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.dead_letter_jobs AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.dead_letter_jobs', '');

-- idempotency_keys: which job a key stands for
CREATE TABLE @extschema@.idempotency_keys (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	queue_id uuid NOT NULL,
	key text NOT NULL,
	critical boolean NOT NULL DEFAULT false,
	job_id uuid NOT NULL,
	expires_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT idempotency_keys_pkey PRIMARY KEY (id),
	CONSTRAINT idempotency_keys_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT idempotency_keys_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id),
	CONSTRAINT key_valid CHECK (octet_length(key) BETWEEN 1 AND 512)
);
COMMENT ON TABLE @extschema@.idempotency_keys IS
'Which job an idempotency key stands for. A key is taken until it expires, and in any case while its job is unfinished.';
COMMENT ON COLUMN @extschema@.idempotency_keys.id IS 'UUID version 7.';
COMMENT ON COLUMN @extschema@.idempotency_keys.tenant_id IS 'The tenant that the key belongs to.';
COMMENT ON COLUMN @extschema@.idempotency_keys.queue_id IS 'The queue of the job.';
COMMENT ON COLUMN @extschema@.idempotency_keys.key IS 'The key. Unique within the queue for jobs, within the tenant for critical jobs.';
COMMENT ON COLUMN @extschema@.idempotency_keys.critical IS 'Whether the job is a critical one.';
COMMENT ON COLUMN @extschema@.idempotency_keys.job_id IS 'The job; the row of it may be gone already.';
COMMENT ON COLUMN @extschema@.idempotency_keys.expires_at IS 'The end of its lifetime; NULL means that it is free as soon as its job has finished.';
COMMENT ON COLUMN @extschema@.idempotency_keys.created_at IS 'When the job was enqueued.';
-- for all keys, since a foreign key or a purge finds nothing in a partial index
CREATE UNIQUE INDEX idempotency_keys_queue_key_idx ON @extschema@.idempotency_keys (tenant_id, queue_id, key, critical);
CREATE UNIQUE INDEX idempotency_keys_tenant_key_idx ON @extschema@.idempotency_keys (tenant_id, key)
	WHERE critical;
-- retention; by id those that do not expire
CREATE INDEX idempotency_keys_expires_idx ON @extschema@.idempotency_keys (expires_at, id);
ALTER TABLE @extschema@.idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.idempotency_keys
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.idempotency_keys AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.idempotency_keys', '');

-- schedules: jobs that are enqueued by the clock
CREATE TABLE @extschema@.schedules (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	name text NOT NULL,
	queue_id uuid NOT NULL,
	cron text NOT NULL,
	timezone text NOT NULL DEFAULT 'UTC',
	job_type text NOT NULL DEFAULT 'default',
	payload jsonb NOT NULL DEFAULT '{}',
	priority smallint NOT NULL DEFAULT 0,
	catch_up text NOT NULL DEFAULT 'last',
	catch_up_max integer NOT NULL DEFAULT 100,
	overlap text NOT NULL DEFAULT 'allow',
	jitter interval NOT NULL DEFAULT '0',
	enabled boolean NOT NULL DEFAULT true,
	next_run_at timestamptz,
	last_run_at timestamptz,
	last_job_id uuid,
	retry_at timestamptz,
	last_error text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT schedules_pkey PRIMARY KEY (id),
	CONSTRAINT schedules_tenant_id_name_key UNIQUE (tenant_id, name),
	CONSTRAINT schedules_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT schedules_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id),
	CONSTRAINT name_valid CHECK (name <> '' AND octet_length(name) <= 128),
	CONSTRAINT catch_up_valid CHECK (catch_up IN ('none', 'last', 'all') AND catch_up_max BETWEEN 1 AND 10000),
	CONSTRAINT overlap_valid CHECK (overlap IN ('allow', 'skip')),
	CONSTRAINT jitter_valid CHECK (jitter >= '0'),
	CONSTRAINT next_run_valid CHECK (isfinite(next_run_at) AND isfinite(retry_at) AND last_run_at < next_run_at)
);
COMMENT ON TABLE @extschema@.schedules IS
'Jobs that are enqueued by the clock: see queue_schedule(). For a row without next_run_at that is worked out, so plain SQL works too.';
COMMENT ON COLUMN @extschema@.schedules.id IS 'UUID version 7.';
COMMENT ON COLUMN @extschema@.schedules.tenant_id IS 'The tenant that the schedule belongs to.';
COMMENT ON COLUMN @extschema@.schedules.name IS 'Unique within the tenant; 1 to 128 bytes.';
COMMENT ON COLUMN @extschema@.schedules.queue_id IS 'The queue, of the same tenant, that its jobs go into.';
COMMENT ON COLUMN @extschema@.schedules.cron IS 'When it is due: five fields, as crontab has them, or a shorthand such as @daily.';
COMMENT ON COLUMN @extschema@.schedules.timezone IS 'The time zone that cron is read in.';
COMMENT ON COLUMN @extschema@.schedules.job_type IS 'job_type of its jobs.';
COMMENT ON COLUMN @extschema@.schedules.payload IS 'Payload of its jobs.';
COMMENT ON COLUMN @extschema@.schedules.priority IS 'Priority of its jobs.';
COMMENT ON COLUMN @extschema@.schedules.catch_up IS 'What follows a time when nothing could fire: none, last (one job, for the latest due time) or all (a job for each, up to catch_up_max).';
COMMENT ON COLUMN @extschema@.schedules.catch_up_max IS 'The most jobs of catch_up all; of more due times the latest count.';
COMMENT ON COLUMN @extschema@.schedules.overlap IS 'allow, or skip: no job while the last one is unfinished.';
COMMENT ON COLUMN @extschema@.schedules.jitter IS 'The run_at of each job is its due time and a random time up to this, but before the next due time.';
COMMENT ON COLUMN @extschema@.schedules.enabled IS 'Whether it fires. One that is enabled by queue_schedule() makes up for nothing.';
COMMENT ON COLUMN @extschema@.schedules.next_run_at IS 'When it is due next; NULL: to be worked out, if it is enabled.';
COMMENT ON COLUMN @extschema@.schedules.last_run_at IS 'The due time of its last job. Nothing up to it fires again.';
COMMENT ON COLUMN @extschema@.schedules.last_job_id IS 'The job that it made last.';
COMMENT ON COLUMN @extschema@.schedules.retry_at IS 'When it is tried again after last_error.';
COMMENT ON COLUMN @extschema@.schedules.last_error IS 'Why it could not fire; NULL if it could.';
COMMENT ON COLUMN @extschema@.schedules.created_at IS 'When the schedule was created.';
CREATE INDEX schedules_due_idx ON @extschema@.schedules (coalesce(greatest(next_run_at, retry_at), '-infinity')) WHERE enabled;
CREATE INDEX schedules_queue_idx ON @extschema@.schedules (tenant_id, queue_id);
ALTER TABLE @extschema@.schedules ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.schedules
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.schedules AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.schedules', '');

-- rate_limiters: a token bucket per external service, for all tenants
CREATE TABLE @extschema@.rate_limiters (
	service_name text NOT NULL,
	tenant_id uuid,
	tokens_available double precision NOT NULL,
	max_tokens double precision NOT NULL,
	refill_per_second double precision NOT NULL,
	last_refill_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	max_concurrent integer,
	max_hold interval NOT NULL DEFAULT '1 minute',
	seeded boolean NOT NULL DEFAULT false,
	CONSTRAINT rate_limiters_pkey PRIMARY KEY (service_name),
	CONSTRAINT rate_limiters_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT service_name_valid CHECK (octet_length(service_name) BETWEEN 1 AND 128),
	CONSTRAINT bucket_valid CHECK (max_tokens BETWEEN 1 AND 1e9 AND tokens_available BETWEEN 0 AND max_tokens
		AND refill_per_second > 0 AND refill_per_second <= 1e9),
	CONSTRAINT concurrent_valid CHECK (max_concurrent > 0 AND max_hold > '0' AND max_hold <= '1 day')
);
COMMENT ON TABLE @extschema@.rate_limiters IS
'Token buckets of the external services that all tenants share. The four that come with queue_service (stripe, twilio, sendgrid, solana_rpc) refill their whole bucket in a second; set your own contract''s numbers.';
COMMENT ON COLUMN @extschema@.rate_limiters.service_name IS 'The service; 1 to 128 bytes.';
COMMENT ON COLUMN @extschema@.rate_limiters.tenant_id IS 'NULL: a limiter for the platform belongs to no tenant.';
COMMENT ON COLUMN @extschema@.rate_limiters.tokens_available IS 'Tokens in the bucket, as of last_refill_at. Kept up to date for slow buckets (more than a minute to fill), and for all without shared memory; see queue_rate_peek().';
COMMENT ON COLUMN @extschema@.rate_limiters.max_tokens IS 'The capacity of the bucket.';
COMMENT ON COLUMN @extschema@.rate_limiters.refill_per_second IS 'Tokens a second.';
COMMENT ON COLUMN @extschema@.rate_limiters.last_refill_at IS 'When tokens_available was written.';
COMMENT ON COLUMN @extschema@.rate_limiters.max_concurrent IS 'The most permits out at once; NULL means no limit.';
COMMENT ON COLUMN @extschema@.rate_limiters.max_hold IS 'The longest that a permit may be held.';
COMMENT ON COLUMN @extschema@.rate_limiters.seeded IS 'Came with queue_service and was never edited; such a row is not dumped, and gives way to a row of the same name.';
CREATE INDEX rate_limiters_tenant_idx ON @extschema@.rate_limiters (tenant_id);
ALTER TABLE @extschema@.rate_limiters ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.rate_limiters
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.rate_limiters AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.rate_limiters', 'WHERE NOT seeded');

-- rate_limits: a tenant's own share of a service, or a bucket of its own
CREATE TABLE @extschema@.rate_limits (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	name text NOT NULL,
	tokens_available double precision NOT NULL,
	max_tokens double precision NOT NULL,
	refill_per_second double precision NOT NULL,
	last_refill_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	max_concurrent integer,
	max_hold interval NOT NULL DEFAULT '1 minute',
	CONSTRAINT rate_limits_pkey PRIMARY KEY (id),
	CONSTRAINT rate_limits_tenant_id_name_key UNIQUE (tenant_id, name),
	CONSTRAINT rate_limits_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT name_valid CHECK (octet_length(name) BETWEEN 1 AND 128),
	CONSTRAINT bucket_valid CHECK (max_tokens BETWEEN 1 AND 1e9 AND tokens_available BETWEEN 0 AND max_tokens
		AND refill_per_second > 0 AND refill_per_second <= 1e9),
	CONSTRAINT concurrent_valid CHECK (max_concurrent > 0 AND max_hold > '0' AND max_hold <= '1 day')
);
COMMENT ON TABLE @extschema@.rate_limits IS
'Token buckets of single tenants: their share of a service, or a bucket of their own. Set by the platform.';
COMMENT ON COLUMN @extschema@.rate_limits.id IS 'UUID version 7.';
COMMENT ON COLUMN @extschema@.rate_limits.tenant_id IS 'The tenant that is limited.';
COMMENT ON COLUMN @extschema@.rate_limits.name IS 'A service_name, or a name of its own; unique within the tenant.';
COMMENT ON COLUMN @extschema@.rate_limits.tokens_available IS 'Tokens in the bucket, as of last_refill_at. Kept up to date for slow buckets (more than a minute to fill), and for all without shared memory; see queue_rate_peek().';
COMMENT ON COLUMN @extschema@.rate_limits.max_tokens IS 'The capacity of the bucket.';
COMMENT ON COLUMN @extschema@.rate_limits.refill_per_second IS 'Tokens a second.';
COMMENT ON COLUMN @extschema@.rate_limits.last_refill_at IS 'When tokens_available was written.';
COMMENT ON COLUMN @extschema@.rate_limits.max_concurrent IS 'The most permits out at once; NULL means no limit.';
COMMENT ON COLUMN @extschema@.rate_limits.max_hold IS 'The longest that a permit may be held.';
ALTER TABLE @extschema@.rate_limits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.rate_limits
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.rate_limits AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.rate_limits', '');

-- queue_metrics: samples of a queue's statistics over time
CREATE TABLE @extschema@.queue_metrics (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid NOT NULL DEFAULT @extschema@.queue_tenant(),
	queue_id uuid NOT NULL,
	sampled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	depth bigint NOT NULL DEFAULT 0,
	delayed bigint NOT NULL DEFAULT 0,
	processing bigint NOT NULL DEFAULT 0,
	oldest_claimable_age interval,
	enqueued_per_second double precision,
	claimed_per_second double precision,
	completed_per_second double precision,
	failed_per_second double precision,
	dead_per_second double precision,
	wait_p50 interval,
	wait_p95 interval,
	wait_p99 interval,
	run_p50 interval,
	run_p95 interval,
	run_p99 interval,
	CONSTRAINT queue_metrics_pkey PRIMARY KEY (id),
	CONSTRAINT queue_metrics_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT queue_metrics_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id)
);
COMMENT ON TABLE @extschema@.queue_metrics IS 'Samples of the statistics of queues, one a minute of each queue that changed or has unfinished jobs. Maintenance writes them if the library is preloaded.';
COMMENT ON COLUMN @extschema@.queue_metrics.id IS 'UUID version 7.';
COMMENT ON COLUMN @extschema@.queue_metrics.tenant_id IS 'The tenant that the queue belongs to.';
COMMENT ON COLUMN @extschema@.queue_metrics.queue_id IS 'The queue.';
COMMENT ON COLUMN @extschema@.queue_metrics.sampled_at IS 'When the sample was taken.';
COMMENT ON COLUMN @extschema@.queue_metrics.depth IS 'Jobs waiting, also delayed and held ones.';
COMMENT ON COLUMN @extschema@.queue_metrics.delayed IS 'Waiting jobs whose run_at was still to come.';
COMMENT ON COLUMN @extschema@.queue_metrics.processing IS 'Jobs claimed and not finished.';
COMMENT ON COLUMN @extschema@.queue_metrics.oldest_claimable_age IS 'How long the oldest claimable job had been claimable.';
COMMENT ON COLUMN @extschema@.queue_metrics.enqueued_per_second IS 'Jobs enqueued, since the sample before.';
COMMENT ON COLUMN @extschema@.queue_metrics.claimed_per_second IS 'Jobs claimed, since the sample before.';
COMMENT ON COLUMN @extschema@.queue_metrics.completed_per_second IS 'Jobs completed, since the sample before.';
COMMENT ON COLUMN @extschema@.queue_metrics.failed_per_second IS 'Attempts failed, since the sample before.';
COMMENT ON COLUMN @extschema@.queue_metrics.dead_per_second IS 'Jobs that failed for good, since the sample before.';
COMMENT ON COLUMN @extschema@.queue_metrics.wait_p50 IS 'Median time from due to claim.';
COMMENT ON COLUMN @extschema@.queue_metrics.wait_p95 IS '95th percentile of the time from due to claim.';
COMMENT ON COLUMN @extschema@.queue_metrics.wait_p99 IS '99th percentile of the time from due to claim.';
COMMENT ON COLUMN @extschema@.queue_metrics.run_p50 IS 'Median time from claim to completion.';
COMMENT ON COLUMN @extschema@.queue_metrics.run_p95 IS '95th percentile of the time from claim to completion.';
COMMENT ON COLUMN @extschema@.queue_metrics.run_p99 IS '99th percentile of the time from claim to completion.';
CREATE INDEX queue_metrics_queue_idx ON @extschema@.queue_metrics (tenant_id, queue_id, sampled_at);
ALTER TABLE @extschema@.queue_metrics ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.queue_metrics
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.queue_metrics AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.queue_metrics', '');

-- alert_history: alerts, raised and resolved
CREATE TABLE @extschema@.alert_history (
	id uuid NOT NULL DEFAULT @extschema@.queue_new_id(),
	tenant_id uuid DEFAULT @extschema@.queue_tenant(),
	queue_id uuid,
	alert text NOT NULL,
	severity text NOT NULL DEFAULT 'warning',
	message text NOT NULL,
	value double precision,
	threshold double precision,
	raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	resolved_at timestamptz,
	CONSTRAINT alert_history_pkey PRIMARY KEY (id),
	CONSTRAINT alert_history_tenant_fkey FOREIGN KEY (tenant_id)
		REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT,
	CONSTRAINT alert_history_queue_fkey FOREIGN KEY (tenant_id, queue_id)
		REFERENCES @extschema@.queues (tenant_id, id),
	CONSTRAINT severity_valid CHECK (severity IN ('warning', 'critical'))
);
COMMENT ON TABLE @extschema@.alert_history IS 'Alerts, raised and resolved by maintenance.';
COMMENT ON COLUMN @extschema@.alert_history.id IS 'UUID version 7.';
COMMENT ON COLUMN @extschema@.alert_history.tenant_id IS 'The tenant that it concerns; NULL for the whole server.';
COMMENT ON COLUMN @extschema@.alert_history.queue_id IS 'The queue that it concerns, if one.';
COMMENT ON COLUMN @extschema@.alert_history.alert IS 'Of a queue: depth, age or dead; of the server: horizon or worker.';
COMMENT ON COLUMN @extschema@.alert_history.severity IS 'warning or critical.';
COMMENT ON COLUMN @extschema@.alert_history.message IS 'What is wrong, for people.';
COMMENT ON COLUMN @extschema@.alert_history.value IS 'What was measured when it was raised: jobs, seconds, or dead letters in an hour.';
COMMENT ON COLUMN @extschema@.alert_history.threshold IS 'What it was compared with.';
COMMENT ON COLUMN @extschema@.alert_history.raised_at IS 'When it was raised.';
COMMENT ON COLUMN @extschema@.alert_history.resolved_at IS 'When it was resolved; NULL while it lasts.';
-- what is open, once of each kind; the server's have neither tenant nor queue
CREATE UNIQUE INDEX alert_history_open_key ON @extschema@.alert_history (tenant_id, queue_id, alert)
	NULLS NOT DISTINCT WHERE resolved_at IS NULL;
CREATE INDEX alert_history_queue_idx ON @extschema@.alert_history (tenant_id, queue_id, raised_at);
ALTER TABLE @extschema@.alert_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation_policy ON @extschema@.alert_history
	USING (tenant_id::text = current_setting('app.current_tenant', true));
CREATE POLICY tenant_index_policy ON @extschema@.alert_history AS RESTRICTIVE
	USING (tenant_id = @extschema@.queue_tenant());
SELECT pg_catalog.pg_extension_config_dump('@extschema@.alert_history', '');

-- The planner estimates by all rows of a table, and EXPLAIN shows its estimates
-- to whoever may read a column: value by value, what other tenants have in it.
-- So it is told nothing, of expressions in indexes neither. What we run ourselves is planned by unique keys and
-- whole prefixes of indexes, for which defaults will do.
DO $do$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		WITH tenant_table AS (
			SELECT k.attrelid AS oid
			FROM pg_catalog.pg_extension e
			JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
				AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e'
			JOIN pg_catalog.pg_attribute k ON k.attrelid = d.objid AND k.attname = 'tenant_id'
			JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'r'
			WHERE e.extname = 'queue_service')
		SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', t.oid::pg_catalog.regclass, a.attname)
		FROM tenant_table t
		JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
		UNION ALL
		SELECT pg_catalog.format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', i.indexrelid::pg_catalog.regclass, a.attnum)
		FROM tenant_table t
		JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid AND i.indkey[a.attnum - 1] = 0
	LOOP
		EXECUTE statement;
	END LOOP;
END
$do$;

-- 5  triggers -----------------------------------------------------------------

CREATE FUNCTION @extschema@._queue_changed()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_changed';
COMMENT ON FUNCTION @extschema@._queue_changed() IS
'Trigger on queues, rate_limiters and rate_limits: makes every session forget what it knows of the definitions there, and tells who serves all tenants.';
CREATE TRIGGER queue_changed AFTER INSERT OR DELETE
	OR UPDATE OF id, tenant_id, name, description, paused, max_attempts, default_lease, backoff_base,
		backoff_factor, backoff_max, backoff_jitter, keep_completed, keep_dead, dead_letters, max_depth,
		max_payload, max_concurrency, critical_reserve, rate_limiter, enqueue_limiter, weight, ageing,
		group_concurrency,
		group_on_failure, alert_depth, alert_age, alert_dead, config
	ON @extschema@.queues
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_changed();
ALTER TABLE @extschema@.queues ENABLE ALWAYS TRIGGER queue_changed;
COMMENT ON TRIGGER queue_changed ON @extschema@.queues IS
'A session keeps definitions until this says that they changed. Not fired by what writes statistics.';

CREATE FUNCTION @extschema@._queue_announce()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_announce';
COMMENT ON FUNCTION @extschema@._queue_announce() IS
'Trigger on jobs and critical_jobs: tells all sessions of a new entry in the ready index. Writes nothing.';
CREATE TRIGGER queue_announce AFTER INSERT OR UPDATE ON @extschema@.jobs
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_announce();
ALTER TABLE @extschema@.jobs ENABLE ALWAYS TRIGGER queue_announce;
COMMENT ON TRIGGER queue_announce ON @extschema@.jobs IS
'While it is not enabled ALWAYS, claims look at every row in front of them.';
CREATE TRIGGER queue_announce AFTER INSERT OR UPDATE ON @extschema@.critical_jobs
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_announce();
ALTER TABLE @extschema@.critical_jobs ENABLE ALWAYS TRIGGER queue_announce;
COMMENT ON TRIGGER queue_announce ON @extschema@.critical_jobs IS
'While it is not enabled ALWAYS, claims look at every row in front of them.';

CREATE FUNCTION @extschema@._queue_removed()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_removed';
COMMENT ON FUNCTION @extschema@._queue_removed() IS
'Trigger on jobs and critical_jobs: tells the statistics of jobs that SQL deletes. Writes nothing.';
CREATE TRIGGER queue_removed AFTER DELETE ON @extschema@.jobs
	FOR EACH ROW WHEN (OLD.finished_at IS NULL) EXECUTE FUNCTION @extschema@._queue_removed();
CREATE TRIGGER queue_emptied AFTER TRUNCATE ON @extschema@.jobs
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_removed();
ALTER TABLE @extschema@.jobs
	ENABLE ALWAYS TRIGGER queue_removed, ENABLE ALWAYS TRIGGER queue_emptied;
COMMENT ON TRIGGER queue_removed ON @extschema@.jobs IS
'While it is not enabled ALWAYS, statistics are as of the last count.';
COMMENT ON TRIGGER queue_emptied ON @extschema@.jobs IS
'While it is not enabled ALWAYS, statistics are as of the last count.';
CREATE TRIGGER queue_removed AFTER DELETE ON @extschema@.critical_jobs
	FOR EACH ROW WHEN (OLD.finished_at IS NULL) EXECUTE FUNCTION @extschema@._queue_removed();
CREATE TRIGGER queue_emptied AFTER TRUNCATE ON @extschema@.critical_jobs
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_removed();
ALTER TABLE @extschema@.critical_jobs
	ENABLE ALWAYS TRIGGER queue_removed, ENABLE ALWAYS TRIGGER queue_emptied;
COMMENT ON TRIGGER queue_removed ON @extschema@.critical_jobs IS
'While it is not enabled ALWAYS, statistics are as of the last count.';
COMMENT ON TRIGGER queue_emptied ON @extschema@.critical_jobs IS
'While it is not enabled ALWAYS, statistics are as of the last count.';

CREATE FUNCTION @extschema@._queue_group()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_group';
COMMENT ON FUNCTION @extschema@._queue_group() IS
'Trigger on jobs and critical_jobs: holds a job that SQL inserts, if its group is full, blocked, or has held jobs.';
CREATE FUNCTION @extschema@._queue_group_left()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_group_left';
COMMENT ON FUNCTION @extschema@._queue_group_left() IS
'Trigger on jobs, critical_jobs and dead_letter_jobs: lets go the next jobs of a group that SQL takes one from.';
CREATE TRIGGER queue_group BEFORE INSERT ON @extschema@.jobs
	FOR EACH ROW WHEN (NEW.group_key IS NOT NULL AND NEW.status = 'pending' AND NEW.attempts = 0 AND NOT NEW.held)
	EXECUTE FUNCTION @extschema@._queue_group();
COMMENT ON TRIGGER queue_group ON @extschema@.jobs IS
'Fires for jobs of groups only. What was tried before comes back as it was, as from a dump.';
CREATE TRIGGER queue_group_changed AFTER UPDATE ON @extschema@.jobs
	FOR EACH ROW WHEN (OLD.group_key IS NOT NULL AND NOT OLD.held
		AND (OLD.finished_at IS NULL OR OLD.finish_reason IN ('exhausted', 'dead'))
		AND (NEW.finished_at IS DISTINCT FROM OLD.finished_at OR NEW.finish_reason IS DISTINCT FROM OLD.finish_reason
			OR NEW.held OR NEW.group_key IS DISTINCT FROM OLD.group_key OR NEW.queue_id <> OLD.queue_id))
	EXECUTE FUNCTION @extschema@._queue_group_left();
COMMENT ON TRIGGER queue_group_changed ON @extschema@.jobs IS
'Fires for jobs of groups only, when one ends or leaves its group.';
CREATE TRIGGER queue_group_left AFTER DELETE ON @extschema@.jobs
	FOR EACH ROW WHEN (OLD.group_key IS NOT NULL AND NOT OLD.held
		AND (OLD.finished_at IS NULL OR OLD.finish_reason IN ('exhausted', 'dead')))
	EXECUTE FUNCTION @extschema@._queue_group_left();
COMMENT ON TRIGGER queue_group_left ON @extschema@.jobs IS
'Fires for jobs of groups only, that had not finished, or had failed.';
CREATE TRIGGER queue_group BEFORE INSERT ON @extschema@.critical_jobs
	FOR EACH ROW WHEN (NEW.group_key IS NOT NULL AND NEW.status = 'pending' AND NEW.attempts = 0 AND NOT NEW.held)
	EXECUTE FUNCTION @extschema@._queue_group();
COMMENT ON TRIGGER queue_group ON @extschema@.critical_jobs IS
'Fires for jobs of groups only. What was tried before comes back as it was, as from a dump.';
CREATE TRIGGER queue_group_changed AFTER UPDATE ON @extschema@.critical_jobs
	FOR EACH ROW WHEN (OLD.group_key IS NOT NULL AND NOT OLD.held
		AND (OLD.finished_at IS NULL OR OLD.finish_reason IN ('exhausted', 'dead'))
		AND (NEW.finished_at IS DISTINCT FROM OLD.finished_at OR NEW.finish_reason IS DISTINCT FROM OLD.finish_reason
			OR NEW.held OR NEW.group_key IS DISTINCT FROM OLD.group_key OR NEW.queue_id <> OLD.queue_id))
	EXECUTE FUNCTION @extschema@._queue_group_left();
COMMENT ON TRIGGER queue_group_changed ON @extschema@.critical_jobs IS
'Fires for jobs of groups only, when one ends or leaves its group.';
CREATE TRIGGER queue_group_left AFTER DELETE ON @extschema@.critical_jobs
	FOR EACH ROW WHEN (OLD.group_key IS NOT NULL AND NOT OLD.held
		AND (OLD.finished_at IS NULL OR OLD.finish_reason IN ('exhausted', 'dead')))
	EXECUTE FUNCTION @extschema@._queue_group_left();
COMMENT ON TRIGGER queue_group_left ON @extschema@.critical_jobs IS
'Fires for jobs of groups only, that had not finished, or had failed.';
CREATE TRIGGER queue_group_left AFTER DELETE ON @extschema@.dead_letter_jobs
	FOR EACH ROW WHEN (OLD.group_key IS NOT NULL AND OLD.redriven_at IS NULL AND OLD.reason <> 'cancelled')
	EXECUTE FUNCTION @extschema@._queue_group_left();
COMMENT ON TRIGGER queue_group_left ON @extschema@.dead_letter_jobs IS
'A letter that is deleted does not block its group any more.';

CREATE FUNCTION @extschema@._queue_guard()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_guard';
COMMENT ON FUNCTION @extschema@._queue_guard() IS
'Trigger that refuses platform columns, or a whole table of the platform, to whoever is bound to a tenant. Writes nothing.';
CREATE TRIGGER queue_guard BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.queues
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_guard();
COMMENT ON TRIGGER queue_guard ON @extschema@.queues IS
'A limit that a tenant can edit is none: weight, max_depth, max_concurrency, critical_reserve, rate_limiter, enqueue_limiter.';
CREATE TRIGGER queue_guard BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.rate_limiters
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_guard();
COMMENT ON TRIGGER queue_guard ON @extschema@.rate_limiters IS 'Only the platform writes limits.';
CREATE TRIGGER queue_guard BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.rate_limits
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_guard();
COMMENT ON TRIGGER queue_guard ON @extschema@.rate_limits IS 'Only the platform writes limits.';
CREATE TRIGGER queue_guard_truncate BEFORE TRUNCATE ON @extschema@.queues
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_guard();
COMMENT ON TRIGGER queue_guard_truncate ON @extschema@.queues IS
'Who was granted too much could else remove limits, his own or others''.';
CREATE TRIGGER queue_guard_truncate BEFORE TRUNCATE ON @extschema@.rate_limiters
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_guard();
COMMENT ON TRIGGER queue_guard_truncate ON @extschema@.rate_limiters IS
'Who was granted too much could else remove limits, his own or others''.';
CREATE TRIGGER queue_guard_truncate BEFORE TRUNCATE ON @extschema@.rate_limits
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_guard();
COMMENT ON TRIGGER queue_guard_truncate ON @extschema@.rate_limits IS
'Who was granted too much could else remove limits, his own or others''.';

CREATE TRIGGER queue_limit_changed AFTER INSERT OR DELETE OR TRUNCATE
	OR UPDATE OF service_name, tenant_id, max_tokens, refill_per_second, max_concurrent, max_hold
	ON @extschema@.rate_limiters
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_changed();
ALTER TABLE @extschema@.rate_limiters ENABLE ALWAYS TRIGGER queue_limit_changed;
COMMENT ON TRIGGER queue_limit_changed ON @extschema@.rate_limiters IS
'A session keeps definitions until this says that they changed.';
CREATE TRIGGER queue_limit_changed AFTER INSERT OR DELETE OR TRUNCATE
	OR UPDATE OF name, tenant_id, max_tokens, refill_per_second, max_concurrent, max_hold
	ON @extschema@.rate_limits
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._queue_changed();
ALTER TABLE @extschema@.rate_limits ENABLE ALWAYS TRIGGER queue_limit_changed;
COMMENT ON TRIGGER queue_limit_changed ON @extschema@.rate_limits IS
'A session keeps definitions until this says that they changed.';

CREATE FUNCTION @extschema@._queue_limit_settle()
RETURNS trigger
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'qs_queue_limit_settle';
COMMENT ON FUNCTION @extschema@._queue_limit_settle() IS
'Trigger on rate_limiters and rate_limits: a bucket whose definition changes keeps the tokens that it has by the old one.';
CREATE TRIGGER queue_limit_settled BEFORE UPDATE OF max_tokens, refill_per_second ON @extschema@.rate_limiters
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_limit_settle();
COMMENT ON TRIGGER queue_limit_settled ON @extschema@.rate_limiters IS
'A new rate does not reach into the past, and a larger bucket comes with no more tokens.';
CREATE TRIGGER queue_limit_settled BEFORE UPDATE OF max_tokens, refill_per_second ON @extschema@.rate_limits
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_limit_settle();
COMMENT ON TRIGGER queue_limit_settled ON @extschema@.rate_limits IS
'A new rate does not reach into the past, and a larger bucket comes with no more tokens.';

-- 6  seeds --------------------------------------------------------------------

CREATE FUNCTION @extschema@._queue_seed()
RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
	IF TG_OP = 'UPDATE' THEN
		NEW.seeded := false;
	ELSE
		DELETE FROM @extschema@.rate_limiters l WHERE l.service_name = NEW.service_name AND l.seeded;
	END IF;
	RETURN NEW;
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_seed() IS
'Trigger on rate_limiters: a row that is edited is no seed any more, and a seed gives way to a new row of its name.';
CREATE TRIGGER queue_seed BEFORE INSERT
	OR UPDATE OF service_name, tenant_id, max_tokens, refill_per_second, max_concurrent, max_hold, seeded
	ON @extschema@.rate_limiters
	FOR EACH ROW EXECUTE FUNCTION @extschema@._queue_seed();
-- a subscriber has the seeds too
ALTER TABLE @extschema@.rate_limiters ENABLE ALWAYS TRIGGER queue_seed;
COMMENT ON TRIGGER queue_seed ON @extschema@.rate_limiters IS
'Lets a dump that has edited seeds be restored beside the seeds of CREATE EXTENSION.';

CREATE FUNCTION @extschema@._queue_seeds_insert()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
	INSERT INTO @extschema@.rate_limiters
		(service_name, tokens_available, max_tokens, refill_per_second, max_concurrent, seeded)
	SELECT s.service_name, s.tokens, s.tokens, s.tokens, s.max_concurrent, true
	FROM (VALUES
		('stripe', 100, 10),
		('twilio', 10, 5),
		('sendgrid', 50, 10),
		('solana_rpc', 25, 5)) AS s (service_name, tokens, max_concurrent)
	WHERE NOT EXISTS (SELECT FROM @extschema@.rate_limiters l WHERE l.service_name = s.service_name)
$function$;
COMMENT ON FUNCTION @extschema@._queue_seeds_insert() IS 'Inserts the seeds of which rate_limiters has no row.';
SELECT @extschema@._queue_seeds_insert();

CREATE FUNCTION @extschema@._queue_seeds_settle()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	state "char" := (SELECT t.tgenabled FROM pg_trigger t
		WHERE t.tgrelid = '@extschema@.rate_limiters'::regclass AND t.tgname = 'queue_seed');
BEGIN
	IF state = 'D' THEN
		DELETE FROM @extschema@.rate_limiters WHERE seeded;
	ELSIF state <> 'A' THEN
		PERFORM @extschema@._queue_seeds_insert();
		ALTER TABLE @extschema@.rate_limiters ENABLE ALWAYS TRIGGER queue_seed;
	END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_seeds_settle() IS
'Removes the seeds while their trigger is disabled, as pg_restore --disable-triggers does around its COPY, and puts back those that are missing once it is enabled again.';

-- 7  functions ----------------------------------------------------------------

-- queues

CREATE FUNCTION @extschema@.queue_create(
	name text,
	description text DEFAULT NULL,
	max_attempts integer DEFAULT NULL,
	default_lease interval DEFAULT NULL,
	backoff_base interval DEFAULT NULL,
	backoff_factor double precision DEFAULT NULL,
	backoff_max interval DEFAULT NULL,
	backoff_jitter double precision DEFAULT NULL,
	keep_completed interval DEFAULT NULL,
	keep_dead interval DEFAULT NULL,
	dead_letters boolean DEFAULT NULL,
	max_depth bigint DEFAULT NULL,
	max_payload integer DEFAULT NULL,
	max_concurrency integer DEFAULT NULL,
	critical_reserve integer DEFAULT NULL,
	rate_limiter text DEFAULT NULL,
	enqueue_limiter text DEFAULT NULL,
	weight integer DEFAULT NULL,
	ageing interval DEFAULT NULL,
	group_concurrency integer DEFAULT NULL,
	group_on_failure text DEFAULT NULL,
	alert_depth bigint DEFAULT NULL,
	alert_age interval DEFAULT NULL,
	alert_dead bigint DEFAULT NULL,
	config jsonb DEFAULT NULL,
	OUT queue_id uuid,
	OUT created boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_create';
COMMENT ON FUNCTION @extschema@.queue_create(text, text, integer, interval, interval, double precision, interval, double precision, interval, interval, boolean, bigint, integer, integer, integer, text, text, integer, interval, integer, text, bigint, interval, bigint, jsonb) IS
'Creates a queue, unless the tenant has one of that name: that one is left as it is. NULL means the default of the column in queues.';

CREATE FUNCTION @extschema@.queue_set(
	name text,
	description text DEFAULT NULL,
	max_attempts integer DEFAULT NULL,
	default_lease interval DEFAULT NULL,
	backoff_base interval DEFAULT NULL,
	backoff_factor double precision DEFAULT NULL,
	backoff_max interval DEFAULT NULL,
	backoff_jitter double precision DEFAULT NULL,
	keep_completed interval DEFAULT NULL,
	keep_dead interval DEFAULT NULL,
	dead_letters boolean DEFAULT NULL,
	max_depth bigint DEFAULT NULL,
	max_payload integer DEFAULT NULL,
	max_concurrency integer DEFAULT NULL,
	critical_reserve integer DEFAULT NULL,
	rate_limiter text DEFAULT NULL,
	enqueue_limiter text DEFAULT NULL,
	weight integer DEFAULT NULL,
	ageing interval DEFAULT NULL,
	group_concurrency integer DEFAULT NULL,
	group_on_failure text DEFAULT NULL,
	alert_depth bigint DEFAULT NULL,
	alert_age interval DEFAULT NULL,
	alert_dead bigint DEFAULT NULL,
	config jsonb DEFAULT NULL,
	OUT queue_id uuid)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_set';
COMMENT ON FUNCTION @extschema@.queue_set(text, text, integer, interval, interval, double precision, interval, double precision, interval, interval, boolean, bigint, integer, integer, integer, text, text, integer, interval, integer, text, bigint, interval, bigint, jsonb) IS
'Changes a queue. NULL leaves a setting as it is; 0 (for rate_limiter and enqueue_limiter the empty string) removes a limit, ageing or an alert threshold.';

CREATE FUNCTION @extschema@.queue_drop(queue text, force boolean DEFAULT false)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_drop';
COMMENT ON FUNCTION @extschema@.queue_drop(text, boolean) IS
'Drops a queue with all that belongs to it. Refused while it has unfinished jobs, dead letters or schedules, unless force.';

CREATE FUNCTION @extschema@.queue_pause(queue text)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_pause';
COMMENT ON FUNCTION @extschema@.queue_pause(text) IS
'Pauses a queue: it takes jobs and hands none out. False if it was paused already.';

CREATE FUNCTION @extschema@.queue_resume(queue text)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_resume';
COMMENT ON FUNCTION @extschema@.queue_resume(text) IS
'Ends a pause. False if the queue was not paused.';

CREATE FUNCTION @extschema@.queue_purge(queue text, what text DEFAULT 'waiting', max_jobs integer DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_purge';
COMMENT ON FUNCTION @extschema@.queue_purge(text, text, integer) IS
'Deletes jobs of a queue and says how many: waiting, finished, dead (letters), or all of these. Jobs under a lease stay.';

CREATE PROCEDURE @extschema@.queue_purge_all(queue text, what text DEFAULT 'waiting', batch integer DEFAULT 10000)
LANGUAGE c
AS 'MODULE_PATHNAME', 'queue_purge_all';
COMMENT ON PROCEDURE @extschema@.queue_purge_all(text, text, integer) IS
'queue_purge() of all there is, batch by batch, each committed: may be stopped and called again. Says how far it is; see queue_progress.';

-- produce

CREATE FUNCTION @extschema@.queue_enqueue(
	queue text,
	payload jsonb DEFAULT '{}',
	job_type text DEFAULT 'default',
	priority integer DEFAULT 0,
	run_at timestamptz DEFAULT NULL,
	max_attempts integer DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	idempotency_ttl interval DEFAULT '24 hours',
	on_conflict text DEFAULT 'return',
	group_key text DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	longest_wait interval DEFAULT NULL,
	OUT job_id uuid,
	OUT created boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_enqueue';
COMMENT ON FUNCTION @extschema@.queue_enqueue(text, jsonb, text, integer, timestamptz, integer, text, interval, text, text, jsonb, interval) IS
'Enqueues a job in the caller''s transaction. If the idempotency key is taken, on_conflict decides: return the job, reject, replace it while it waits, or debounce (replace and wait anew, at most longest_wait in all).';

CREATE FUNCTION @extschema@.queue_enqueue_critical(
	queue text,
	payload jsonb,
	idempotency_key text,
	job_type text DEFAULT 'default',
	priority integer DEFAULT 0,
	run_at timestamptz DEFAULT NULL,
	max_attempts integer DEFAULT 5,
	idempotency_ttl interval DEFAULT '24 hours',
	on_conflict text DEFAULT 'return',
	group_key text DEFAULT NULL,
	headers jsonb DEFAULT NULL,
	OUT job_id uuid,
	OUT created boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_enqueue_critical';
COMMENT ON FUNCTION @extschema@.queue_enqueue_critical(text, jsonb, text, text, integer, timestamptz, integer, interval, text, text, jsonb) IS
'Enqueues a job that is claimed before all others of its queue. The idempotency key is required, and unique within the tenant; on_conflict is return, reject or replace. The transaction commits with synchronous_commit at least on.';

CREATE FUNCTION @extschema@.queue_enqueue_many(
	queue text,
	payloads jsonb[],
	job_type text DEFAULT 'default',
	priority integer DEFAULT 0,
	run_at timestamptz DEFAULT NULL,
	max_attempts integer DEFAULT NULL,
	group_key text DEFAULT NULL,
	headers jsonb DEFAULT NULL)
RETURNS SETOF uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 100
AS 'MODULE_PATHNAME', 'queue_enqueue_many';
COMMENT ON FUNCTION @extschema@.queue_enqueue_many(text, jsonb[], text, integer, timestamptz, integer, text, jsonb) IS
'Enqueues a job for each payload; returns their ids in the order of the payloads.';

-- schedules

CREATE FUNCTION @extschema@.queue_schedule(
	name text,
	queue text,
	cron text,
	payload jsonb DEFAULT '{}',
	timezone text DEFAULT 'UTC',
	job_type text DEFAULT 'default',
	priority integer DEFAULT 0,
	catch_up text DEFAULT 'last',
	catch_up_max integer DEFAULT 100,
	overlap text DEFAULT 'allow',
	jitter interval DEFAULT '0',
	enabled boolean DEFAULT true,
	OUT schedule_id uuid,
	OUT created boolean,
	OUT next_run_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_schedule';
COMMENT ON FUNCTION @extschema@.queue_schedule(text, text, text, jsonb, text, text, integer, text, integer, text, interval, boolean) IS
'Has a job enqueued whenever the cron expression is due in the time zone. A schedule of that name is changed; next_run_at only if its times change.';

CREATE FUNCTION @extschema@.queue_unschedule(name text)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_unschedule';
COMMENT ON FUNCTION @extschema@.queue_unschedule(text) IS
'Deletes a schedule; its jobs stay. False if there is none of that name.';

CREATE FUNCTION @extschema@.queue_cron_next(
	cron text,
	timezone text DEFAULT 'UTC',
	after timestamptz DEFAULT NULL,
	n integer DEFAULT 1)
RETURNS SETOF timestamptz
LANGUAGE c VOLATILE PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'queue_cron_next';
COMMENT ON FUNCTION @extschema@.queue_cron_next(text, text, timestamptz, integer) IS
'The next times when the cron expression is due in the time zone, after the time given, or after now.';

-- consume

CREATE FUNCTION @extschema@.queue_claim(
	queue text,
	worker text DEFAULT NULL,
	max_jobs integer DEFAULT 1,
	lease interval DEFAULT NULL,
	OUT job_id uuid,
	OUT lease_token bigint,
	OUT tenant_id uuid,
	OUT queue text,
	OUT job_type text,
	OUT payload jsonb,
	OUT headers jsonb,
	OUT attempt integer,
	OUT max_attempts integer,
	OUT priority smallint,
	OUT critical boolean,
	OUT enqueued_at timestamptz,
	OUT leased_until timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 10
AS 'MODULE_PATHNAME', 'queue_claim';
COMMENT ON FUNCTION @extschema@.queue_claim(text, text, integer, interval) IS
'Claims up to max_jobs jobs of a queue for a lease: critical ones first, then by priority (the higher goes first) and run_at. No row means that nothing is claimable.';

CREATE FUNCTION @extschema@.queue_complete(
	job_id uuid,
	lease_token bigint,
	result jsonb DEFAULT NULL,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_complete';
COMMENT ON FUNCTION @extschema@.queue_complete(uuid, bigint, jsonb, boolean) IS
'Completes a job: outcome done, or lost if the lease is no longer held. With strict a lost lease is an error, so that the effect in the same transaction is undone.';

CREATE FUNCTION @extschema@.queue_complete_many(
	job_ids uuid[],
	lease_tokens bigint[],
	results jsonb[] DEFAULT NULL,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT outcome text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 10
AS 'MODULE_PATHNAME', 'queue_complete_many';
COMMENT ON FUNCTION @extschema@.queue_complete_many(uuid[], bigint[], jsonb[], boolean) IS
'queue_complete() for arrays: one row for each job, in the order of job_ids.';

CREATE FUNCTION @extschema@.queue_complete_and_claim(
	queue text,
	job_ids uuid[] DEFAULT '{}',
	lease_tokens bigint[] DEFAULT '{}',
	results jsonb[] DEFAULT NULL,
	worker text DEFAULT NULL,
	max_jobs integer DEFAULT 1,
	lease interval DEFAULT NULL,
	strict boolean DEFAULT false,
	OUT kind text,
	OUT job_id uuid,
	OUT lease_token bigint,
	OUT tenant_id uuid,
	OUT queue text,
	OUT job_type text,
	OUT payload jsonb,
	OUT headers jsonb,
	OUT attempt integer,
	OUT max_attempts integer,
	OUT priority smallint,
	OUT critical boolean,
	OUT enqueued_at timestamptz,
	OUT leased_until timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 10
AS 'MODULE_PATHNAME', 'queue_complete_and_claim';
COMMENT ON FUNCTION @extschema@.queue_complete_and_claim(text, uuid[], bigint[], jsonb[], text, integer, interval, boolean) IS
'A worker''s whole turn in one commit: completes the jobs it has done, then claims the next. Rows of kind refused (job_id and lease_token of a lost lease) come first, then those of kind claimed.';

CREATE FUNCTION @extschema@.queue_fail(
	job_id uuid,
	lease_token bigint,
	error text DEFAULT NULL,
	retry_in interval DEFAULT NULL,
	dead boolean DEFAULT false,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_fail';
COMMENT ON FUNCTION @extschema@.queue_fail(uuid, bigint, text, interval, boolean, boolean) IS
'Ends a failed attempt: outcome retry (after retry_in, or the queue''s backoff), dead (no attempt left, or dead), cancelled (a cancel was requested) or lost.';

CREATE FUNCTION @extschema@.queue_heartbeat(
	job_id uuid,
	lease_token bigint,
	extend interval DEFAULT NULL,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT held boolean,
	OUT cancel_requested boolean,
	OUT leased_until timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_heartbeat';
COMMENT ON FUNCTION @extschema@.queue_heartbeat(uuid, bigint, interval, boolean) IS
'Extends a lease to extend (the queue''s default_lease) from now; it never ends earlier than before. Says whether the lease is held and whether a cancel was requested.';

CREATE FUNCTION @extschema@.queue_heartbeat_many(
	job_ids uuid[],
	lease_tokens bigint[],
	extend interval DEFAULT NULL,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT held boolean,
	OUT cancel_requested boolean,
	OUT leased_until timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 10
AS 'MODULE_PATHNAME', 'queue_heartbeat_many';
COMMENT ON FUNCTION @extschema@.queue_heartbeat_many(uuid[], bigint[], interval, boolean) IS
'queue_heartbeat() for arrays: one row for each job, in the order of job_ids.';

CREATE FUNCTION @extschema@.queue_snooze(
	job_id uuid,
	lease_token bigint,
	delay interval,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_snooze';
COMMENT ON FUNCTION @extschema@.queue_snooze(uuid, bigint, interval, boolean) IS
'Gives a job back to be claimed after a delay; the attempt does not count. Outcome released, cancelled or lost.';

CREATE FUNCTION @extschema@.queue_release(
	job_id uuid,
	lease_token bigint,
	strict boolean DEFAULT false,
	OUT job_id uuid,
	OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_release';
COMMENT ON FUNCTION @extschema@.queue_release(uuid, bigint, boolean) IS
'Gives a job back, claimable at once and at its old place; the attempt does not count. Outcome released, cancelled or lost.';

CREATE PROCEDURE @extschema@.queue_wait(queue text, timeout interval DEFAULT '30 seconds')
LANGUAGE c
AS 'MODULE_PATHNAME', 'queue_wait';
COMMENT ON PROCEDURE @extschema@.queue_wait(text, interval) IS
'Returns when the queue may have claimable work, at the latest after timeout. Waits without a snapshot, and ends no transaction. To be called by CALL at READ COMMITTED, before the transaction writes.';

-- repair

CREATE FUNCTION @extschema@.queue_cancel(job_id uuid, OUT job_id uuid, OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_cancel';
COMMENT ON FUNCTION @extschema@.queue_cancel(uuid) IS
'Cancels a job: outcome cancelled if it waited, requested if it runs (its worker is told at the next heartbeat), finished if it had ended.';

CREATE FUNCTION @extschema@.queue_retry(
	job_id uuid,
	run_at timestamptz DEFAULT NULL,
	OUT job_id uuid,
	OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_retry';
COMMENT ON FUNCTION @extschema@.queue_retry(uuid, timestamptz) IS
'Makes a job claimable at run_at (now) with all its attempts before it: waiting, running (its lease is taken away), failed or dead (it comes back under a new id, which is returned). Outcome retry, or finished for a completed job.';

CREATE FUNCTION @extschema@.queue_redrive(
	queue text,
	max_jobs integer DEFAULT NULL,
	error_like text DEFAULT NULL,
	died_after timestamptz DEFAULT NULL,
	died_before timestamptz DEFAULT NULL,
	per_second double precision DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_redrive';
COMMENT ON FUNCTION @extschema@.queue_redrive(text, integer, text, timestamptz, timestamptz, double precision) IS
'Sends dead letters back to the table they came from, the oldest first, each once, and says how many. They get new ids. error_like is a LIKE pattern for last_error; per_second spreads their run_at. A letter whose idempotency key a later critical job has stays.';

CREATE PROCEDURE @extschema@.queue_redrive_all(
	queue text,
	batch integer DEFAULT 1000,
	error_like text DEFAULT NULL,
	died_after timestamptz DEFAULT NULL,
	died_before timestamptz DEFAULT NULL,
	per_second double precision DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'queue_redrive_all';
COMMENT ON PROCEDURE @extschema@.queue_redrive_all(text, integer, text, timestamptz, timestamptz, double precision) IS
'queue_redrive() of all there is, batch by batch, each committed: may be stopped and called again. Says how far it is; see queue_progress.';

CREATE FUNCTION @extschema@.queue_tenant_purge(
	tenant uuid,
	max_rows integer DEFAULT 10000,
	OUT deleted bigint,
	OUT done boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_tenant_purge';
COMMENT ON FUNCTION @extschema@.queue_tenant_purge(uuid, integer) IS
'Deletes up to max_rows rows of a tenant from all tables; done when none is left. For the platform only.';

CREATE PROCEDURE @extschema@.queue_tenant_purge_all(tenant uuid, batch integer DEFAULT 10000)
LANGUAGE c
AS 'MODULE_PATHNAME', 'queue_tenant_purge_all';
COMMENT ON PROCEDURE @extschema@.queue_tenant_purge_all(uuid, integer) IS
'Platform: queue_tenant_purge() until nothing is left, batch by batch, each committed: may be stopped and called again. Says how far it is; see queue_progress.';

-- limits

CREATE FUNCTION @extschema@.queue_rate_acquire(
	service text,
	tokens integer DEFAULT 1,
	hold interval DEFAULT NULL,
	OUT granted boolean,
	OUT permit bigint,
	OUT remaining double precision,
	OUT retry_after interval,
	OUT granted_at timestamptz)
RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'queue_rate_acquire';
COMMENT ON FUNCTION @extschema@.queue_rate_acquire(text, integer, interval) IS
'Takes tokens, and a permit where max_concurrent is set, of a service. From the tenant''s own limit of that name as well: from both or from neither. If refused, it is granted after retry_after unless others are quicker. Not given back by a rollback.';

CREATE FUNCTION @extschema@.queue_rate_release(service text, permit bigint)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'queue_rate_release';
COMMENT ON FUNCTION @extschema@.queue_rate_release(text, bigint) IS
'Gives a permit back. False if it was released before, or expired and given to somebody else.';

CREATE FUNCTION @extschema@.queue_rate_peek(
	service text,
	OUT limited_by text,
	OUT tokens double precision,
	OUT max_tokens double precision,
	OUT refill_per_second double precision,
	OUT next_token_in interval,
	OUT permits_out integer,
	OUT max_concurrent integer,
	OUT next_permit_in interval)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 2
AS 'MODULE_PATHNAME', 'queue_rate_peek';
COMMENT ON FUNCTION @extschema@.queue_rate_peek(text) IS
'What there is to take: a row for the tenant''s own limit of that name, and one for the service. Takes nothing.';

CREATE FUNCTION @extschema@.queue_limiter_set(
	service text,
	max_tokens double precision DEFAULT NULL,
	refill_per_second double precision DEFAULT NULL,
	max_concurrent integer DEFAULT NULL,
	max_hold interval DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_limiter_set';
COMMENT ON FUNCTION @extschema@.queue_limiter_set(text, double precision, double precision, integer, interval) IS
'Platform: sets the limits of a service, for all tenants together. NULL leaves a setting as it is, 0 removes max_concurrent. True if the service had none; then max_tokens and refill_per_second are required.';

CREATE FUNCTION @extschema@.queue_tenant_limit_set(
	tenant uuid,
	name text,
	max_tokens double precision DEFAULT NULL,
	refill_per_second double precision DEFAULT NULL,
	max_concurrent integer DEFAULT NULL,
	max_hold interval DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_tenant_limit_set';
COMMENT ON FUNCTION @extschema@.queue_tenant_limit_set(uuid, text, double precision, double precision, integer, interval) IS
'Platform: sets a tenant''s own limits for a service, or for a name of its own. NULL leaves a setting as it is, 0 removes max_concurrent. True if the tenant had none of that name; then max_tokens and refill_per_second are required.';

-- look

CREATE FUNCTION @extschema@.queue_job(
	job_id uuid,
	OUT job_id uuid,
	OUT tenant_id uuid,
	OUT queue text,
	OUT critical boolean,
	OUT status text,
	OUT finish_reason text,
	OUT job_type text,
	OUT payload jsonb,
	OUT headers jsonb,
	OUT result jsonb,
	OUT priority smallint,
	OUT run_at timestamptz,
	OUT attempts integer,
	OUT max_attempts integer,
	OUT group_key text,
	OUT idempotency_key text,
	OUT cancel_requested boolean,
	OUT leased_by text,
	OUT leased_at timestamptz,
	OUT leased_until timestamptz,
	OUT last_error text,
	OUT errors jsonb,
	OUT enqueued_at timestamptz,
	OUT finished_at timestamptz,
	OUT redriven_as uuid)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 1
AS 'MODULE_PATHNAME', 'queue_job';
COMMENT ON FUNCTION @extschema@.queue_job(uuid) IS
'A job of one''s own, live, finished or dead, with its result. A dead one has status failed, and finish_reason as in dead_letter_jobs. No row if there is none.';

CREATE FUNCTION @extschema@.queue_peek(
	queue text,
	max_jobs integer DEFAULT 10,
	OUT job_id uuid,
	OUT critical boolean,
	OUT job_type text,
	OUT payload jsonb,
	OUT priority smallint,
	OUT run_at timestamptz,
	OUT attempts integer,
	OUT max_attempts integer)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 10
AS 'MODULE_PATHNAME', 'queue_peek';
COMMENT ON FUNCTION @extschema@.queue_peek(text, integer) IS
'The jobs that the next claims would return, in their order, without claiming them.';

CREATE FUNCTION @extschema@.queue_explain(
	job_id uuid,
	OUT reason text,
	OUT detail text,
	OUT until timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 3
AS 'MODULE_PATHNAME', 'queue_explain';
COMMENT ON FUNCTION @extschema@.queue_explain(uuid) IS
'Why a job does not run, a row for each reason, the first one first; until is when that ends, if it is known.';

CREATE FUNCTION @extschema@._queue_stats(
	OUT tenant_id uuid,
	OUT queue_id uuid,
	OUT queue text,
	OUT depth bigint,
	OUT delayed bigint,
	OUT processing bigint,
	OUT oldest_claimable_age interval,
	OUT enqueued bigint,
	OUT claimed bigint,
	OUT completed bigint,
	OUT failed bigint,
	OUT dead bigint,
	OUT cancelled bigint,
	OUT enqueued_per_second double precision,
	OUT claimed_per_second double precision,
	OUT completed_per_second double precision,
	OUT failed_per_second double precision,
	OUT dead_per_second double precision,
	OUT wait_p50 interval,
	OUT wait_p95 interval,
	OUT wait_p99 interval,
	OUT run_p50 interval,
	OUT run_p95 interval,
	OUT run_p99 interval,
	OUT counted text,
	OUT statistics_at timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'qs_queue_stats';
COMMENT ON FUNCTION @extschema@._queue_stats() IS 'What the view queue_stats shows.';
CREATE VIEW @extschema@.queue_stats AS SELECT * FROM @extschema@._queue_stats();
COMMENT ON VIEW @extschema@.queue_stats IS
'The statistics of the tenant''s queues, or of all for who serves all tenants while app.current_tenant is unset. Reads no job.';
COMMENT ON COLUMN @extschema@.queue_stats.tenant_id IS 'The tenant that the queue belongs to.';
COMMENT ON COLUMN @extschema@.queue_stats.queue_id IS 'The queue.';
COMMENT ON COLUMN @extschema@.queue_stats.queue IS 'Its name.';
COMMENT ON COLUMN @extschema@.queue_stats.depth IS 'Jobs that wait, critical ones, delayed ones and held ones included.';
COMMENT ON COLUMN @extschema@.queue_stats.delayed IS 'Those of them whose run_at is still to come, when that was last looked at.';
COMMENT ON COLUMN @extschema@.queue_stats.processing IS 'Jobs that are claimed and have not finished, whether their lease has expired or not.';
COMMENT ON COLUMN @extschema@.queue_stats.oldest_claimable_age IS 'For how long the oldest claimable job has been due; NULL if there was none when that was last looked at.';
COMMENT ON COLUMN @extschema@.queue_stats.enqueued IS 'Jobs that came in all, by whatever way.';
COMMENT ON COLUMN @extschema@.queue_stats.claimed IS 'Claims in all.';
COMMENT ON COLUMN @extschema@.queue_stats.completed IS 'Jobs completed in all.';
COMMENT ON COLUMN @extschema@.queue_stats.failed IS 'Attempts failed in all, also those whose lease expired.';
COMMENT ON COLUMN @extschema@.queue_stats.dead IS 'Jobs that failed for good in all.';
COMMENT ON COLUMN @extschema@.queue_stats.cancelled IS 'Jobs cancelled in all.';
COMMENT ON COLUMN @extschema@.queue_stats.enqueued_per_second IS 'Jobs that came, in the last one to two minutes; NULL without shared memory, as all below but the last two columns.';
COMMENT ON COLUMN @extschema@.queue_stats.claimed_per_second IS 'Claims, in the same time.';
COMMENT ON COLUMN @extschema@.queue_stats.completed_per_second IS 'Jobs completed, in the same time.';
COMMENT ON COLUMN @extschema@.queue_stats.failed_per_second IS 'Attempts failed, in the same time.';
COMMENT ON COLUMN @extschema@.queue_stats.dead_per_second IS 'Jobs that failed for good, in the same time.';
COMMENT ON COLUMN @extschema@.queue_stats.wait_p50 IS 'Median time from due to claim, in the same time; off by a factor of 1.42 at most, as all below.';
COMMENT ON COLUMN @extschema@.queue_stats.wait_p95 IS '95th percentile of the time from due to claim.';
COMMENT ON COLUMN @extschema@.queue_stats.wait_p99 IS '99th percentile of the time from due to claim.';
COMMENT ON COLUMN @extschema@.queue_stats.run_p50 IS 'Median time from claim to completion.';
COMMENT ON COLUMN @extschema@.queue_stats.run_p95 IS '95th percentile of the time from claim to completion.';
COMMENT ON COLUMN @extschema@.queue_stats.run_p99 IS '99th percentile of the time from claim to completion.';
COMMENT ON COLUMN @extschema@.queue_stats.counted IS 'exact: depth and processing are those of now. uncertain: but for what was prepared, until it has ended and is counted. stored: they are of statistics_at.';
COMMENT ON COLUMN @extschema@.queue_stats.statistics_at IS 'As of when depth and processing are; NULL if they were never counted.';

CREATE FUNCTION @extschema@._queue_cache(
	OUT claims bigint,
	OUT visited_mean double precision,
	OUT visited_p99 bigint,
	OUT visited_max bigint,
	OUT full_scans bigint,
	OUT jumps bigint,
	OUT published bigint,
	OUT refused bigint,
	OUT announced bigint,
	OUT queues bigint,
	OUT queues_max bigint,
	OUT evicted bigint,
	OUT ranges bigint,
	OUT ranges_max bigint,
	OUT bytes bigint,
	OUT turns bigint,
	OUT turns_in_vain bigint,
	OUT ring_queues bigint,
	OUT ring_queues_max bigint,
	OUT ring_bytes bigint)
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'qs_queue_cache';
COMMENT ON FUNCTION @extschema@._queue_cache() IS 'What the view queue_cache shows.';
CREATE VIEW @extschema@.queue_cache AS SELECT * FROM @extschema@._queue_cache();
COMMENT ON VIEW @extschema@.queue_cache IS
'How flat claims are, and how they serve all tenants, since the server started. All 0 unless the library is preloaded.';
COMMENT ON COLUMN @extschema@.queue_cache.claims IS 'Calls that claimed, or tried to.';
COMMENT ON COLUMN @extschema@.queue_cache.visited_mean IS 'Index entries that one of them looked at, on average.';
COMMENT ON COLUMN @extschema@.queue_cache.visited_p99 IS 'What 99 of 100 stayed within: the upper end of a class that is a power of two wide.';
COMMENT ON COLUMN @extschema@.queue_cache.visited_max IS 'The most that one looked at.';
COMMENT ON COLUMN @extschema@.queue_cache.full_scans IS 'Claims that looked at 256 entries or more, as the first one of a long queue does after a start.';
COMMENT ON COLUMN @extschema@.queue_cache.jumps IS 'How often a claim jumped over known ranges.';
COMMENT ON COLUMN @extschema@.queue_cache.published IS 'Ranges that claims added.';
COMMENT ON COLUMN @extschema@.queue_cache.refused IS 'Ranges that came too late to be added.';
COMMENT ON COLUMN @extschema@.queue_cache.announced IS 'Entries that writers announced.';
COMMENT ON COLUMN @extschema@.queue_cache.queues IS 'Queues that the cache knows now.';
COMMENT ON COLUMN @extschema@.queue_cache.queues_max IS 'Queues that it has room for.';
COMMENT ON COLUMN @extschema@.queue_cache.evicted IS 'Queues that made room for others.';
COMMENT ON COLUMN @extschema@.queue_cache.ranges IS 'Ranges that it knows now.';
COMMENT ON COLUMN @extschema@.queue_cache.ranges_max IS 'Ranges that it has room for.';
COMMENT ON COLUMN @extschema@.queue_cache.bytes IS 'Its size, set by queue_service.cache_size.';
COMMENT ON COLUMN @extschema@.queue_cache.turns IS 'Queues that claims for all tenants looked at.';
COMMENT ON COLUMN @extschema@.queue_cache.turns_in_vain IS 'Those that had fewer jobs than they might have been given for.';
COMMENT ON COLUMN @extschema@.queue_cache.ring_queues IS 'Queues that take turns, or would if they had work.';
COMMENT ON COLUMN @extschema@.queue_cache.ring_queues_max IS 'Queues that there is room for.';
COMMENT ON COLUMN @extschema@.queue_cache.ring_bytes IS 'Its size, set by queue_service.ring_size.';

CREATE FUNCTION @extschema@._queue_health(
	OUT item text,
	OUT ok boolean,
	OUT detail text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE ROWS 10
AS 'MODULE_PATHNAME', 'qs_queue_health';
COMMENT ON FUNCTION @extschema@._queue_health() IS 'What the view queue_health shows.';
CREATE VIEW @extschema@.queue_health AS SELECT * FROM @extschema@._queue_health();
COMMENT ON VIEW @extschema@.queue_health IS
'Whether claims are as fast as they can be and maintenance runs, and if not, why.';
COMMENT ON COLUMN @extschema@.queue_health.item IS 'What was looked at.';
COMMENT ON COLUMN @extschema@.queue_health.ok IS 'Whether it is as it should be.';
COMMENT ON COLUMN @extschema@.queue_health.detail IS 'What is, and what to do.';

CREATE FUNCTION @extschema@._queue_progress(
	OUT pid integer,
	OUT what text,
	OUT queue text,
	OUT done bigint,
	OUT total bigint,
	OUT per_second bigint,
	OUT since interval,
	OUT tenant_id uuid)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'qs_queue_progress';
COMMENT ON FUNCTION @extschema@._queue_progress() IS 'What the view queue_progress shows.';
CREATE VIEW @extschema@.queue_progress AS SELECT * FROM @extschema@._queue_progress();
COMMENT ON VIEW @extschema@.queue_progress IS
'How far calls are that commit as they go, and tasks of maintenance that have more to do: those for the tenant, or all for who serves all tenants while app.current_tenant is unset. Empty unless the library is preloaded.';
COMMENT ON COLUMN @extschema@.queue_progress.pid IS 'The process that does it: pg_cancel_backend() stops it.';
COMMENT ON COLUMN @extschema@.queue_progress.what IS 'The procedure, or the task of maintenance.';
COMMENT ON COLUMN @extschema@.queue_progress.queue IS 'The queue that it is about; NULL: of a tenant, or of all.';
COMMENT ON COLUMN @extschema@.queue_progress.done IS 'Rows that it has done and committed.';
COMMENT ON COLUMN @extschema@.queue_progress.total IS 'Rows that there were when it began; NULL if they were not counted.';
COMMENT ON COLUMN @extschema@.queue_progress.per_second IS 'Rows a second since it began.';
COMMENT ON COLUMN @extschema@.queue_progress.since IS 'For how long it has been at it.';
COMMENT ON COLUMN @extschema@.queue_progress.tenant_id IS 'The tenant that it is for; NULL: all.';

CREATE FUNCTION @extschema@.queue_report(period interval DEFAULT '1 day')
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100
AS 'MODULE_PATHNAME', 'queue_report';
COMMENT ON FUNCTION @extschema@.queue_report(interval) IS
'A page of HTML with charts, that needs nothing else: how the queues of the tenant are, or of all tenants for who serves all while app.current_tenant is unset, and how they were for the period. Reads no job.';

CREATE FUNCTION @extschema@.queue_monitor(
	part text DEFAULT NULL,
	max_queues integer DEFAULT 500,
	OUT name text,
	OUT type text,
	OUT help text,
	OUT labels jsonb,
	OUT value double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 ROWS 1000
AS 'MODULE_PATHNAME', 'queue_monitor';
COMMENT ON FUNCTION @extschema@.queue_monitor(text, integer) IS
'Metrics as Prometheus names them. Of the tenant, or of all tenants for who serves all while app.current_tenant is unset: of the server, of the max_queues queues with the most waiting and running jobs, of limiters and of open alerts, or only one part of these.';

CREATE FUNCTION @extschema@._queue_top(OUT line text)
RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 30
AS 'MODULE_PATHNAME', 'qs_queue_top';
COMMENT ON FUNCTION @extschema@._queue_top() IS 'What the view queue_top shows.';
CREATE VIEW @extschema@.queue_top AS SELECT line FROM @extschema@._queue_top();
COMMENT ON VIEW @extschema@.queue_top IS
'What goes on, for a terminal of 120 x 40: SELECT * FROM queue_top \watch 2';
COMMENT ON COLUMN @extschema@.queue_top.line IS 'A line of it.';

-- operate

CREATE FUNCTION @extschema@._queue_all_tenants()
RETURNS void
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'qs_queue_all_tenants';
COMMENT ON FUNCTION @extschema@._queue_all_tenants() IS
'A marker: whoever may execute it serves all tenants while app.current_tenant is unset.';

CREATE FUNCTION @extschema@.queue_maintain(
	now timestamptz DEFAULT NULL,
	OUT task text,
	OUT done bigint,
	OUT took interval,
	OUT error text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 12
AS 'MODULE_PATHNAME', 'queue_maintain';
COMMENT ON FUNCTION @extschema@.queue_maintain(timestamptz) IS
'Platform: runs every task of maintenance until it has nothing left to do, as the background worker does. No row if another session is at it. now is the clock, for tests.';

CREATE FUNCTION @extschema@.queue_worker_start()
RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'queue_worker_start';
COMMENT ON FUNCTION @extschema@.queue_worker_start() IS
'Platform: starts the background worker of this database, which then runs until the server stops. Its process id, or that of the one that runs already; NULL if it has not come up within 10 seconds.';

CREATE FUNCTION @extschema@._queue_task(
	task text,
	now timestamptz DEFAULT NULL,
	OUT done bigint,
	OUT more boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'qs_queue_task';
COMMENT ON FUNCTION @extschema@._queue_task(text, timestamptz) IS
'Platform: one run of one task of maintenance; more means that it stopped at its bound. NULL if another session is at it.';

-- What each privilege of queue_grant() is made of, as statements to run.
CREATE FUNCTION @extschema@._queue_privilege_statements(role name, privilege name, all_tenants boolean, revoke boolean)
RETURNS SETOF text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	producer constant text[] := ARRAY['queue_enqueue', 'queue_enqueue_critical', 'queue_enqueue_many',
		'queue_job', 'queue_explain', 'queue_cancel'];
	worker constant text[] := ARRAY['queue_claim', 'queue_complete', 'queue_complete_many',
		'queue_complete_and_claim', 'queue_fail', 'queue_heartbeat', 'queue_heartbeat_many',
		'queue_snooze', 'queue_release', 'queue_wait',
		'queue_rate_acquire', 'queue_rate_release', 'queue_rate_peek'];
	observer constant text[] := ARRAY['_queue_stats', '_queue_cache', '_queue_health', '_queue_progress', '_queue_top', 'queue_rate_peek', 'queue_report', 'queue_monitor'];
	admin constant text[] := producer || worker || observer || ARRAY['queue_create', 'queue_set', 'queue_drop',
		'queue_pause', 'queue_resume', 'queue_purge', 'queue_purge_all', 'queue_retry', 'queue_redrive',
		'queue_redrive_all', 'queue_peek',
		'queue_schedule', 'queue_unschedule', 'queue_cron_next'];
	insertable constant text := 'INSERT (tenant_id, queue_id, job_type, payload, priority, run_at, max_attempts, group_key) ON TABLE @extschema@.jobs';
	job_columns constant text := 'id, tenant_id, queue_id, run_at, enqueued_at, attempts, max_attempts, priority, job_type, group_key, idempotency_key, schedule_id, leased_by, leased_at, leased_until';
	live_columns constant text := job_columns || ', held, cancel_requested, final_attempt, status, finish_reason, finished_at';
	functions text[];
	tables text[] := '{}';
	readable text[] := '{}';
BEGIN
	CASE privilege
		WHEN 'producer' THEN
			functions := producer;
			tables := ARRAY[insertable, 'SELECT (id, tenant_id, name) ON TABLE @extschema@.queues'];
		WHEN 'worker' THEN
			functions := worker;
		WHEN 'observer' THEN
			functions := observer;
			readable := ARRAY['queues', 'queue_metrics', 'alert_history'];
			tables := ARRAY['SELECT ON TABLE @extschema@.queue_stats', 'SELECT ON TABLE @extschema@.queue_cache', 'SELECT ON TABLE @extschema@.queue_health', 'SELECT ON TABLE @extschema@.queue_progress', 'SELECT ON TABLE @extschema@.queue_top',
				format('SELECT (%s) ON TABLE @extschema@.jobs', live_columns),
				format('SELECT (%s) ON TABLE @extschema@.critical_jobs', live_columns),
				format('SELECT (%s, source_table, reason, died_at, redriven_at, redriven_as) ON TABLE @extschema@.dead_letter_jobs', job_columns)];
		WHEN 'admin' THEN
			functions := admin;
			readable := ARRAY['queues', 'jobs', 'critical_jobs', 'dead_letter_jobs', 'idempotency_keys',
				'schedules', 'rate_limits', 'queue_metrics', 'alert_history'];
			tables := ARRAY[insertable, 'SELECT ON TABLE @extschema@.queue_stats', 'SELECT ON TABLE @extschema@.queue_cache', 'SELECT ON TABLE @extschema@.queue_health', 'SELECT ON TABLE @extschema@.queue_progress', 'SELECT ON TABLE @extschema@.queue_top'];
		ELSE
			-- without what it was, which may be a secret
			RAISE EXCEPTION 'privilege must be producer, worker, observer or admin' USING ERRCODE = 'QS021';
	END CASE;
	IF NOT revoke THEN
		RETURN NEXT format('GRANT USAGE ON SCHEMA @extschema@ TO %I', role);
	END IF;
	RETURN QUERY
		SELECT format(CASE WHEN revoke THEN 'REVOKE %s FROM %I' ELSE 'GRANT %s TO %I' END, o.object, role)
		FROM (SELECT 'EXECUTE ON ROUTINE ' || p.oid::regprocedure::text
			FROM pg_proc p
			WHERE p.pronamespace = '@extschema@'::regnamespace
			AND (p.proname = ANY (functions) OR all_tenants AND p.proname = '_queue_all_tenants')
			UNION ALL SELECT unnest(tables)
			-- column by column: a right to the whole table is also one to its
			-- system columns, which tell what other tenants do
			UNION ALL SELECT format('SELECT (%s) ON TABLE %s', string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum), a.attrelid::regclass)
			FROM unnest(readable) r
			JOIN pg_attribute a ON a.attrelid = format('@extschema@.%I', r)::regclass AND a.attnum > 0 AND NOT a.attisdropped
			GROUP BY a.attrelid) o (object);
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_privilege_statements(name, name, boolean, boolean) IS
'The statements that queue_grant() and queue_revoke() run.';

CREATE FUNCTION @extschema@.queue_grant(role name, privilege text, all_tenants boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	asked constant name := privilege; -- of 256 MB a plan would have a copy
	statement text;
BEGIN
	IF role IS NULL OR privilege IS NULL OR all_tenants IS NULL THEN
		RAISE EXCEPTION 'no argument of queue_grant() may be null' USING ERRCODE = 'QS020';
	END IF;
	FOR statement IN SELECT @extschema@._queue_privilege_statements(role, asked, all_tenants, false) LOOP
		EXECUTE statement;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION @extschema@.queue_grant(name, text, boolean) IS
'Gives a role what a producer, worker, observer or admin needs. With all_tenants it serves all tenants while app.current_tenant is unset. For the owner of the extension.';

CREATE FUNCTION @extschema@.queue_revoke(role name, privilege text, all_tenants boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	asked constant name := privilege; -- of 256 MB a plan would have a copy
	statement text;
BEGIN
	IF role IS NULL OR privilege IS NULL OR all_tenants IS NULL THEN
		RAISE EXCEPTION 'no argument of queue_revoke() may be null' USING ERRCODE = 'QS020';
	END IF;
	FOR statement IN SELECT @extschema@._queue_privilege_statements(role, asked, all_tenants, true) LOOP
		EXECUTE statement;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION @extschema@.queue_revoke(name, text, boolean) IS
'Takes back what queue_grant() gave, with all_tenants also the right to serve all tenants. What two privileges share goes with the first; grant again what is to stay.';

-- 8  a table tenants that is created later ------------------------------------

-- pg_restore runs CREATE EXTENSION, which brings a table tenants, before the
-- CREATE TABLE of the tenants that were dumped, and adds their primary key last.

CREATE FUNCTION @extschema@._queue_creates_tenants()
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'qs_creates_tenants';
COMMENT ON FUNCTION @extschema@._queue_creates_tenants() IS
'Whether the statement that the client runs is a CREATE TABLE of a permanent table tenants, with a column id of type uuid, in the extension''s schema.';

CREATE FUNCTION @extschema@._queue_tenants_keys(
	OUT referrer regclass,
	OUT key name,
	OUT validated boolean)
RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $function$
	SELECT c.oid, (c.relname || '_tenant_fkey')::name, k.convalidated
	FROM pg_extension e
	JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
	JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'r'
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
	LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conname = c.relname || '_tenant_fkey'
	WHERE e.extname = 'queue_service'
$function$;
COMMENT ON FUNCTION @extschema@._queue_tenants_keys() IS
'The tables that refer to tenants, and the name of each one''s foreign key; validated is NULL where the key is missing.';

CREATE FUNCTION @extschema@._queue_tenants_yield()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	statement text;
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_depend d
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'
		WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass('@extschema@.tenants')
		AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
	THEN
		RETURN;
	END IF;
	-- Nobody waits for a lock on a table in use only to see it stay.
	IF EXISTS (SELECT FROM @extschema@.tenants) THEN
		RETURN;
	END IF;
	LOCK TABLE @extschema@.tenants IN ACCESS EXCLUSIVE MODE;
	-- A snapshot older than the lock does not show every row.
	IF EXISTS (SELECT FROM @extschema@.tenants)
		OR current_setting('transaction_isolation') <> 'read committed'
		AND pg_relation_size('@extschema@.tenants') > 0
	THEN
		RETURN;
	END IF;
	-- Not CASCADE: what others made to depend on the table stops this.
	FOR statement IN
		SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', k.referrer, k.key)
		FROM @extschema@._queue_tenants_keys() k
		WHERE k.validated IS NOT NULL
	LOOP
		EXECUTE statement;
	END LOOP;
	ALTER EXTENSION queue_service DROP TABLE @extschema@.tenants;
	DROP TABLE @extschema@.tenants;
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_tenants_yield() IS
'Drops the table tenants that the extension brought, and the foreign keys to it, if it is empty.';

CREATE FUNCTION @extschema@._queue_tenants_attach()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	k record;
BEGIN
	IF @extschema@._queue_tenants_fault() IS NOT NULL THEN
		RETURN;
	END IF;
	FOR k IN SELECT * FROM @extschema@._queue_tenants_keys() WHERE validated IS NULL LOOP
		EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (tenant_id)'
			' REFERENCES @extschema@.tenants (id) ON DELETE RESTRICT NOT VALID', k.referrer, k.key);
	END LOOP;
	FOR k IN SELECT * FROM @extschema@._queue_tenants_keys() WHERE NOT validated LOOP
		BEGIN
			EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.referrer, k.key);
		EXCEPTION WHEN OTHERS THEN
			RAISE WARNING 'could not validate foreign key "%" of table "%": %', k.key, k.referrer, SQLERRM
				USING ERRCODE = SQLSTATE,
				HINT = 'It holds for new rows. It is tried again whenever the table tenants is altered.';
		END;
	END LOOP;
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_tenants_attach() IS
'Adds the foreign keys to tenants.id that are missing, and validates those that are not, if the table tenants allows it.';

-- Both event triggers return at once for whoever does not own the extension,
-- who may not execute the functions above either, and turn every error into a
-- warning: no statement of anybody may fail for them.

-- No search_path is set here: that of the caller tells which schema the new
-- table goes to, so every name and operator is qualified.
CREATE FUNCTION @extschema@._queue_ddl_start()
RETURNS event_trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $function$
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_catalog.pg_extension e
		WHERE e.extname OPERATOR(pg_catalog.=) 'queue_service' AND pg_catalog.pg_has_role(e.extowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	IF @extschema@._queue_creates_tenants() THEN
		PERFORM @extschema@._queue_tenants_yield();
	END IF;
EXCEPTION WHEN OTHERS THEN
	RAISE WARNING 'queue_service could not look after its table tenants: %', SQLERRM USING ERRCODE = SQLSTATE;
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_ddl_start() IS
'Event trigger: lets the table tenants that the extension brought give way to one that is being created.';
CREATE EVENT TRIGGER queue_service_ddl_start ON ddl_command_start
	WHEN TAG IN ('CREATE TABLE')
	EXECUTE FUNCTION @extschema@._queue_ddl_start();
COMMENT ON EVENT TRIGGER queue_service_ddl_start IS
'The empty table tenants that queue_service brought gives way to one of your own.';

CREATE FUNCTION @extschema@._queue_ddl_end()
RETURNS event_trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
	changed regclass[];
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_extension e
		WHERE e.extname = 'queue_service' AND pg_has_role(e.extowner, 'USAGE'))
	THEN
		RETURN;
	END IF;
	changed := ARRAY(
		SELECT coalesce(i.indrelid, c.objid)
		FROM pg_event_trigger_ddl_commands() c
		LEFT JOIN pg_index i ON i.indexrelid = c.objid
		WHERE c.classid = 'pg_class'::regclass);
	-- The statements that these run alter neither table in a way that would
	-- lead here again.
	IF to_regclass('@extschema@.tenants') = ANY (changed) THEN
		PERFORM @extschema@._queue_tenants_attach();
	END IF;
	IF to_regclass('@extschema@.rate_limiters') = ANY (changed) THEN
		PERFORM @extschema@._queue_seeds_settle();
	END IF;
EXCEPTION WHEN OTHERS THEN
	RAISE WARNING 'queue_service could not look after its foreign keys and seeds: %', SQLERRM USING ERRCODE = SQLSTATE;
END
$function$;
COMMENT ON FUNCTION @extschema@._queue_ddl_end() IS
'Event trigger: adds the foreign keys to a table tenants that has got its key, and looks after the seeds when triggers of rate_limiters are disabled or enabled.';
CREATE EVENT TRIGGER queue_service_ddl_end ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE INDEX', 'ALTER INDEX')
	EXECUTE FUNCTION @extschema@._queue_ddl_end();
COMMENT ON EVENT TRIGGER queue_service_ddl_end IS
'A table tenants of your own is referred to as soon as it has a key, and seeds do not stand in the way of a restore.';
-- A dump is often loaded with session_replication_role = replica.
ALTER EVENT TRIGGER queue_service_ddl_start ENABLE ALWAYS;
ALTER EVENT TRIGGER queue_service_ddl_end ENABLE ALWAYS;

-- 9  privileges ---------------------------------------------------------------

-- A table has no privilege for PUBLIC; a function has, until here.
DO $do$
DECLARE
	f regprocedure;
BEGIN
	FOR f IN
		SELECT d.objid
		FROM pg_catalog.pg_depend d
		JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'
		WHERE d.classid = 'pg_catalog.pg_proc'::regclass
		AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
	LOOP
		EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f);
	END LOOP;
END
$do$;
GRANT EXECUTE ON FUNCTION @extschema@.queue_new_id() TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.queue_tenant() TO PUBLIC;
