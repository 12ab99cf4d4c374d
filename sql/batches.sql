-- Procedures that commit each batch: all is done, whatever a batch is, and who is refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000007701\''
\set other '\'00000000-0000-4000-8000-000000007702\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'batches'), (:other, 'batches too');
SET app.current_tenant = :other;
SELECT created FROM queue_create('q');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('"theirs"'::jsonb, ARRAY[5]));
SET app.current_tenant = :tenant;
RESET client_min_messages;
SELECT created FROM queue_create('q', max_attempts => 1);

-- purge: waiting ones, which is what it does by default; not those under a lease
SELECT count(*) FROM queue_enqueue_many('q', ARRAY(SELECT to_jsonb(n) FROM generate_series(1, 25) n));
SELECT created FROM queue_enqueue_critical('q', '"critical"', 'key');
SELECT count(*) FROM queue_claim('q', max_jobs => 3, lease => '1 hour');
CALL queue_purge_all('q', batch => 4);
SELECT status, count(*) FROM jobs WHERE tenant_id = :tenant GROUP BY 1;
CALL queue_purge_all('q', batch => 4);

-- finished, dead, or all
UPDATE jobs SET status = 'completed', finish_reason = 'completed', finished_at = now(), leased_by = NULL, leased_at = NULL, leased_until = NULL, lease_token = NULL
WHERE tenant_id = :tenant;
CALL queue_purge_all('q', 'finished', 2);
CALL queue_purge_all('q', 'all');

-- redrive: the oldest first, at a pace that goes on from batch to batch
SELECT count(*) FROM queue_enqueue_many('q', ARRAY(SELECT to_jsonb(n) FROM generate_series(1, 10) n));
SELECT outcome, count(*) FROM (SELECT (queue_fail(job_id, lease_token, 'error ' || (payload #>> '{}'))).outcome FROM queue_claim('q', max_jobs => 10)) f GROUP BY 1;
CALL queue_redrive_all('q', batch => 3, error_like => 'error 1%', per_second => 0.001);
SELECT payload, round(extract(epoch FROM run_at - min(run_at) OVER ())) AS after FROM jobs WHERE tenant_id = :tenant ORDER BY run_at;
CALL queue_redrive_all('q', batch => 3, per_second => 0.001);
SELECT count(*), round(extract(epoch FROM max(run_at) - min(run_at)) / 1000) AS last FROM jobs WHERE tenant_id = :tenant AND payload NOT IN ('1', '10');
CALL queue_redrive_all('q', batch => 3);
CALL queue_purge_all('q', 'all');

-- a letter that cannot be sent back, as its key is taken, keeps no other
SELECT count(created) FROM generate_series(1, 6) n, queue_enqueue_critical('q', to_jsonb(n), 'key ' || n, idempotency_ttl => '1 microsecond', max_attempts => 1);
SELECT outcome, count(*) FROM (SELECT (queue_fail(job_id, lease_token, 'error')).outcome FROM queue_claim('q', max_jobs => 10)) f GROUP BY 1;
SELECT created FROM generate_series(1, 2) n, queue_enqueue_critical('q', '"later"', 'key ' || n);
CALL queue_redrive_all('q', batch => 2);
SELECT payload FROM critical_jobs WHERE tenant_id = :tenant ORDER BY 1;
SELECT payload FROM dead_letter_jobs WHERE tenant_id = :tenant AND redriven_at IS NULL ORDER BY 1;

-- what is refused
\set VERBOSITY sqlstate
CALL queue_purge_all('missing');
CALL queue_purge_all('q', 'some');
CALL queue_purge_all('q', batch => 0);
CALL queue_purge_all('q', batch => NULL);
CALL queue_redrive_all('q', batch => 100001);
CALL queue_redrive_all('q', error_like => E'\\');
CALL queue_redrive_all('q', per_second => 0);
CALL queue_redrive_all(NULL);
CALL queue_tenant_purge_all(NULL);
BEGIN;
CALL queue_purge_all('q');
ROLLBACK;
SET default_transaction_read_only = on;
CALL queue_purge_all('q');
RESET default_transaction_read_only;
SET app.current_tenant = '';
CALL queue_purge_all('q');
SET app.current_tenant = :tenant;
SELECT count(*) FROM queue_progress;

-- without a transaction block, also from a DO block
\set VERBOSITY default
DO $$ BEGIN CALL queue_purge_all('q', 'all', 1); END $$;

-- the whole tenant, and no other
CALL queue_tenant_purge_all(:tenant, 2);
SELECT count(*) FROM queues WHERE tenant_id = :tenant;
SET app.current_tenant = :other;
SELECT count(*) FROM jobs WHERE tenant_id = :other;
CALL queue_tenant_purge_all(:other);
DELETE FROM tenants WHERE id IN (:tenant, :other);
