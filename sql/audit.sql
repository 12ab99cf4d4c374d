-- Rules that the catalogs can check. Each is a view in the schema rule that
-- shows what breaks it, and so expects no row. In a database of its own: it
-- creates the extension twice, the second time not in public.

\set home :DBNAME
CREATE DATABASE regress_queue_service_audit;
\c regress_queue_service_audit
SET client_min_messages = warning;

-- the audits (mutants/run takes all from here to the end of them)

CREATE SCHEMA audit;
CREATE SCHEMA rule;

-- What the extension consists of.
CREATE VIEW audit.extension AS
SELECT * FROM pg_extension WHERE extname = 'queue_service';
CREATE VIEW audit.relation AS
SELECT c.* FROM pg_class c
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN audit.extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid;
CREATE VIEW audit.table AS
SELECT * FROM audit.relation WHERE relkind IN ('r', 'p');
CREATE VIEW audit.column AS
SELECT t.relname, format('%s.%s', t.relname, a.attname) AS name, a.attname, a.attrelid, a.attnum, a.atttypid,
	a.atttypmod, a.attnotnull, a.attacl
FROM audit.table t
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped;
CREATE VIEW audit.tenant_table AS
SELECT * FROM audit.table WHERE oid IN (SELECT attrelid FROM audit.column WHERE attname = 'tenant_id');
CREATE VIEW audit.index AS
SELECT i.*, c.relname AS name, t.relname AS table_name,
	ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n)
		LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
		WHERE k.n <= i.indnkeyatts ORDER BY k.n) AS keys
FROM audit.table t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid;
CREATE VIEW audit.foreign_key AS
SELECT k.*, t.relname AS table_name, f.relname AS referred,
	ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (attnum, n)
		JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY u.n) AS keys,
	ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (attnum, n)
		JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY u.n) AS referred_keys
FROM audit.table t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
JOIN pg_class f ON f.oid = k.confrelid;
CREATE VIEW audit.function AS
SELECT p.*, l.lanname FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN audit.extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid;
CREATE VIEW audit.trigger AS
SELECT g.*, t.relname FROM audit.table t JOIN pg_trigger g ON g.tgrelid = t.oid;

-- Labels: language, volatility, parallel safety, and what else is not default.
CREATE VIEW audit.label AS
SELECT l.label, name
FROM (VALUES
	('c volatile unsafe', ARRAY['queue_cancel', 'queue_claim', 'queue_complete', 'queue_complete_and_claim',
		'queue_complete_many', 'queue_create', 'queue_drop', 'queue_enqueue', 'queue_enqueue_critical',
		'queue_enqueue_many', 'queue_explain', 'queue_fail', 'queue_heartbeat', 'queue_heartbeat_many', 'queue_job', 'queue_limiter_set', 'queue_maintain', 'queue_pause',
		'queue_peek', 'queue_purge', 'queue_purge_all', 'queue_rate_acquire', 'queue_rate_peek', 'queue_rate_release', 'queue_redrive', 'queue_redrive_all', 'queue_release', 'queue_resume', 'queue_retry', 'queue_schedule', 'queue_set',
		'queue_monitor', 'queue_report', 'queue_snooze', 'queue_tenant_limit_set', 'queue_tenant_purge', 'queue_tenant_purge_all', 'queue_unschedule', 'queue_wait', 'queue_worker_start', '_queue_announce', '_queue_changed', '_queue_creates_tenants', '_queue_group', '_queue_group_left', '_queue_guard', '_queue_removed', '_queue_stats', '_queue_top',
		'_queue_limit_settle', '_queue_task']),
	('c volatile safe', ARRAY['queue_cron_next', '_queue_all_tenants', '_queue_cache', '_queue_health', '_queue_progress']),
	('c volatile safe strict', ARRAY['queue_new_id']),
	('c stable safe strict leakproof', ARRAY['queue_tenant']),
	('plpgsql volatile unsafe', ARRAY['queue_grant', 'queue_revoke', '_queue_ddl_end', '_queue_ddl_start',
		'_queue_seed', '_queue_seeds_settle', '_queue_tenants_attach', '_queue_tenants_yield']),
	('plpgsql stable unsafe', ARRAY['_queue_privilege_statements']),
	('sql volatile unsafe', ARRAY['_queue_seeds_insert']),
	('sql stable safe', ARRAY['_queue_tenants_fault', '_queue_tenants_keys'])
) l (label, names), unnest(l.names) name;

