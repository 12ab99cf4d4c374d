-- Rescue: a job whose lease ran out on its last attempt becomes a dead letter, though nobody claims.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000002401\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'rescue');
SET app.current_tenant = :tenant;
SELECT queue_create('q', max_attempts => 2) IS NOT NULL AS created, queue_create('kept', max_attempts => 1, dead_letters => false) IS NOT NULL AS created, queue_create('once', max_attempts => 1) IS NOT NULL AS created;
CREATE VIEW pg_temp.dead AS SELECT payload #>> '{}' AS job, source_table, reason, leased_by, last_error, errors #>> '{-1,worker}' AS worker, errors #>> '{-1,error}' AS error, (errors #>> '{-1,attempt}')::integer AS attempt, died_at FROM dead_letter_jobs WHERE tenant_id = :tenant;

SELECT count(*) FROM unnest(ARRAY['first', 'last', 'running']) j, queue_enqueue('q', to_jsonb(j));
SELECT created FROM queue_enqueue_critical('once', '"critical"', 'k', max_attempts => 1);
SELECT created FROM queue_enqueue('kept', '"kept"');
SELECT created FROM queue_enqueue('once', '"cancelled"', max_attempts => 5);
UPDATE jobs SET attempts = 1 WHERE payload IN ('"last"', '"running"') AND tenant_id = :tenant;
SELECT count(*) FROM queue_claim('q', 'worker a', max_jobs => 2, lease => '1 minute');
SELECT count(*) FROM queue_claim('q', 'worker b', lease => '3 hours');
SELECT count(*) FROM queue_claim('once', 'worker c', max_jobs => 2, lease => '1 minute');
SELECT count(*) FROM queue_claim('kept', 'worker d', lease => '1 minute');
SELECT c.outcome FROM jobs j, queue_cancel(j.id) c WHERE j.payload = '"cancelled"' AND tenant_id = :tenant;
SELECT done FROM queue_maintain() WHERE task = 'rescue';
SELECT now() + interval '1 hour' AS later \gset
SELECT done, error FROM queue_maintain(:'later') WHERE task = 'rescue';
SELECT job, source_table, reason, leased_by, last_error, worker, error, attempt, died_at = :'later' AS then FROM pg_temp.dead ORDER BY job;
SELECT payload, status, finish_reason, attempts, last_error FROM jobs WHERE tenant_id = :tenant ORDER BY payload;
SELECT done FROM queue_maintain(:'later') WHERE task = 'rescue';
-- of a paused queue, and though the queue's settings have changed
SELECT queue_pause('q');
SELECT queue_set('q', max_attempts => 10) IS NOT NULL AS set;
SELECT done FROM queue_maintain(now() + interval '5 hours') WHERE task = 'rescue';
SELECT job, worker FROM pg_temp.dead WHERE job = 'running';

-- a job that cannot be ended keeps no other
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF OLD.payload = '3' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN OLD; END$$;
CREATE TRIGGER refuse BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
SELECT count(*) FROM generate_series(1, 5) n, queue_enqueue('once', to_jsonb(n));
SELECT count(*) FROM queue_claim('once', 'worker e', max_jobs => 10, lease => '1 minute');
SELECT done, error FROM queue_maintain(:'later') WHERE task = 'rescue';
SELECT string_agg(job, ' ' ORDER BY job) AS dead FROM pg_temp.dead WHERE worker = 'worker e';
SELECT payload, status, last_error FROM jobs WHERE tenant_id = :tenant AND leased_by = 'worker e';
SELECT current_setting('search_path') AS path;
DROP TRIGGER refuse ON jobs;
SELECT done FROM queue_maintain(:'later') WHERE task = 'rescue';

-- Many jobs wait that have one attempt, at two priorities, and so are in the index of last attempts, too. Those that
-- ran are found in one pass that looks at few of them. The index of last attempts has those at its end.
INSERT INTO jobs (queue_id, max_attempts, priority, run_at, payload) SELECT id, 1, n % 2, '2026-01-01'::timestamptz - n * interval '1 second', to_jsonb(n) FROM queues, generate_series(1, 25000) n WHERE tenant_id = :tenant AND name = 'once';
CREATE FUNCTION pg_temp.pass(at timestamptz, OUT done bigint, OUT few boolean) LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
	hit bigint := 0;
BEGIN
	done := count(*) FROM dead_letter_jobs;
	-- the index of last attempts, then the fronts of queues
	FOR run IN 1 .. 2 LOOP
		EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT _queue_task(''rescue'', %L)', at) INTO plan;
		hit := hit + (plan #>> '{0,Plan,Shared Hit Blocks}')::bigint;
	END LOOP;
	done := count(*) - done FROM dead_letter_jobs;
	few := hit < 1000;
END$$;
SELECT count(*) FROM queue_claim('once', 'worker f', max_jobs => 2, lease => '1 minute');
UPDATE jobs SET priority = 0, run_at = '2025-01-01' WHERE tenant_id = :tenant AND leased_by = 'worker f' AND payload = '24999';
SELECT * FROM pg_temp.pass(:'later');
SELECT job, worker FROM pg_temp.dead WHERE worker = 'worker f' ORDER BY job;
-- what was put behind those that wait is found in later ones
SELECT count(*) FROM queue_claim('once', 'worker g', max_jobs => 1, lease => '1 minute');
UPDATE jobs SET priority = 0, run_at = '2026-02-01' WHERE tenant_id = :tenant AND leased_by = 'worker g';
SELECT count(*) AS found FROM generate_series(1, 20) n, _queue_task('rescue', :'later'::timestamptz + n * interval '0') WHERE done = 1;
SELECT job, worker FROM pg_temp.dead WHERE worker = 'worker g' ORDER BY job;

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant, 1000000);
DELETE FROM tenants WHERE name = 'rescue';
