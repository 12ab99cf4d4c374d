-- Quotas: how many unfinished jobs a queue may have, and how many new ones a second. For many clients see t/094_quota.pl.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000007301\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'quota');
SET app.current_tenant = :tenant;
SELECT created, queue_id FROM queue_create('q', max_depth => 5) \gset
CREATE FUNCTION pg_temp.depth() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM (SELECT FROM jobs WHERE finished_at IS NULL AND tenant_id = queue_tenant() UNION ALL SELECT FROM critical_jobs WHERE finished_at IS NULL AND tenant_id = queue_tenant()) j $$;

-- as many as there is room for, or none; critical ones and what waits for later as well
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[6]));
SELECT pg_temp.depth();
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[3]));
SELECT created FROM queue_enqueue_critical('q', '{}', 'key');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));
SELECT created FROM queue_enqueue('q', '{}', run_at => 'now'::timestamptz + '1 day');
SELECT created FROM queue_enqueue('q', '{}');
SELECT created FROM queue_enqueue_critical('q', '{}', 'another');
SELECT count(*) FROM queue_enqueue_many('q', '{}');
SELECT pg_temp.depth(), (SELECT count(*) FROM idempotency_keys WHERE tenant_id = :tenant) AS keys;
-- one that is there already takes no room
SELECT created FROM queue_enqueue_critical('q', '{}', 'key');
SELECT created FROM queue_enqueue_critical('q', '{}', 'key', on_conflict => 'replace');

-- SQL is bound by it, too
INSERT INTO jobs (queue_id) VALUES (:'queue_id');
\set program 'echo ' :queue_id
COPY jobs (queue_id) FROM PROGRAM :'program';
UPDATE jobs SET queue_id = queue_id WHERE tenant_id = :tenant;
SELECT pg_temp.depth();

-- what ends makes room, also in the same transaction
SELECT job_id, lease_token FROM queue_claim('q', max_jobs => 2) LIMIT 1 \gset
SELECT created FROM queue_enqueue('q', '{}');
BEGIN;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT created FROM queue_enqueue('q', '{}');
SELECT created FROM queue_enqueue('q', '{}');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
ROLLBACK TO s;
SELECT created FROM queue_enqueue('q', '{}');
ROLLBACK;
BEGIN;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
INSERT INTO jobs (queue_id) VALUES (:'queue_id');
COMMIT;
SELECT pg_temp.depth();
INSERT INTO jobs (queue_id) VALUES (:'queue_id');
-- ... or is deleted, or moved away
DELETE FROM jobs WHERE id = (SELECT id FROM jobs WHERE status = 'pending' AND queue_id = :'queue_id' LIMIT 1);
SELECT created, queue_id AS other_id FROM queue_create('other', max_depth => 1) \gset
UPDATE jobs SET queue_id = :'other_id' WHERE status = 'pending' AND queue_id = :'queue_id';
UPDATE jobs SET queue_id = :'other_id' WHERE id = (SELECT id FROM jobs WHERE status = 'pending' AND queue_id = :'queue_id' LIMIT 1);
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[3]));
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));

BEGIN;
DELETE FROM jobs WHERE queue_id = :'queue_id';
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[3]));
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[3]));
ROLLBACK;

-- what was rolled back takes none
BEGIN;
SAVEPOINT s;
DELETE FROM jobs WHERE queue_id = :'queue_id';
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[4]));
ROLLBACK TO s;
SELECT created FROM queue_enqueue('q', '{}');
ROLLBACK;
DELETE FROM jobs WHERE queue_id = :'queue_id';
BEGIN;
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));
SAVEPOINT s;
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));
ROLLBACK TO s;
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));
SAVEPOINT t;
SELECT created FROM queue_enqueue('q', '{}');
ROLLBACK TO t;
COMMIT;
SELECT pg_temp.depth();

