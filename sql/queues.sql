-- Queues: create, set, pause and resume, purge, drop.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000a01\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'queues');
SET app.current_tenant = :tenant;
\set definition 'SELECT description, paused, max_attempts, default_lease, backoff_base, backoff_factor, backoff_max, backoff_jitter, keep_completed, keep_dead, dead_letters, max_depth, max_payload, max_concurrency, critical_reserve, rate_limiter, enqueue_limiter, weight, ageing, group_concurrency, group_on_failure, alert_depth, alert_age, alert_dead, config FROM queues WHERE name = '
\set counts 'SELECT (SELECT count(*) FROM jobs WHERE tenant_id = queue_tenant()) AS jobs, (SELECT count(*) FROM critical_jobs WHERE tenant_id = queue_tenant()) AS critical, (SELECT count(*) FROM dead_letter_jobs WHERE tenant_id = queue_tenant()) AS dead, (SELECT count(*) FROM queues WHERE tenant_id = queue_tenant()) AS queues'
\set fill 'SELECT (SELECT count(*) FROM queue_enqueue_many(\'work\', array_fill(\'{}\'::jsonb, ARRAY[4]))) AS jobs, count(*) AS critical FROM generate_series(1, 2) i, queue_enqueue_critical(\'work\', \'{}\', i || gen_random_uuid()::text);'

-- defaults
SELECT created, queue_id FROM queue_create('plain') \gset
SELECT :'created' AS created, id = :'queue_id' AS id FROM queues WHERE name = 'plain' AND tenant_id = :tenant;
\x on
:definition 'plain';
\x off
-- what the function takes as defaults is what the table has
INSERT INTO queues (name) VALUES ('inserted');
SELECT count(DISTINCT to_jsonb(q) - '{id,name,created_at,updated_at}'::text[]) AS definitions FROM queues q WHERE name IN ('plain', 'inserted');

-- everything set at once; the same name again changes nothing
SELECT queue_id, created FROM queue_create('full', 'all of it', 7, '2 minutes', '1 second', 3, '10 minutes', 0, '0', '1 day', false,
	1000, 2000, 30, 4, 'stripe', 'signups', 5, '6 minutes', 7, 'pass', 8, '9 minutes', 10, '{"a": 1}') \gset full_
SELECT queue_id = :'full_queue_id' AS same, created FROM queue_create('full', 'another', 1, max_depth => 1);
SELECT queue_id = :'full_queue_id' AS same, created FROM queue_create('full');
\x on
:definition 'full';

-- NULL leaves a setting as it is, 0 (or '') removes a limit
SELECT queue_set('full') = :'full_queue_id' AS same;
:definition 'full';
SELECT queue_set('full', max_depth => 0, max_payload => 0, max_concurrency => 0, critical_reserve => 0, rate_limiter => '', enqueue_limiter => '', ageing => '0',
	group_concurrency => 0, alert_depth => 0, alert_age => '0', alert_dead => 0) = :'full_queue_id' AS same;
:definition 'full';
SELECT queue_set('full', 'changed', 8, '3 minutes', '2 seconds', 4, '11 minutes', 1, '2 days', '3 days', true,
	1001, 2001, 31, 5, 'twilio', 'logins', 6, '7 minutes', 8, 'block', 9, '10 minutes', 11, '{"b": 2}') = :'full_queue_id' AS same;
:definition 'full';
\x off
SELECT updated_at > created_at AS updated FROM queues WHERE name IN ('full', 'plain') ORDER BY name;

-- the longest that is allowed, and no longer
SELECT queue_set('full', default_lease => '365 days', backoff_base => '365 days', backoff_max => '365 days') IS NOT NULL AS set;
SELECT queue_set('full', default_lease => '366 days');
SELECT queue_set('full', backoff_base => '366 days');
SELECT queue_set('full', backoff_max => '366 days');
SELECT queue_create('full2', default_lease => '366 days');
SELECT queue_create(repeat('n', 129));
SELECT created FROM queue_create(repeat('n', 128));
SELECT queue_set(repeat('n', 128), 'long name') IS NOT NULL AS set;
SELECT queue_drop(repeat('n', 128));
SELECT queue_set('missing');
-- what a definition says is in force at once, in the same transaction, and not after a rollback
BEGIN;
SELECT queue_set('plain', max_attempts => 9) IS NOT NULL AS set;
SELECT job_id FROM queue_enqueue('plain') \gset
SELECT max_attempts FROM queue_job(:'job_id');
ROLLBACK;
SELECT job_id FROM queue_enqueue('plain') \gset
SELECT max_attempts FROM queue_job(:'job_id');
-- also a definition that was changed by plain SQL
UPDATE queues SET max_attempts = 4 WHERE name = 'plain' AND tenant_id = :tenant;
SELECT job_id FROM queue_enqueue('plain') \gset
SELECT max_attempts FROM queue_job(:'job_id');
UPDATE queues SET name = 'renamed' WHERE name = 'plain' AND tenant_id = :tenant;
SELECT queue_enqueue('plain');
SELECT created FROM queue_enqueue('renamed');
-- nothing of another tenant's
INSERT INTO tenants (id) VALUES ('00000000-0000-4000-8000-000000000a02');
SET app.current_tenant = '00000000-0000-4000-8000-000000000a02';
SELECT queue_set('renamed');
SELECT queue_drop('renamed');
SELECT created FROM queue_create('renamed');
SELECT queue_drop('renamed');
SET app.current_tenant = '00000000-0000-4000-8000-000000000a03';
SELECT queue_create('no such tenant');
SET app.current_tenant = :tenant;

