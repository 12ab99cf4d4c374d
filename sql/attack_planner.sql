-- Attacks by way of the planner and of functions in predicates: what is looked
-- at before the policies have had their say.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/sql/attack.inc'
\i :file

-- Many rows of both tenants, so that there is something to estimate.
RESET SESSION AUTHORIZATION;
SELECT count(*) AS own FROM queue_enqueue_many('alpha', array_fill('{}'::jsonb, ARRAY[400]), group_key => 'alpha') \g /dev/null
SET app.current_tenant = :other;
SELECT count(*) AS other FROM queue_enqueue_many('bravo', array_fill('{}'::jsonb, ARRAY[1200]), group_key => 'bravo', priority => 7) \g /dev/null
SET app.current_tenant = :own;
VACUUM ANALYZE;
UPDATE attack.before SET digest = attack.digest();
SET SESSION AUTHORIZATION regress_attacker;

-- attack: pg_stats and pg_statistic: most common values and histograms of all tenants' rows
-- fails: pg_stats hides tables with row-level security; there are no statistics of these columns either
SELECT attack.try('SELECT * FROM pg_stats WHERE tablename IN (SELECT relname FROM pg_class WHERE relnamespace = ''public''::regnamespace)');
SELECT attack.try('SELECT * FROM pg_statistic');
SELECT attack.try('SELECT * FROM pg_stats_ext, pg_stats_ext_exprs');
SELECT attack.try('SELECT stxdmcv FROM pg_statistic_ext_data');
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM pg_statistic JOIN pg_class c ON c.oid = starelid WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'tenants';
SET SESSION AUTHORIZATION regress_attacker;
-- attack: Estimates in EXPLAIN tell how often a value is in other tenants' rows
-- fails: no column of our tables has statistics: any value is estimated alike
SELECT attack.try('EXPLAIN SELECT FROM jobs WHERE group_key = {name}');
SELECT attack.try('EXPLAIN SELECT FROM jobs WHERE job_type = {name}');
SELECT attack.try('EXPLAIN SELECT FROM jobs WHERE queue_id = {queue}');
SELECT attack.try('EXPLAIN SELECT FROM jobs WHERE tenant_id = {tenant}');
SELECT attack.try('EXPLAIN SELECT FROM queues WHERE name = {name}');
SELECT attack.try('EXPLAIN SELECT FROM idempotency_keys WHERE key = {key}');
SELECT attack.try('EXPLAIN SELECT FROM jobs GROUP BY group_key');
-- attack: Search the bounds of a histogram by estimates of < and >
-- fails: there is no histogram
SELECT attack.try('EXPLAIN SELECT FROM idempotency_keys WHERE key < {key}');
SELECT attack.try('EXPLAIN SELECT FROM jobs WHERE queue_id <= {queue} AND queue_id >= {queue}');
SELECT count(DISTINCT line) AS estimates FROM unnest('{1, 6, 7, 8}'::smallint[]) p, LATERAL (SELECT substring(outcome FROM 'rows=\d+') AS line
	FROM attack.run(format('EXPLAIN SELECT FROM jobs WHERE priority = %s', p))) e;
