-- Looking: queue_job() for a job in any state, queue_peek().
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001101\''
\set other '\'00000000-0000-4000-8000-000000001102\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'look'), (:other, 'look');
SET app.current_tenant = :tenant;
SELECT queue_create('q') IS NOT NULL AS created;
\x on
\set columns 'job_id = :\'job_id\' AS id, tenant_id = queue_tenant() AS own, queue, critical, status, finish_reason AS reason, job_type, payload, headers, result, priority, run_at <= clock_timestamp() AS due, attempts, max_attempts, group_key, idempotency_key AS key, cancel_requested AS cancel, leased_by, leased_at >= enqueued_at AS leased_at, leased_until > now() AS leased, last_error, jsonb_array_length(errors) AS errors, enqueued_at <= clock_timestamp() AS enqueued_at, finished_at >= enqueued_at AS finished, redriven_as'

-- waiting, running, completed with its result
SELECT job_id FROM queue_enqueue('q', '{"p": 1}', 'mail', 7, max_attempts => 2, idempotency_key => 'k', group_key => 'g', headers => '{"h": 1}') \gset
SELECT :columns FROM queue_job(:'job_id');
SELECT lease_token FROM queue_claim('q', 'worker') \gset
SELECT outcome FROM queue_cancel(:'job_id');
SELECT :columns FROM queue_job(:'job_id');
SELECT outcome FROM queue_complete(:'job_id', :lease_token, '{"r": 1}');
SELECT :columns FROM queue_job(:'job_id');
-- a dead letter
SELECT job_id FROM queue_enqueue('q', '{"p": 2}', 'mail', 7, max_attempts => 2, idempotency_key => 'l', group_key => 'g', headers => '{"h": 1}') \gset
SELECT f.outcome FROM queue_claim('q', 'worker') c, queue_fail(c.job_id, c.lease_token, 'broken', dead => true) f;
SELECT :columns FROM queue_job(:'job_id');
SELECT outcome FROM queue_retry(:'job_id');
SELECT redriven_as = (SELECT id FROM jobs WHERE tenant_id = :tenant AND payload = '{"p": 2}') AS redriven_as FROM queue_job(:'job_id');
-- a critical job, a cancelled one
SELECT job_id FROM queue_enqueue_critical('q', '{"p": 3}', 'k') \gset
SELECT :columns FROM queue_job(:'job_id');
SELECT outcome FROM queue_cancel(:'job_id');
SELECT status, finish_reason, finished_at IS NOT NULL AS finished FROM queue_job(:'job_id');
\x off
-- none: another tenant's, a missing one
SELECT count(*) FROM queue_job('00000000-0000-4000-8000-000000000000');
SET app.current_tenant = :other;
SELECT queue_create('q') IS NOT NULL AS created;
SELECT count(*) FROM queue_job(:'job_id');
-- a caller that serves all tenants sees it
RESET app.current_tenant;
SELECT payload, tenant_id = :tenant AS tenant FROM queue_job(:'job_id');
SET app.current_tenant = :tenant;
-- the caller's snapshot: a statement does not see the job that it enqueues, the next one does; so does a read-only transaction
SELECT count(*) FROM queue_enqueue('q') e, queue_job(e.job_id);
SELECT job_id FROM queue_enqueue('q') \gset
BEGIN READ ONLY;
SELECT status FROM queue_job(:'job_id');
SELECT count(*) FROM queue_peek('q');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT job_id FROM queue_enqueue('q') \gset
SELECT status FROM queue_job(:'job_id');
ROLLBACK;
SELECT count(*) FROM queue_job(:'job_id');
-- in a query over many jobs
SELECT count(*) AS jobs, count(j.status) AS found FROM jobs, LATERAL queue_job(id) j WHERE jobs.tenant_id = :tenant;

-- peek: in the order of the claims, without claiming; ten unless told otherwise
SELECT queue_purge('q', 'all') > 0 AS purged;
SELECT count(queue_enqueue('q', to_jsonb(i), priority => i % 3)) FROM generate_series(1, 12) i;
SELECT count(queue_enqueue('q', to_jsonb(i), run_at => now() + interval '1 hour')) FROM generate_series(13, 14) i;
SELECT count(queue_enqueue_critical('q', to_jsonb(i), i::text)) FROM generate_series(15, 17) i;
SELECT count(*) FROM queue_peek('q');
SELECT array_agg(payload) AS peeked FROM queue_peek('q', 4);
SELECT array_agg(payload) AS peeked FROM queue_peek('q', 100);
SELECT array_agg(payload) AS claimed FROM queue_claim('q', max_jobs => 4);
SELECT array_agg(payload) AS peeked FROM queue_peek('q', 100);
SELECT queue_pause('q');
SELECT count(*) FROM queue_peek('q');
SELECT queue_resume('q');
SET app.current_tenant = :other;
SELECT count(*) FROM queue_peek('q');
RESET app.current_tenant;
SELECT count(*) FROM queue_peek('q');

SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name = 'look';
