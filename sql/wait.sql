-- Waiting: when queue_wait() returns, where it refuses to wait, and what it is told of other tenants.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001201\''
\set other '\'00000000-0000-4000-8000-000000001202\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'wait'), (:other, 'wait');
SET app.current_tenant = :other;
SELECT queue_create('foreign') IS NOT NULL AS created;
SET app.current_tenant = :tenant;
SELECT queue_create('q') IS NOT NULL AS created;
-- how long a CALL took, as one of: at once, timed out, or in time
CREATE PROCEDURE pg_temp.started() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('wait.started', clock_timestamp()::text, false); END $$;
CREATE FUNCTION pg_temp.took() RETURNS interval LANGUAGE sql AS $$ SELECT clock_timestamp() - current_setting('wait.started')::timestamptz $$;

-- nothing to do: not before the timeout
CALL pg_temp.started();
CALL queue_wait('q', '300 ms');
SELECT pg_temp.took() >= '300 ms' AS waited;
CALL queue_wait('q', '0');
-- something to do: at once, also if it is critical, or was leased to somebody for too long
SELECT job_id FROM queue_enqueue('q') \gset
CALL pg_temp.started();
CALL queue_wait('q', '1 hour');
SELECT count(*) FROM queue_claim('q', lease => '100 ms');
-- until the lease ends
CALL queue_wait('q', '1 hour');
SELECT job_id = :'job_id' AS again, lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
-- until a delayed job is due
SELECT created FROM queue_enqueue('q', run_at => clock_timestamp() + interval '200 ms');
SELECT created FROM queue_enqueue('q', priority => 5, run_at => now() + interval '1 hour');
CALL queue_wait('q', '1 hour');
SELECT count(*) FROM queue_claim('q');
SELECT created FROM queue_enqueue_critical('q', '{}', 'key');
CALL queue_wait('q', '1 hour');
-- a paused queue has no work
SELECT queue_pause('q');
CALL queue_wait('q', '10 ms');
SELECT queue_resume('q');
SELECT count(*) FROM queue_claim('q');
SELECT pg_temp.took() < '1 minute' AS in_time;

-- in a block: the setting stays, nothing is written, no transaction ends
RESET app.current_tenant;
BEGIN;
SET LOCAL app.current_tenant = '00000000-0000-4000-8000-000000001201';
CALL queue_wait('q', '10 ms');
SELECT current_setting('app.current_tenant') = :tenant AS kept, pg_current_xact_id_if_assigned() IS NULL AS clean;
COMMIT;
-- in a procedure, of which it ends no transaction
SET app.current_tenant = :tenant;
DO $$ BEGIN CALL public.queue_wait('q', '10 ms'); END $$;

-- where it cannot wait
\set VERBOSITY terse
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL queue_wait('q', '10 ms');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL queue_wait('q', '10 ms');
ROLLBACK;
BEGIN;
SELECT created FROM queue_enqueue('q', run_at => now() + interval '1 hour');
CALL queue_wait('q', '10 ms');
ROLLBACK;
CREATE FUNCTION pg_temp.waits() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL public.queue_wait('q', '10 ms'); END $$;
SELECT pg_temp.waits();
BEGIN;
DECLARE c CURSOR FOR SELECT pg_temp.waits();
FETCH c;
ROLLBACK;

-- bad input
CALL queue_wait(NULL);
CALL queue_wait('');
CALL queue_wait(repeat('x', 129));
CALL queue_wait('q', NULL);
CALL queue_wait('q', '-1 second');
CALL queue_wait('q', '2 years');
-- another tenant's queue is as good as none
CALL queue_wait('foreign', '0');
CALL queue_wait('missing', '0');
SET app.current_tenant = 'x';
CALL queue_wait('q', '0');
-- who serves all tenants waits for any of the queues of that name
RESET app.current_tenant;
CALL queue_wait('missing', '0');
SET app.current_tenant = :other;
SELECT created FROM queue_enqueue('foreign');
RESET app.current_tenant;
CALL pg_temp.started();
CALL queue_wait('foreign', '1 hour');
SELECT pg_temp.took() < '1 minute' AS in_time;

-- what operators see: the trigger, however it was left
SELECT item, ok FROM queue_health WHERE item LIKE 'trigger%' ORDER BY item;
BEGIN;
ALTER TABLE jobs DISABLE TRIGGER ALL;
ALTER TABLE jobs ENABLE TRIGGER ALL;
SELECT item, ok, detail FROM queue_health WHERE item LIKE 'trigger%' ORDER BY item;
ROLLBACK;
SELECT ok = (claims > 0) AND ok = (bytes > 0) AS counts FROM queue_cache, queue_health WHERE item = 'shared memory';
