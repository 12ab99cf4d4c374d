-- Producing: what a job is when it is enqueued, in each way to enqueue one.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000b01\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'enqueue');
SET app.current_tenant = :tenant;
\set q '00000000-0000-4000-8000-000000000b10'
INSERT INTO queues (id, name, max_attempts) VALUES (:'q', 'q', 4);
SELECT created FROM queue_create('small', max_payload => 100);
\set columns 'tenant_id = queue_tenant() AS own, queue_id = (SELECT id FROM queues WHERE name = \'q\' AND tenant_id = queue_tenant()) AS q, run_at BETWEEN now() - interval \'1 minute\' AND clock_timestamp() AS due, enqueued_at BETWEEN now() - interval \'1 minute\' AND clock_timestamp() AS enqueued, attempts, max_attempts, priority, held, cancel_requested, final_attempt, status, job_type, payload, headers, group_key, idempotency_key, schedule_id, lease_token, leased_by, leased_at, leased_until, last_error, errors, result, finish_reason, finished_at'

-- defaults, from each way to enqueue
SELECT job_id, created FROM queue_enqueue('q') \gset
\x on
SELECT :columns FROM jobs WHERE id = :'job_id' AND :'created';
\x off
INSERT INTO jobs (queue_id) VALUES (:'q') RETURNING id \gset
SELECT to_jsonb(a) - '{id,run_at,enqueued_at,max_attempts}'::text[] = to_jsonb(b) - '{id,run_at,enqueued_at,max_attempts}'::text[] AS same, b.max_attempts
FROM jobs a, jobs b WHERE a.id = :'job_id' AND b.id = :'id';
SELECT j.id FROM queue_enqueue_many('q', '{"{}"}') j (id) \gset
SELECT to_jsonb(a) - '{id,run_at,enqueued_at}'::text[] = to_jsonb(b) - '{id,run_at,enqueued_at}'::text[] AS same FROM jobs a, jobs b WHERE a.id = :'job_id' AND b.id = :'id';
SELECT job_id FROM queue_enqueue_critical('q', '{}', 'k') \gset critical_
SELECT to_jsonb(a) - '{id,run_at,enqueued_at,max_attempts,idempotency_key}'::text[] = to_jsonb(b) - '{id,run_at,enqueued_at,max_attempts,idempotency_key}'::text[] AS same, b.max_attempts, b.idempotency_key
FROM jobs a, critical_jobs b WHERE a.id = :'job_id' AND b.id = :'critical_job_id';
INSERT INTO critical_jobs (queue_id, idempotency_key) VALUES (:'q', 'inserted') RETURNING max_attempts;
INSERT INTO critical_jobs (queue_id) VALUES (:'q');
-- ids are UUIDs of version 7
SELECT DISTINCT substr(id::text, 15, 1) AS version, substr(id::text, 20, 1) IN ('8', '9', 'a', 'b') AS variant FROM (SELECT id FROM jobs WHERE tenant_id = :tenant UNION ALL SELECT id FROM critical_jobs WHERE tenant_id = :tenant) j;

-- everything given
SELECT job_id FROM queue_enqueue('q', '{"to": "a"}', 'mail', -7, '2100-01-01 00:00+00', 1, 'key', '1 hour', 'reject', 'group', '{"trace": 1}', '1 day') \gset
SELECT job_type, payload, priority, run_at AT TIME ZONE 'UTC' AS run_at, max_attempts, final_attempt, idempotency_key, group_key, headers FROM jobs WHERE id = :'job_id';
SELECT key, critical, expires_at - created_at AS ttl, job_id = :'job_id' AS job FROM idempotency_keys WHERE tenant_id = :tenant AND key = 'key';
SELECT job_id FROM queue_enqueue_critical('q', '[1, "text", null]', 'key', 'mail', 32767, '2100-01-01 00:00+00', 1000, '1 hour', 'replace', 'group', 'true') \gset
SELECT job_type, payload, priority, run_at AT TIME ZONE 'UTC' AS run_at, max_attempts, final_attempt, idempotency_key, group_key, headers FROM critical_jobs WHERE id = :'job_id';
CREATE TEMP TABLE many AS SELECT * FROM queue_enqueue_many('q', '{"1","2"}', 'mail', -32768, '1999-12-31 23:59+00', 2, 'group', '{}') WITH ORDINALITY m (id, n);
SELECT j.job_type, j.payload, j.priority, j.run_at AT TIME ZONE 'UTC' AS run_at, j.max_attempts, j.group_key, j.headers FROM many m, queue_job(m.id) j ORDER BY m.n;
SELECT created FROM queue_enqueue('q', priority => 32768);
SELECT created FROM queue_enqueue('q', priority => -32769);

