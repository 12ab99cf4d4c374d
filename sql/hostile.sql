-- A hostile tenant, with every privilege that queue_grant() gives: what belongs
-- to another tenant is to it as if it did not exist. Own objects are called
-- alpha, those of the other tenant bravo, those that do not exist gamma.
--
-- Not hidden by row-level security, and not tested here, is what PostgreSQL
-- tells everybody of a table as a whole, such as the number of its rows
-- (pg_class.reltuples, EXPLAIN ANALYZE of a sequential scan); nor that a
-- tenant with SQL access can set app.current_tenant itself.

\set home :DBNAME
\set own '''00000000-0000-7000-8000-00000000000a'''
\set other '''00000000-0000-7000-8000-00000000000b'''
\set nobody '''00000000-0000-7000-8000-00000000000c'''
CREATE DATABASE regress_queue_service_hostile;
\c regress_queue_service_hostile
CREATE EXTENSION queue_service;
CREATE ROLE regress_hostile;
CREATE SCHEMA own AUTHORIZATION regress_hostile;
SET client_min_messages = warning;

-- Both tenants have one of everything; jobs in every state and both tables.
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO regress_hostile;
CREATE TABLE hostile.object (whose text, kind text, id uuid, token bigint, name text);
GRANT SELECT ON hostile.object TO regress_hostile;
CREATE PROCEDURE hostile.make_objects(whose text, name text, tenant uuid) LANGUAGE plpgsql AS $$
DECLARE
	queue uuid;
	kind text;
	id uuid;
	token bigint;
BEGIN
	INSERT INTO tenants (id, name) VALUES (tenant, name);
	PERFORM set_config('app.current_tenant', tenant::text, false);
	queue := queue_id FROM queue_create(name);
	PERFORM queue_create('common');
	PERFORM queue_enqueue('common');
	FOREACH kind IN ARRAY ARRAY['finished', 'failed', 'dead', 'redriven', 'running', 'critical running', 'waiting', 'critical waiting'] LOOP
		IF kind LIKE 'critical %' THEN
			id := job_id FROM queue_enqueue_critical(name, '{}', kind || ' ' || name);
		ELSE
			id := job_id FROM queue_enqueue(name, idempotency_key => kind || ' ' || name);
		END IF;
		token := NULL;
		IF kind NOT LIKE '%waiting' THEN
			PERFORM queue_set(name, dead_letters => kind <> 'failed');
			token := lease_token FROM queue_claim(name, 'worker', lease => '1 hour');
			PERFORM CASE kind WHEN 'finished' THEN queue_complete(id, token)
				WHEN 'failed' THEN queue_fail(id, token, 'broken', dead => true)
				WHEN 'dead' THEN queue_fail(id, token, 'broken', dead => true)
				WHEN 'redriven' THEN queue_fail(id, token, 'broken', dead => true) END;
			IF kind = 'redriven' THEN
				PERFORM queue_cancel(r.job_id) FROM queue_retry(id) r;
			END IF;
		END IF;
		INSERT INTO hostile.object VALUES (whose, kind, id, token);
	END LOOP;
	INSERT INTO hostile.object VALUES (whose, 'queue', queue, NULL, name), (whose, 'tenant', tenant, NULL, name),
		(whose, 'key', NULL, NULL, 'waiting ' || name), (whose, 'critical key', NULL, NULL, 'critical waiting ' || name),
		(whose, 'name', NULL, NULL, name);
	INSERT INTO schedules (name, queue_id, cron) VALUES (name, queue, '0 0 * * *');
	INSERT INTO rate_limits (name, tokens_available, max_tokens, refill_per_second) VALUES (name, 1, 1, 0.001);
	INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES (name, tenant, 1, 1, 0.001);
	INSERT INTO queue_metrics (queue_id) VALUES (queue);
	INSERT INTO alert_history (queue_id, alert, message) VALUES (queue, 'depth', name);
