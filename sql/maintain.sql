-- Maintenance: its tasks, who may run them, and that errors stay with their task.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000002301\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'maintain');
SET app.current_tenant = :tenant;
SELECT queue_create('q') IS NOT NULL AS created;

-- keys: gone once they have expired, not while their job is unfinished
SELECT count(*) FROM generate_series(1, 5) n, queue_enqueue('q', to_jsonb(n), idempotency_key => 'k' || n, idempotency_ttl => '1 hour');
SELECT created FROM queue_enqueue_critical('q', '6', 'k6', idempotency_ttl => '1 hour');
SELECT created FROM queue_enqueue('q', '7', idempotency_key => 'k7', idempotency_ttl => '3 hours');
SELECT outcome, count(*) FROM queue_claim('q', max_jobs => 4) c, queue_complete(c.job_id, c.lease_token) GROUP BY 1;
SELECT * FROM _queue_task('keys', now() + interval '50 minutes');
SELECT * FROM _queue_task('keys', now() + interval '2 hours');
SELECT string_agg(key, ' ' ORDER BY key) AS keys FROM idempotency_keys WHERE tenant_id = :tenant;
SELECT outcome, count(*) FROM queue_claim('q', max_jobs => 4) c, queue_complete(c.job_id, c.lease_token) GROUP BY 1;
SELECT task, done, took >= '0' AS took, error FROM queue_maintain(now() + interval '2 hours') WHERE task = 'keys';
SELECT string_agg(key, ' ' ORDER BY key) AS keys FROM idempotency_keys WHERE tenant_id = :tenant;
-- what was done is done, and a run that is due much later finds the rest
SELECT done FROM queue_maintain(now() + interval '2 hours') WHERE task = 'keys';
SELECT done FROM queue_maintain(now() + interval '4 hours') WHERE task = 'keys';
-- one without a lifetime goes with its job
SELECT count(*) FROM generate_series(1, 2) n, queue_enqueue('q', '8', idempotency_key => 'u' || n, idempotency_ttl => NULL);
SELECT done FROM queue_maintain() WHERE task = 'keys';
SELECT outcome FROM queue_claim('q') c, queue_complete(c.job_id, c.lease_token);
SELECT done FROM queue_maintain() WHERE task = 'keys';
SELECT string_agg(key, ' ') AS keys FROM idempotency_keys WHERE tenant_id = :tenant;
SELECT outcome FROM queue_claim('q') c, queue_complete(c.job_id, c.lease_token);
-- in batches
INSERT INTO idempotency_keys (queue_id, key, job_id, expires_at) SELECT q.id, n::text, gen_random_uuid(), now() FROM queues q, generate_series(1, 2500) n WHERE q.tenant_id = :tenant;
SELECT done > 900 AND done < 1100 AS some, more FROM _queue_task('keys', now() + interval '1 hour');
SELECT done > 1400 AS rest FROM queue_maintain(now() + interval '1 hour') WHERE task = 'keys';

-- an error is its task's, and the others run
ALTER TABLE idempotency_keys RENAME COLUMN expires_at TO renamed;
SELECT task, done, error FROM queue_maintain(now() + interval '1 hour') WHERE task = 'keys';
SELECT count(*) FILTER (WHERE error IS NOT NULL) AS failed, count(*) > 4 AS others FROM queue_maintain();
SELECT current_user = session_user AS same, current_setting('search_path') AS path;
ALTER TABLE idempotency_keys RENAME COLUMN renamed TO expires_at;
INSERT INTO idempotency_keys (queue_id, key, job_id, expires_at) SELECT id, 'kept', gen_random_uuid(), now() FROM queues WHERE tenant_id = :tenant;
SELECT done, error FROM queue_maintain(now() + interval '1 hour') WHERE task = 'keys';
-- not a cancel, which is not the task's
CREATE FUNCTION pg_temp.slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); RETURN OLD; END$$;
CREATE TRIGGER slow BEFORE DELETE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION pg_temp.slow();
INSERT INTO idempotency_keys (queue_id, key, job_id, expires_at) SELECT id, 'slow', gen_random_uuid(), now() FROM queues WHERE tenant_id = :tenant;
\set VERBOSITY terse
SET statement_timeout = '100ms';
SELECT count(*) FROM queue_maintain(now() + interval '1 hour');
RESET statement_timeout;
DROP TRIGGER slow ON idempotency_keys;

-- arguments, and who may
\set VERBOSITY sqlstate
SELECT * FROM _queue_task('nothing');
SELECT * FROM _queue_task(NULL);
SELECT * FROM _queue_task('keys', 'infinity');
SELECT * FROM queue_maintain('-infinity');
BEGIN READ ONLY;
SELECT * FROM queue_maintain();
ROLLBACK;
BEGIN READ ONLY;
SELECT queue_worker_start();
ROLLBACK;
CREATE ROLE regress_queue_maintain;
GRANT EXECUTE ON FUNCTION queue_maintain, queue_worker_start, _queue_task TO regress_queue_maintain;
SET ROLE regress_queue_maintain;
SELECT * FROM queue_maintain();
SELECT * FROM _queue_task('keys');
SELECT queue_worker_start();
RESET app.current_tenant;
SELECT * FROM queue_maintain();
RESET ROLE;
SELECT queue_grant('regress_queue_maintain', 'worker', all_tenants => true) \gset
SET ROLE regress_queue_maintain;
SELECT count(*) > 0 AS runs FROM queue_maintain();
SET app.current_tenant = :tenant;
SELECT done, more FROM _queue_task('keys', now() + interval '1 hour');
RESET ROLE;

RESET app.current_tenant;
SELECT queue_revoke('regress_queue_maintain', 'worker', all_tenants => true) \gset
DROP OWNED BY regress_queue_maintain;
DROP ROLE regress_queue_maintain;
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE name = 'maintain';
