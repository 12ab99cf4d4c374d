-- Privileges: what each of queue_grant() gives, what it is good for, and what it is not.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001301\''
\set other '\'00000000-0000-4000-8000-000000001302\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'grants'), (:other, 'grants');
CREATE ROLE regress_queue_producer;
CREATE ROLE regress_queue_worker;
CREATE ROLE regress_queue_observer;
CREATE ROLE regress_queue_admin;
CREATE ROLE regress_queue_nobody;
SET app.current_tenant = :other;
SELECT queue_create('q') IS NOT NULL AS created, queue_enqueue('q', '"other''s"') IS NOT NULL AS enqueued;
SET app.current_tenant = :tenant;
SELECT queue_create('q') IS NOT NULL AS created, queue_enqueue('q', '1') IS NOT NULL AS enqueued;
SELECT id AS q FROM queues WHERE tenant_id = :tenant AND name = 'q' \gset

-- what is granted, as the catalogs say
\pset format unaligned
CREATE VIEW pg_temp.functions AS
SELECT r.rolname AS role, string_agg(p.proname, ' ' ORDER BY p.proname) AS functions
FROM pg_roles r, pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service' JOIN pg_proc p ON p.oid = d.objid
WHERE r.rolname LIKE 'regress\_queue\_%' AND d.classid = 'pg_proc'::regclass AND has_function_privilege(r.oid, p.oid, 'EXECUTE') GROUP BY 1 ORDER BY 1;
CREATE VIEW pg_temp.columns AS
SELECT r.rolname AS role, c.relname AS "table", v.privilege, CASE WHEN count(*) = count(*) FILTER (WHERE has_column_privilege(r.oid, c.oid, a.attnum, v.privilege)) THEN '(all)'
	ELSE string_agg(a.attname, ' ' ORDER BY a.attnum) FILTER (WHERE has_column_privilege(r.oid, c.oid, a.attnum, v.privilege)) END AS columns
FROM pg_roles r, pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service' JOIN pg_class c ON c.oid = d.objid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) v (privilege)
WHERE r.rolname LIKE 'regress\_queue\_%' AND d.classid = 'pg_class'::regclass AND c.relkind = 'r' GROUP BY 1, 2, 3 HAVING bool_or(has_column_privilege(r.oid, c.oid, a.attnum, v.privilege)) ORDER BY 1, 2, 3;
CREATE VIEW pg_temp.others AS
SELECT r.rolname AS role, c.relname AS "table", v.privilege
FROM pg_roles r, pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service' JOIN pg_class c ON c.oid = d.objid, unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) v (privilege)
WHERE r.rolname LIKE 'regress\_queue\_%' AND d.classid = 'pg_class'::regclass AND c.relkind = 'r' AND has_table_privilege(r.oid, c.oid, v.privilege);
SELECT * FROM pg_temp.functions;
SELECT * FROM pg_temp.columns;
SELECT queue_grant('regress_queue_producer', 'producer'), queue_grant('regress_queue_worker', 'worker'), queue_grant('regress_queue_observer', 'observer'), queue_grant('regress_queue_admin', 'admin') \gset
SELECT * FROM pg_temp.functions;
SELECT * FROM pg_temp.columns;
SELECT * FROM pg_temp.others;
-- revoked, nothing is left but the use of the schema
SELECT queue_revoke('regress_queue_producer', 'producer'), queue_revoke('regress_queue_worker', 'worker'), queue_revoke('regress_queue_observer', 'observer'), queue_revoke('regress_queue_admin', 'admin') \gset
SELECT * FROM pg_temp.functions;
SELECT * FROM pg_temp.columns;
-- all_tenants is the marker
SELECT queue_grant('regress_queue_worker', 'worker', all_tenants => true) \gset
SELECT * FROM pg_temp.functions WHERE role = 'regress_queue_worker';
SELECT queue_revoke('regress_queue_worker', 'worker') \gset
SELECT * FROM pg_temp.functions WHERE role = 'regress_queue_worker';
SELECT queue_revoke('regress_queue_worker', 'worker', all_tenants => true) \gset
SELECT * FROM pg_temp.functions WHERE role = 'regress_queue_worker';
SELECT queue_grant('regress_queue_producer', 'producer'), queue_grant('regress_queue_worker', 'worker'), queue_grant('regress_queue_observer', 'observer'), queue_grant('regress_queue_admin', 'admin') \gset
-- arguments
\pset format aligned
SELECT queue_grant('regress_queue_missing', 'worker');
SELECT queue_grant('regress_queue_worker', 'owner');
SELECT queue_grant('regress_queue_worker', 'WORKER');
SELECT queue_grant('regress_queue_worker', '');
SELECT queue_grant('regress_queue_worker', NULL);
SELECT queue_grant(NULL, 'worker');
SELECT queue_grant('regress_queue_worker', 'worker', NULL);
SELECT queue_revoke('regress_queue_worker', 'owner');
SELECT queue_revoke(NULL, NULL, NULL);
SELECT queue_grant('regress_queue_worker; DROP TABLE jobs', 'worker');