-- attack: Have the ends of an index read for an estimate
-- fails: PostgreSQL reads them only beside a histogram
SELECT attack.try('EXPLAIN SELECT FROM jobs WHERE id > {waiting}');
-- attack: Rows that an index found and a policy removed tell that another tenant has a queue of a name
-- fails: names are in no index that a tenant's query can use without his id
SET enable_seqscan = off;
SELECT attack.try('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT FROM queues WHERE name = {name} ORDER BY name, id LIMIT 1');
SELECT attack.try('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT FROM queues WHERE name || '''' = {name} ORDER BY name || '''', id LIMIT 1');
RESET enable_seqscan;
-- attack: Extended statistics of one's own on our tables
-- fails: they need ownership
SELECT attack.try('CREATE STATISTICS own.s ON group_key, job_type FROM public.jobs');
SELECT attack.try('ALTER TABLE jobs ALTER group_key SET STATISTICS 100');
-- attack: A function that tells what it sees, in a predicate, cheaper than the policies
-- fails: no function that is not LEAKPROOF is given a row before the policies
CREATE FUNCTION own.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN RAISE EXCEPTION ''%'', $1 USING ERRCODE = ''TELL0''; END';
CREATE FUNCTION own.tell_if(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN IF $1 !~ ''alpha'' THEN RAISE EXCEPTION ''%'', $1; END IF; RETURN true; END';
SELECT attack.try('SELECT count(*) FROM queues WHERE own.tell_if(name)');
SELECT attack.try('SELECT count(*) FROM jobs WHERE own.tell_if(payload::text || ''alpha'') AND own.tell_if(job_type || group_key || ''alpha'')');
SELECT attack.try('SELECT count(*) FROM alert_history WHERE own.tell_if(message)');
SELECT attack.try('SELECT count(*) FROM queues JOIN alert_history ON own.tell_if(name || message)');
SELECT attack.try('SELECT name FROM queues ORDER BY own.tell_if(name)');
SELECT attack.try('SELECT name FROM queues GROUP BY name HAVING own.tell_if(name)');
SELECT attack.try('SELECT FROM queues WHERE CASE WHEN own.tell_if(name) THEN true END');
-- attack: The same as LEAKPROOF
-- fails: only superusers say so
SELECT attack.try('ALTER FUNCTION own.tell_if(text) LEAKPROOF');
SELECT attack.try('CREATE FUNCTION own.l(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS ''SELECT true''');
-- attack: An operator of one's own over such a function, with an estimator of PostgreSQL's
-- fails: neither it nor its estimator is given a foreign value
CREATE FUNCTION own.tell2(text, text) RETURNS boolean LANGUAGE sql COST 0.0000001 AS 'SELECT own.tell_if($1)';
CREATE OPERATOR own.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = own.tell2, RESTRICT = scalarltsel);
SELECT attack.try('SELECT count(*) FROM queues WHERE name OPERATOR(own.<<<) ''x''');
SELECT attack.try('EXPLAIN SELECT FROM queues WHERE name OPERATOR(own.<<<) ''x''');
-- attack: An error that depends on a foreign value: division by zero, a cast, an overflow, a regular expression
-- fails: what can raise an error is not leakproof, and so comes after the policies
SELECT attack.try('SELECT count(*) FROM queues WHERE 1 / (name <> {name})::integer > 0');
SELECT attack.try('SELECT count(*) FROM alert_history WHERE (message || ''x'')::integer > 0 AND message ~ ''br''');
SELECT attack.try('SELECT count(*) FROM jobs WHERE repeat(''('', (group_key ~ {name})::integer) ~ group_key');
-- attack: A cast or an operator of a type of PostgreSQL's, replaced
-- fails: that needs to own the type; operators of the policies are known by oid
SELECT attack.try('CREATE CAST (uuid AS text) WITH FUNCTION own.tell(text)');
SELECT attack.try('CREATE FUNCTION pg_catalog.texteq(text, text) RETURNS boolean LANGUAGE sql AS ''SELECT true''');
SELECT attack.try('ALTER OPERATOR = (uuid, uuid) OWNER TO regress_attacker');
-- attack: Tell by an operator class, a domain or a collation of one's own that is used in a sort
-- fails: sorts come after the policies
CREATE DOMAIN own.loud AS text CHECK (own.tell_if(VALUE));
SELECT attack.try('SELECT name::own.loud FROM queues');
SELECT attack.try('SELECT name FROM queues WHERE name::own.loud = ''x''');
SELECT attack.try('CREATE OPERATOR CLASS own.o FOR TYPE text USING btree AS FUNCTION 1 bttextcmp(text, text)');
-- attack: Number of rows that were looked at for nothing, in EXPLAIN ANALYZE by the usual plan
-- fails: by tenant_id, which every usual plan uses, one's own are looked at only
SELECT attack.try('EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT FROM jobs WHERE group_key = {name}');
SELECT attack.try('EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT FROM idempotency_keys WHERE key = {key}');
-- attack: A plan that was made for a superuser, a role without row-level security or another tenant
-- fails: plans know for whom they were made and are made anew; the tenant is not part of one
RESET SESSION AUTHORIZATION;
PREPARE names AS SELECT name FROM queues ORDER BY name;
PREPARE foreign_job AS SELECT count(*) FROM jobs WHERE queue_id <> ALL (SELECT id FROM attack.object WHERE whose = 'own' AND kind = 'queue');
EXECUTE names;
SET plan_cache_mode = force_generic_plan;
EXECUTE foreign_job;
SET SESSION AUTHORIZATION regress_attacker;
EXECUTE names;
EXECUTE foreign_job;
SET plan_cache_mode = force_custom_plan;
EXECUTE foreign_job;
RESET plan_cache_mode;
-- attack: A prepared statement that another tenant left in the session
-- fails: it is run for the tenant of now
SET app.current_tenant = :nobody;
EXECUTE names;
SET app.current_tenant = :own;
EXECUTE names;
DEALLOCATE ALL;
-- attack: A cursor that was opened for another tenant, read after the change
-- fails: what it has not read yet is for the tenant of now. One policy is asked when a scan begins, the other for each row: no row fits both
BEGIN;
SET LOCAL app.current_tenant = :other;
DECLARE c SCROLL CURSOR FOR SELECT name FROM queues;
SET LOCAL app.current_tenant = :own;
FETCH ALL FROM c;
SET LOCAL app.current_tenant = :other;
DECLARE d CURSOR FOR SELECT group_key FROM jobs;
FETCH 1 FROM d;
SET LOCAL app.current_tenant = :own;
FETCH ALL FROM d;
ROLLBACK;
-- attack: A function that sets the tenant between two rows of one query
-- fails: the same: rows of one tenant end, those of the other do not begin. Bound, it is refused
CREATE FUNCTION own.change(text) RETURNS text LANGUAGE sql AS $$SELECT set_config('app.current_tenant', '00000000-0000-7000-8000-00000000000c', true)$$;
BEGIN;
SELECT count(*), count(own.change(id::text)) FROM (SELECT id FROM queues UNION ALL SELECT id FROM jobs) s;
ROLLBACK;
-- attack: Parallel workers, which might not know the tenant
-- fails: they are given all settings of the session
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;
SELECT count(*) = 403 AS own, min(group_key), max(group_key) FROM jobs;
RESET ALL;
SET app.current_tenant = :own;

\set file :abs_srcdir '/sql/attack.end'
\i :file