-- the result of queue_enqueue_many() is in the order of the payloads, and their number can be 0 or 10000
TRUNCATE many;
INSERT INTO many SELECT * FROM queue_enqueue_many('q', ARRAY(SELECT to_jsonb(i) FROM generate_series(50, 1, -1) i)) WITH ORDINALITY m (id, n);
SELECT array_agg(j.payload ORDER BY n) = ARRAY(SELECT to_jsonb(i) FROM generate_series(50, 1, -1) i) AS aligned, array_agg(id ORDER BY n) = array_agg(id ORDER BY id) AS ascending
FROM many JOIN jobs j USING (id);
SELECT count(*) FROM queue_enqueue_many('q', '{}');
SELECT count(*), count(DISTINCT m) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[10000])) m;
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[10001])) m;
SELECT queue_purge('q', 'all') > 10000 AS purged;

-- all of them, and COPY, are claimable in one order: critical, then by priority, then by run_at
SELECT created FROM queue_enqueue('q', '"function"', priority => 1, run_at => '2020-01-02');
INSERT INTO jobs (queue_id, payload, priority, run_at) VALUES (:'q', '"insert"', 1, '2020-01-01'), (:'q', '"insert late"', 1, '2020-01-05');
COPY jobs (queue_id, payload, priority, run_at) FROM stdin;
00000000-0000-4000-8000-000000000b10	"copy"	1	2020-01-03
\.
SELECT count(*) FROM queue_enqueue_many('q', '{"\"many\""}', priority => 1, run_at => '2020-01-04');
INSERT INTO jobs (queue_id, payload) VALUES (:'q', '"no priority"');
SELECT created FROM queue_enqueue_critical('q', '"critical"', 'c', priority => -5);
INSERT INTO critical_jobs (queue_id, payload, idempotency_key) VALUES (:'q', '"critical insert"', 'd');
SELECT payload, critical, attempt, max_attempts, priority FROM queue_claim('q', max_jobs => 100);

-- what plain SQL may not write
INSERT INTO jobs (queue_id, final_attempt) VALUES (:'q', true);
INSERT INTO jobs (queue_id, run_at) VALUES (:'q', 'infinity');
INSERT INTO jobs (queue_id, max_attempts) VALUES (:'q', 0);
INSERT INTO jobs (queue_id, status) VALUES (:'q', 'waiting');
INSERT INTO jobs (queue_id, status) VALUES (:'q', 'processing');
INSERT INTO jobs (queue_id, status) VALUES (:'q', 'completed');
INSERT INTO jobs (queue_id, job_type) VALUES (:'q', '');
INSERT INTO jobs (queue_id) VALUES (gen_random_uuid());
RESET app.current_tenant;
INSERT INTO jobs (queue_id) VALUES (:'q');
SET app.current_tenant = :tenant;

-- payload sizes: a queue's own limit, or queue_service.max_payload; headers count likewise
SELECT created FROM queue_enqueue('small', to_jsonb(repeat('x', 88)));
SELECT created FROM queue_enqueue('small', to_jsonb(repeat('x', 100)));
SELECT created FROM queue_enqueue('small', headers => to_jsonb(repeat('x', 100)));
SELECT created FROM queue_enqueue_critical('small', to_jsonb(repeat('x', 100)), 'x');
SELECT count(*) FROM queue_enqueue_many('small', ARRAY['1', to_jsonb(repeat('x', 100))]);
SELECT created FROM queue_enqueue('q', to_jsonb(repeat('x', 1000000)));
SELECT created FROM queue_enqueue('q', to_jsonb(repeat('x', 1100000)));
SET queue_service.max_payload = 1000;
SELECT created FROM queue_enqueue('q', to_jsonb(repeat('x', 1000)));
SELECT created FROM queue_enqueue('q', to_jsonb(repeat('x', 900)));
RESET queue_service.max_payload;
SELECT count(*) FROM jobs j JOIN queues q ON q.id = j.queue_id WHERE q.name = 'small' AND j.tenant_id = :tenant;

-- an enqueue belongs to the caller's transaction
SELECT queue_purge('q', 'all') > 0 AS purged;
BEGIN;
SELECT created FROM queue_enqueue('q', '"rolled back"');
SAVEPOINT s;
SELECT created FROM queue_enqueue('q', '"rolled back, too"');
ROLLBACK TO s;
SELECT payload FROM queue_peek('q');
ROLLBACK;
SELECT payload FROM queue_peek('q');
-- a critical one commits durably, whatever the session says, which is left as it is; see t/054
SET synchronous_commit = off;
BEGIN;
SELECT created FROM queue_enqueue_critical('q', '{}', 'durable');
SHOW synchronous_commit;
COMMIT;
SHOW synchronous_commit;
RESET synchronous_commit;
RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant, 100000);
DELETE FROM tenants WHERE id = :tenant;
