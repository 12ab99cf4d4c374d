-- The first claim of a job is a HOT update: no index gets a new entry. With the horizon free, as here: nothing else runs.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001401\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'hot');
SET app.current_tenant = :tenant;
SELECT queue_create('q') IS NOT NULL AS created;
-- in an empty table, so that no space of others' jobs is there to be found
TRUNCATE jobs, critical_jobs;
\set payload 'jsonb_build_object(\'data\', repeat(md5(i::text), 6))'
SELECT pg_column_size(:payload) BETWEEN 200 AND 220 AS about_200_bytes FROM generate_series(1, 1) i;
-- the counts may have in them what the session did shortly before
\set updates 'AS updated, n_tup_upd - n_tup_hot_upd AS not_hot FROM pg_stat_xact_user_tables WHERE relname = '

-- claims of 1, 10 and 100 out of 1000 jobs just enqueued, then of all the rest
SELECT count(queue_enqueue('q', :payload)) FROM generate_series(1, 1000) i;
BEGIN;
SELECT count(c) FROM generate_series(1, 50), LATERAL (SELECT * FROM queue_claim('q', 'worker of usual name', generate_series * 0 + 1)) c;
SELECT n_tup_upd >= 50 :updates 'jobs';
COMMIT;
BEGIN;
SELECT count(c) FROM generate_series(1, 15), LATERAL (SELECT * FROM queue_claim('q', 'worker of usual name', generate_series * 0 + 10)) c;
SELECT n_tup_upd >= 150 :updates 'jobs';
COMMIT;
BEGIN;
SELECT count(c) FROM generate_series(1, 2), LATERAL (SELECT * FROM queue_claim('q', 'worker of usual name', generate_series * 0 + 100)) c;
SELECT n_tup_upd >= 200 :updates 'jobs';
COMMIT;
BEGIN;
SELECT count(*) FROM queue_claim('q', 'worker of usual name', 1000);
SELECT n_tup_upd >= 600 :updates 'jobs';
ROLLBACK;
-- each claim of a batch of its own
TRUNCATE jobs;
SELECT count(*) FROM queue_enqueue_many('q', ARRAY(SELECT :payload FROM generate_series(1, 1000) i));
BEGIN;
SELECT count(*) FROM queue_claim('q', 'worker of usual name', 1000);
SELECT n_tup_upd >= 1000 :updates 'jobs';
COMMIT;
-- critical jobs
SELECT count(queue_enqueue_critical('q', :payload, 'a key of usual length ' || i)) FROM generate_series(1, 1000) i;
BEGIN;
SELECT count(c) FROM generate_series(1, 50), LATERAL (SELECT * FROM queue_claim('q', 'worker of usual name', generate_series * 0 + 1)) c;
SELECT n_tup_upd >= 50 :updates 'critical_jobs';
COMMIT;
BEGIN;
SELECT count(c) FROM generate_series(1, 15), LATERAL (SELECT * FROM queue_claim('q', 'worker of usual name', generate_series * 0 + 10)) c;
SELECT n_tup_upd >= 150 :updates 'critical_jobs';
COMMIT;
BEGIN;
SELECT count(c) FROM generate_series(1, 8), LATERAL (SELECT * FROM queue_claim('q', 'worker of usual name', generate_series * 0 + 100)) c;
SELECT n_tup_upd >= 800 :updates 'critical_jobs';
COMMIT;
-- also a job's only attempt, and with the largest worker's name and long job types
TRUNCATE jobs;
SELECT count(queue_enqueue('q', :payload, repeat('t', 128), max_attempts => 1, idempotency_key => repeat(md5(i::text), 2), group_key => md5(i::text), headers => '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}')) FROM generate_series(1, 300) i;
BEGIN;
SELECT count(*) FROM queue_claim('q', 'worker of usual name', 300);
SELECT n_tup_upd >= 300 :updates 'jobs';
COMMIT;
-- the other updates that change no indexed column: heartbeats, and cancel requests
TRUNCATE jobs;
SELECT count(*) FROM queue_enqueue_many('q', ARRAY(SELECT :payload FROM generate_series(1, 4) i));
CREATE TEMP TABLE leases AS SELECT * FROM queue_claim('q', max_jobs => 4);
BEGIN;
SELECT count(*) FROM leases, queue_heartbeat(leases.job_id, leases.lease_token);
SELECT count(*) FROM leases, queue_cancel(leases.job_id);
SELECT n_tup_upd >= 8 :updates 'jobs';
COMMIT;
-- the fillfactor it takes
SELECT relname, reloptions[1] AS fillfactor FROM pg_class WHERE relname IN ('jobs', 'critical_jobs') AND relkind = 'r' ORDER BY 1;

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE id = :tenant;
