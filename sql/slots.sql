-- Queues with max_concurrency: at most so many jobs have an unexpired lease.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000005101\''
\set other '\'00000000-0000-4000-8000-000000005102\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'slots'), (:other, 'slots too');
SET app.current_tenant = :tenant;

-- what is held, to be ended by its job's payload
CREATE TEMP TABLE held (job text, id uuid, token bigint);
\set claim 'WITH c AS (INSERT INTO held SELECT payload #>> \'{}\', job_id, lease_token FROM queue_claim(\'q\', max_jobs => 10) RETURNING job) SELECT string_agg(job, \' \' ORDER BY job) AS claimed FROM c'
\set claim_one 'WITH c AS (INSERT INTO held SELECT payload #>> \'{}\', job_id, lease_token FROM queue_claim(\'q\') RETURNING job) SELECT string_agg(job, \' \' ORDER BY job) AS claimed FROM c'
\set running 'SELECT count(*) AS running FROM (SELECT tenant_id, status, leased_until FROM jobs UNION ALL SELECT tenant_id, status, leased_until FROM critical_jobs) j WHERE tenant_id = queue_tenant() AND status = \'processing\' AND leased_until > clock_timestamp()'

SELECT created FROM queue_create('q', max_concurrency => 2, default_lease => '1 hour');
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(10, 99) i;
:claim;
:claim;
-- each way to end a lease frees its slot
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '10';
:claim;
:claim;
SELECT outcome FROM held, queue_fail(id, token, 'no', retry_in => '1 hour') WHERE job = '11';
:claim;
SELECT outcome FROM held, queue_fail(id, token, 'no', dead => true) WHERE job = '12';
:claim;
SELECT outcome FROM held, queue_snooze(id, token, '1 hour') WHERE job = '13';
:claim;
SELECT outcome FROM held, queue_release(id, token) WHERE job = '14';
DELETE FROM held WHERE job = '14';
:claim;
SELECT outcome FROM held, queue_retry(id, run_at => now() + interval '1 hour') WHERE job = '14';
:claim;
SELECT outcome FROM held, queue_cancel(id) WHERE job = '15';
:claim;
SELECT outcome FROM held, queue_fail(id, token, 'no') WHERE job = '15';
:claim;
SELECT array_agg(outcome) FROM queue_complete_many((SELECT array_agg(id ORDER BY job) FROM held WHERE job IN ('16', '17')), (SELECT array_agg(token ORDER BY job) FROM held WHERE job IN ('16', '17')));
SELECT queue_set('q', keep_completed => '0') IS NOT NULL AS set;
:claim;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '18';
:claim;
:running;
-- what was lost has none to free
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '18';
SELECT outcome FROM held, queue_complete(id, token + 1) WHERE job = '19';
:claim;

-- a heartbeat needs no other
SELECT h.held FROM held, queue_heartbeat(id, token) h WHERE job = '19';
:claim;

-- a transaction that ends a lease may claim with its slot
BEGIN;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '19';
:claim;
:claim;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '21';
SAVEPOINT s;
:claim;
ROLLBACK TO s;
:claim;
COMMIT;
:claim;
:running;
-- not so if that is rolled back
BEGIN;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '20';
:claim;
ROLLBACK;
:claim;
BEGIN;
SAVEPOINT s;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '20';
:claim;
ROLLBACK TO s;
:claim;
COMMIT;
:claim;
:running;
-- a claim that is rolled back frees what it took
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '20';
BEGIN;
:claim;
:claim;
ROLLBACK;
BEGIN;
SAVEPOINT s;
:claim;
ROLLBACK TO s;
SAVEPOINT s;
:claim;
RELEASE s;
SAVEPOINT s;
ROLLBACK TO s;
COMMIT;
:claim;
:running;
-- complete and claim
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token], max_jobs => 5) WHERE job = '23';
SELECT kind, payload FROM queue_complete_and_claim('q', '{}', '{}', max_jobs => 5);
:running;
SELECT queue_purge('q', 'all') > 0 AS purged;
SELECT queue_drop('q', true);

