-- Acquire and peek, on buckets that are kept in their rows: slow ones, and without shared memory all. For buckets in
-- shared memory, and for permits, see t/061_buckets.pl and t/062_permits.pl.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000002001\''
\set other '\'00000000-0000-4000-8000-000000002002\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'rate'), (:other, 'rate 2');
-- 10 tokens that never refill while this runs
SELECT queue_limiter_set('rate maps', 10, 1e-6), queue_limiter_set('rate mail', 10, 1e-6), queue_tenant_limit_set(:tenant, 'rate mail', 4, 1e-6), queue_tenant_limit_set(:tenant, 'rate own', 3, 1e-6);
-- tokens of the service and of the tenant, to the nearest
CREATE VIEW rate_left AS
SELECT service_name AS name, round(tokens_available) AS tokens FROM rate_limiters WHERE service_name LIKE 'rate%'
UNION ALL SELECT 'own ' || name, round(tokens_available) FROM rate_limits WHERE name LIKE 'rate%';
CREATE FUNCTION pg_temp.acquire(service text, tokens integer DEFAULT 1, OUT granted boolean, OUT permit boolean, OUT tokens_left double precision, OUT hours integer, OUT at boolean)
LANGUAGE sql AS $$ SELECT granted, permit IS NOT NULL, round(remaining), round(extract(epoch FROM retry_after) / 3600), abs(extract(epoch FROM clock_timestamp() - granted_at)) < 60 FROM queue_rate_acquire(service, tokens) $$;

-- the platform takes from the service
SELECT * FROM pg_temp.acquire('rate maps');
SELECT * FROM pg_temp.acquire('rate maps', 9);
SELECT * FROM pg_temp.acquire('rate maps');
SELECT * FROM pg_temp.acquire('rate maps', 10);
SELECT * FROM pg_temp.acquire('rate maps', 11);
SELECT * FROM pg_temp.acquire('rate own');
SELECT * FROM pg_temp.acquire('rate mail', 5);
SELECT * FROM rate_left ORDER BY 1;

-- a tenant takes from its own and from the service, or from neither
SET app.current_tenant = :tenant;
SELECT * FROM pg_temp.acquire('rate mail', 3);
SELECT * FROM pg_temp.acquire('rate mail', 2);
SELECT * FROM pg_temp.acquire('rate mail', 5);
SELECT * FROM pg_temp.acquire('rate own', 2);
SELECT * FROM pg_temp.acquire('rate maps');
SELECT * FROM rate_left ORDER BY 1;
SELECT limited_by, round(tokens) AS tokens, max_tokens, refill_per_second, round(extract(epoch FROM next_token_in) / 3600) AS hours, permits_out, max_concurrent, next_permit_in FROM queue_rate_peek('rate mail');
UPDATE rate_limits SET tokens_available = 4 WHERE name = 'rate mail';
-- (the service has too few)
SELECT * FROM pg_temp.acquire('rate mail', 3);
SELECT * FROM rate_left ORDER BY 1;
-- a tenant without a share, and the name of another's
SET app.current_tenant = :other;
SELECT * FROM pg_temp.acquire('rate mail');
SELECT * FROM pg_temp.acquire('rate own');
SELECT * FROM queue_rate_peek('rate own');
SELECT queue_rate_release('rate own', 1);
-- a service that belongs to a tenant is that one's
UPDATE rate_limiters SET tenant_id = :tenant, tokens_available = 10 WHERE service_name = 'rate maps';
SELECT * FROM pg_temp.acquire('rate maps');
SET app.current_tenant = :tenant;
SELECT * FROM pg_temp.acquire('rate maps');
RESET app.current_tenant;
SELECT * FROM pg_temp.acquire('rate maps');

-- a rollback gives back what a row gave; so does one to a savepoint
BEGIN;
SELECT * FROM pg_temp.acquire('rate maps', 3);
SAVEPOINT s;
SELECT * FROM pg_temp.acquire('rate maps', 3);
ROLLBACK TO s;
SELECT * FROM pg_temp.acquire('rate maps');
ROLLBACK;
SELECT * FROM pg_temp.acquire('rate maps', 8);

-- a change is known at once, whoever makes it, and adds no token
UPDATE rate_limiters SET max_tokens = 1000 WHERE service_name = 'rate maps';
SELECT * FROM pg_temp.acquire('rate maps', 1000);
UPDATE rate_limiters SET max_tokens = 5 WHERE service_name = 'rate maps';
SELECT * FROM pg_temp.acquire('rate maps', 6);
UPDATE rate_limiters SET tokens_available = 5 WHERE service_name = 'rate maps';
SELECT * FROM pg_temp.acquire('rate maps', 5);
BEGIN;
UPDATE rate_limiters SET max_tokens = 7, tokens_available = 7 WHERE service_name = 'rate maps';
SELECT * FROM pg_temp.acquire('rate maps', 7);
ROLLBACK;
SELECT * FROM pg_temp.acquire('rate maps', 7);
BEGIN;
DELETE FROM rate_limiters WHERE service_name = 'rate maps';
SELECT * FROM pg_temp.acquire('rate maps');
ROLLBACK;
SELECT * FROM pg_temp.acquire('rate maps');
-- the old rate until now, then the new one
UPDATE rate_limiters SET refill_per_second = 0.05, tokens_available = 0, last_refill_at = clock_timestamp() - interval '65 seconds' WHERE service_name = 'rate maps';
UPDATE rate_limiters SET max_tokens = 50 WHERE service_name = 'rate maps';
UPDATE rate_limiters SET refill_per_second = 1e-6 WHERE service_name = 'rate maps';
SELECT floor(tokens_available) AS tokens, max_tokens FROM rate_limiters WHERE service_name = 'rate maps';
UPDATE rate_limiters SET last_refill_at = clock_timestamp() + interval '1 hour' WHERE service_name = 'rate maps';
SELECT granted, granted_at > clock_timestamp() AS ahead FROM queue_rate_acquire('rate maps', 2);
SELECT tokens >= 1 AND tokens < 2 AS left FROM queue_rate_peek('rate maps');
SELECT last_refill_at > clock_timestamp() + interval '59 minutes' AS still_ahead FROM rate_limiters WHERE service_name = 'rate maps';
-- a take is no edit
SELECT service_name, seeded FROM rate_limiters WHERE service_name = 'stripe';
BEGIN;
UPDATE rate_limiters SET tokens_available = 1, last_refill_at = clock_timestamp() WHERE service_name = 'stripe';
SELECT service_name, seeded FROM rate_limiters WHERE service_name = 'stripe';
ROLLBACK;

-- who may
CREATE ROLE regress_queue_rate;
SELECT queue_grant('regress_queue_rate', 'worker');
SET ROLE regress_queue_rate;
SELECT * FROM pg_temp.acquire('rate mail');
SET app.current_tenant = :other;
SELECT * FROM pg_temp.acquire('rate mail');
RESET ROLE;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT * FROM queue_rate_acquire('rate mail');
ROLLBACK;
BEGIN READ ONLY;
SELECT queue_rate_release('rate mail', 1);
ROLLBACK;
BEGIN READ ONLY;
SELECT limited_by, round(tokens) AS tokens FROM queue_rate_peek('rate mail');
ROLLBACK;
RESET app.current_tenant;

SELECT queue_revoke('regress_queue_rate', 'worker');
REVOKE USAGE ON SCHEMA public FROM regress_queue_rate;
DROP ROLE regress_queue_rate;
DROP VIEW rate_left;
DELETE FROM rate_limiters WHERE service_name LIKE 'rate%';
SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name LIKE 'rate%';
