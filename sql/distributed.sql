-- A table that Citus has distributed is refused. Citus is not needed for that: its list of tables is made here, and taken back.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
INSERT INTO tenants (id) VALUES ('00000000-0000-4000-8000-000000005001');
SET app.current_tenant = '00000000-0000-4000-8000-000000005001';
SELECT created FROM queue_create('q');
SELECT created FROM queue_enqueue('q');

BEGIN;
SET LOCAL allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass PRIMARY KEY, partmethod "char", partkey text, colocationid integer, repmodel "char");
CREATE TABLE other (id uuid);
INSERT INTO pg_dist_partition VALUES ('other', 'h');
-- what is distributed is none of ours
SELECT created FROM queue_enqueue('q');
-- the verbs of a session that has found all in order before, for each table
CREATE FUNCTION outcome(verb text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE verb;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END$$;
CREATE FUNCTION distributed(name text, OUT before text, OUT look text, OUT claim text, OUT enqueue text, OUT after text) LANGUAGE plpgsql AS $$
BEGIN
	before := outcome('SELECT queue_peek(''q'')');
	INSERT INTO pg_dist_partition VALUES (name::regclass, 'h');
	-- Citus invalidates the relcache entry, as any change of the table does
	EXECUTE format('ALTER TABLE %s SET (parallel_workers = 0)', name::regclass);
	look := outcome('SELECT queue_peek(''q'')');
	claim := outcome('SELECT queue_claim(''q'')');
	enqueue := outcome('SELECT queue_enqueue(''q'')');
	DELETE FROM pg_dist_partition WHERE logicalrelid = name::regclass;
	after := outcome('SELECT queue_peek(''q'')');
END$$;
SELECT name, d.*
FROM unnest(ARRAY['jobs', 'critical_jobs', 'dead_letter_jobs', 'queues', 'idempotency_keys', 'schedules', 'rate_limiters', 'rate_limits', 'queue_metrics', 'alert_history', 'tenants'])
	WITH ORDINALITY AS t (name, n), distributed(name) AS d
ORDER BY n;
-- what it says
\set VERBOSITY default
\set SHOW_CONTEXT never
INSERT INTO pg_dist_partition VALUES ('jobs', 'h');
ALTER TABLE jobs SET (parallel_workers = 0);
SELECT queue_claim('q');
ROLLBACK;

\set VERBOSITY terse
-- it never happened
SELECT count(*) FROM queue_claim('q', max_jobs => 10);