-- Functions

CREATE VIEW rule.function_labels AS
SELECT format('%s: %s, not %s', coalesce(f.proname, l.name), f.label, l.label) AS object
FROM (SELECT proname::text, concat_ws(' ', lanname,
		CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
		CASE proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
		CASE WHEN proisstrict THEN 'strict' END, CASE WHEN proleakproof THEN 'leakproof' END,
		CASE WHEN prosecdef THEN 'definer' END) AS label
	FROM audit.function) f
FULL JOIN audit.label l ON l.name = f.proname
WHERE f.label IS DISTINCT FROM l.label;

-- One signature for each name, in the types of the interface.
CREATE VIEW rule.function_signatures AS
SELECT proname || ' is overloaded' AS object FROM audit.function GROUP BY proname HAVING count(*) > 1
UNION ALL
SELECT proname || ' is named otherwise' FROM audit.function WHERE proname !~ '^_?queue_[a-z_]+$'
UNION ALL
SELECT format('%s has an argument without a name', proname) FROM audit.function
WHERE cardinality(proallargtypes) > 0 AND '' = ANY (coalesce(proargnames, '{""}'))
	OR pronargs > 0 AND coalesce(cardinality(proargnames), 0) < pronargs
UNION ALL
SELECT format('%s has an argument of type %s', proname, format_type(t, NULL))
FROM audit.function, unnest(coalesce(proallargtypes, proargtypes::oid[])) t
WHERE format_type(t, NULL) NOT IN ('text', 'uuid', 'uuid[]', 'integer', 'smallint', 'bigint', 'bigint[]', 'boolean',
	'double precision', 'interval', 'timestamp with time zone', 'jsonb', 'jsonb[]', 'name', 'regclass');

