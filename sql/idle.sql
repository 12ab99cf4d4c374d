-- What makes a job claimable right after a claim found none.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000f21\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'idle');
SET app.current_tenant = :tenant;
SELECT queue_create('q', default_lease => '1 hour') IS NOT NULL AS created;
SELECT queue_create('r', default_lease => '1 hour') IS NOT NULL AS created;
-- claims from the queue until one finds nothing, and once more: how many jobs there were
CREATE FUNCTION pg_temp.drain(queue text DEFAULT 'q', lease interval DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM queue_claim($1, max_jobs => 100, lease => $2))
		+ (SELECT count(*) FROM queue_claim($1)) + (SELECT count(*) FROM queue_claim($1))
$$;
SELECT pg_temp.drain(), pg_temp.drain();
-- an enqueue of each kind
SELECT count(*) FROM queue_enqueue('q', '{}');
SELECT pg_temp.drain(), pg_temp.drain();
SELECT count(*) FROM queue_enqueue_critical('q', '{}', 'k');
SELECT pg_temp.drain(), pg_temp.drain();
SELECT count(*) FROM queue_enqueue_many('q', '{"{}", "{}"}');
SELECT pg_temp.drain(), pg_temp.drain();
INSERT INTO jobs (tenant_id, queue_id, payload) SELECT tenant_id, id, '{}' FROM queues WHERE name = 'q';
SELECT pg_temp.drain(), pg_temp.drain();
-- the end of a lease, in its time and before
SELECT count(*) FROM queue_enqueue('q', '{}');
SELECT pg_temp.drain('q', '1 second'), pg_temp.drain();
SELECT pg_sleep(1.05);
SELECT pg_temp.drain(), pg_temp.drain();
SELECT count(queue_release(id, lease_token)) FROM jobs WHERE attempts = 2;
SELECT pg_temp.drain(), pg_temp.drain();
UPDATE jobs SET leased_until = clock_timestamp() WHERE attempts = 2;
SELECT pg_temp.drain(), pg_temp.drain();
-- the time of a delayed job, also if it is moved, and of the first of several
SELECT count(queue_enqueue('q', '{}', run_at => clock_timestamp() + d::interval))
	FROM unnest('{1 hour, 1 second, 2 hours}'::text[]) d;
SELECT pg_temp.drain(), pg_temp.drain();
SELECT pg_sleep(1.05);
SELECT pg_temp.drain(), pg_temp.drain();
UPDATE jobs SET run_at = clock_timestamp() WHERE run_at > clock_timestamp() + interval '90 minutes';
SELECT pg_temp.drain(), pg_temp.drain();
-- a claim, an end and a TRUNCATE that were undone
SELECT count(*) FROM queue_enqueue('r', '{}');
BEGIN;
SAVEPOINT s;
SELECT pg_temp.drain('r'), pg_temp.drain('r');
ROLLBACK TO s;
SELECT pg_temp.drain('r'), pg_temp.drain('r');
ROLLBACK;
BEGIN;
DELETE FROM jobs WHERE status = 'pending' AND run_at <= clock_timestamp();
SELECT pg_temp.drain('r'), pg_temp.drain('r');
ROLLBACK;
BEGIN;
TRUNCATE jobs;
SELECT pg_temp.drain('r'), pg_temp.drain('r');
ROLLBACK;
SELECT pg_temp.drain('r'), pg_temp.drain('r');
-- a row that came unannounced
ALTER TABLE jobs DISABLE TRIGGER queue_announce;
SELECT count(*) FROM queue_enqueue('r', '{}');
ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_announce;
SELECT pg_temp.drain('r'), pg_temp.drain('r');
