-- Bad input: every argument of every function with every input that its type has to offer. Nothing is written, and no
-- message shows what might be a payload.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001501\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'errors');
SET app.current_tenant = :tenant;
CREATE ROLE regress_queue_errors;
SELECT queue_create('q') IS NOT NULL AS created, queue_create('full') IS NOT NULL AS created;
SELECT queue_enqueue('q', '"SECRET 1"', idempotency_key => 'SECRET key') IS NOT NULL AS enqueued, queue_enqueue_critical('full', '"SECRET 2"', 'SECRET key') IS NOT NULL AS enqueued;
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT queue_limiter_set('errors', 1000, 0.001), queue_tenant_limit_set(:tenant, 'new', 1, 1);

-- good values, by the name of the argument
CREATE TEMP TABLE good (argument text PRIMARY KEY, value text);
INSERT INTO good VALUES ('name', '''new'''), ('service', '''errors'''), ('permit', '1'), ('queue', '''q'''), ('payload', '''"SECRET"'''), ('idempotency_key', '''SECRET key 2'''), ('payloads', 'ARRAY[''"SECRET"''::jsonb]'),
	('job_id', quote_literal(:'job_id')), ('lease_token', :'lease_token'), ('job_ids', format('ARRAY[%L::uuid]', :'job_id')), ('lease_tokens', format('ARRAY[%s::bigint]', :'lease_token')),
	('results', 'ARRAY[''"SECRET"''::jsonb]'), ('delay', '''1 minute'''), ('tenant', quote_literal(:tenant)), ('role', '''regress_queue_errors'''), ('privilege', '''worker'''), ('cron', '''@daily''');
-- bad ones, by type; some are good for some functions
CREATE TEMP TABLE inputs (type regtype, label text, value text);
INSERT INTO inputs VALUES
	('text', 'empty', ''''''), ('text', '129', 'repeat(''SECRET'', 22)'), ('text', '600', 'repeat(''SECRET'', 100)'), ('text', '20000', 'repeat(''S'', 20000)'), ('text', 'SECRET', '''SECRET'''),
	('name', 'empty', ''''''), ('name', 'SECRET', '''SECRET'''),
	('integer', '0', '0'), ('integer', '-1', '-1'), ('integer', 'min', '-2147483648'), ('integer', 'max', '2147483647'),
	('bigint', '0', '0'), ('bigint', '-1', '-1'), ('bigint', 'min', '-9223372036854775808'), ('bigint', 'max', '9223372036854775807'),
	('double precision', '0', '0'), ('double precision', '-1', '-1'), ('double precision', 'max', '1.7e308'), ('double precision', 'NaN', '''NaN'''), ('double precision', 'inf', '''infinity'''), ('double precision', '-inf', '''-infinity'''),
	('interval', '0', '''0'''), ('interval', '-1s', '''-1 second'''), ('interval', '-1us', '''-1 microsecond'''), ('interval', 'mixed', '''1 month -31 days'''), ('interval', '400 years', '''400 years'''), ('interval', 'max', '''178000000 years'''), ('interval', 'min', '''-178000000 years'''),
	('timestamptz', 'inf', '''infinity'''), ('timestamptz', '-inf', '''-infinity'''), ('timestamptz', 'last', '''294276-12-31'''), ('timestamptz', 'first', '''4713-01-01 BC'''), ('timestamptz', '101 years', 'now() + interval ''101 years'''), ('timestamptz', '-101 years', 'now() - interval ''101 years'''),
	('jsonb', '2 MB', 'to_jsonb(repeat(''SECRET'', 350000))'), ('jsonb', 'null', '''null'''),
	('uuid', 'missing', '''00000000-0000-4000-8000-000000000000'''),
	('uuid[]', 'empty', '''{}'''), ('uuid[]', 'two', 'array_fill(gen_random_uuid(), ARRAY[2])'), ('uuid[]', '2 dims', 'array_fill(gen_random_uuid(), ARRAY[1, 1])'), ('uuid[]', 'null inside', 'ARRAY[NULL::uuid]'), ('uuid[]', '10001', 'array_fill(gen_random_uuid(), ARRAY[10001])'),
	('bigint[]', 'empty', '''{}'''), ('bigint[]', 'two', '''{1,2}'''), ('bigint[]', '2 dims', '''{{1}}'''), ('bigint[]', 'null inside', '''{NULL}'''), ('bigint[]', '10001', 'array_fill(1::bigint, ARRAY[10001])'),
	('jsonb[]', 'empty', '''{}'''), ('jsonb[]', 'two', '''{1,2}'''), ('jsonb[]', '2 dims', '''{{1}}'''), ('jsonb[]', 'null inside', '''{NULL}'''), ('jsonb[]', '10001', 'array_fill(''"SECRET"''::jsonb, ARRAY[10001])'), ('jsonb[]', '2 MB', 'ARRAY[to_jsonb(repeat(''SECRET'', 350000))]');
