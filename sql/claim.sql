-- Claiming: which jobs, in which order, for whom and for how long.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000d01\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'claim');
SET app.current_tenant = :tenant;
SELECT created FROM queue_create('q', default_lease => '7 minutes');
SELECT created FROM queue_create('other');

-- an empty queue is no error, an unknown one is
SELECT * FROM queue_claim('q');
SELECT * FROM queue_claim('missing');

-- critical jobs first, then the higher priority, then the earlier run_at, then the earlier id
CREATE TEMP TABLE offered (n serial, priority integer, run_at timestamptz, critical boolean);
INSERT INTO offered (priority, run_at, critical)
SELECT p, '2020-01-01'::timestamptz + r * interval '1 hour', c
FROM unnest(ARRAY[0, 10, -10, 32767, -32768]) p, unnest(ARRAY[3, 1, 2, 1]) r, unnest(ARRAY[false, true]) c ORDER BY md5(p::text || r || c);
SELECT count(CASE WHEN critical THEN (SELECT job_id FROM queue_enqueue_critical('q', to_jsonb(n), n::text, priority => priority, run_at => run_at))
	ELSE (SELECT job_id FROM queue_enqueue('q', to_jsonb(n), priority => priority, run_at => run_at)) END) AS enqueued
FROM (SELECT * FROM offered ORDER BY n) o;
SELECT count(*) AS peeked FROM queue_peek('q', 1000);
SELECT array_agg(payload ORDER BY n) = (SELECT array_agg(to_jsonb(n) ORDER BY critical DESC, priority DESC, run_at, n) FROM offered) AS in_order
FROM queue_peek('q', 1000) WITH ORDINALITY p (job_id, critical, job_type, payload, priority, run_at, attempts, max_attempts, n);
SELECT array_agg(payload ORDER BY n) = (SELECT array_agg(to_jsonb(n) ORDER BY critical DESC, priority DESC, run_at, n) FROM offered) AS in_order
FROM queue_claim('q', max_jobs => 1000) WITH ORDINALITY c (job_id, lease_token, tenant_id, queue, job_type, payload, headers, attempt, max_attempts, priority, critical, enqueued_at, leased_until, n);
SELECT count(*) FROM queue_claim('q');
SELECT queue_drop('q', true);

-- what a claim returns, and what it writes
SELECT created FROM queue_create('q', default_lease => '7 minutes');
SELECT job_id FROM queue_enqueue('q', '{"a": 1}', 'mail', 5, headers => '{"h": 1}', max_attempts => 2) \gset
SELECT enqueued_at FROM jobs WHERE id = :'job_id' \gset
SET application_name = 'my worker';
SELECT c.* FROM queue_claim('q') c \gset c_
\x on
SELECT :'c_job_id' = :'job_id' AS job_id, :c_lease_token BETWEEN 1 AND 9007199254740991 AS lease_token, :'c_tenant_id' = :tenant AS tenant_id, :'c_queue' AS queue, :'c_job_type' AS job_type,
	:'c_payload' AS payload, :'c_headers' AS headers, :'c_attempt' AS attempt, :'c_max_attempts' AS max_attempts, :'c_priority' AS priority, :'c_critical' AS critical,
	:'c_enqueued_at' = :'enqueued_at' AS enqueued_at, :'c_leased_until'::timestamptz BETWEEN now() + interval '6 minutes' AND now() + interval '7 minutes' AS leased_until;
SELECT status, attempts, final_attempt, lease_token = :c_lease_token AS lease_token, leased_by, leased_until = :'c_leased_until' AS leased_until, leased_until - leased_at AS lease,
	leased_at BETWEEN enqueued_at AND clock_timestamp() AS leased_at, last_error, errors FROM jobs WHERE id = :'job_id';
\x off
-- the worker: its name, or application_name, or the process
SELECT count(queue_enqueue('q')) FROM generate_series(1, 3);
SELECT count(*) FROM queue_claim('q', 'named');
RESET application_name;
SET application_name = '';
SELECT count(*) FROM queue_claim('q');
RESET application_name;
SELECT leased_by = 'process ' || pg_backend_pid() AS process, CASE WHEN leased_by !~ '^process' THEN leased_by END AS leased_by FROM jobs WHERE tenant_id = :tenant AND status = 'processing' ORDER BY leased_at;
-- the lease: the argument, in calendar units too
SELECT leased_until - now() BETWEEN interval '0:59' AND interval '1:01' AS an_hour FROM queue_claim('q', lease => '1 hour');
SELECT queue_set('q', default_lease => '2 hours') IS NOT NULL AS set, created FROM queue_enqueue('q');
SELECT leased_until - now() BETWEEN interval '1:59' AND interval '2:01' AS two_hours FROM queue_claim('q');
SELECT created FROM queue_enqueue('q');
SELECT leased_until BETWEEN now() + interval '1 month - 1 minute' AND now() + interval '1 month 1 minute' AS a_month FROM queue_claim('q', lease => '1 month');
SELECT queue_claim('q', lease => '366 days');
SELECT queue_drop('q', true);