-- pause and resume
SELECT created FROM queue_create('work');
:fill
SELECT queue_pause('work'), queue_pause('work') AS again, (SELECT count(*) FROM queue_claim('work', max_jobs => 10)) AS claimed, (SELECT count(*) FROM queue_peek('work')) AS peeked;
SELECT created FROM queue_enqueue('work');
SELECT queue_resume('work'), queue_resume('work') AS again, (SELECT count(*) FROM queue_peek('work')) AS peeked, (SELECT count(*) FROM queue_claim('work', max_jobs => 10)) AS claimed;
SELECT queue_pause('missing');
SELECT queue_resume('missing');

-- purge: 7 under a lease stay, whatever is purged
:fill
SELECT queue_purge('work') AS waiting, queue_purge('work') AS again;
:counts;
:fill
SELECT queue_purge('work', max_jobs => 2) AS two, queue_purge('work', max_jobs => 3) AS three, queue_purge('work', 'waiting', 100) AS rest;
SELECT queue_set('work', max_attempts => 1) IS NOT NULL AS set;
:fill
SELECT queue_purge('work', 'finished') AS finished, queue_purge('work', 'dead') AS dead;
SELECT c.outcome, f.outcome FROM queue_claim('work', max_jobs => 2) j, queue_complete(j.job_id, j.lease_token) c, queue_fail(j.job_id, j.lease_token) f;
SELECT f.outcome FROM queue_claim('work', max_jobs => 2) j, queue_fail(j.job_id, j.lease_token, dead => true) f;
:counts;
SELECT queue_purge('work', 'finished') AS finished, queue_purge('work', 'dead', 1) AS one_dead, queue_purge('work', 'dead') AS dead;
SELECT f.outcome FROM queue_claim('work', max_jobs => 1) j, queue_fail(j.job_id, j.lease_token, dead => true) f;
SELECT c.outcome FROM queue_enqueue('work'), queue_claim('work', max_jobs => 1) j, queue_complete(j.job_id, j.lease_token) c;
:counts;
SELECT queue_purge('work', 'all', 2) AS two, queue_purge('work', 'all') AS rest, queue_purge('work', 'all') AS again;
:counts;
SELECT queue_purge('missing');
SELECT queue_purge('work', 'nothing');

-- drop: not while anything unfinished is in it
SELECT queue_drop('work');
SELECT queue_drop('work', true);
:counts;
SELECT queue_drop('work');
SELECT queue_drop('work', true);
SELECT created FROM queue_create('work');
SELECT job_id FROM queue_enqueue('work', max_attempts => 1, idempotency_key => 'k') \gset
SELECT queue_drop('work');
SELECT f.outcome FROM queue_claim('work') j, queue_fail(j.job_id, j.lease_token, 'x') f;
SELECT queue_drop('work');
-- sent back, the dead letter is no reason to keep the queue; nor is what has finished
SELECT queue_redrive('work');
SELECT c.outcome FROM queue_claim('work') j, queue_complete(j.job_id, j.lease_token) c;
SELECT queue_drop('work');
:counts;
SELECT count(*) FROM idempotency_keys WHERE tenant_id = :tenant;
SELECT created FROM queue_create('work');
INSERT INTO schedules (name, queue_id, cron) SELECT 's', id, '* * * * *' FROM queues WHERE name = 'work' AND tenant_id = :tenant;
SELECT queue_drop('work');
INSERT INTO queue_metrics (queue_id) SELECT id FROM queues WHERE name = 'work' AND tenant_id = :tenant;
INSERT INTO alert_history (queue_id, alert, message) SELECT id, 'a', 'm' FROM queues WHERE name = 'work' AND tenant_id = :tenant;
:fill
SELECT queue_drop('work', force => true);
SELECT queue_enqueue('work');
:counts;
-- a rolled back drop leaves the queue
BEGIN;
SELECT queue_drop('full');
SELECT queue_enqueue('full');
ROLLBACK;
SELECT queue_set('full', enqueue_limiter => '') IS NOT NULL AS set;
SELECT created FROM queue_enqueue('full');

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE id::text LIKE '00000000-0000-4000-8000-000000000a%';