-- a lease that expires frees its slot, with its job or another
SELECT created FROM queue_create('q', max_concurrency => 1);
SELECT created FROM queue_enqueue('q', '1');
TRUNCATE held;
INSERT INTO held SELECT payload, job_id, lease_token FROM queue_claim('q', lease => '1 ms');
SELECT pg_sleep(0.01);
SELECT payload FROM queue_claim('q', lease => '1 ms');
SELECT pg_sleep(0.01);
SELECT created FROM queue_enqueue('q', '2', priority => 1);
TRUNCATE held;
:claim;
INSERT INTO held SELECT '1', id, lease_token FROM jobs WHERE payload = '1' AND tenant_id = queue_tenant() AND status = 'processing';
:claim;
-- who is late with a heartbeat has lost it, if there is none for him any more
SELECT h.held, cancel_requested, leased_until FROM held, queue_heartbeat(id, token) h WHERE job = '1';
SELECT h.held FROM held, queue_heartbeat(id, token, strict => true) h WHERE job = '1';
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '2';
SELECT h.held, leased_until > now() AS leased FROM held, queue_heartbeat(id, token, '1 hour') h WHERE job = '1';
SELECT created FROM queue_enqueue('q', '3');
:claim;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '1';
:claim;
SELECT queue_drop('q', true);

-- slots that are kept for critical jobs
TRUNCATE held;
SELECT created FROM queue_create('q', max_concurrency => 3, critical_reserve => 2);
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 9) i;
:claim;
SELECT count(queue_enqueue_critical('q', to_jsonb('c' || i), i::text)) FROM generate_series(1, 5) i;
:claim;
:claim;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '1';
:claim;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = 'c1';
:claim;
-- a normal job's may be passed on to a critical one, the other way only if there is one to be had
SELECT queue_set('q', critical_reserve => 1) IS NOT NULL AS set;
SELECT outcome FROM held, queue_complete(id, token) WHERE job IN ('c2', 'c3', 'c4');
:claim;
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token]) WHERE job = 'c5';
SELECT created FROM queue_enqueue_critical('q', '"c6"', '6');
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token]) WHERE job = '2';
:claim;
:running;
-- a reserve of all leaves none to others
SELECT queue_set('q', critical_reserve => 3) IS NOT NULL AS set;
SELECT outcome FROM held, queue_complete(id, token) WHERE job IN ('3', '4', 'c6');
:claim;
SELECT created FROM queue_enqueue_critical('q', '"c7"', '7');
:claim;
-- over a limit that was lowered, none is passed on
SELECT count(queue_enqueue_critical('q', to_jsonb('c' || i), i::text)) FROM generate_series(8, 10) i;
:claim;
SELECT queue_set('q', max_concurrency => 2) IS NOT NULL AS set;
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token]) WHERE job = 'c7';
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token]) WHERE job = 'c8';
SELECT queue_drop('q', true);

-- the limit is set, raised, lowered and removed while jobs run
SELECT created FROM queue_create('q', default_lease => '1 hour');
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(10, 40) i;
TRUNCATE held;
:claim_one;
:claim_one;
:claim_one;
SELECT queue_set('q', max_concurrency => 2) IS NOT NULL AS set;
:claim;
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token]) WHERE job = '10';
:claim;
SELECT kind, payload FROM held, queue_complete_and_claim('q', ARRAY[id], ARRAY[token]) WHERE job = '11';
:running;
SELECT queue_set('q', max_concurrency => 4) IS NOT NULL AS set;
:claim;
SELECT queue_set('q', max_concurrency => 0) IS NOT NULL AS set;
:claim_one;
:claim_one;
:running;
SELECT queue_set('q', max_concurrency => 6) IS NOT NULL AS set;
:claim;
SELECT queue_set('q', max_concurrency => 7) IS NOT NULL AS set;
:claim;
:running;
SELECT queue_drop('q', true);

