-- Limits as the platform sets them. What they do is tested elsewhere.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001901\''
\set other '\'00000000-0000-4000-8000-000000001902\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'limiters'), (:other, 'limiters 2');
CREATE VIEW limiters_shown AS
SELECT NULL AS whose, service_name, tokens_available, max_tokens, refill_per_second, max_concurrent, max_hold, seeded, last_refill_at
FROM rate_limiters
UNION ALL SELECT t.name, l.name, tokens_available, max_tokens, refill_per_second, max_concurrent, max_hold, NULL, last_refill_at
FROM rate_limits l JOIN tenants t ON t.id = l.tenant_id;

-- a service: made, changed in part, left as it is
SELECT queue_limiter_set('maps');
SELECT queue_limiter_set('maps', max_tokens => 5);
SELECT queue_limiter_set('maps', refill_per_second => 5);
SELECT queue_limiter_set('maps', 50, 0.001);
SELECT queue_limiter_set('maps');
SELECT queue_limiter_set('maps', max_concurrent => 7, max_hold => '2 minutes');
SELECT whose, service_name, tokens_available, max_tokens, refill_per_second, max_concurrent, max_hold, seeded FROM limiters_shown WHERE service_name = 'maps';
SELECT queue_limiter_set('maps', 60, 2, 0, '3 minutes');
SELECT whose, service_name, floor(tokens_available) AS tokens, max_tokens, refill_per_second, max_concurrent, max_hold, seeded FROM limiters_shown WHERE service_name = 'maps';

-- what the bucket holds is settled at the old rate; a larger one has no more, a smaller one no more than it holds
UPDATE rate_limiters SET tokens_available = 10, max_tokens = 50, refill_per_second = 0.1, last_refill_at = clock_timestamp() - interval '100 seconds' WHERE service_name = 'maps';
SELECT queue_limiter_set('maps', 1000, 500);
SELECT floor(tokens_available) AS tokens, clock_timestamp() - last_refill_at < '1 minute' AS now FROM rate_limiters WHERE service_name = 'maps';
UPDATE rate_limiters SET tokens_available = 10, max_tokens = 50, refill_per_second = 0.1, last_refill_at = clock_timestamp() - interval '1 day' WHERE service_name = 'maps';
SELECT queue_limiter_set('maps', 1000);
SELECT tokens_available FROM rate_limiters WHERE service_name = 'maps';
SELECT queue_limiter_set('maps', 3);
SELECT tokens_available FROM rate_limiters WHERE service_name = 'maps';
-- a clock that went back takes nothing away
UPDATE rate_limiters SET tokens_available = 2, max_tokens = 3, refill_per_second = 0.001, last_refill_at = clock_timestamp() + interval '1 hour' WHERE service_name = 'maps';
SELECT queue_limiter_set('maps', 4);
SELECT tokens_available, last_refill_at > clock_timestamp() AS still_ahead FROM rate_limiters WHERE service_name = 'maps';

-- an edited seed is none any more, and is dumped
BEGIN;
SELECT queue_limiter_set('stripe', 500, 400);
SELECT tokens_available, max_tokens, refill_per_second, max_concurrent, seeded FROM rate_limiters WHERE service_name = 'stripe';
ROLLBACK;

-- a tenant's own
SELECT queue_tenant_limit_set(:tenant, 'maps');
SELECT queue_tenant_limit_set('00000000-0000-4000-8000-00000000ffff', 'maps', 5, 1);
SELECT queue_tenant_limit_set(:tenant, 'maps', 5, 0.001);
SELECT queue_tenant_limit_set(:other, 'maps', 6, 0.001, 2);
SELECT queue_tenant_limit_set(:tenant, 'maps', 4, max_hold => '1 second');
SELECT queue_tenant_limit_set(:other, 'maps', max_concurrent => 0);
SELECT whose, service_name, floor(tokens_available) AS tokens, max_tokens, refill_per_second, max_concurrent, max_hold FROM limiters_shown WHERE whose LIKE 'limiters%' ORDER BY 1;

-- out of range
SELECT queue_limiter_set('maps', 0.5);
SELECT queue_limiter_set('maps', 1e9), queue_limiter_set('maps', 1, 1e9), queue_limiter_set('maps', 1, 1e-9);
SELECT queue_limiter_set('maps', 1.1e9);
SELECT queue_limiter_set('maps', 'NaN');
SELECT queue_limiter_set('maps', 1, 0);
SELECT queue_limiter_set('maps', 1, -1);
SELECT queue_limiter_set('maps', 1, 'NaN');
SELECT queue_limiter_set('maps', 1, 'infinity');
SELECT queue_limiter_set('maps', max_concurrent => 1000000);
SELECT queue_limiter_set('maps', max_concurrent => 1000001);
SELECT queue_limiter_set('maps', max_concurrent => -1);
SELECT queue_limiter_set('maps', max_hold => '1 day');
SELECT queue_limiter_set('maps', max_hold => '1 day 1 microsecond');
SELECT queue_limiter_set('maps', max_hold => '0');
SELECT queue_limiter_set(repeat('n', 129), 1, 1);

-- only the platform, whether it acts for a tenant or not
CREATE ROLE regress_queue_limiters;
SELECT queue_grant('regress_queue_limiters', 'admin');
GRANT EXECUTE ON FUNCTION queue_limiter_set, queue_tenant_limit_set TO regress_queue_limiters;
SET app.current_tenant = :tenant;
SET ROLE regress_queue_limiters;
SELECT queue_limiter_set('maps', 1e9);
SELECT queue_tenant_limit_set(:tenant, 'maps', 1e9);
SELECT queue_tenant_limit_set(:tenant, 'mine', 1e9, 1e9);
RESET ROLE;
SELECT queue_grant('regress_queue_limiters', 'observer', all_tenants => true);
SET ROLE regress_queue_limiters;
SELECT queue_limiter_set('maps', 9), queue_tenant_limit_set(:other, 'maps', 9);
RESET app.current_tenant;
SELECT queue_limiter_set('maps', 9), queue_tenant_limit_set(:other, 'maps', 9);
RESET ROLE;
BEGIN READ ONLY;
SELECT queue_limiter_set('maps', 9);
ROLLBACK;

DELETE FROM rate_limiters WHERE service_name = 'maps';
SELECT queue_revoke('regress_queue_limiters', 'admin', all_tenants => true), queue_revoke('regress_queue_limiters', 'observer');
REVOKE EXECUTE ON FUNCTION queue_limiter_set, queue_tenant_limit_set FROM regress_queue_limiters;
REVOKE USAGE ON SCHEMA public FROM regress_queue_limiters;
DROP ROLE regress_queue_limiters;
DROP VIEW limiters_shown;
SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name LIKE 'limiters%';
