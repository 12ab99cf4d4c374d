-- Idempotency keys: how long a key is taken, and what an enqueue of a taken key does.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000c01\''
\set other '\'00000000-0000-4000-8000-000000000c02\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'idempotency'), (:other, 'idempotency');
SET app.current_tenant = :tenant;
SELECT created FROM queue_create('q', backoff_jitter => 0);
SELECT created FROM queue_create('r');
-- jobs are told apart by their payloads
CREATE FUNCTION pg_temp.job(job uuid) RETURNS text LANGUAGE sql AS
$$SELECT coalesce((SELECT format('%s%s %s', CASE WHEN critical THEN 'critical ' END, payload, status) FROM queue_job(job)), 'gone')$$;
-- claims the job of the queue that is claimable and ends it
CREATE FUNCTION pg_temp.finish(queue text, how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	j record;
BEGIN
	SELECT * INTO j FROM queue_claim(queue, lease => CASE how WHEN 'expire' THEN '1 microsecond' ELSE '1 hour' END::interval);
	RETURN CASE how
		WHEN 'complete' THEN (SELECT outcome FROM queue_complete(j.job_id, j.lease_token))
		WHEN 'die' THEN (SELECT outcome FROM queue_fail(j.job_id, j.lease_token, dead => true))
		WHEN 'fail' THEN (SELECT outcome FROM queue_fail(j.job_id, j.lease_token, retry_in => '1 hour'))
		WHEN 'release' THEN (SELECT outcome FROM queue_release(j.job_id, j.lease_token))
		ELSE how END;
END$$;
-- as if so much time had passed
CREATE FUNCTION pg_temp.pass(passed interval) RETURNS bigint LANGUAGE sql AS $$
	WITH k AS (UPDATE idempotency_keys SET created_at = created_at - passed, expires_at = expires_at - passed WHERE tenant_id = queue_tenant() RETURNING 1),
	j AS (UPDATE jobs SET enqueued_at = enqueued_at - passed WHERE tenant_id = queue_tenant())
	SELECT count(*) FROM k$$;
\set show 'SELECT created, pg_temp.job(job_id) AS job FROM '

-- a key is taken for its lifetime, whatever becomes of its job
:show queue_enqueue('q', '1', idempotency_key => 'k');
:show queue_enqueue('q', '2', idempotency_key => 'k');
SELECT pg_temp.finish('q', 'complete');
:show queue_enqueue('q', '3', idempotency_key => 'k');
SELECT expires_at - created_at AS ttl FROM idempotency_keys WHERE tenant_id = :tenant;
SELECT pg_temp.pass('23:59');
:show queue_enqueue('q', '4', idempotency_key => 'k', idempotency_ttl => '1 year');
SELECT pg_temp.pass('00:01');
SELECT created, job_id FROM queue_enqueue('q', '5', idempotency_key => 'k', idempotency_ttl => '1 hour') \gset
SELECT :'created' AS created, pg_temp.job(:'job_id') AS job;
SELECT expires_at - created_at AS ttl, job_id = :'job_id' AS job FROM idempotency_keys WHERE tenant_id = :tenant;
-- and in any case while the job is unfinished: waiting, running, to be retried
SELECT pg_temp.pass('2 hours');
:show queue_enqueue('q', '6', idempotency_key => 'k');
SELECT job_id, lease_token FROM queue_claim('q') \gset
:show queue_enqueue('q', '7', idempotency_key => 'k');
SELECT outcome FROM queue_fail(:'job_id', :lease_token);
:show queue_enqueue('q', '8', idempotency_key => 'k');
SELECT outcome FROM queue_cancel(:'job_id');
SELECT created, pg_temp.job(job_id) AS job FROM queue_enqueue('q', '9', idempotency_key => 'k', idempotency_ttl => NULL);
-- until finished: free with the job, dead or deleted
:show queue_enqueue('q', '10', idempotency_key => 'k', idempotency_ttl => NULL);
SELECT pg_temp.finish('q', 'die');
:show queue_enqueue('q', '11', idempotency_key => 'k', idempotency_ttl => NULL);
SELECT queue_set('q', keep_completed => '0') IS NOT NULL AS set;
SELECT pg_temp.finish('q', 'complete');
:show queue_enqueue('q', '12', idempotency_key => 'k', idempotency_ttl => NULL);
SELECT queue_purge('q', 'all');
-- a job that is gone, but whose key is not
:show queue_enqueue('q', '13', idempotency_key => 'gone');
SELECT pg_temp.finish('q', 'complete');
:show queue_enqueue('q', '14', idempotency_key => 'gone');
SELECT queue_set('q', keep_completed => '1 day') IS NOT NULL AS set;

-- jobs: a key for each queue; critical jobs: a key for each tenant; apart from each other
:show queue_enqueue('q', '20', idempotency_key => 'scope');
:show queue_enqueue('r', '21', idempotency_key => 'scope');
:show queue_enqueue_critical('q', '22', 'scope');
:show queue_enqueue_critical('q', '23', 'scope');
:show queue_enqueue_critical('r', '24', 'scope');
:show queue_enqueue_critical('r', '24', 'scope', on_conflict => 'replace');
SET app.current_tenant = :other;
SELECT created FROM queue_create('q');
:show queue_enqueue('q', '25', idempotency_key => 'scope');
:show queue_enqueue_critical('q', '26', 'scope');
SET app.current_tenant = :tenant;
-- a critical key that is free may go to another queue
SELECT pg_temp.finish('q', 'complete'), pg_temp.pass('24 hours') > 0 AS passed;
:show queue_enqueue_critical('r', '27', 'scope');
:show queue_enqueue_critical('q', '28', 'scope');
SELECT pg_temp.finish('r', 'complete'), queue_purge('q', 'all') > 0 AS purged, queue_purge('r', 'all') > 0 AS purged;

-- the conflict options, on a job that waits
:show queue_enqueue('q', '30', 'a', 1, '2001-01-01', 3, 'o', '1 hour', 'return', 'g', '{}');
:show queue_enqueue('q', '31', 'b', 2, '2002-01-01', 4, 'o', '1 hour', 'return', 'h', '[]');
SELECT queue_enqueue('q', '32', 'b', 2, '2002-01-01', 4, 'o', '1 hour', 'reject', 'h', '[]');
SELECT payload, job_type, priority, run_at, max_attempts, group_key, headers FROM jobs WHERE tenant_id = :tenant AND idempotency_key = 'o';
:show queue_enqueue('q', '33', 'b', 2, '2002-01-01', 4, 'o', '1 hour', 'replace', 'h', '[]');
SELECT payload, job_type, priority, run_at, max_attempts, group_key, headers FROM jobs WHERE tenant_id = :tenant AND idempotency_key = 'o';
:show queue_enqueue('q', '34', idempotency_key => 'o', on_conflict => 'replace');
SELECT payload, job_type, priority, run_at > now() - interval '1 minute' AS due_now, max_attempts, group_key, headers FROM jobs WHERE tenant_id = :tenant AND idempotency_key = 'o';
-- ... that was tried before: the new one has all its attempts
SELECT f.outcome FROM queue_claim('q') c, queue_fail(c.job_id, c.lease_token, 'of 34', '0') f;
:show queue_enqueue('q', '34', max_attempts => 2, idempotency_key => 'o', on_conflict => 'replace');
SELECT attempts, max_attempts, final_attempt, last_error, errors FROM jobs WHERE tenant_id = :tenant AND idempotency_key = 'o';
-- ... that runs
SELECT job_id, lease_token FROM queue_claim('q') \gset
:show queue_enqueue('q', '35', idempotency_key => 'o', on_conflict => 'return');
SELECT queue_enqueue('q', '36', idempotency_key => 'o', on_conflict => 'reject');
:show queue_enqueue('q', '37', idempotency_key => 'o', on_conflict => 'replace');
-- ... that has finished
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
:show queue_enqueue('q', '38', idempotency_key => 'o', on_conflict => 'return');
SELECT queue_enqueue('q', '39', idempotency_key => 'o', on_conflict => 'reject');
:show queue_enqueue('q', '40', idempotency_key => 'o', on_conflict => 'replace');
SELECT queue_enqueue('q', '41', idempotency_key => 'o', on_conflict => 'ignore');

-- critical jobs: the same but for debounce
:show queue_enqueue_critical('q', '50', 'o', 'a', 1, '2001-01-01', 3, '1 hour', 'return', 'g', '{}');
:show queue_enqueue_critical('q', '51', 'o', 'b', 2, '2002-01-01', 4, '1 hour', 'return', 'h', '[]');
SELECT queue_enqueue_critical('q', '52', 'o', 'b', 2, '2002-01-01', 4, '1 hour', 'reject', 'h', '[]');
:show queue_enqueue_critical('q', '53', 'o', 'b', 2, '2002-01-01', 4, '1 hour', 'replace', 'h', '[]');
SELECT payload, job_type, priority, run_at, max_attempts, group_key, headers FROM critical_jobs WHERE tenant_id = :tenant AND idempotency_key = 'o';
SELECT queue_enqueue_critical('q', '54', 'o', on_conflict => 'debounce');
SELECT job_id, lease_token FROM queue_claim('q') \gset
:show queue_enqueue_critical('q', '55', 'o', on_conflict => 'replace');
SELECT queue_enqueue_critical('q', '56', 'o', on_conflict => 'reject');
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
:show queue_enqueue_critical('q', '57', 'o');
:show queue_enqueue_critical('q', '58', 'o', on_conflict => 'replace');

-- debounce: the job waits anew, with the latest payload, but no longer than longest_wait in all
SELECT created, job_id FROM queue_enqueue('q', '60', run_at => now() + interval '10 seconds', idempotency_key => 'd', on_conflict => 'debounce', longest_wait => '1 minute') \gset
SELECT pg_temp.pass('30 seconds') > 0 AS passed;
:show queue_enqueue('q', '61', run_at => now() + interval '10 seconds', idempotency_key => 'd', on_conflict => 'debounce', longest_wait => '1 minute');
BEGIN;
:show queue_enqueue('q', '62', run_at => now() + interval '10 seconds', idempotency_key => 'd', on_conflict => 'debounce', longest_wait => '1 minute');
SELECT run_at = now() + interval '10 seconds' AS full_wait FROM jobs WHERE id = :'job_id';
COMMIT;
SELECT pg_temp.pass('25 seconds') > 0 AS passed;
:show queue_enqueue('q', '63', run_at => now() + interval '10 seconds', idempotency_key => 'd', on_conflict => 'debounce', longest_wait => '1 minute');
SELECT run_at - enqueued_at AS waits FROM jobs WHERE id = :'job_id';
:show queue_enqueue('q', '64', run_at => now() + interval '10 seconds', idempotency_key => 'd', on_conflict => 'debounce');
SELECT run_at - enqueued_at > interval '1 minute' AS no_limit FROM jobs WHERE id = :'job_id';
:show queue_enqueue('q', '65', idempotency_key => 'd', on_conflict => 'debounce');
-- while the job runs, and when it has finished: a new one, which the key then stands for
SELECT j.job_id, j.lease_token, pg_temp.job(j.job_id) AS claimed FROM queue_claim('q') j \gset
SELECT created, job_id AS next FROM queue_enqueue('q', '66', idempotency_key => 'd', on_conflict => 'debounce') \gset
SELECT :'created' AS created, pg_temp.job(:'job_id') AS first, pg_temp.job(:'next') AS next;
:show queue_enqueue('q', '67', idempotency_key => 'd', on_conflict => 'debounce');
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
:show queue_enqueue('q', '68', idempotency_key => 'd', on_conflict => 'debounce');
SELECT pg_temp.finish('q', 'complete');
:show queue_enqueue('q', '69', idempotency_key => 'd', on_conflict => 'debounce');
SELECT pg_temp.job(:'job_id') AS first, pg_temp.job(:'next') AS next, (SELECT count(*) FROM idempotency_keys WHERE tenant_id = :tenant AND key = 'd') AS keys;

-- a rolled back enqueue leaves the key as it was
BEGIN;
:show queue_enqueue('q', '70', idempotency_key => 'rolled back');
ROLLBACK;
:show queue_enqueue('q', '71', idempotency_key => 'rolled back');
BEGIN;
SAVEPOINT s;
:show queue_enqueue('q', '72', idempotency_key => 'rolled back', on_conflict => 'replace');
ROLLBACK TO s;
:show queue_enqueue('q', '73', idempotency_key => 'rolled back');
COMMIT;
SELECT queue_purge('q', 'all') > 0 AS purged;

-- a dead letter that was sent back keeps its key, so that there is never a second job
:show queue_enqueue('q', '80', max_attempts => 1, idempotency_key => 'z', idempotency_ttl => NULL);
SELECT pg_temp.finish('q', 'die');
SELECT queue_redrive('q');
:show queue_enqueue('q', '81', idempotency_key => 'z', idempotency_ttl => NULL);
SELECT pg_temp.finish('q', 'complete');
:show queue_enqueue('q', '82', idempotency_key => 'z', idempotency_ttl => NULL);
SELECT pg_temp.finish('q', 'complete');
:show queue_enqueue_critical('q', '83', 'z', idempotency_ttl => NULL);
SELECT pg_temp.finish('q', 'die');
SELECT outcome FROM queue_retry((SELECT id FROM dead_letter_jobs WHERE tenant_id = :tenant AND payload = '83'));
:show queue_enqueue_critical('q', '84', 'z', idempotency_ttl => NULL);
SELECT pg_temp.finish('q', 'die');
-- ... unless a later job has it: the letter stays where it is
:show queue_enqueue_critical('q', '85', 'z', idempotency_ttl => NULL);
SELECT queue_redrive('q');
SELECT queue_retry((SELECT id FROM dead_letter_jobs WHERE tenant_id = :tenant AND payload = '83' AND redriven_at IS NULL));
SELECT pg_temp.finish('q', 'complete');
SELECT queue_redrive('q');
:show queue_enqueue_critical('q', '86', 'z', idempotency_ttl => NULL);
-- likewise a cancelled one
SELECT outcome FROM queue_cancel((SELECT id FROM critical_jobs WHERE tenant_id = :tenant AND status = 'pending'));
:show queue_enqueue_critical('q', '87', 'z', idempotency_ttl => NULL);
SELECT queue_retry((SELECT id FROM critical_jobs WHERE tenant_id = :tenant AND finish_reason = 'cancelled'));
SELECT pg_temp.finish('q', 'complete');
SELECT outcome FROM queue_retry((SELECT id FROM critical_jobs WHERE tenant_id = :tenant AND finish_reason = 'cancelled'));
:show queue_enqueue_critical('q', '88', 'z', idempotency_ttl => NULL);
-- a critical job that was inserted counts as well
INSERT INTO critical_jobs (queue_id, payload, idempotency_key) SELECT id, '90', 'inserted' FROM queues WHERE name = 'q' AND tenant_id = :tenant;
:show queue_enqueue_critical('q', '91', 'inserted');
:show queue_enqueue_critical('q', '92', 'inserted', on_conflict => 'replace');
SELECT queue_enqueue_critical('q', '93', 'inserted', on_conflict => 'reject');

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name = 'idempotency';