-- nobody: not even that there is a queue
SET ROLE regress_queue_nobody;
SELECT queue_enqueue('q');
SELECT queue_claim('q');
SELECT queue_job('00000000-0000-4000-8000-000000000000');
SELECT queue_grant('regress_queue_nobody', 'admin');
SELECT queue_revoke('regress_queue_worker', 'worker');
SELECT _queue_all_tenants();
SELECT count(*) FROM jobs;
SELECT queue_new_id() IS NOT NULL AS id, queue_tenant() = :tenant AS tenant;

-- a producer: enqueues by function and by INSERT, sees and cancels its tenant's jobs
SET ROLE regress_queue_producer;
SELECT created FROM queue_enqueue('q', '2', idempotency_key => 'k');
SELECT job_id FROM queue_enqueue_critical('q', '3', 'k') \gset
SELECT count(*) FROM queue_enqueue_many('q', '{4,5}');
SELECT payload, status FROM queue_job(:'job_id');
SELECT outcome FROM queue_cancel(:'job_id');
SELECT id = :'q' AS id, tenant_id = :tenant AS tenant, name FROM queues;
INSERT INTO jobs (queue_id, payload) SELECT id, '6' FROM queues WHERE name = 'q';
INSERT INTO jobs (tenant_id, queue_id, job_type, payload, priority, run_at, max_attempts, group_key) VALUES (:tenant, :'q', 'mail', '7', 1, now(), 2, 'g');
-- COPY is not there for whom row-level security applies to
\copy jobs (tenant_id, queue_id, payload) from '/dev/null'
-- not for another tenant, not under an id or in a state of its own
INSERT INTO jobs (tenant_id, queue_id) VALUES (:other, :'q');
INSERT INTO jobs (tenant_id, queue_id) SELECT :other, id FROM queues;
INSERT INTO jobs (id, queue_id) VALUES (gen_random_uuid(), :'q');
INSERT INTO jobs (queue_id, status) VALUES (:'q', 'pending');
INSERT INTO jobs (queue_id, attempts) VALUES (:'q', 1);
INSERT INTO jobs (queue_id, lease_token) VALUES (:'q', 1);
INSERT INTO jobs (queue_id, held) VALUES (:'q', true);
INSERT INTO jobs (queue_id, idempotency_key) VALUES (:'q', 'k');
INSERT INTO jobs (queue_id) VALUES (:'q') RETURNING id;
INSERT INTO critical_jobs (queue_id, idempotency_key) VALUES (:'q', 'k');
SELECT count(*) FROM jobs;
UPDATE jobs SET priority = 1;
DELETE FROM jobs;
SELECT paused FROM queues;
SELECT queue_claim('q');
SELECT queue_create('r');
SELECT queue_purge('q');

-- a worker: claims and ends jobs, without any privilege on a table
SET ROLE regress_queue_worker;
SELECT job_id, lease_token, payload FROM queue_claim('q') \gset
SELECT held FROM queue_heartbeat(:'job_id', :lease_token);
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT kind, payload FROM queue_complete_and_claim('q', max_jobs => 100);
SELECT count(*) FROM jobs;
SELECT count(*) FROM queues;
SELECT queue_enqueue('q');
SELECT queue_job(:'job_id');
SELECT queue_retry(:'job_id');
SELECT queue_peek('q');

