-- What belongs to the platform: a tenant neither sets it through functions nor
-- by statements of its own, even where an operator granted too much. Whoever
-- serves all tenants, and the owner, may set it.

\set home :DBNAME
\set tenant '''00000000-0000-7000-8000-00000000000a'''
CREATE DATABASE regress_queue_service_guard;
\c regress_queue_service_guard
CREATE EXTENSION queue_service;
CREATE ROLE regress_guard_tenant;
CREATE ROLE regress_guard_platform;
CREATE ROLE regress_guard_member IN ROLE regress_guard_platform;
SELECT queue_grant('regress_guard_tenant', 'admin');
SELECT queue_grant('regress_guard_platform', 'admin', all_tenants => true);
INSERT INTO tenants (id, name) VALUES (:tenant, 'one');
SET app.current_tenant = :tenant;
SELECT created FROM queue_create('work', max_depth => 10, weight => 2);

-- What a statement comes to, and nothing of it stays.
CREATE SCHEMA guard;
GRANT USAGE ON SCHEMA guard TO PUBLIC;
CREATE FUNCTION guard.outcome(role name, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	count bigint;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE statement;
	GET DIAGNOSTICS count = ROW_COUNT;
	RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
	WHEN SQLSTATE 'UNDO0' THEN
		RETURN count || ' rows';
	WHEN OTHERS THEN
		RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
CREATE FUNCTION guard.outcomes(statements text[], OUT statement text, OUT tenant text, OUT platform text, OUT member text, OUT owner text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOREACH statement IN ARRAY statements LOOP
		tenant := guard.outcome('regress_guard_tenant', statement);
		platform := guard.outcome('regress_guard_platform', statement);
		member := guard.outcome('regress_guard_member', statement);
		owner := guard.outcome(session_user, statement);
		RETURN NEXT;
	END LOOP;
END
$$;

-- every setting of a queue, by the functions
CREATE VIEW guard.setting AS
SELECT a.name, a.n, CASE format_type(a.type, NULL) WHEN 'text' THEN '''block''' WHEN 'interval' THEN '''1 second''' WHEN 'boolean' THEN 'true'
	WHEN 'jsonb' THEN '''{}''' ELSE '1' END AS value
FROM pg_proc p, unnest(p.proargnames[2:p.pronargs], (p.proargtypes::oid[])[1:]) WITH ORDINALITY a (name, type, n)
WHERE p.proname = 'queue_set' AND a.name IS NOT NULL;
SELECT f.verb, count(*) AS settings,
	string_agg(s.name, ' ' ORDER BY s.n) FILTER (WHERE o.tenant = '1 rows') AS tenant,
	string_agg(s.name, ' ' ORDER BY s.n) FILTER (WHERE o.tenant = format('42501: %s is set by the platform', s.name)) AS platform_only,
	string_agg(s.name, ' ' ORDER BY s.n) FILTER (WHERE o.platform <> '1 rows' OR o.member <> '1 rows' OR o.owner <> '1 rows') AS neither
FROM (VALUES ('queue_set', 'work'), ('queue_create', 'new'), ('queue_create', 'work')) f (verb, queue), guard.setting s,
	guard.outcomes(ARRAY[format('SELECT * FROM %s(%L, %s => %s)', f.verb, f.queue, s.name, s.value)]) o
GROUP BY f.verb, f.queue ORDER BY f.verb, f.queue;
-- also to take a limit away, to leave it as it is, or for a queue that is not there
SELECT * FROM guard.outcomes(ARRAY['SELECT queue_set(''work'', max_depth => 0)', 'SELECT queue_set(''work'', max_depth => 10)',
	'SELECT queue_set(''work'', rate_limiter => '''')', 'SELECT queue_set(''work'', enqueue_limiter => '''')', 'SELECT queue_set(''missing'', weight => 5)', 'SELECT queue_set(''work'', weight => 0)',
	'SELECT queue_tenant_purge(queue_tenant())']);

-- An operator grants everything there is on the tables.
GRANT ALL ON ALL TABLES IN SCHEMA public TO regress_guard_tenant, regress_guard_platform;
SELECT count(*) AS columns,
	string_agg(s.attname, ' ' ORDER BY s.attnum) FILTER (WHERE o.tenant = format('42501: column "%s" of table "queues" is set by the platform', s.attname)) AS platform_only,
	string_agg(s.attname, ' ' ORDER BY s.attnum) FILTER (WHERE o.tenant NOT LIKE '42501%' AND o.tenant <> '1 rows') AS otherwise,
	string_agg(s.attname, ' ' ORDER BY s.attnum) FILTER (WHERE o.platform IS DISTINCT FROM o.owner OR o.member IS DISTINCT FROM o.owner) AS platform_not_like_owner
FROM (SELECT attname, attnum, CASE format_type(atttypid, NULL) WHEN 'integer' THEN '7' WHEN 'bigint' THEN '7' WHEN 'double precision' THEN '1'
		WHEN 'interval' THEN '''1 second''' WHEN 'boolean' THEN 'true' WHEN 'jsonb' THEN '''{}''' WHEN 'uuid' THEN 'tenant_id'
		WHEN 'text' THEN '''pass''' ELSE 'now()' END AS value
	FROM pg_attribute WHERE attrelid = 'queues'::regclass AND attnum > 0 AND NOT attisdropped) s,
	guard.outcomes(ARRAY[format('UPDATE queues SET %I = %s', s.attname, s.value)]) o;
SELECT * FROM guard.outcomes(ARRAY[
	'UPDATE queues SET weight = weight, max_depth = 10, description = ''mine''',
	'UPDATE queues SET max_depth = NULL',
	'UPDATE queues SET weight = DEFAULT',
	'INSERT INTO queues (name) VALUES (''new'')',
	'INSERT INTO queues (name, weight, critical_reserve) VALUES (''new'', 1, 0)',
	'INSERT INTO queues (name, weight) VALUES (''new'', 2)',
	'INSERT INTO queues (name, critical_reserve) VALUES (''new'', 1)',
	'INSERT INTO queues (name, max_depth) VALUES (''new'', 1000000)',
	'INSERT INTO queues (name, max_concurrency) VALUES (''new'', 1000000)',
	'INSERT INTO queues (name, rate_limiter) VALUES (''new'', ''stripe'')',
	'INSERT INTO queues (name, enqueue_limiter) VALUES (''new'', ''stripe'')',
	'INSERT INTO queues (name) VALUES (''work'') ON CONFLICT (tenant_id, name) DO UPDATE SET weight = 1000',
	'MERGE INTO queues q USING (VALUES (''work'')) v (name) ON q.name = v.name WHEN MATCHED THEN UPDATE SET weight = 1000',
	'WITH u AS (UPDATE queues SET weight = 1000 RETURNING 1) SELECT * FROM u']);

-- whole tables
INSERT INTO rate_limits (name, tokens_available, max_tokens, refill_per_second) VALUES ('stripe', 1, 1, 1);
INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES ('own', :tenant, 1, 1, 1);
SELECT * FROM guard.outcomes(ARRAY[
	'INSERT INTO rate_limits (name, tokens_available, max_tokens, refill_per_second) VALUES (''new'', 9, 9, 9)',
	'UPDATE rate_limits SET max_tokens = 1000',
	'UPDATE rate_limits SET name = name',
	'DELETE FROM rate_limits',
	'INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES (''new'', queue_tenant(), 9, 9, 9)',
	'INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES (''stripe'', queue_tenant(), 9, 9, 9)',
	'UPDATE rate_limiters SET max_tokens = 1000 WHERE tenant_id = queue_tenant()',
	'DELETE FROM rate_limiters WHERE tenant_id = queue_tenant()']);
SET client_min_messages = warning;
SELECT * FROM guard.outcomes(ARRAY['TRUNCATE rate_limits', 'TRUNCATE rate_limiters', 'TRUNCATE queues CASCADE']);
RESET client_min_messages;
-- the limiters of the platform, which no tenant sees
SELECT * FROM guard.outcomes(ARRAY['UPDATE rate_limiters SET max_tokens = 1000', 'DELETE FROM rate_limiters', 'SELECT FROM rate_limiters']);
SELECT count(*) AS seeds FROM rate_limiters WHERE seeded;

-- The guard is not to be called, nor put on a table of one's own.
GRANT CREATE ON SCHEMA public TO regress_guard_tenant;
SELECT guard.outcome('regress_guard_tenant', 'CREATE TABLE mine (weight integer); CREATE TRIGGER g BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION _queue_guard()') AS own_table,
	guard.outcome('regress_guard_tenant', 'SELECT _queue_guard()') AS called;
-- Logical replication and a restore write as the owner; so does a function of
-- the owner's, which then answers for what it writes.
CREATE FUNCTION guard.set_weight(w integer) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'UPDATE queues SET weight = w';
SELECT guard.outcome('regress_guard_tenant', 'SELECT guard.set_weight(5)') AS function_of_owner;

-- The right to serve all tenants can be taken back.
SELECT queue_revoke('regress_guard_platform', 'admin', all_tenants => true);
SELECT queue_grant('regress_guard_platform', 'admin');
SELECT statement, tenant = platform AS platform_like_tenant, tenant = member AS member_like_tenant FROM guard.outcomes(ARRAY[
	'UPDATE queues SET weight = 5', 'SELECT queue_set(''work'', weight => 5)', 'DELETE FROM rate_limits']);

\c :home
DROP DATABASE regress_queue_service_guard;
DROP ROLE regress_guard_tenant, regress_guard_platform, regress_guard_member;