-- never more than max_jobs, never a job twice
SELECT created FROM queue_create('q');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[97]));
SELECT count(queue_enqueue_critical('q', '{}', 'max ' || i)) FROM generate_series(1, 3) i;
CREATE TEMP TABLE claimed AS SELECT n, c.* FROM generate_series(1, 12) n, LATERAL (SELECT job_id, lease_token, critical FROM queue_claim('q', 'w' || n, n)) c;
SELECT array_agg(count ORDER BY n) AS claims FROM (SELECT n, count(*) FROM claimed GROUP BY n) c;
SELECT count(DISTINCT job_id) AS jobs, count(DISTINCT lease_token) AS tokens, count(*) FILTER (WHERE critical) AS critical, min(n) FILTER (WHERE NOT critical) AS first_normal FROM claimed;
SELECT count(*) FROM queue_claim('q', max_jobs => 10000);
SELECT count(*) FROM queue_claim('q', max_jobs => 10000);
SELECT queue_claim('q', max_jobs => 10001);
SELECT queue_drop('q', true);

-- a delayed job waits, whatever its priority, and holds up none below it
SELECT created FROM queue_create('q');
SELECT count(queue_enqueue('q', to_jsonb(i), priority => i % 10, run_at => now() + i * interval '1 hour')) FROM generate_series(1, 1000) i;
SELECT created FROM queue_enqueue_critical('q', '"late"', 'late', run_at => now() + interval '1 hour');
SELECT count(*) FROM queue_claim('q', max_jobs => 10);
SELECT count(queue_enqueue('q', to_jsonb('due ' || p), priority => p)) FROM unnest(ARRAY[-32768, -1, 0, 5, 9, 32767]) p;
SELECT payload, priority FROM queue_peek('q', 10);
SELECT payload, priority FROM queue_claim('q', max_jobs => 10);
-- due as the clock says, also in a transaction that began before
BEGIN;
SELECT now() IS NOT NULL AS begun, count(pg_sleep(0.01)) FROM generate_series(1, 2);
SELECT created FROM queue_enqueue('q', '"soon"', run_at => clock_timestamp() - interval '1 millisecond');
SELECT payload FROM queue_claim('q');
COMMIT;
SELECT queue_drop('q', true);

-- an expired lease is claimable at once, at its old place, and counted as an attempt
SELECT created FROM queue_create('q');
SELECT count(queue_enqueue('q', to_jsonb(i), max_attempts => 3)) FROM generate_series(1, 3) i;
SELECT payload, attempt FROM queue_claim('q', 'first', 2, '1 microsecond');
SELECT payload, attempts FROM queue_peek('q');
SELECT payload, attempt FROM queue_claim('q', 'second', 3, '1 microsecond');
SELECT payload, attempt FROM queue_claim('q', 'third', 2);
SELECT payload, attempts, status, last_error, jsonb_path_query_array(errors, '$[*].attempt') AS attempts, jsonb_path_query_array(errors, '$[*].worker') AS workers, jsonb_path_query_array(errors, '$[*].error') AS errors
FROM jobs WHERE tenant_id = :tenant AND queue_id = (SELECT id FROM queues WHERE tenant_id = :tenant AND name = 'q') ORDER BY id;
-- a lease that lasts is not claimable, with any priority
SELECT payload, attempt FROM queue_claim('q', 'fourth', 10);
SELECT payload FROM queue_claim('q');
SELECT queue_drop('q', true);

-- a paused queue
SELECT created FROM queue_create('q');
SELECT created, queue_pause('q') FROM queue_enqueue('q', '"paused"');
SELECT payload FROM queue_claim('q');
SELECT queue_resume('q');
SELECT payload FROM queue_claim('q');
-- a held job
INSERT INTO jobs (queue_id, payload, held) SELECT id, '"held"', true FROM queues WHERE tenant_id = :tenant AND name = 'q';
SELECT payload FROM queue_claim('q');
UPDATE jobs SET held = false WHERE tenant_id = :tenant AND held;
SELECT payload FROM queue_claim('q');

-- a rolled back claim leaves the job as it was
SELECT created FROM queue_enqueue('q', '"back"');
BEGIN;
SELECT payload, attempt FROM queue_claim('q');
SELECT payload, attempt FROM queue_claim('q');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT payload, attempt FROM queue_claim('q');
ROLLBACK TO s;
SELECT payload, attempt FROM queue_claim('q');
COMMIT;
SELECT payload FROM queue_claim('q');
-- what the same transaction, or statement, enqueued is claimable
BEGIN;
SELECT created FROM queue_enqueue('q', '"same transaction"');
SELECT payload FROM queue_claim('q');
ROLLBACK;
SELECT payload FROM queue_enqueue('q', '"same statement"'), queue_claim('q');
-- within functions, cursors and DO blocks
DO $$
DECLARE
	c record;
BEGIN
	PERFORM queue_enqueue('q', to_jsonb(i)) FROM generate_series(1, 5) i;
	FOR c IN SELECT * FROM queue_claim('q', max_jobs => 5) LOOP
		PERFORM queue_complete(c.job_id, c.lease_token, c.payload);
	END LOOP;
END$$;
SELECT result, status FROM jobs WHERE tenant_id = :tenant AND result IS NOT NULL ORDER BY id;
-- claims of one queue do not touch another
SELECT created FROM queue_enqueue('other', '"other"');
SELECT count(*) FROM queue_claim('q', max_jobs => 100);
SELECT payload FROM queue_claim('other', max_jobs => 100);

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE id = :tenant;