-- SQL is not refused a lease, but it counts; and what ends by SQL has ended
SELECT created FROM queue_create('q', max_concurrency => 2);
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 5) i;
TRUNCATE held;
:claim_one;
BEGIN;
UPDATE jobs SET status = 'processing', lease_token = 1, leased_until = now() + interval '1 hour', attempts = 1 WHERE payload = '3' AND tenant_id = :tenant;
:claim;
ROLLBACK;
:claim;
UPDATE jobs SET status = 'pending', lease_token = NULL, leased_until = NULL WHERE payload = '1' AND tenant_id = :tenant;
:claim;
UPDATE jobs SET status = 'completed', lease_token = NULL, finished_at = now(), finish_reason = 'completed' WHERE payload = '2' AND tenant_id = :tenant;
UPDATE jobs SET status = 'processing', lease_token = 1, leased_until = now() + interval '1 hour', attempts = 1 WHERE payload = '3' AND tenant_id = :tenant;
:claim;
INSERT INTO jobs (queue_id, payload, status, lease_token, leased_until, attempts) SELECT id, '6', 'processing', 2, now() + interval '1 hour', 1 FROM queues WHERE name = 'q' AND tenant_id = :tenant;
SELECT outcome FROM held, queue_complete(id, token) WHERE job = '1' AND outcome = 'done';
:claim;
:running;
SELECT queue_drop('q', true);

-- two queues in one transaction; another tenant's queue has its own
SELECT created FROM queue_create('limited', max_concurrency => 1);
SELECT created FROM queue_create('r', max_concurrency => 1);
SELECT count(queue_enqueue(q, to_jsonb(i))) FROM unnest(ARRAY['limited', 'r']) q, generate_series(1, 5) i;
SET app.current_tenant = :other;
SELECT created FROM queue_create('limited', max_concurrency => 2);
SELECT count(queue_enqueue('limited', to_jsonb(i))) FROM generate_series(11, 15) i;
SET app.current_tenant = '';
SELECT string_agg(payload::text, ' ' ORDER BY payload) FROM queue_claim('limited', max_jobs => 10);
SET app.current_tenant = :tenant;
BEGIN;
SELECT payload FROM queue_claim('r');
SELECT payload FROM queue_claim('limited');
SELECT payload FROM queue_claim('r');
COMMIT;
SELECT payload FROM queue_claim('limited');

-- who may not set a limit may not drop the queue to get around it
CREATE ROLE regress_slots_admin;
SELECT queue_grant('regress_slots_admin', 'admin');
SELECT created FROM queue_create('free');
GRANT SELECT, DELETE ON queues TO regress_slots_admin;
SET ROLE regress_slots_admin;
SELECT queue_drop('limited', true);
SELECT queue_drop('limited');
DELETE FROM queues WHERE name = 'limited';
SELECT queue_drop('free');
RESET ROLE;
REVOKE SELECT, DELETE ON queues FROM regress_slots_admin;
SELECT queue_set('r', max_concurrency => 0, weight => 2) IS NOT NULL AS set;
SET ROLE regress_slots_admin;
SELECT queue_drop('r', true);
RESET ROLE;
SELECT queue_set('r', weight => 1, critical_reserve => 1) IS NOT NULL AS set;
SET ROLE regress_slots_admin;
SELECT queue_drop('r', true);
RESET ROLE;
SELECT queue_set('r', critical_reserve => 0) IS NOT NULL AS set;
SET ROLE regress_slots_admin;
SELECT queue_drop('r', true);
RESET ROLE;
SELECT queue_revoke('regress_slots_admin', 'admin');
DROP ROLE regress_slots_admin;
SELECT queue_drop('limited', true);
SET app.current_tenant = :other;
SELECT queue_drop('limited', true);
