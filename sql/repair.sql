-- Repair: cancel, retry, redrive, and the purge of a tenant.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001001\''
\set other '\'00000000-0000-4000-8000-000000001002\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'repair'), (:other, 'repair');
SET app.current_tenant = :tenant;
SELECT queue_create('q', max_attempts => 1), queue_create('keeps', dead_letters => false, max_attempts => 1), queue_create('other') \gset
CREATE VIEW pg_temp.shown AS
SELECT payload, status, finish_reason AS reason, attempts, final_attempt AS final, cancel_requested AS cancel, lease_token IS NOT NULL AS token, leased_until IS NOT NULL AS lease, finished_at IS NOT NULL AS finished,
	CASE WHEN run_at <= now() THEN 'now' ELSE 'later' END AS due, jsonb_array_length(errors) AS errors, critical
FROM (SELECT *, false AS critical FROM jobs UNION ALL SELECT *, true FROM critical_jobs) j WHERE tenant_id = queue_tenant() ORDER BY payload, critical;
\set jobs 'SELECT * FROM pg_temp.shown;'
\set letters 'SELECT payload, source_table, reason, redriven_at IS NOT NULL AS redriven, redriven_as IS NOT NULL AS redriven_as FROM dead_letter_jobs WHERE tenant_id = queue_tenant() ORDER BY died_at, payload;'

-- there is no such job, or it is another tenant's
SELECT queue_cancel('00000000-0000-4000-8000-000000000000');
SELECT queue_retry('00000000-0000-4000-8000-000000000000');
SELECT job_id FROM queue_enqueue('q', '"mine"') \gset
SET app.current_tenant = :other;
SELECT queue_cancel(:'job_id');
SELECT queue_retry(:'job_id');
SET app.current_tenant = :tenant;
SELECT queue_purge('q');

-- retry: a job that waits, also for long
SELECT job_id FROM queue_enqueue('q', '1', run_at => now() + interval '1 day') \gset
SELECT outcome, r.job_id = :'job_id' AS same FROM queue_retry(:'job_id') r;
:jobs
SELECT outcome FROM queue_retry(:'job_id', now() + interval '1 hour');
:jobs
-- one that runs: its lease is taken away, its attempts come back
SELECT outcome FROM queue_retry(:'job_id');
SELECT lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_cancel(:'job_id');
:jobs
SELECT outcome, r.job_id = :'job_id' AS same FROM queue_retry(:'job_id') r;
:jobs
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
-- completed: no
SELECT lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT outcome, r.job_id = :'job_id' AS same FROM queue_retry(:'job_id') r;
:jobs
-- cancelled
SELECT job_id FROM queue_enqueue('q', '2') \gset
SELECT outcome FROM queue_cancel(:'job_id');
SELECT outcome, r.job_id = :'job_id' AS same FROM queue_retry(:'job_id') r;
:jobs
-- failed, in a queue without dead letters
SELECT queue_purge('q', 'all');
SELECT job_id FROM queue_enqueue('keeps', '3') \gset
SELECT f.outcome FROM queue_claim('keeps') c, queue_fail(c.job_id, c.lease_token, 'x') f;
:jobs
SELECT outcome, r.job_id = :'job_id' AS same FROM queue_retry(:'job_id') r;
:jobs
SELECT f.outcome FROM queue_claim('keeps') c, queue_fail(c.job_id, c.lease_token, 'y') f;
SELECT payload, status, attempts, errors -> 1 -> 'error' AS second FROM jobs WHERE id = :'job_id';
SELECT queue_purge('keeps', 'all');
-- dead: a new job, once
SELECT job_id FROM queue_enqueue('q', '4', 'mail', 5, max_attempts => 2, group_key => 'g', headers => '{"h": 1}') \gset
SELECT f.outcome FROM queue_claim('q') c, queue_fail(c.job_id, c.lease_token, 'x', dead => true) f;
SELECT outcome, r.job_id <> :'job_id' AS another, r.job_id AS retried FROM queue_retry(:'job_id', now() + interval '1 hour') r \gset
SELECT :'outcome' AS outcome, :'another' AS another;
SELECT outcome, r.job_id = :'retried' AS same FROM queue_retry(:'job_id') r;
:jobs
:letters
SELECT a.redriven_as = :'retried' AS redriven_as, b.job_type, b.priority, b.max_attempts, b.group_key, b.headers, b.attempts, b.errors FROM queue_job(:'job_id') a, queue_job(:'retried') b;
-- a dead critical job goes back to critical_jobs, and keeps its key
SELECT job_id FROM queue_enqueue_critical('q', '5', 'key', max_attempts => 1) \gset
SELECT f.outcome FROM queue_claim('q') c, queue_fail(c.job_id, c.lease_token, 'x') f;
SELECT outcome FROM queue_retry(:'job_id');
SELECT payload, critical, attempt, max_attempts FROM queue_claim('q');
SELECT idempotency_key FROM critical_jobs WHERE tenant_id = :tenant;
SELECT queue_drop('q', true), queue_create('q', max_attempts => 1) IS NOT NULL AS created;