-- what is sent back, or retried, needs room
DELETE FROM jobs WHERE queue_id = :'queue_id';
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[3]));
SELECT count(outcome) FROM queue_claim('q', max_jobs => 3) c, queue_fail(c.job_id, c.lease_token, 'broken', dead => true);
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));
SELECT created FROM queue_enqueue('q', '{}');
SELECT queue_redrive('q');
SELECT queue_redrive('q', max_jobs => 2);
SELECT id AS dead FROM dead_letter_jobs WHERE redriven_at IS NULL AND tenant_id = :tenant \gset
SELECT outcome FROM queue_retry(:'dead');
SELECT queue_set('q', dead_letters => false) IS NOT NULL AS set;
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'broken', dead => true);
SELECT outcome FROM queue_retry(:'job_id');
SELECT outcome FROM queue_retry(:'job_id');
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'broken', dead => true);
SELECT created FROM queue_enqueue('q', '{}');
SELECT outcome FROM queue_retry(:'job_id');
-- a schedule says so, and is tried again
SELECT created FROM queue_schedule('s', 'q', '* * * * *');
UPDATE schedules SET next_run_at = date_trunc('minute', now()) WHERE tenant_id = :tenant;
SELECT task, done FROM queue_maintain() WHERE task = 'fire';
SELECT last_error, retry_at > now() AS later FROM schedules WHERE tenant_id = :tenant;
DELETE FROM schedules WHERE tenant_id = :tenant;

-- a lower limit refuses more, and loses nothing
SELECT queue_set('q', max_depth => 2) IS NOT NULL AS set;
SELECT created FROM queue_enqueue('q', '{}');
SELECT pg_temp.depth();
SELECT queue_set('q', max_depth => 0) IS NOT NULL AS set;
SELECT created FROM queue_enqueue('q', '{}');
-- what is restored or replicated is not asked for
SELECT queue_set('q', max_depth => 2) IS NOT NULL AS set;
SET session_replication_role = replica;
INSERT INTO jobs (id, queue_id, tenant_id) VALUES (queue_new_id(), :'queue_id', :tenant);
RESET session_replication_role;
SELECT pg_temp.depth();

-- new ones a second: a tenant's own limit, and that of the service
SELECT queue_limiter_set('signups', 10, 1e-6), queue_tenant_limit_set(:tenant, 'signups', 4, 1e-6);
SELECT created, queue_id FROM queue_create('r', enqueue_limiter => 'signups') \gset
SELECT count(*) FROM queue_enqueue_many('r', array_fill('{}'::jsonb, ARRAY[3]));
BEGIN;
SELECT created FROM queue_enqueue('r', '{}');
SELECT limited_by, round(tokens) AS tokens FROM queue_rate_peek('signups') ORDER BY 1;
ROLLBACK;
SELECT limited_by, round(tokens) AS tokens FROM queue_rate_peek('signups') ORDER BY 1;
\set VERBOSITY sqlstate
SELECT count(*) FROM queue_enqueue_many('r', array_fill('{}'::jsonb, ARRAY[2]));
-- ... more than there ever are
SELECT count(*) FROM queue_enqueue_many('r', array_fill('{}'::jsonb, ARRAY[5]));
INSERT INTO jobs (queue_id) VALUES (:'queue_id');
INSERT INTO jobs (queue_id) VALUES (:'queue_id');
SELECT created FROM queue_enqueue('r', '{}');
SELECT created FROM queue_enqueue_critical('r', '{}', 'another key');
\set VERBOSITY terse
SELECT created FROM queue_enqueue('r', '{}');
-- a redrive takes none: it is no new job
SELECT count(outcome) FROM queue_claim('r', max_jobs => 3) c, queue_fail(c.job_id, c.lease_token, 'broken', dead => true);
SELECT queue_redrive('r');
-- one that is not there
SELECT queue_set('r', enqueue_limiter => 'missing') IS NOT NULL AS set;
SELECT created FROM queue_enqueue('r', '{}');
SELECT queue_set('r', enqueue_limiter => '') IS NOT NULL AS set;
SELECT created FROM queue_enqueue('r', '{}');
DELETE FROM rate_limits WHERE name = 'signups';
DELETE FROM rate_limiters WHERE service_name = 'signups';