-- Only these two are for everybody; who else may do what is for queue_grant().
CREATE VIEW rule.function_privileges AS
SELECT format('%s for %s', f.proname, a.grantee::regrole) AS object
FROM audit.function f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
WHERE a.grantee <> f.proowner
AND NOT (a.grantee = 0 AND f.proname IN ('queue_new_id', 'queue_tenant'))
UNION ALL
SELECT format('%s not for PUBLIC', f.proname)
FROM audit.function f
WHERE f.proname IN ('queue_new_id', 'queue_tenant') AND NOT EXISTS (
	SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
	WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE');

-- _queue_ddl_start() must see the search_path of its caller.
CREATE VIEW rule.function_search_path AS
SELECT proname::text AS object FROM audit.function
WHERE lanname <> 'c' AND proname <> '_queue_ddl_start'
AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp'];

CREATE VIEW rule.function_symbols AS
SELECT format('%s is %s in %s', proname, prosrc, probin) AS object FROM audit.function
WHERE lanname = 'c' AND (prosrc !~ '^(queue|qs)_[a-z0-9_]+$' OR probin <> '$libdir/queue_service');

-- Every error has a SQLSTATE: our own, a listed one, or one that is passed on.
CREATE VIEW rule.function_sqlstates AS
SELECT format('%s raises %s', proname, r.m[1]) AS object
FROM audit.function, regexp_matches(prosrc, 'ERRCODE\s*=\s*(''[^'']*''|\w+)', 'g') r (m)
WHERE lanname <> 'c' AND r.m[1] !~ '^''QS0[0-4][0-9]''$'
AND r.m[1] NOT IN ('SQLSTATE', '''object_not_in_prerequisite_state''')
UNION ALL
SELECT format('%s raises an error without a SQLSTATE', proname)
FROM audit.function
WHERE (SELECT count(*) FROM regexp_matches(prosrc, '\mRAISE (EXCEPTION|WARNING)\M', 'g')) <>
	(SELECT count(*) FROM regexp_matches(prosrc, '\mERRCODE\M', 'g'));

-- Tables

CREATE VIEW rule.table_names AS
SELECT format('%s: primary key %s, not %s', coalesce(t.relname, n.name), t.key, n.key) AS object
FROM (SELECT t.relname::text, (SELECT string_agg(a.name || ' ' || format_type(a.atttypid, a.atttypmod), ', ')
		FROM pg_index i JOIN audit.column a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
		WHERE i.indrelid = t.oid AND i.indisprimary) AS key
	FROM audit.table t WHERE t.relname <> 'tenants') t
FULL JOIN (SELECT name, name || '.id uuid' AS key
	FROM unnest(ARRAY['queues', 'jobs', 'critical_jobs', 'dead_letter_jobs', 'idempotency_keys', 'schedules',
		'rate_limits', 'queue_metrics', 'alert_history']) name
	UNION ALL VALUES ('rate_limiters', 'rate_limiters.service_name text')) n ON n.name = t.relname
WHERE t.key IS DISTINCT FROM n.key;

CREATE VIEW rule.table_tenant_id AS
SELECT relname || ' has no tenant_id' AS object FROM audit.table
WHERE relname <> 'tenants' AND oid NOT IN (SELECT oid FROM audit.tenant_table)
UNION ALL
SELECT name || ' is not uuid, or may be null' FROM audit.column
WHERE attname = 'tenant_id'
AND (atttypid <> 'uuid'::regtype OR NOT attnotnull AND relname NOT IN ('rate_limiters', 'alert_history'))
UNION ALL
SELECT a.name || ' is not from the setting' FROM audit.column a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attname = 'tenant_id' AND a.relname <> 'rate_limiters'
AND pg_get_expr(d.adbin, d.adrelid) IS DISTINCT FROM
	(SELECT format('%I.queue_tenant()', n.nspname) FROM audit.extension e JOIN pg_namespace n ON n.oid = e.extnamespace);

CREATE VIEW rule.table_row_security AS
SELECT relname::text AS object FROM audit.tenant_table WHERE NOT (relrowsecurity AND relforcerowsecurity);

-- The literal policy, and none beside it that opens more.
CREATE VIEW rule.table_policies AS
SELECT t.relname || ' has no tenant_isolation_policy as it must be' AS object
FROM audit.tenant_table t WHERE NOT EXISTS (
	SELECT FROM pg_policy p WHERE p.polrelid = t.oid AND p.polname = 'tenant_isolation_policy'
	AND p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
	AND pg_get_expr(p.polqual, p.polrelid) = '((tenant_id)::text = current_setting(''app.current_tenant''::text, true))')
UNION ALL
SELECT t.relname || ' has no tenant_index_policy as it must be'
FROM audit.tenant_table t
WHERE NOT EXISTS (
	SELECT FROM pg_policy p, audit.extension e JOIN pg_namespace n ON n.oid = e.extnamespace
	WHERE p.polrelid = t.oid AND p.polname = 'tenant_index_policy'
	AND NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
	AND pg_get_expr(p.polqual, p.polrelid) = format('(tenant_id = %I.queue_tenant())', n.nspname))
UNION ALL
SELECT format('%s has the policy %s too', t.relname, p.polname)
FROM audit.tenant_table t JOIN pg_policy p ON p.polrelid = t.oid
WHERE p.polname NOT IN ('tenant_isolation_policy', 'tenant_index_policy');

CREATE VIEW rule.table_privileges AS
SELECT format('%s on %s for %s', a.privilege_type, t.relname, a.grantee::regrole) AS object
FROM audit.relation t, aclexplode(t.relacl) a WHERE a.grantee <> t.relowner
UNION ALL
SELECT format('%s on %s for %s', a.privilege_type, c.name, a.grantee::regrole)
FROM audit.column c, aclexplode(c.attacl) a;

-- A view would read the tables as its owner.
CREATE VIEW rule.table_views AS
SELECT DISTINCT format('%s reads %s', v.relname, t.relname) AS object
FROM audit.relation v
JOIN pg_rewrite r ON r.ev_class = v.oid
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
JOIN audit.table t ON t.oid = d.refobjid
WHERE v.relkind IN ('v', 'm');

CREATE VIEW rule.table_dump AS
SELECT format('%s: %s', r.relname, coalesce('dumped ' || d.condition, 'not dumped')) AS object
FROM audit.relation r
LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM audit.extension) d ON d.oid = r.oid
WHERE r.relkind IN ('r', 'p', 'S')
AND d.condition IS DISTINCT FROM CASE r.relname WHEN 'rate_limiters' THEN 'WHERE NOT seeded' ELSE '' END;