-- an observer: reads everything of its tenant's but payloads, headers, results and errors
SET ROLE regress_queue_observer;
SELECT name FROM queues;
SELECT status, count(*) FROM jobs GROUP BY 1 ORDER BY 1;
SELECT status, count(*) FROM critical_jobs GROUP BY 1;
SELECT count(*) FROM (SELECT id, reason FROM dead_letter_jobs) d;
SELECT payload FROM jobs;
SELECT headers FROM jobs;
SELECT result FROM jobs;
SELECT last_error FROM dead_letter_jobs;
SELECT errors FROM critical_jobs;
SELECT lease_token FROM jobs;
SELECT count(*) FROM idempotency_keys;
SELECT count(*) FROM rate_limiters;
SELECT queue_claim('q');
SELECT queue_job(:'job_id');
UPDATE queues SET paused = true;

-- an admin: all of that, and the queues; but not what is the platform's
SET ROLE regress_queue_admin;
SELECT created FROM queue_create('r', max_payload => 1000, ageing => '1 hour', group_concurrency => 1);
SELECT queue_set('r', max_attempts => 5) IS NOT NULL AS set, queue_pause('r'), queue_resume('r'), queue_purge('r'), queue_redrive('r');
SELECT job_id FROM queue_enqueue('r', '9') \gset
SELECT payload FROM queue_peek('r');
SELECT outcome FROM queue_retry(:'job_id');
SELECT payload, result FROM jobs WHERE payload = '9';
SELECT queue_drop('r', true);
SELECT count(*) FROM rate_limits;
SELECT count(DISTINCT tenant_id) FROM queues;
SELECT queue_create('s', weight => 2);
SELECT queue_create('s', max_depth => 1000000);
SELECT queue_set('q', max_depth => 0);
SELECT queue_set('q', max_concurrency => 1);
SELECT queue_set('q', critical_reserve => 1);
SELECT queue_set('q', rate_limiter => 'stripe');
SELECT queue_set('q', weight => 1);
SELECT count(*) FROM rate_limiters;
SELECT count(*) FROM tenants;
UPDATE queues SET weight = 1000;
DELETE FROM jobs;
SELECT queue_tenant_purge(:tenant);
SELECT queue_grant('regress_queue_nobody', 'admin');
RESET ROLE;
-- whoever may write the tables still may not write what is the platform's
GRANT ALL ON queues, rate_limiters, rate_limits TO regress_queue_nobody;
SET ROLE regress_queue_nobody;
INSERT INTO queues (name) VALUES ('own');
INSERT INTO queues (name, weight) VALUES ('own2', 2);
INSERT INTO queues (name, rate_limiter) VALUES ('own2', 'stripe');
INSERT INTO queues (name, critical_reserve) VALUES ('own2', 1);
INSERT INTO queues (name, max_depth) VALUES ('own2', 1);
INSERT INTO queues (name, max_concurrency) VALUES ('own2', 1);
UPDATE queues SET description = 'mine', weight = weight WHERE name = 'own';
UPDATE queues SET weight = 2 WHERE name = 'own';
UPDATE queues SET max_depth = 2 WHERE name = 'own';
UPDATE queues SET max_concurrency = 2 WHERE name = 'own';
UPDATE queues SET critical_reserve = 2 WHERE name = 'own';
UPDATE queues SET rate_limiter = 'stripe' WHERE name = 'own';
INSERT INTO rate_limits (name, tokens_available, max_tokens, refill_per_second) VALUES ('stripe', 1, 1, 1);
INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES ('own', :tenant, 1, 1, 1);
UPDATE rate_limiters SET max_tokens = 1000;
DELETE FROM queues WHERE name = 'own';
RESET ROLE;
-- a tenant of another name sees nothing of this one's
SET app.current_tenant = :other;
SET ROLE regress_queue_admin;
SELECT payload FROM jobs;
SELECT count(*) FROM queue_claim('q', max_jobs => 100);
SELECT outcome FROM queue_complete(:'job_id', 1);
RESET ROLE;

RESET app.current_tenant;
REVOKE ALL ON queues, rate_limiters, rate_limits FROM regress_queue_nobody;
DROP OWNED BY regress_queue_producer, regress_queue_worker, regress_queue_observer, regress_queue_admin, regress_queue_nobody;
DROP ROLE regress_queue_producer, regress_queue_worker, regress_queue_observer, regress_queue_admin, regress_queue_nobody;
SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge(:other);
DELETE FROM tenants WHERE name = 'grants';
