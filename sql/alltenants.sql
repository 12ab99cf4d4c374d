-- Callers that serve all tenants: who may, in which order, and what they may not.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
INSERT INTO tenants (id, name) SELECT ('00000000-0000-4000-8000-00000000120' || i)::uuid, 'alltenants ' || i FROM generate_series(1, 4) i;
CREATE ROLE regress_queue_all;
CREATE ROLE regress_queue_one;
SELECT queue_grant('regress_queue_all', 'worker', all_tenants => true), queue_grant('regress_queue_one', 'worker') \gset
GRANT SELECT ON tenants TO regress_queue_all;
-- three tenants with jobs of a queue "all", in blocks; the fourth has that queue paused
CREATE FUNCTION pg_temp.fill(tenant integer, jobs integer, critical integer DEFAULT 0) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('app.current_tenant', '00000000-0000-4000-8000-00000000120' || tenant, false);
	PERFORM queue_create('all');
	PERFORM queue_enqueue('all', to_jsonb(format('%s.%s', tenant, i))) FROM generate_series(1, jobs) i;
	PERFORM queue_enqueue_critical('all', to_jsonb(format('%s.c%s', tenant, i)), 'c' || i) FROM generate_series(1, critical) i;
	PERFORM set_config('app.current_tenant', '', false);
END$$;
SELECT pg_temp.fill(1, 6), pg_temp.fill(2, 3, 1), pg_temp.fill(3, 1), pg_temp.fill(4, 5) \gset
UPDATE queues SET paused = true WHERE tenant_id = '00000000-0000-4000-8000-000000001204';
-- who begins is not said; from there each tenant has one job in turn, also from one claim to the next
SET ROLE regress_queue_all;
SHOW app.current_tenant;
CREATE TEMP TABLE claims (n serial, payload jsonb, tenant text, critical boolean);
INSERT INTO claims (payload, tenant, critical) SELECT payload, right(tenant_id::text, 1), critical FROM queue_claim('all', max_jobs => 2);
INSERT INTO claims (payload, tenant, critical) SELECT payload, right(tenant_id::text, 1), critical FROM queue_claim('all', max_jobs => 5);
INSERT INTO claims (payload, tenant, critical) SELECT payload, right(tenant_id::text, 1), critical FROM queue_claim('all', max_jobs => 100);
-- each one's jobs in order, critical ones first; nobody has his second before all have had their first
SELECT tenant, array_agg(payload ORDER BY n) AS claimed FROM claims GROUP BY 1 ORDER BY 1;
SELECT array_agg(nth ORDER BY n) AS turns FROM (SELECT n, row_number() OVER (PARTITION BY tenant ORDER BY n) AS nth FROM claims) c;
DROP TABLE claims;
SELECT payload FROM queue_claim('all', max_jobs => 100);
SELECT payload FROM queue_claim('no tenant has it', max_jobs => 100);
RESET ROLE;
-- all verbs on leases, across tenants
SELECT pg_temp.fill(1, 4), pg_temp.fill(2, 4) \gset
SET ROLE regress_queue_all;
SELECT c.kind, payload FROM queue_complete_and_claim('all', max_jobs => 2) c ORDER BY 2;
CREATE TEMP TABLE leases AS SELECT * FROM queue_claim('all', max_jobs => 6);
SELECT array_agg(payload ORDER BY payload) AS claimed FROM leases;
SELECT held FROM leases, queue_heartbeat(leases.job_id, leases.lease_token) ORDER BY payload LIMIT 1;
SELECT array_agg(held) AS held FROM queue_heartbeat_many(ARRAY(SELECT job_id FROM leases), ARRAY(SELECT lease_token FROM leases));
SELECT payload, CASE (row_number() OVER (ORDER BY payload))
	WHEN 1 THEN (SELECT outcome FROM queue_complete(l.job_id, l.lease_token)) WHEN 2 THEN (SELECT outcome FROM queue_fail(l.job_id, l.lease_token, 'x'))
	WHEN 3 THEN (SELECT outcome FROM queue_snooze(l.job_id, l.lease_token, '1 hour')) WHEN 4 THEN (SELECT outcome FROM queue_release(l.job_id, l.lease_token))
	WHEN 5 THEN (SELECT outcome FROM queue_complete_many(ARRAY[l.job_id], ARRAY[l.lease_token])) ELSE (SELECT outcome FROM queue_fail(l.job_id, l.lease_token, 'x', dead => true)) END AS outcome
