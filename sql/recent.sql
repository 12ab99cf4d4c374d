-- A session remembers where it leased a job, and takes nothing for that job that came to the same place.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
TRUNCATE jobs, critical_jobs;
\set tenant '\'00000000-0000-4000-8000-000000002001\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'recent');
SET app.current_tenant = :tenant;
SELECT queue_create('q', keep_completed => '0') IS NOT NULL AS created;
\set reads 'SELECT pg_stat_get_xact_numscans(\'jobs_pkey\'::regclass) AS reads'

-- the place is used, also after a heartbeat, and by each verb
-- with ids that do not share a place, as random ones now and then do
INSERT INTO jobs (id, queue_id, payload)
SELECT ('00000000-0000-4000-8000-00000000201' || i)::uuid, queues.id, to_jsonb(i) FROM queues, generate_series(1, 4) i WHERE tenant_id = :tenant;
CREATE TEMP TABLE leases AS SELECT row_number() OVER () AS n, job_id, lease_token FROM queue_claim('q', max_jobs => 4);
BEGIN;
:reads;
SELECT held FROM leases, queue_heartbeat(job_id, lease_token) WHERE n = 1;
SELECT held FROM leases, queue_heartbeat(job_id, lease_token) WHERE n = 1;
SELECT outcome FROM leases, queue_complete(job_id, lease_token) WHERE n = 1;
SELECT outcome FROM leases, queue_fail(job_id, lease_token, 'no') WHERE n = 2;
SELECT outcome FROM leases, queue_release(job_id, lease_token) WHERE n = 3;
SELECT outcome FROM leases, queue_cancel(job_id) WHERE n = 4;
:reads;
COMMIT;

-- in the place is nothing any more, not even a page; then other jobs
DELETE FROM jobs;
VACUUM jobs;
-- an ANALYZE of autovacuum may see the rows still
SELECT s FROM generate_series(1, 50), unnest(ARRAY['DO $$BEGIN PERFORM pg_sleep(0.1); END$$', 'VACUUM jobs']) s WHERE pg_relation_size('jobs') > 0 \gexec
SELECT pg_relation_size('jobs') AS size;
SELECT outcome FROM leases, queue_cancel(job_id) WHERE n = 4;
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 20) i;
SELECT outcome FROM leases, queue_cancel(job_id) WHERE n = 4;
SELECT outcome FROM leases, queue_cancel(job_id) WHERE n = 3;
SELECT count(*) FROM jobs WHERE status = 'pending';