-- redrive: oldest first, each once, with filters
CREATE FUNCTION pg_temp.die(queue text, job jsonb, error text, critical boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	j record;
BEGIN
	IF critical THEN
		PERFORM queue_enqueue_critical(queue, job, 'redrive ' || job::text, priority => 32767);
	ELSE
		PERFORM queue_enqueue(queue, job, priority => 32767);
	END IF;
	SELECT * INTO STRICT j FROM queue_claim(queue);
	RETURN (SELECT outcome FROM queue_fail(j.job_id, j.lease_token, error, dead => true));
END$$;
-- they died one a day
SELECT pg_temp.die('q', to_jsonb(i), CASE WHEN i % 3 = 0 THEN 'timeout of ' || i || ' %' WHEN i % 3 = 1 THEN 'refused' END, i = 5) FROM generate_series(1, 9) i;
UPDATE dead_letter_jobs SET died_at = '2020-01-01'::timestamptz + payload::integer * interval '1 day' WHERE tenant_id = :tenant;
SELECT pg_temp.die('other', '10', 'refused');
SELECT queue_redrive('other') AS other;
SELECT queue_redrive('q', max_jobs => 2);
:jobs
SELECT queue_redrive('q', error_like => 'timeout%') AS timeouts, queue_redrive('q', error_like => 'timeout%') AS again;
:jobs
SELECT queue_redrive('q', error_like => '%\%') AS none_left;
SELECT queue_redrive('q', error_like => 'timeout\');
SELECT queue_redrive('q', error_like => '\\\');
SELECT queue_redrive('q', error_like => 'timeout\\') AS none;
SELECT queue_redrive('q', died_after => '2020-01-06', died_before => '2020-01-08') AS fifth;
SELECT payload FROM dead_letter_jobs WHERE tenant_id = :tenant AND redriven_at IS NULL ORDER BY payload;
SELECT queue_redrive('q', 1, 'refused', '2020-01-01', '2020-01-10') AS fourth;
SELECT queue_redrive('q', max_jobs => 1) AS seventh;
SELECT payload, critical, attempt FROM queue_claim('q', max_jobs => 100);
SELECT queue_redrive('q') AS rest, queue_redrive('q') AS again;
:letters
-- at a pace
SELECT queue_drop('q', true), queue_create('q', max_attempts => 1) IS NOT NULL AS created;
SELECT pg_temp.die('q', to_jsonb(i), 'x') FROM generate_series(1, 5) i;
SELECT queue_redrive('q', per_second => 0.5);
SELECT payload, run_at - min(run_at) OVER () AS after, run_at >= enqueued_at AS not_before_now FROM jobs WHERE tenant_id = :tenant AND queue_id = (SELECT id FROM queues WHERE name = 'q' AND tenant_id = :tenant) ORDER BY run_at;
-- another tenant's dead letters stay
SET app.current_tenant = :other;
SELECT queue_create('q', max_attempts => 1) IS NOT NULL AS created;
SELECT pg_temp.die('q', '"other"', 'x');
SET app.current_tenant = :tenant;
SELECT pg_temp.die('q', '6', 'x');
SELECT queue_redrive('q');
SET app.current_tenant = :other;
:letters

-- the purge of a tenant: in steps, of everything that is its own, and of nothing else's
SET app.current_tenant = :tenant;
SELECT count(queue_enqueue('q', idempotency_key => i::text)) + count(queue_enqueue_critical('q', '{}', i::text)) AS enqueued FROM generate_series(1, 10) i;
SELECT pg_temp.die('q', '7', 'x');
INSERT INTO schedules (name, queue_id, cron) SELECT 's', id, '* * * * *' FROM queues WHERE tenant_id = :tenant AND name = 'q';
INSERT INTO queue_metrics (queue_id) SELECT id FROM queues WHERE tenant_id = :tenant;
INSERT INTO alert_history (queue_id, alert, message) SELECT id, 'a', 'm' FROM queues WHERE tenant_id = :tenant;
INSERT INTO rate_limits (name, tokens_available, max_tokens, refill_per_second) VALUES ('stripe', 1, 1, 1);
INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES ('repair', :tenant, 1, 1, 1);
CREATE FUNCTION pg_temp.rows(tenant uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	total bigint := 0;
	n bigint;
	t text;
BEGIN
	FOREACH t IN ARRAY '{queues,jobs,schedules,rate_limits,critical_jobs,queue_metrics,idempotency_keys,rate_limiters,alert_history,dead_letter_jobs}'::text[] LOOP
		EXECUTE format('SELECT count(*) FROM %I WHERE tenant_id = $1', t) INTO n USING tenant;
		ASSERT n > 0 OR current_setting('app.current_tenant') = '', t;
		total := total + n;
	END LOOP;
	RETURN total;
END$$;
SELECT pg_temp.rows(:tenant) AS mine \gset
RESET app.current_tenant;
-- which of the two it is depends on the version
DO $$
BEGIN
	DELETE FROM tenants WHERE id = '00000000-0000-4000-8000-000000001001';
	RAISE EXCEPTION 'a tenant with jobs was deleted';
EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
	NULL;
END$$;
SELECT pg_temp.rows(:other) AS others \gset
SELECT deleted, done FROM queue_tenant_purge(:tenant, 7);
SELECT pg_temp.rows(:tenant) = :mine - 7 AS so_many_less;
-- again and again, until done
DO $$
DECLARE
	p record;
BEGIN
	LOOP
		SELECT * INTO p FROM queue_tenant_purge('00000000-0000-4000-8000-000000001001', 5);
		ASSERT p.deleted <= 5 AND p.done = (p.deleted < 5);
		EXIT WHEN p.done;
	END LOOP;
END$$;
SELECT pg_temp.rows(:tenant) AS mine, pg_temp.rows(:other) = :others AS others_stay;
SELECT * FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE id = :tenant;
-- a session that knew the queues of the tenant does not any more
SET app.current_tenant = :tenant;
SELECT queue_enqueue('q');
SELECT queue_claim('q');
-- the seeds belong to no tenant, and stay
SELECT count(*) FROM rate_limiters WHERE service_name IN ('stripe', 'twilio', 'sendgrid', 'solana_rpc');

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name = 'repair';