INSERT INTO inputs SELECT DISTINCT type, 'NULL', 'NULL::' || type FROM inputs UNION ALL VALUES ('boolean'::regtype, 'NULL', 'NULL::boolean');
-- every input argument of every function that is not internal; for the procedure see wait
CREATE TEMP VIEW arguments AS
SELECT p.oid, p.proname::text AS function, a.n, a.argument, p.proargtypes[a.n - 1]::regtype AS type, a.n > p.pronargs - p.pronargdefaults AS optional
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service' JOIN pg_proc p ON p.oid = d.objid, unnest(p.proargnames) WITH ORDINALITY a (argument, n)
WHERE d.classid = 'pg_proc'::regclass AND p.proname ~ '^queue_' AND p.prokind = 'f' AND a.n <= p.pronargs;
-- a call with good values, but for one argument; queue_set() and the like need a queue that there is
CREATE FUNCTION pg_temp.call(called oid, bad text DEFAULT '', input text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT format('SELECT * FROM %s(%s)', called::regproc, string_agg(format('%s => %s', a.argument, CASE WHEN a.argument = bad THEN input WHEN a.function = 'queue_set' AND a.argument = 'name' THEN '''q''' ELSE g.value END), ', ' ORDER BY a.n))
	FROM arguments a LEFT JOIN good g USING (argument) WHERE a.oid = called AND (a.argument = bad OR g.value IS NOT NULL AND NOT a.optional OR a.argument IN ('job_ids', 'lease_tokens'))$$;
-- what a statement ends in, undone in any case
CREATE FUNCTION pg_temp.ends(statement text, OUT state text, OUT shown text) LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RAISE EXCEPTION 'undone' USING ERRCODE = 'UNDO0';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	state := CASE SQLSTATE WHEN 'UNDO0' THEN 'ok' ELSE SQLSTATE END;
	shown := concat_ws(' ', message, detail, hint);
END$$;
CREATE FUNCTION pg_temp.everything() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	t text;
	part text;
	whole text := '';
BEGIN
	FOREACH t IN ARRAY '{queues,jobs,schedules,rate_limits,critical_jobs,queue_metrics,idempotency_keys,rate_limiters,alert_history,dead_letter_jobs}'::text[] LOOP
		EXECUTE format('SELECT count(*) || md5(string_agg(t::text, '' '' ORDER BY t::text)) FROM %I t', t) INTO part;
		whole := concat(whole, t, part);
	END LOOP;
	RETURN whole;
END$$;
SELECT pg_temp.everything() AS before \gset

-- the good calls are good, but that the queue is in use
\pset format unaligned
SELECT state, string_agg(function, ' ' ORDER BY function) AS functions FROM arguments, pg_temp.ends(pg_temp.call(oid)) WHERE n = 1 GROUP BY state;
CREATE TEMP TABLE matrix AS SELECT a.*, i.label, e.* FROM arguments a JOIN inputs i USING (type), pg_temp.ends(pg_temp.call(a.oid, a.argument, i.value)) e;
SELECT function, argument, string_agg(label || ' ' || state, ', ' ORDER BY label COLLATE "C") AS inputs FROM matrix GROUP BY function, n, argument ORDER BY function COLLATE "C", n;
SELECT count(*) > 500 AS many, count(*) FILTER (WHERE shown LIKE '%SECRET%') AS shows_payload, count(*) FILTER (WHERE state LIKE 'XX%') AS internal FROM matrix;
-- the name of a queue may be shown, of a role and of a privilege too; nothing else
SELECT DISTINCT function, argument, label, replace(shown, repeat('SECRET', 22), '...') AS shown FROM matrix WHERE shown LIKE '%SECRET%' ORDER BY 1, 2, 3;
SELECT :'before' = pg_temp.everything() AS unchanged;

-- a queue, a job, a tenant that there is not
SELECT function, argument, state FROM arguments a, LATERAL pg_temp.ends(pg_temp.call(a.oid, a.argument, '''missing''')) WHERE argument = 'queue' OR function = 'queue_set' AND argument = 'name' ORDER BY function;
SELECT outcome FROM queue_complete('00000000-0000-4000-8000-000000000000', 1);
SELECT held, cancel_requested, leased_until FROM queue_heartbeat('00000000-0000-4000-8000-000000000000', 1);
SELECT queue_cancel('00000000-0000-4000-8000-000000000000');
SELECT queue_retry('00000000-0000-4000-8000-000000000000');
SELECT * FROM queue_tenant_purge('00000000-0000-4000-8000-000000000000');

-- a read-only transaction: only looking works
BEGIN READ ONLY;
SELECT string_agg(function, ' ' ORDER BY function) AS functions, state FROM arguments a, LATERAL pg_temp.ends(pg_temp.call(a.oid)) WHERE n = 1 GROUP BY state ORDER BY state;
COMMIT;
-- app.current_tenant: unset, empty, malformed in every way; and the tables show nothing
CREATE FUNCTION pg_temp.all_functions(tenant text) RETURNS TABLE (functions text, ends_in text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('app.current_tenant', tenant, true);
	RETURN QUERY SELECT string_agg(function::text, ' ' ORDER BY function), state FROM arguments a, LATERAL pg_temp.ends(pg_temp.call(a.oid)) WHERE n = 1 GROUP BY state ORDER BY state;
END$$;
-- (a superuser may serve all tenants)
SELECT * FROM pg_temp.all_functions('');
SELECT t.tenant, a.ends_in, count(*) OVER (PARTITION BY t.tenant) = 1 AS all_alike
FROM unnest(ARRAY['x', ' ', '00000000-0000-4000-8000-00000000150A', '00000000-0000-4000-8000-00000000150', '00000000-0000-4000-8000-0000000015011', ' 00000000-0000-4000-8000-000000001501', '00000000-0000-4000-8000-000000001501 ',
	'{00000000-0000-4000-8000-000000001501}', '00000000000040008000000000001501', '00000000-0000-4000-8000_000000001501', '0000-0000-0000-4000-8000-000000001501', 'ﬀ000000-0000-4000-8000-000000001501', '00000000-0000-4000-8000-000000001501'';']) t (tenant), pg_temp.all_functions(t.tenant) a
WHERE a.functions <> 'queue_cron_next queue_grant queue_revoke' ORDER BY t.tenant COLLATE "C";
GRANT SELECT ON jobs, queues TO regress_queue_errors;
SELECT queue_grant('regress_queue_errors', 'admin') \gset
SET ROLE regress_queue_errors;
SELECT count(*) AS own FROM jobs;
SET app.current_tenant = '';
SELECT count(*) FROM jobs;
SELECT count(*) FROM queues;
SELECT queue_claim('q');
SELECT queue_job(:'job_id');
SET app.current_tenant = 'x';
SELECT count(*) FROM jobs;
SELECT queue_tenant() IS NULL AS none;
SET app.current_tenant = '00000000-0000-4000-8000-00000000150A';
SELECT count(*) FROM jobs;
INSERT INTO jobs (queue_id) VALUES (gen_random_uuid());
RESET app.current_tenant;
SELECT count(*) FROM jobs;
SELECT queue_claim('q');
RESET ROLE;
SET app.current_tenant = :tenant;

-- what the types themselves refuse
SELECT queue_enqueue('q', '"\u0000"');
SELECT queue_enqueue('q', to_jsonb(chr(0)));
SELECT queue_enqueue(E'\xff');
SELECT queue_enqueue(convert_from('\xc328', 'UTF8'));
SELECT queue_enqueue('q', run_at => 'tomorrow or so');
SELECT queue_claim('q', lease => 'a while');
-- a huge text in every argument, read from a table, which is sooner done than to make it anew;
-- FAULT_TEXT=33554432 makes it 256 MB (16 bytes less as JSON, which has no room for more), which take minutes
\set repeats 262144
\getenv repeats FAULT_TEXT
CREATE TEMP TABLE huge (text text, jsonb jsonb, "jsonb[]" jsonb[]);
ALTER TABLE huge ALTER text SET STORAGE EXTERNAL, ALTER jsonb SET STORAGE EXTERNAL, ALTER "jsonb[]" SET STORAGE EXTERNAL;
INSERT INTO huge SELECT t, j, ARRAY[j] FROM repeat('SECRETS!', :repeats) t, to_jsonb(repeat('SECRETS!', :repeats - 2)) j;
SELECT state, string_agg(function || ' ' || argument, ', ' ORDER BY function COLLATE "C", n) AS calls, count(*) FILTER (WHERE shown LIKE '%SECRETS!%') AS shows
FROM arguments, pg_temp.ends(pg_temp.call(oid, argument, format('(SELECT %I FROM huge)', type))) WHERE type IN ('text'::regtype, 'jsonb', 'jsonb[]') GROUP BY state ORDER BY state;
CALL queue_wait(repeat('SECRETS!', :repeats));
CALL queue_purge_all(repeat('SECRETS!', :repeats));
CALL queue_purge_all('q', repeat('SECRETS!', :repeats));
CALL queue_redrive_all(repeat('SECRETS!', :repeats));
CALL queue_redrive_all('q', error_like => repeat('SECRETS!', :repeats));
SELECT :'before' = pg_temp.everything() AS unchanged;
SELECT outcome FROM queue_fail(:'job_id', :lease_token, repeat('SECRETS!', :repeats));
SELECT octet_length(last_error) AS bytes FROM jobs WHERE id = :'job_id';

RESET app.current_tenant;
SELECT queue_revoke('regress_queue_errors', 'admin') \gset
DROP OWNED BY regress_queue_errors;
DROP ROLE regress_queue_errors;
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE name = 'errors';
DELETE FROM rate_limiters WHERE service_name = 'errors';