-- No type whose comparison is not leakproof where a tenant may search by it,
-- and no time without a zone.
CREATE VIEW rule.table_types AS
SELECT format('%s %s', name, format_type(atttypid, atttypmod)) AS object FROM audit.column
WHERE format_type(atttypid, atttypmod) NOT IN ('uuid', 'text', 'integer', 'smallint', 'bigint', 'boolean',
	'double precision', 'interval', 'timestamp with time zone', 'jsonb');

-- Estimates of the planner would tell what other tenants have in a column.
CREATE VIEW rule.table_statistics AS
SELECT format('%s.%s has statistics', c.relname, a.attname) AS object
FROM (SELECT oid, relname, NULL::int2vector AS keys FROM audit.tenant_table
	UNION ALL SELECT i.indexrelid, i.name, i.indkey FROM audit.index i) c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attstattarget IS DISTINCT FROM 0 AND (c.keys IS NULL OR c.keys[a.attnum - 1] = 0);

-- Keys

CREATE VIEW rule.key_to_tenants AS
SELECT t.relname::text AS object FROM audit.tenant_table t, audit.extension e
WHERE NOT EXISTS (
	SELECT FROM audit.foreign_key k JOIN pg_class r ON r.oid = k.confrelid
	WHERE k.conrelid = t.oid AND r.relname = 'tenants' AND r.relnamespace = e.extnamespace
	AND k.keys = '{tenant_id}' AND k.referred_keys = '{id}' AND k.confdeltype = 'r' AND k.confupdtype = 'a'
	AND k.convalidated AND NOT k.condeferrable);

-- A key without the tenant would tell a foreign id from a missing one.
CREATE VIEW rule.key_between_tables AS
SELECT format('%s: (%s) to %s (%s)', conname, array_to_string(keys, ', '), referred,
	array_to_string(referred_keys, ', ')) AS object
FROM audit.foreign_key
WHERE referred <> 'tenants'
AND NOT (cardinality(keys) > 1 AND keys[1] = 'tenant_id' AND referred_keys[1] = 'tenant_id' AND convalidated)
UNION ALL
SELECT c.name || ' refers to nothing' FROM audit.column c
WHERE c.attname = 'queue_id' AND NOT EXISTS (
	SELECT FROM audit.foreign_key k WHERE k.conrelid = c.attrelid AND k.referred = 'queues'
	AND k.keys = '{tenant_id,queue_id}' AND k.referred_keys = '{tenant_id,id}');

-- So would a unique index; ids are made by the extension.
CREATE VIEW rule.key_unique AS
SELECT format('%s (%s)', i.name, array_to_string(i.keys, ', ', 'expression')) AS object
FROM audit.index i
WHERE (i.indisunique OR i.indisexclusion) AND i.keys[1] IS DISTINCT FROM 'tenant_id'
AND NOT (i.indisprimary AND i.keys IN ('{id}', '{service_name}'))
AND i.table_name <> 'tenants';

-- What a foreign key, a purge or a policy looks for, whole tables aside.
CREATE VIEW rule.key_indexed AS
SELECT format('%s: no index begins with %s', k.table_name, array_to_string(k.keys, ', ')) AS object
FROM audit.foreign_key k
WHERE NOT EXISTS (
	SELECT FROM audit.index i WHERE i.indrelid = k.conrelid AND i.indpred IS NULL AND i.indisvalid
	AND i.keys[1:cardinality(k.keys)] = k.keys);

