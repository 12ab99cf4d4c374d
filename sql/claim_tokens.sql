-- Queues with a rate limiter: a claim takes a token for each job, here from buckets that are kept in their rows. For those
-- in shared memory see t/066_claim_tokens.pl.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000002101\''
\set other '\'00000000-0000-4000-8000-000000002102\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'claim tokens'), (:other, 'claim tokens 2');
-- 10 tokens that never refill while this runs
SELECT queue_limiter_set('claims', 10, 1e-6);
SET app.current_tenant = :tenant;
SELECT created FROM queue_create('q', rate_limiter => 'claims');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[20]));
CREATE FUNCTION pg_temp.tokens(service text DEFAULT 'claims') RETURNS TABLE (limited_by text, tokens double precision) LANGUAGE sql AS $$ SELECT limited_by, round(tokens) FROM queue_rate_peek(service) $$;

-- as many jobs as there are tokens, and as many tokens as there are jobs
SELECT count(*) FROM queue_claim('q', max_jobs => 4);
SELECT * FROM pg_temp.tokens();
BEGIN;
SELECT count(*) FROM queue_claim('q', max_jobs => 2);
SAVEPOINT s;
SELECT count(*) FROM queue_claim('q', max_jobs => 3);
SELECT * FROM pg_temp.tokens();
ROLLBACK TO s;
SELECT * FROM pg_temp.tokens();
ROLLBACK;
SELECT * FROM pg_temp.tokens();
SELECT count(*) FROM queue_claim('q', max_jobs => 10);
SELECT * FROM pg_temp.tokens();
SELECT count(*) FROM queue_claim('q', max_jobs => 10);
-- no tokens, and no wait either: the next is days away
SELECT clock_timestamp() AS before \gset
CALL queue_wait('q', '200 ms');
SELECT clock_timestamp() - :'before' >= '200 ms' AS waited;
UPDATE rate_limiters SET tokens_available = 10 WHERE service_name = 'claims';
CALL queue_wait('q', '1 minute');
SELECT clock_timestamp() - :'before' < '30 seconds' AS at_once;
SELECT count(*) FROM queue_claim('q', max_jobs => 100);
UPDATE rate_limiters SET tokens_available = 10 WHERE service_name = 'claims';
-- an empty queue takes none
SELECT count(*) FROM queue_claim('q', max_jobs => 100);
SELECT * FROM pg_temp.tokens();

-- critical jobs first, the others with what is left
SELECT queue_limiter_set('claims', 3);
SELECT count(*) FROM generate_series(1, 2) i, queue_enqueue_critical('q', '{}', 'key ' || i);
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[2]));
SELECT critical FROM queue_claim('q', max_jobs => 10);
SELECT * FROM pg_temp.tokens();

-- complete and claim; what is refused takes no token, a completion neither
UPDATE rate_limiters SET tokens_available = 2 WHERE service_name = 'claims';
SELECT kind FROM queue_complete_and_claim('q', ARRAY['00000000-0000-4000-8000-000000000000'::uuid], ARRAY[1::bigint], max_jobs => 10);
SELECT * FROM pg_temp.tokens();

-- the tenant's own share as well, both or neither
SELECT queue_tenant_limit_set(:tenant, 'claims', 2, 1e-6);
SELECT queue_limiter_set('claims', 10);
UPDATE rate_limiters SET tokens_available = 10 WHERE service_name = 'claims';
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[9]));
SELECT count(*) FROM queue_claim('q', max_jobs => 10);
SELECT * FROM pg_temp.tokens();
SELECT count(*) FROM queue_claim('q', max_jobs => 10);
SELECT * FROM pg_temp.tokens();

-- for all tenants, each job with the tokens of its tenant
SET app.current_tenant = :other;
SELECT created FROM queue_create('q', rate_limiter => 'claims');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{}'::jsonb, ARRAY[9]));
UPDATE rate_limits SET tokens_available = 1 WHERE name = 'claims';
UPDATE rate_limiters SET tokens_available = 6 WHERE service_name = 'claims';
RESET app.current_tenant;
SELECT tenant_id = :tenant AS first, count(*) FROM queue_claim('q', max_jobs => 20) GROUP BY 1 ORDER BY 1 DESC;
SELECT * FROM pg_temp.tokens();

-- a limiter that there is not, any more
SET app.current_tenant = :tenant;
SELECT queue_set('q', rate_limiter => 'missing') IS NOT NULL AS set;
SELECT count(*) FROM queue_claim('q');
UPDATE queues SET rate_limiter = repeat('n', 129) WHERE name = 'q';
SELECT queue_set('q', rate_limiter => '') IS NOT NULL AS set;
SELECT count(*) FROM queue_claim('q', max_jobs => 100);

RESET app.current_tenant;
DELETE FROM rate_limiters WHERE service_name = 'claims';
SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name LIKE 'claim tokens%';