FROM leases l ORDER BY payload;
RESET ROLE;
SELECT right(tenant_id::text, 1) AS tenant, status, count(*) FROM jobs WHERE tenant_id::text LIKE '00000000-0000-4000-8000-00000000120_' AND tenant_id::text NOT LIKE '%4' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT right(tenant_id::text, 1) AS tenant, payload FROM dead_letter_jobs WHERE tenant_id::text LIKE '00000000-0000-4000-8000-00000000120_';
-- with a tenant set, it serves that one
SELECT pg_temp.fill(1, 2), pg_temp.fill(2, 2) \gset
SET ROLE regress_queue_all;
SET app.current_tenant = '00000000-0000-4000-8000-000000001201';
SELECT count(*) > 0 AS claimed, count(*) FILTER (WHERE tenant_id <> '00000000-0000-4000-8000-000000001201') AS others FROM queue_claim('all', max_jobs => 100);
SELECT outcome FROM queue_complete((SELECT job_id FROM leases WHERE tenant_id = '00000000-0000-4000-8000-000000001202' LIMIT 1), 1);
RESET ROLE;
-- without the right to it, a tenant is needed; the right to the claim alone is not enough
RESET app.current_tenant;
SET ROLE regress_queue_one;
SELECT queue_claim('all');
SELECT queue_complete('00000000-0000-4000-8000-000000000000', 1);
SELECT queue_complete_and_claim('all');
SELECT queue_heartbeat('00000000-0000-4000-8000-000000000000', 1);
SET app.current_tenant = '';
SELECT queue_claim('all');
SET app.current_tenant = '00000000-0000-4000-8000-00000000120A';
SELECT queue_claim('all');
SET app.current_tenant = '00000000-0000-4000-8000-000000001202';
SELECT count(*) FROM queue_claim('all');
RESET ROLE;
-- malformed is not unset, for a superuser either
SET app.current_tenant = 'all';
SELECT queue_claim('all');
RESET app.current_tenant;
-- producing, and what is about one queue by its name, needs a tenant; for a superuser too
SELECT queue_enqueue('all');
SELECT queue_enqueue_many('all', '{1}');
SELECT queue_enqueue_critical('all', '{}', 'k');
SELECT queue_create('all');
SELECT queue_set('all');
SELECT queue_drop('all');
SELECT queue_pause('all');
SELECT queue_resume('all');
SELECT queue_purge('all');
SELECT queue_redrive('all');
SELECT queue_peek('all');
-- the right is the marker's, and goes with it; nothing else of a tenant's is open
SELECT queue_revoke('regress_queue_all', 'worker', all_tenants => true) \gset
SELECT queue_grant('regress_queue_all', 'worker') \gset
SET ROLE regress_queue_all;
SELECT queue_claim('all');
SELECT queue_tenant_purge('00000000-0000-4000-8000-000000001201');
RESET ROLE;
SELECT queue_grant('regress_queue_all', 'worker', all_tenants => true) \gset
SET ROLE regress_queue_all;
SELECT queue_tenant_purge('00000000-0000-4000-8000-000000001201');
SELECT queue_enqueue('all');
SELECT count(*) FROM jobs;
SELECT count(*) >= 0 AS claims FROM queue_claim('all');
RESET ROLE;
-- fair also with a growing number of tenants and one that has most of the work
UPDATE jobs SET held = true WHERE tenant_id::text LIKE '00000000-0000-4000-8000-00000000120_';
SELECT pg_temp.fill(3, 50), pg_temp.fill(1, 3), pg_temp.fill(2, 3) \gset
SELECT right(tenant_id::text, 1) AS tenant, count(*) FROM queue_claim('all', max_jobs => 9) GROUP BY 1 ORDER BY 1;
SELECT right(tenant_id::text, 1) AS tenant, count(*) FROM queue_claim('all', max_jobs => 9) GROUP BY 1 ORDER BY 1;

DROP TABLE leases;
SELECT queue_revoke('regress_queue_all', 'worker', true), queue_revoke('regress_queue_one', 'worker') \gset
DROP OWNED BY regress_queue_all, regress_queue_one;
DROP ROLE regress_queue_all, regress_queue_one;
SELECT bool_and(p.done) AS done FROM tenants t, queue_tenant_purge(t.id) p WHERE t.name LIKE 'alltenants %';
DELETE FROM tenants WHERE name LIKE 'alltenants %';