-- A claim is a HOT update only if no index has any column that it changes: as
-- a key, in an expression or in its predicate.
CREATE VIEW rule.claim_is_hot AS
SELECT format('%s uses %s', i.name, a.attname) AS object
FROM audit.index i
JOIN pg_attribute a ON a.attrelid = i.indrelid
WHERE i.table_name IN ('jobs', 'critical_jobs')
AND a.attname IN ('status', 'attempts', 'lease_token', 'leased_by', 'leased_at', 'leased_until')
AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (
	SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
	AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum));

-- C code takes both tables of jobs for one kind: columns, checks, indexes and
-- storage are alike, but for two attributes of critical_jobs.
CREATE VIEW audit.job_table AS
SELECT t.relname, 'column ' || a.attname AS part, concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod),
	CASE WHEN a.attname <> 'idempotency_key' AND a.attnotnull THEN 'not null' END, a.attgenerated, a.attcollation,
	CASE WHEN a.attname <> 'max_attempts' THEN pg_get_expr(d.adbin, d.adrelid) END) AS definition
FROM audit.table t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT t.relname, 'check ' || k.conname, pg_get_constraintdef(k.oid)
FROM audit.table t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'c'
UNION ALL
SELECT table_name, 'index ' || replace(name, 'critical_jobs', 'jobs'),
	replace(pg_get_indexdef(indexrelid), 'critical_jobs', 'jobs')
FROM audit.index WHERE name <> 'critical_jobs_key_idx'
UNION ALL
SELECT t.relname, 'storage', array_to_string(t.reloptions, ' ') FROM audit.table t;

CREATE VIEW rule.critical_jobs_like_jobs AS
SELECT format('%s: %s, not %s', coalesce(c.part, j.part), c.definition, j.definition) AS object
FROM (SELECT * FROM audit.job_table WHERE relname = 'jobs') j
FULL JOIN (SELECT * FROM audit.job_table WHERE relname = 'critical_jobs') c ON c.part = j.part
WHERE c.definition IS DISTINCT FROM j.definition;

-- Triggers

CREATE VIEW rule.trigger_states AS
SELECT format('%s: %s, not %s', coalesce(t.name, x.name), t.state, x.state) AS object
FROM (SELECT format('%s on %s', tgname, relname) AS name, tgenabled::text AS state
	FROM audit.trigger WHERE NOT tgisinternal
	UNION ALL
	SELECT evtname, evtenabled::text FROM pg_event_trigger g
	JOIN pg_depend d ON d.classid = 'pg_event_trigger'::regclass AND d.objid = g.oid AND d.deptype = 'e'
	JOIN audit.extension e ON d.refobjid = e.oid) t
FULL JOIN (VALUES ('queue_announce on jobs', 'A'), ('queue_announce on critical_jobs', 'A'), ('queue_removed on jobs', 'A'),
	('queue_removed on critical_jobs', 'A'), ('queue_emptied on jobs', 'A'), ('queue_emptied on critical_jobs', 'A'), ('queue_group on jobs', 'O'), ('queue_group on critical_jobs', 'O'), ('queue_group_changed on jobs', 'O'), ('queue_group_changed on critical_jobs', 'O'),
	('queue_group_left on jobs', 'O'), ('queue_group_left on critical_jobs', 'O'), ('queue_group_left on dead_letter_jobs', 'O'), ('queue_changed on queues', 'A'), ('queue_guard on queues', 'O'), ('queue_guard_truncate on queues', 'O'),
	('queue_guard on rate_limiters', 'O'), ('queue_guard on rate_limits', 'O'), ('queue_guard_truncate on rate_limiters', 'O'), ('queue_guard_truncate on rate_limits', 'O'), ('queue_seed on rate_limiters', 'A'),
	('queue_limit_changed on rate_limiters', 'A'), ('queue_limit_changed on rate_limits', 'A'),
	('queue_limit_settled on rate_limiters', 'O'), ('queue_limit_settled on rate_limits', 'O'),
	('queue_service_ddl_start', 'A'), ('queue_service_ddl_end', 'A')) x (name, state) ON x.name = t.name
WHERE t.state IS DISTINCT FROM x.state
UNION ALL
SELECT format('%s on %s: %s', tgfoid::regproc, relname, tgenabled) FROM audit.trigger
WHERE tgisinternal AND tgenabled <> 'O';