END
$$;
CALL hostile.make_objects('own', 'alpha', :own);
CALL hostile.make_objects('foreign', 'bravo', :other);
INSERT INTO hostile.object
SELECT 'missing', kind, CASE WHEN id IS NOT NULL THEN queue_new_id() END, token, replace(name, 'bravo', 'gamma')
FROM hostile.object WHERE whose = 'foreign';
SELECT kind, count(*) FROM hostile.object GROUP BY kind ORDER BY kind;

-- What a statement results in, all that an error tells included, without
-- names and ids. Nothing stays of the statement, unless stays.
CREATE FUNCTION hostile.outcome(statement text, stays boolean DEFAULT false) RETURNS text LANGUAGE plpgsql SET datestyle = 'ISO' AS $$
DECLARE
	result text;
	count bigint;
	state text; message text; detail text; hint text; tab text; col text; con text; context text;
BEGIN
	BEGIN
		IF statement ~* '^(select|with|table|explain)' THEN
			EXECUTE 'SELECT count(*), string_agg(r::text, ''; '') FROM (' || statement || ') r' INTO count, result;
		ELSE
			EXECUTE statement;
			GET DIAGNOSTICS count = ROW_COUNT;
		END IF;
		result := count || CASE count WHEN 1 THEN ' row' ELSE ' rows' END || coalesce(': ' || result, '');
		IF NOT stays THEN
			RAISE EXCEPTION USING ERRCODE = 'UNDO0';
		END IF;
	EXCEPTION
		WHEN SQLSTATE 'UNDO0' THEN
			NULL;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
				hint = PG_EXCEPTION_HINT, tab = TABLE_NAME, col = COLUMN_NAME, con = CONSTRAINT_NAME, context = PG_EXCEPTION_CONTEXT;
			result := concat_ws(' | ', state || ': ' || message, detail, hint, tab, col, con, replace(context, statement, ''));
	END;
	result := regexp_replace(result, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>', 'g');
	result := regexp_replace(result, '"*\d{4}-\d\d-\d\d[ T]\d\d:\d\d:[0-9.:+-]+"*', '<time>', 'g');
	result := regexp_replace(result, '\m\d{9,}\M', '<token>', 'g');
	RETURN regexp_replace(result, 'alpha|bravo|gamma', '<name>', 'g');
END
$$;
CREATE FUNCTION hostile.brief(outcome text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN outcome ~ '^\w{5}: ' THEN split_part(outcome, ' | ', 1) ELSE outcome END
$$;

-- Every call of every public function with every object for every argument
-- that is an id or a name. The other arguments are as good as they can be.
CREATE FUNCTION hostile.calls(OUT function text, OUT argument text, OUT variant text, OUT kind text, OUT whose text, OUT call text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	f record;
	t record;
	target text;
	o hostile.object;
	one hostile.object;
	value text;
	given text;
	arguments text[];
BEGIN
	SELECT * INTO one FROM hostile.object x WHERE x.whose = 'own' AND x.kind = 'running';
	FOR f IN
		SELECT p.proname, p.proargnames[1:p.pronargs] AS names, p.proargtypes::oid[] AS types, p.pronargs - p.pronargdefaults AS needed
		FROM pg_proc p
		JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'
		WHERE p.proname NOT LIKE '\_%' AND p.prokind = 'f' ORDER BY p.proname
	LOOP
		function := f.proname;
		FOR t IN
			SELECT n AS target, x AS object, v AS given
			FROM unnest(f.names || CASE WHEN 'job_ids' = ANY (f.names) THEN ARRAY['job_ids, the second'] END) n
			JOIN hostile.object x ON CASE
				WHEN n IN ('job_id', 'job_ids', 'job_ids, the second') THEN x.kind NOT IN ('queue', 'tenant', 'key', 'critical key', 'name')
				WHEN n IN ('queue', 'name') THEN x.kind = 'queue'
				WHEN n = 'tenant' THEN x.kind = 'tenant'
				WHEN n = 'idempotency_key' THEN x.kind = CASE WHEN f.proname = 'queue_enqueue_critical' THEN 'critical key' ELSE 'key' END
				WHEN n IN ('group_key', 'rate_limiter', 'enqueue_limiter', 'worker', 'error_like', 'service') THEN x.kind = 'name' END
			CROSS JOIN LATERAL (VALUES (''), ('strict => true'), ('force => true'), ('dead => true'), ('what => ''all'''),
				('on_conflict => ''reject'''), ('on_conflict => ''replace''')) v (v)
			WHERE v = '' OR split_part(v, ' ', 1) = ANY (f.names) AND (v NOT LIKE 'on_conflict%' OR n = 'idempotency_key')
			UNION ALL SELECT 'none', x, '' FROM hostile.object x WHERE f.names IS NULL AND x.kind = 'name'
		LOOP
			target := t.target;
			o := t.object;
			given := t.given;
			arguments := CASE WHEN given <> '' THEN ARRAY[given] ELSE '{}' END;
			FOR i IN 1 .. coalesce(cardinality(f.names), 0) LOOP
				value := CASE f.names[i]
					WHEN 'job_id' THEN format('%L', CASE target WHEN 'job_id' THEN o.id ELSE one.id END)
					WHEN 'job_ids' THEN CASE target WHEN 'job_ids' THEN format('ARRAY[%L::uuid]', o.id)
						WHEN 'job_ids, the second' THEN format('ARRAY[%L, %L]::uuid[]', one.id, o.id) END
					WHEN 'lease_token' THEN coalesce(o.token, 1)::text
					WHEN 'lease_tokens' THEN CASE target WHEN 'job_ids' THEN format('ARRAY[%s]::bigint[]', coalesce(o.token, 1))
						WHEN 'job_ids, the second' THEN format('ARRAY[%s, %s]::bigint[]', one.token, coalesce(o.token, 1)) END
					WHEN 'permit' THEN '1'
					WHEN 'tenant' THEN format('%L', o.id)
					WHEN 'payload' THEN '''{"a": 1}'''
					WHEN 'payloads' THEN 'ARRAY[''{}'', ''{"a": 1}'']::jsonb[]'
					WHEN 'delay' THEN '''1 minute'''
					WHEN 'role' THEN 'current_user'
					WHEN 'privilege' THEN '''worker'''
					WHEN 'cron' THEN '''@daily'''
					WHEN target THEN format('%L', o.name)
					WHEN 'queue' THEN '''alpha'''
					WHEN 'name' THEN '''alpha'''
					WHEN 'idempotency_key' THEN CASE f.proname WHEN 'queue_enqueue_critical' THEN '''new''' END
					END;
				IF value IS NOT NULL THEN
					arguments := arguments || format('%I => %s', f.names[i], value);
				ELSIF i <= f.needed OR f.types[i] IN ('uuid'::regtype, 'uuid[]'::regtype) AND f.names[i] <> 'job_ids' THEN
					RAISE EXCEPTION 'what should argument % of % be?', f.names[i], f.proname;
				END IF;
			END LOOP;
			argument := target;
			variant := given;
			kind := o.kind;
			whose := o.whose;
			call := format('SELECT * FROM %I(%s)', f.proname, array_to_string(arguments, ', '));
			RETURN NEXT;
		END LOOP;
	END LOOP;
END
$$;
CREATE TABLE hostile.call AS SELECT * FROM hostile.calls();
GRANT SELECT ON hostile.call TO regress_hostile;
SELECT count(DISTINCT function) AS functions, count(*) FILTER (WHERE whose = 'foreign') > 200 AS calls FROM hostile.call;
-- public functions of which no argument is an id or a name, and procedures, for which see wait and batches
SELECT p.proname FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'
WHERE p.proname NOT LIKE '\_%' AND p.proname NOT IN (SELECT function FROM hostile.call)
ORDER BY p.proname;

SELECT queue_grant('regress_hostile', p) FROM unnest(ARRAY['producer', 'worker', 'observer', 'admin']) p;

-- All versions of all rows of the other tenant, with who changed or locked them.
CREATE FUNCTION hostile.foreign_rows(OUT rows bigint, OUT digest text) LANGUAGE plpgsql AS $$
DECLARE
	t regclass;
	n bigint;
	d text;
BEGIN
	rows := 0;
	FOR t IN SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
	LOOP
		EXECUTE format('SELECT count(*), string_agg(concat(ctid, xmin, xmax, t), E''\n'' ORDER BY ctid) FROM %s t WHERE tenant_id = %L',
			t, '00000000-0000-7000-8000-00000000000b') INTO n, d;
		rows := rows + n;
		digest := md5(concat(digest, d));
	END LOOP;
END
$$;
SELECT rows, digest FROM hostile.foreign_rows() \gset before_

-- the matrix: what was the tenant's own, and what was another's or nobody's
SET ROLE regress_hostile;
SET app.current_tenant = :own;
CREATE TEMP TABLE matrix AS
SELECT function, argument, variant, kind,
	max(hostile.outcome(call)) FILTER (WHERE whose = 'own') AS own,
	max(hostile.outcome(call)) FILTER (WHERE whose = 'foreign') AS foreign,
	max(hostile.outcome(call)) FILTER (WHERE whose = 'missing') AS missing
FROM hostile.call GROUP BY function, argument, variant, kind;
SELECT * FROM matrix WHERE "foreign" IS DISTINCT FROM missing ORDER BY function, argument, variant, kind;
\pset format unaligned
\pset tuples_only on
SELECT format(E'%s(%s)\n%s', function, argument, string_agg(format('    %s%s: %s%s', kinds, CASE WHEN variant <> '' THEN ', ' || variant END, own,
	CASE WHEN own <> missing THEN E'\n        else: ' || missing END), E'\n' ORDER BY kinds, variant))
FROM (SELECT function, argument, variant, hostile.brief(own) AS own, hostile.brief(missing) AS missing,
		string_agg(kind, ', ' ORDER BY kind) AS kinds
	FROM matrix GROUP BY 1, 2, 3, 4, 5) m
GROUP BY function, argument ORDER BY function, argument;
\pset tuples_only off
\pset format aligned

-- Neither does any of it do anything to the other tenant, or lock a row.
BEGIN;
SELECT count(*) > 0 AS done FROM (SELECT hostile.outcome(call, true) FROM hostile.call WHERE whose = 'foreign') c;
RESET ROLE;
SELECT rows > 20 AS some, rows = :before_rows AS as_many, digest = :'before_digest' AS unchanged FROM hostile.foreign_rows();
ROLLBACK;
RESET ROLE;

-- The same matrix for each privilege alone, with and without all_tenants, and
-- for a role that has none. What a role may not execute is refused whatever it
-- is called with; what it may tells no foreign object from a missing one. Its
-- internal functions are refused but for those that its views call.
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT SELECT ON hostile.call TO PUBLIC;
CREATE TABLE hostile.outcome_of (role text, function text, argument text, variant text, kind text, whose text, outcome text);
GRANT INSERT ON hostile.outcome_of TO PUBLIC;
CREATE VIEW hostile.internal AS
SELECT p.proname AS function, format('SELECT %s(%s)', p.oid::regproc,
	(SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ') FROM unnest(p.proargtypes::oid[]) t)) AS call
FROM pg_proc p
JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'
WHERE p.proname LIKE '\_%';
GRANT SELECT ON hostile.internal TO PUBLIC;
CREATE PROCEDURE hostile.try_role(privilege text, all_tenants boolean) LANGUAGE plpgsql AS $$
DECLARE
	role text := concat_ws('_', 'regress_hostile', privilege, CASE WHEN all_tenants THEN 'all' END);
BEGIN
	EXECUTE format('CREATE ROLE %I', role);
	PERFORM queue_grant(role, privilege, all_tenants) WHERE privilege <> 'none';
	EXECUTE format('GRANT USAGE ON SCHEMA public TO %I; SET LOCAL ROLE %1$I', role);
	INSERT INTO hostile.outcome_of
	SELECT role, c.function, c.argument, c.variant, c.kind, c.whose, hostile.outcome(c.call) FROM hostile.call c WHERE c.variant = ''
	UNION ALL SELECT role, i.function, 'internal', '', '', '', hostile.outcome(i.call) FROM hostile.internal i;
	RESET ROLE;
	EXECUTE format('DROP OWNED BY %I; DROP ROLE %1$I', role);
END
$$;
CALL hostile.try_role('none', false);
CALL hostile.try_role('producer', false);
CALL hostile.try_role('producer', true);
CALL hostile.try_role('worker', false);
CALL hostile.try_role('worker', true);
CALL hostile.try_role('observer', false);
CALL hostile.try_role('observer', true);
CALL hostile.try_role('admin', false);
CALL hostile.try_role('admin', true);
SELECT f.role, f.function, f.argument, f.variant, f.kind, f.outcome AS foreign, m.outcome AS missing
FROM hostile.outcome_of f JOIN hostile.outcome_of m USING (role, function, argument, variant, kind)
WHERE f.whose = 'foreign' AND m.whose = 'missing' AND f.outcome IS DISTINCT FROM m.outcome;
SELECT role, bool_or(NOT refused) AS executes,
	string_agg(function, ' ' ORDER BY function) FILTER (WHERE NOT refused AND sometimes) AS sometimes,
	string_agg(function, ' ' ORDER BY function) FILTER (WHERE NOT refused AND function LIKE '\_%') AS internal
FROM (SELECT role, function, bool_and(outcome LIKE '42501: permission denied for function %') AS refused,
		bool_or(outcome LIKE '42501: permission denied for function %') AS sometimes
	FROM hostile.outcome_of GROUP BY 1, 2) r
GROUP BY role ORDER BY role;

-- Without a tenant in its one form, functions fail and tables are empty. Each
-- function is called for what the tenant owns.
CREATE VIEW hostile.readable AS
SELECT c.oid::regclass AS name FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND has_any_column_privilege('regress_hostile', c.oid, 'SELECT');
GRANT SELECT ON hostile.readable TO regress_hostile;
CREATE FUNCTION hostile.under(value text, OUT rows bigint, OUT tenant boolean, OUT outcomes text) LANGUAGE plpgsql AS $$
DECLARE
	t regclass;
	n bigint;
BEGIN
	PERFORM set_config('app.current_tenant', value, false) WHERE value IS NOT NULL;
	rows := 0;
	FOR t IN SELECT name FROM hostile.readable LOOP
		EXECUTE format('SELECT count(*) FROM %s', t) INTO n;
		rows := rows + n;
	END LOOP;
	tenant := queue_tenant() IS NOT NULL;
	outcomes := string_agg(DISTINCT CASE WHEN o ~ '^\w{5}:' THEN left(o, 5) ELSE 'rows' END, ' ')
		FROM (SELECT hostile.outcome(c.call) AS o FROM hostile.call c
			WHERE c.whose = 'own' AND c.function NOT IN ('queue_new_id', 'queue_tenant', 'queue_limiter_set', 'queue_tenant_limit_set', 'queue_tenant_purge', 'queue_worker_start')) c;
END
$$;
CREATE VIEW hostile.setting AS
SELECT * FROM (VALUES
	(0, 'never set', NULL), (1, 'empty', ''), (2, 'as it should be', '00000000-0000-7000-8000-00000000000a'),
	(3, 'of nobody', '00000000-0000-7000-8000-00000000000c'), (4, 'not a uuid', 'alpha'), (5, 'a pattern', '%'),
	(6, 'upper case', '00000000-0000-7000-8000-00000000000A'), (7, 'braces', '{00000000-0000-7000-8000-00000000000a}'),
	(8, 'no hyphens', '0000000000007000800000000000000a'), (9, 'trailing space', '00000000-0000-7000-8000-00000000000a '),
	(10, 'leading space', ' 00000000-0000-7000-8000-00000000000a'), (11, 'too short', '00000000-0000-7000-8000-00000000000'),
	(12, 'too long', '00000000-0000-7000-8000-00000000000a0'), (13, 'not a digit', '00000000-0000-7000-8000-00000000000g'),
	(14, 'hyphens elsewhere', '000000000000-7000-8000-0000-0000000a'), (15, 'only zeros', '00000000-0000-0000-0000-000000000000')
) s (n, setting, value);
GRANT SELECT ON hostile.setting TO regress_hostile;
\c -
SET ROLE regress_hostile;
SELECT current_setting('app.current_tenant', true) IS NULL AS never_set;
SELECT s.setting, u.rows > 20 AS rows, u.tenant, u.outcomes FROM hostile.setting s, hostile.under(s.value) u ORDER BY s.n;

-- Statements of its own. First, on every table what needs one privilege.
SET app.current_tenant = :own;
RESET ROLE;
CREATE ROLE regress_hostile_producer;
CREATE ROLE regress_hostile_worker;
CREATE ROLE regress_hostile_observer;
CREATE ROLE regress_hostile_admin;
CREATE PROCEDURE hostile.try_privilege(privilege text) LANGUAGE plpgsql AS $$
DECLARE
	t record;
	s text;
BEGIN
	PERFORM queue_grant(format('regress_hostile_%s', privilege)::name, privilege);
	EXECUTE format('GRANT USAGE ON SCHEMA hostile TO regress_hostile_%s; SET LOCAL ROLE regress_hostile_%1$s', privilege);
	FOR t IN SELECT c.oid::regclass AS name, (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum > 0 AND has_column_privilege(c.oid, a.attnum, 'SELECT')) AS columns
		FROM pg_class c JOIN pg_attribute k ON k.attrelid = c.oid AND k.attname = 'tenant_id'
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
	LOOP
		FOREACH s IN ARRAY ARRAY['SELECT count(*) > 0 AS own FROM %s', 'SELECT %2$s FROM %1$s WHERE tenant_id <> queue_tenant()',
			'SELECT FROM %s FOR KEY SHARE', 'INSERT INTO %s DEFAULT VALUES', 'UPDATE %s SET tenant_id = tenant_id', 'DELETE FROM %s',
			'TRUNCATE %s CASCADE', 'LOCK %s IN SHARE MODE', 'CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
			'CREATE RULE r AS ON INSERT TO %s DO ALSO NOTHING', 'CREATE INDEX ON %s (tenant_id)', 'CREATE POLICY p ON %s',
			'ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', 'ALTER TABLE %s DISABLE TRIGGER ALL', 'ALTER TABLE %s ADD note text']
		LOOP
			INSERT INTO tried VALUES (privilege, t.name, replace(regexp_replace(s, '%(\d.)?s', '...', 'g'), ' WHERE tenant_id <> queue_tenant()', ', foreign'),
				hostile.brief(hostile.outcome(format(s, t.name, coalesce(t.columns, 'tenant_id')))));
		END LOOP;
	END LOOP;
	RESET ROLE;
END
$$;
CREATE TEMP TABLE tried (privilege text, name regclass, statement text, outcome text);
GRANT ALL ON tried TO PUBLIC;
CALL hostile.try_privilege('producer');
CALL hostile.try_privilege('worker');
CALL hostile.try_privilege('observer');
CALL hostile.try_privilege('admin');
SELECT privilege, statement, outcome, string_agg(name::text, ', ' ORDER BY name::text) AS tables
FROM tried WHERE outcome NOT LIKE '42501%' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
-- all the rest, for which there is no privilege
SELECT statement, count(*) FILTER (WHERE outcome LIKE '42501%') AS refused FROM tried GROUP BY 1 ORDER BY 1;

-- What a plain INSERT may say of a job.
SET ROLE regress_hostile;
SELECT hostile.brief(hostile.outcome('SELECT FROM tenants')) AS tenants;
SELECT hostile.brief(hostile.outcome(format('INSERT INTO jobs (queue_id%s) VALUES (%L%s)', CASE WHEN attname <> 'queue_id' THEN ', ' || attname END,
		(SELECT id FROM hostile.object WHERE whose = 'own' AND kind = 'queue'), CASE WHEN attname <> 'queue_id' THEN ', DEFAULT' END))) AS outcome,
	string_agg(attname, ', ' ORDER BY attnum) AS columns
FROM pg_attribute WHERE attrelid = 'jobs'::regclass AND attnum > 0 GROUP BY 1 ORDER BY 1;

-- Statements about what is one's own, another's or nobody's.
CREATE FUNCTION pg_temp.about(statement text, whose text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	o hostile.object;
BEGIN
	FOR o IN SELECT * FROM hostile.object x WHERE x.whose = 'own' LOOP
		statement := replace(statement, format('{own %s}', o.kind), quote_literal(coalesce(o.id::text, o.name)));
	END LOOP;
	FOR o IN SELECT * FROM hostile.object x WHERE x.whose = about.whose LOOP
		statement := replace(statement, format('{%s}', o.kind), quote_literal(coalesce(o.id::text, o.name)));
	END LOOP;
	RETURN hostile.outcome(statement);
END
$$;
CREATE TEMP TABLE statement AS
SELECT statement, pg_temp.about(statement, 'own') AS own, pg_temp.about(statement, 'foreign') AS foreign, pg_temp.about(statement, 'missing') AS missing
FROM (VALUES
	('INSERT INTO jobs (queue_id) VALUES ({queue})'),
	('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {queue})'),
	('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {own queue})'),
	('INSERT INTO jobs (queue_id) VALUES ({own queue}), ({queue}) RETURNING queue_id'),
	('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {queue}) RETURNING id'),
	('INSERT INTO jobs (queue_id) VALUES ({queue}) ON CONFLICT DO NOTHING'),
	('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {queue}) ON CONFLICT (id) DO NOTHING'),
	('INSERT INTO jobs (queue_id) VALUES ({queue}) ON CONFLICT (id) DO UPDATE SET payload = ''{}'''),
	('INSERT INTO jobs (queue_id) SELECT id FROM queues WHERE id = {queue}'),
	('INSERT INTO jobs (queue_id, run_at) VALUES ({queue}, ''infinity'')'),
	('MERGE INTO jobs j USING (SELECT {waiting}::uuid AS id) s ON j.id = s.id WHEN MATCHED THEN DELETE'),
	('MERGE INTO jobs j USING (SELECT {waiting}::uuid AS id) s ON j.id = s.id WHEN NOT MATCHED THEN INSERT (queue_id) VALUES ({own queue})'),
	('SELECT status FROM jobs WHERE id = {waiting}'),
	('SELECT status FROM jobs WHERE tenant_id = {tenant} AND id = {waiting}'),
	('SELECT status FROM critical_jobs WHERE id = {critical waiting}'),
	('SELECT reason FROM dead_letter_jobs WHERE id = {dead}'),
	('SELECT critical FROM idempotency_keys WHERE key = {key}'),
	('SELECT name FROM queues WHERE name = {name}'),
	('SELECT name FROM queues WHERE name ~ {name}'),
	('SELECT count(*) FROM jobs WHERE queue_id = {queue}'),
	('SELECT FROM queues WHERE id = {queue} FOR KEY SHARE'),
	('UPDATE jobs SET queue_id = {queue}'),
	('DELETE FROM jobs WHERE id = {waiting}'),
	('CREATE TABLE own.reference (id uuid REFERENCES jobs DEFAULT {waiting})'),
	('CREATE TABLE own.reference (tenant uuid REFERENCES tenants DEFAULT {tenant})')) s (statement);
SELECT * FROM statement WHERE "foreign" IS DISTINCT FROM missing;
SELECT statement, hostile.brief(own) AS own, hostile.brief(missing) AS else FROM statement;

-- A function that tells what it sees is given one's own rows only, however
-- cheap it claims to be; neither does an error come from another row.
CREATE FUNCTION pg_temp.tell(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END';
SET client_min_messages = notice;
\set VERBOSITY terse
SELECT count(*) FROM queues WHERE pg_temp.tell(name);
SELECT count(*) FROM alert_history WHERE pg_temp.tell(message) AND 1 / (message <> 'bravo')::integer > 0;
SELECT count(*) FROM queues JOIN jobs ON pg_temp.tell(name) AND queue_id = queues.id AND status = 'completed';
SET client_min_messages = warning;
SELECT count(*) FROM queues WHERE 1 / (name <> 'bravo')::integer > 0;
-- Nor from the statistics of the planner.
RESET ROLE;
SELECT count(*) AS enqueued FROM (SELECT set_config('app.current_tenant', :other, true)) s,
	queue_enqueue_many('bravo', array_fill('{}'::jsonb, ARRAY[5000]), group_key => 'bravo');
VACUUM ANALYZE jobs, queues;
SET ROLE regress_hostile;
SELECT count(*) AS shown FROM pg_stats WHERE schemaname = 'public';
-- The typed policy finds one's own rows by an index: nothing else is looked at.
CREATE FUNCTION pg_temp.plan(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off) ' || statement LOOP
		IF line ~ 'Scan' OR substring(line FROM 'Removed by.*: (\d+)')::bigint > 20 THEN
			RETURN NEXT regexp_replace(trim(line), ' \(actual.*', '');
		END IF;
	END LOOP;
END
$$;
SELECT pg_temp.plan('SELECT count(*) FROM jobs WHERE status = ''processing''');

-- Row-level security is not to be turned off, or confused with other objects.
SET row_security = off;
SELECT hostile.brief(hostile.outcome('SELECT FROM queues')) AS no_row_security;
RESET row_security;
SELECT hostile.brief(hostile.outcome('SET session_replication_role = replica')) AS no_triggers;
RESET ROLE;
CREATE TABLE own.jobs (LIKE public.jobs INCLUDING DEFAULTS);
CREATE TABLE own.queues (LIKE public.queues INCLUDING DEFAULTS);
ALTER TABLE own.jobs OWNER TO regress_hostile;
ALTER TABLE own.queues OWNER TO regress_hostile;
SET ROLE regress_hostile;
CREATE FUNCTION own.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''00000000-0000-7000-8000-00000000000b''';
CREATE FUNCTION own.queue_tenant() RETURNS uuid LANGUAGE sql AS 'SELECT ''00000000-0000-7000-8000-00000000000b''::uuid';
CREATE FUNCTION own.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR own.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = own.always);
SET search_path = own, public, pg_catalog;
SELECT string_agg(name, ' ' ORDER BY name) AS queues FROM public.queues;
SELECT created FROM public.queue_enqueue('alpha', priority => 9);
SELECT hostile.brief(hostile.outcome('SELECT * FROM queue_claim(''bravo'')')) AS foreign;
SELECT priority FROM public.queue_claim('alpha', max_jobs => 10) WHERE NOT critical ORDER BY priority DESC LIMIT 1;
SELECT count(*) AS own_table FROM own.jobs;
RESET search_path;
DROP SCHEMA own CASCADE;

-- A plan that was made for one tenant serves another, or none.
PREPARE names AS SELECT name FROM queues ORDER BY name;
EXECUTE names;
SET app.current_tenant = '';
EXECUTE names;
SET app.current_tenant = :nobody;
EXECUTE names;
SET app.current_tenant = :own;

-- Neither does a session that has served the other tenant keep its queues.
SET app.current_tenant = :other;
SELECT count(*) > 0 AS peeked FROM queue_peek('bravo') b, queue_peek('common') c;
SET app.current_tenant = :own;
SELECT hostile.brief(hostile.outcome('SELECT FROM queue_peek(''bravo'')')) AS foreign;
SELECT j.tenant_id = queue_tenant() AS own FROM queue_peek('common') p JOIN jobs j ON j.id = p.job_id;

-- COPY
COPY (SELECT name FROM queues ORDER BY name) TO stdout;
\copy jobs (queue_id) from '/dev/null'
COPY rate_limiters TO stdout;
RESET ROLE;

SELECT rows = :before_rows + 5000 AS as_many FROM hostile.foreign_rows();
\c :home
DROP DATABASE regress_queue_service_hostile;
DROP ROLE regress_hostile, regress_hostile_producer, regress_hostile_worker, regress_hostile_observer, regress_hostile_admin;