-- All

CREATE VIEW rule.comments AS
SELECT format('%s %s', o.kind, o.name) AS object
FROM (SELECT 'extension' AS kind, extname::text AS name, 'pg_extension'::regclass AS class, oid, 0 AS subid FROM audit.extension
	UNION ALL SELECT 'relation', relname, 'pg_class'::regclass, oid, 0 FROM audit.relation WHERE relkind <> 'i'
	UNION ALL SELECT 'column', name, 'pg_class'::regclass, attrelid, attnum FROM audit.column
	UNION ALL SELECT 'function', proname, 'pg_proc'::regclass, oid, 0 FROM audit.function
	UNION ALL SELECT 'trigger', tgname, 'pg_trigger'::regclass, oid, 0 FROM audit.trigger WHERE NOT tgisinternal
	UNION ALL SELECT 'event trigger', evtname, 'pg_event_trigger'::regclass, oid, 0 FROM pg_event_trigger
		WHERE evtname LIKE 'queue%') o
WHERE NOT EXISTS (SELECT FROM pg_description d WHERE d.classoid = o.class AND d.objoid = o.oid
	AND d.objsubid = o.subid AND d.description <> '');

-- Everything is in the extension's schema and belongs to its owner.
CREATE VIEW rule.schema_and_owner AS
SELECT format('%s in %s of %s', o.name, o.schema::regnamespace, o.owner::regrole) AS object
FROM (SELECT relname::text AS name, relnamespace AS schema, relowner AS owner FROM audit.relation
	UNION ALL SELECT proname, pronamespace, proowner FROM audit.function) o, audit.extension e
WHERE o.schema <> e.extnamespace OR o.owner <> e.extowner
UNION ALL
SELECT format('%s is of another kind', pg_describe_object(d.classid, d.objid, 0))
FROM pg_depend d JOIN audit.extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE d.deptype = 'e' AND d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_event_trigger'::regclass)
	-- the types of rows are members from PostgreSQL 17 on, and arrays of them
	AND NOT (d.classid = 'pg_type'::regclass AND EXISTS (SELECT FROM audit.relation r
		JOIN pg_type t ON t.oid = r.reltype WHERE d.objid IN (t.oid, t.typarray)));

CREATE FUNCTION audit.findings(OUT rule text, OUT object text) RETURNS SETOF record
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	FOR rule IN SELECT relname FROM pg_class WHERE relnamespace = 'rule'::regnamespace ORDER BY relname COLLATE "C" LOOP
		RETURN QUERY EXECUTE format('SELECT %L, object FROM rule.%I ORDER BY object COLLATE "C"', rule, rule);
	END LOOP;
END
$$;

-- end of the audits

-- what is audited
SELECT relname AS rule FROM pg_class WHERE relnamespace = 'rule'::regnamespace ORDER BY relname COLLATE "C";

CREATE EXTENSION queue_service;
SELECT (SELECT count(*) FROM audit.tenant_table) AS tenant_tables, (SELECT count(*) > 150 FROM audit.column) AS columns,
	(SELECT count(*) > 40 FROM audit.function) AS functions, (SELECT count(*) > 30 FROM audit.index) AS indexes,
	(SELECT count(*) > 15 FROM audit.foreign_key) AS foreign_keys, (SELECT count(*) > 4 FROM audit.trigger) AS triggers;
SELECT * FROM audit.findings();

-- in a schema that is not in search_path, and whose name needs quotes
DROP EXTENSION queue_service;
CREATE SCHEMA "Our queues";
CREATE EXTENSION queue_service SCHEMA "Our queues";
SELECT count(*) AS tenant_tables FROM audit.tenant_table;
SELECT * FROM audit.findings();

-- with a table tenants of one's own
DROP EXTENSION queue_service;
CREATE TABLE "Our queues".tenants (name text, id uuid UNIQUE);
CREATE EXTENSION queue_service SCHEMA "Our queues";
SELECT * FROM audit.findings();

\c :home
DROP DATABASE regress_queue_service_audit;
