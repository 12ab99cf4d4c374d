-- What a user adds to the tables: triggers, constraints, indexes, columns. All of it is honoured as it is by plain SQL.
-- In a database of its own: it changes the tables, and drops the extension.
\set home :DBNAME
CREATE DATABASE regress_queue_service_objects;
\c regress_queue_service_objects
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001601\''
INSERT INTO tenants (id) VALUES (:tenant);
SET app.current_tenant = :tenant;
\set q '\'00000000-0000-4000-8000-000000001602\''
INSERT INTO queues (id, name, backoff_base) VALUES (:q, 'q', '0');
SELECT queue_create('deletes', keep_completed => '0') IS NOT NULL AS created;

-- triggers of every kind: the functions fire them as plain SQL does
CREATE TABLE audit (n serial, by text, entry text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
	entry text := concat_ws(' ', TG_NAME, TG_TABLE_NAME, TG_WHEN, TG_OP, TG_LEVEL);
BEGIN
	IF TG_LEVEL = 'ROW' THEN
		IF TG_TABLE_NAME = 'dead_letter_jobs' THEN
			entry := concat_ws(' ', entry, to_jsonb(NEW) ->> 'reason');
		ELSE
			entry := concat_ws(' ', entry, CASE WHEN TG_OP <> 'INSERT' THEN (to_jsonb(OLD) ->> 'status') || (to_jsonb(OLD) ->> 'attempts') || (to_jsonb(OLD) ->> 'final_attempt') END, '->',
				CASE WHEN TG_OP <> 'DELETE' THEN (to_jsonb(NEW) ->> 'status') || (to_jsonb(NEW) ->> 'attempts') || coalesce(to_jsonb(NEW) ->> 'final_attempt', ' not yet') END);
		END IF;
	END IF;
	INSERT INTO audit (by, entry) VALUES (current_setting('regress.by'), entry || ' ' || current_setting('search_path') || ' ' || current_user);
	RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END$$;
CREATE TRIGGER a_before_statement BEFORE INSERT OR UPDATE OR DELETE ON jobs EXECUTE FUNCTION audit();
CREATE TRIGGER b_before_row BEFORE INSERT OR UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER c_after_row AFTER INSERT OR UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER d_after_status AFTER UPDATE OF status ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER e_after_priority AFTER UPDATE OF priority ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER f_before_run_at BEFORE UPDATE OF run_at ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER g_when AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.status = 'processing' AND OLD.attempts < NEW.attempts) EXECUTE FUNCTION audit();
CREATE CONSTRAINT TRIGGER h_deferred AFTER UPDATE OR DELETE ON jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER i_after_statement AFTER INSERT OR UPDATE OR DELETE ON jobs EXECUTE FUNCTION audit();
CREATE TRIGGER j_statement_of_status AFTER UPDATE OF status ON jobs EXECUTE FUNCTION audit();
CREATE TRIGGER k_dead BEFORE INSERT ON dead_letter_jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER l_dead AFTER INSERT ON dead_letter_jobs FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER m_off AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE jobs DISABLE TRIGGER m_off;
CREATE TRIGGER n_replica AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE jobs ENABLE REPLICA TRIGGER n_replica;
-- by the functions
SET regress.by = 'functions';
SELECT job_id FROM queue_enqueue('q') \gset
SELECT lease_token FROM queue_claim('q', 'w') \gset
SELECT held FROM queue_heartbeat(:'job_id', :lease_token);
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'x');
SELECT lease_token FROM queue_claim('q', 'w') \gset
SELECT outcome FROM queue_release(:'job_id', :lease_token);
SELECT lease_token FROM queue_claim('q', 'w') \gset
SELECT outcome FROM queue_snooze(:'job_id', :lease_token, '0');
SELECT lease_token FROM queue_claim('q', 'w') \gset
SELECT outcome FROM queue_cancel(:'job_id');
SELECT outcome FROM queue_complete(:'job_id', :lease_token, '1');
SELECT job_id FROM queue_enqueue('q') \gset
SELECT lease_token FROM queue_claim('q', 'w') \gset
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'x', dead => true);
SELECT job_id FROM queue_enqueue('deletes') \gset
SELECT lease_token FROM queue_claim('deletes', 'w') \gset
SELECT outcome FROM queue_complete(:'job_id', :lease_token, '1');
SELECT count(*) FROM queue_enqueue_many('q', '{1,2}');
CREATE TABLE leases AS SELECT * FROM queue_claim('q', 'w', 2);
SELECT outcome FROM queue_complete_many(ARRAY(SELECT job_id FROM leases), ARRAY(SELECT lease_token FROM leases));
-- and the same changes by plain SQL
SET regress.by = 'plain SQL';
INSERT INTO jobs (queue_id) VALUES (:q) RETURNING id \gset
\set claim 'UPDATE jobs SET status = \'processing\', attempts = attempts + 1, lease_token = 1, leased_by = \'w\', leased_at = now(), leased_until = now() + interval \'1 minute\' WHERE id ='
:claim :'id';
UPDATE jobs SET leased_until = leased_until + interval '1 second' WHERE id = :'id';
UPDATE jobs SET status = 'pending', last_error = 'x', errors = '[]', run_at = now(), lease_token = NULL, leased_until = NULL WHERE id = :'id';
:claim :'id';
UPDATE jobs SET status = 'pending', attempts = attempts - 1, lease_token = NULL, leased_until = NULL WHERE id = :'id';
:claim :'id';
UPDATE jobs SET status = 'pending', attempts = attempts - 1, run_at = now(), lease_token = NULL, leased_until = NULL WHERE id = :'id';
:claim :'id';
UPDATE jobs SET cancel_requested = true WHERE id = :'id';
UPDATE jobs SET status = 'completed', finish_reason = 'completed', finished_at = now(), result = '1', lease_token = NULL WHERE id = :'id';
INSERT INTO jobs (queue_id) VALUES (:q) RETURNING id \gset
:claim :'id';
BEGIN;
INSERT INTO dead_letter_jobs (id, tenant_id, queue_id, source_table, reason, run_at, enqueued_at, attempts, max_attempts, priority, job_type, payload) SELECT id, tenant_id, queue_id, 'jobs', 'dead', run_at, enqueued_at, attempts, max_attempts, priority, job_type, payload FROM jobs WHERE id = :'id';
DELETE FROM jobs WHERE id = :'id';
COMMIT;
INSERT INTO jobs (queue_id) VALUES (:q) RETURNING id \gset
:claim :'id';
DELETE FROM jobs WHERE id = :'id';
INSERT INTO jobs (queue_id, payload) VALUES (:q, '1'), (:q, '2');
:claim ANY (ARRAY(SELECT id FROM jobs WHERE status = 'pending'));
UPDATE jobs SET status = 'completed', finish_reason = 'completed', finished_at = now(), lease_token = NULL WHERE status = 'processing';
-- all the same, and in the same order, but that a death is one statement of two commands
SELECT by, count(*), count(*) FILTER (WHERE entry LIKE 'd_after_status%') AS status, count(*) FILTER (WHERE entry LIKE 'g_when%') AS claims, count(*) FILTER (WHERE entry ~ '^[emn]_') AS not_to_fire FROM audit GROUP BY 1 ORDER BY 1;
CREATE VIEW audits AS SELECT by, row_number() OVER (PARTITION BY by ORDER BY n) AS n, entry FROM audit;
SELECT n, f.entry AS functions, p.entry AS plain_sql FROM (SELECT * FROM audits WHERE by = 'functions') f FULL JOIN (SELECT * FROM audits WHERE by = 'plain SQL') p USING (n) WHERE f.entry IS DISTINCT FROM p.entry ORDER BY n;
SELECT entry, count(*) FILTER (WHERE by = 'functions') AS functions, count(*) FILTER (WHERE by <> 'functions') AS plain_sql FROM audit GROUP BY 1 HAVING count(*) FILTER (WHERE by = 'functions') <> count(*) FILTER (WHERE by <> 'functions') ORDER BY 1;
SELECT entry FROM audits WHERE by = 'functions' AND n BETWEEN 5 AND 26 ORDER BY n;
DROP VIEW audits;
DROP TABLE audit, leases;
DROP FUNCTION audit() CASCADE;

-- a trigger that sets what it likes, in the session or in the transaction
SET search_path = public, pg_temp;
CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.group_key := current_setting('search_path');
	PERFORM set_config('regress.session', coalesce(current_setting('regress.session', true), '') || 'x', false), set_config('regress.local', 'set', true);
	RETURN NEW;
END$$;
CREATE TRIGGER sets BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION sets();
SELECT queue_purge('q', 'all') > 0 AS purged, queue_enqueue('q') IS NOT NULL AS enqueued;
BEGIN;
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT current_setting('regress.session') AS session, current_setting('regress.local') AS local, current_setting('search_path') AS search_path;
COMMIT;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT current_setting('regress.session') AS session, current_setting('regress.local') AS local, current_setting('search_path') AS search_path;
-- a trigger function without a search_path of its own runs under a safe one
SELECT group_key FROM jobs WHERE id = :'job_id';
RESET search_path;
DROP FUNCTION sets() CASCADE;

-- a trigger that enqueues: in the same transaction, also if it is called by a function
CREATE FUNCTION enqueues() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	PERFORM queue_enqueue('q', to_jsonb('after ' || (NEW.payload #>> '{}')));
	RETURN NULL;
END$$;
CREATE TRIGGER enqueues AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.status = 'completed' AND NEW.payload::text NOT LIKE '%after%') EXECUTE FUNCTION enqueues();
DELETE FROM jobs;
SELECT count(queue_enqueue('q', to_jsonb(i::text))) FROM generate_series(1, 2) i;
CREATE TABLE leases AS SELECT * FROM queue_claim('q', max_jobs => 2);
SELECT kind, payload FROM queue_complete_and_claim('q', ARRAY(SELECT job_id FROM leases), ARRAY(SELECT lease_token FROM leases), max_jobs => 10);
SELECT payload, status FROM jobs ORDER BY id;
SELECT payload FROM queue_claim('q', max_jobs => 10);
DROP FUNCTION enqueues() CASCADE;
-- before, too; critical
CREATE FUNCTION enqueues() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	PERFORM queue_enqueue_critical('q', '"critical"', NEW.id::text);
	RETURN NEW;
END$$;
CREATE TRIGGER enqueues BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION enqueues();
DELETE FROM jobs;
SELECT created FROM queue_enqueue('q');
SELECT attempt FROM queue_claim('q');
SELECT payload, critical FROM queue_claim('q', max_jobs => 10);
DROP FUNCTION enqueues() CASCADE;
-- a trigger that changes another job of the same batch, and the same job
CREATE FUNCTION touches() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	UPDATE jobs SET headers = '"touched"' WHERE id <> NEW.id AND status = 'processing';
	RETURN NEW;
END$$;
DELETE FROM jobs;
DELETE FROM critical_jobs;
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 3) i;
TRUNCATE leases;
INSERT INTO leases SELECT * FROM queue_claim('q', max_jobs => 3);
CREATE TRIGGER touches BEFORE UPDATE OF status ON jobs FOR EACH ROW WHEN (NEW.status = 'completed') EXECUTE FUNCTION touches();
SELECT outcome FROM queue_complete_many(ARRAY(SELECT job_id FROM leases ORDER BY payload), ARRAY(SELECT lease_token FROM leases ORDER BY payload));
SELECT payload, status, headers FROM jobs ORDER BY payload;
DROP FUNCTION touches() CASCADE;
CREATE FUNCTION touches() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	UPDATE jobs SET headers = '"touched"' WHERE id = NEW.id;
	RETURN NEW;
END$$;
CREATE TRIGGER touches BEFORE UPDATE OF status ON jobs FOR EACH ROW EXECUTE FUNCTION touches();
SELECT job_id FROM queue_enqueue('q', '4') \gset
SELECT payload FROM queue_claim('q');
UPDATE jobs SET status = 'failed', finished_at = now(), finish_reason = 'dead' WHERE id = :'job_id';
DROP FUNCTION touches() CASCADE;

-- a trigger that forbids: a claim passes the job over, anything else cannot be left out
CREATE FUNCTION forbids() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
DELETE FROM jobs;
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 3) i;
SELECT job_id, lease_token FROM queue_claim('q') \gset
CREATE TRIGGER forbids BEFORE UPDATE ON jobs FOR EACH ROW WHEN (OLD.payload IN ('1', '2')) EXECUTE FUNCTION forbids();
SELECT payload FROM queue_claim('q', max_jobs => 10);
SELECT payload FROM queue_claim('q', max_jobs => 10);
SELECT queue_complete(:'job_id', :lease_token);
SELECT queue_fail(:'job_id', :lease_token);
SELECT queue_heartbeat(:'job_id', :lease_token);
SELECT queue_release(:'job_id', :lease_token);
SELECT queue_snooze(:'job_id', :lease_token, '0');
SELECT queue_retry(:'job_id');
SELECT queue_cancel(:'job_id');
DROP TRIGGER forbids ON jobs;
CREATE TRIGGER forbids BEFORE INSERT OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION forbids();
SELECT queue_enqueue('q');
SELECT queue_enqueue_many('q', '{1}');
SELECT queue_fail(:'job_id', :lease_token, dead => true);
DROP TRIGGER forbids ON jobs;
CREATE TRIGGER forbids BEFORE INSERT ON dead_letter_jobs FOR EACH ROW EXECUTE FUNCTION forbids();
SELECT queue_fail(:'job_id', :lease_token, dead => true);
DROP FUNCTION forbids() CASCADE;
SELECT payload, status, attempts FROM jobs ORDER BY payload;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
-- a trigger that raises
CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not now'; END$$;
CREATE CONSTRAINT TRIGGER raises AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.payload = '2') EXECUTE FUNCTION raises();
SELECT payload FROM queue_claim('q', max_jobs => 10);
DROP FUNCTION raises() CASCADE;
SELECT payload FROM queue_claim('q', max_jobs => 10);
-- transition tables are refused, of any trigger on the table
CREATE FUNCTION transition() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER transition AFTER INSERT ON jobs REFERENCING NEW TABLE AS new EXECUTE FUNCTION transition();
SELECT queue_enqueue('q');
SELECT queue_claim('q');
DROP TRIGGER transition ON jobs;
CREATE TRIGGER transition AFTER UPDATE ON critical_jobs REFERENCING OLD TABLE AS old EXECUTE FUNCTION transition();
SELECT queue_enqueue_critical('q', '{}', 'k');
SELECT queue_claim('q');
DROP FUNCTION transition() CASCADE;
SELECT payload FROM queue_claim('q', max_jobs => 10);

-- rules are refused as well
CREATE RULE rule AS ON UPDATE TO jobs DO ALSO NOTHING;
SELECT queue_claim('q');
DROP RULE rule ON jobs;
SELECT payload FROM queue_claim('q', max_jobs => 10);

-- columns: with a default, NOT NULL, generated, identity, of a domain; set by nobody
DELETE FROM jobs;
CREATE DOMAIN small AS integer CHECK (VALUE < 1000);
CREATE FUNCTION made_up() RETURNS text LANGUAGE sql SET search_path = public AS $$SELECT 'made up ' || count(*) FROM jobs$$;
SELECT job_id FROM queue_enqueue('q', '{"to": "before"}') \gset
ALTER TABLE jobs ADD COLUMN note text NOT NULL DEFAULT 'a note', ADD COLUMN serial integer GENERATED BY DEFAULT AS IDENTITY, ADD COLUMN "to" text GENERATED ALWAYS AS (payload ->> 'to') STORED,
	ADD COLUMN spent text GENERATED ALWAYS AS (status || '/' || attempts) STORED, ADD COLUMN little small DEFAULT 7, ADD COLUMN dropped text DEFAULT 'dropped', ADD COLUMN function text DEFAULT made_up(), ADD COLUMN nothing jsonb;
SELECT count(*) FROM queue_enqueue_many('q', '{"{\"to\": \"a\"}", "{\"to\": \"b\"}"}');
ALTER TABLE jobs DROP COLUMN dropped;
SELECT job_id FROM queue_enqueue('q', '{"to": "after"}') \gset
INSERT INTO jobs (queue_id, payload) VALUES (:q, '{"to": "plain"}');
SELECT "to", note, serial, spent, little, function, nothing FROM jobs ORDER BY id;
SELECT payload FROM queue_claim('q', max_jobs => 2);
SELECT outcome FROM queue_claim('q', max_jobs => 10) c, queue_fail(c.job_id, c.lease_token, retry_in => '1 hour');
SELECT "to", note, serial, spent, little, function, nothing FROM jobs ORDER BY id;
-- its rows die, too
SELECT outcome FROM queue_retry(:'job_id');
SELECT f.outcome FROM queue_claim('q') c, queue_fail(c.job_id, c.lease_token, dead => true) f;
SELECT payload FROM dead_letter_jobs WHERE id = :'job_id';
ALTER TABLE jobs DROP COLUMN note, DROP COLUMN serial, DROP COLUMN "to", DROP COLUMN spent, DROP COLUMN little, DROP COLUMN function, DROP COLUMN nothing;
ALTER TABLE jobs ADD COLUMN must text NOT NULL DEFAULT 'x';
ALTER TABLE jobs ALTER COLUMN must DROP DEFAULT;
SELECT queue_enqueue('q');
SELECT queue_cancel((SELECT id FROM jobs WHERE status = 'pending' LIMIT 1)) IS NOT NULL AS cancelled;
ALTER TABLE jobs DROP COLUMN must;
CREATE DOMAIN obligatory AS text NOT NULL;
ALTER TABLE jobs ADD COLUMN must obligatory DEFAULT 'x';
ALTER TABLE jobs ALTER COLUMN must DROP DEFAULT;
SELECT queue_enqueue('q');
ALTER TABLE jobs DROP COLUMN must;

-- CHECK constraints: satisfied, and violated without a word of the row
DELETE FROM jobs;
ALTER TABLE jobs ADD CONSTRAINT no_secret CHECK (payload::text NOT LIKE '%SECRET%');
SELECT created FROM queue_enqueue('q', '"open"');
\set VERBOSITY default
SELECT queue_enqueue('q', '"SECRET"');
ALTER TABLE jobs DROP CONSTRAINT no_secret;
SELECT job_id FROM queue_enqueue('q', '"SECRET"') \gset
ALTER TABLE jobs ADD CONSTRAINT one_attempt CHECK (attempts <= 1) NOT VALID;
SELECT payload FROM queue_claim('q', max_jobs => 10, lease => '1 microsecond');
SELECT queue_claim('q', max_jobs => 10);
\set VERBOSITY terse
ALTER TABLE jobs DROP CONSTRAINT one_attempt;
-- one with a function of the user's, which sees the new row
CREATE FUNCTION is_fine(status text, attempts integer) RETURNS boolean LANGUAGE sql AS $$SELECT status <> 'processing' OR attempts < 3$$;
ALTER TABLE jobs ADD CONSTRAINT fine CHECK (is_fine(status, attempts));
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
ALTER TABLE jobs DROP CONSTRAINT fine;
DROP FUNCTION is_fine;
-- those of columns that a claim does not set: not validated yet, of a setting, of a generated column, of what a trigger sets
DELETE FROM jobs;
SELECT created FROM queue_enqueue('q', '"SECRET"', job_type => 'x', max_attempts => 2);
ALTER TABLE jobs ADD CONSTRAINT no_x CHECK (job_type <> 'x') NOT VALID;
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
ALTER TABLE jobs DROP CONSTRAINT no_x;
SET test.refused = 'y';
ALTER TABLE jobs ADD CONSTRAINT not_refused CHECK (job_type <> current_setting('test.refused'));
SET test.refused = 'x';
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
ALTER TABLE jobs DROP CONSTRAINT not_refused;
ALTER TABLE jobs ADD CONSTRAINT not_final CHECK (NOT final_attempt);
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
ALTER TABLE jobs DROP CONSTRAINT not_final, ADD CONSTRAINT no_y CHECK (job_type <> 'y');
CREATE FUNCTION renames() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.job_type := 'y'; RETURN NEW; END$$;
CREATE TRIGGER renames BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION renames();
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
DROP FUNCTION renames() CASCADE;
SELECT payload FROM queue_claim('q', lease => '1 microsecond');
ALTER TABLE jobs DROP CONSTRAINT no_y;
-- also of what a trigger made of the row, which lasts until it is written
CREATE FUNCTION is_small(jsonb) RETURNS boolean LANGUAGE sql AS $$SELECT length($1::text) < 2000000$$;
CREATE FUNCTION enlarges() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.payload := to_jsonb(repeat(NEW.status, 100000)); RETURN NEW; END$$;
CREATE TRIGGER enlarges BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION enlarges();
ALTER TABLE jobs ADD CONSTRAINT small CHECK (is_small(payload)), ADD COLUMN size integer GENERATED ALWAYS AS (length(payload::text)) STORED;
DELETE FROM jobs;
SELECT created FROM queue_enqueue('q');
SELECT count(*) FROM queue_enqueue_many('q', '{1,2}');
SELECT size, length(payload #>> '{}'), payload #>> '{}' = repeat(status, 100000) AS intact FROM jobs;
SELECT length(payload #>> '{}'), payload #>> '{}' = repeat('processing', 100000) AS intact FROM queue_claim('q', max_jobs => 2);
ALTER TABLE jobs DROP CONSTRAINT small;
SELECT length(payload #>> '{}'), payload #>> '{}' = repeat('processing', 100000) AS intact FROM queue_claim('q', max_jobs => 2);
SELECT size, length(payload #>> '{}'), payload #>> '{}' = repeat(status, 100000) AS intact FROM jobs;
DROP FUNCTION enlarges() CASCADE;
ALTER TABLE jobs DROP COLUMN size;

-- indexes of every kind: kept up to date by each verb
DELETE FROM jobs;
CREATE INDEX plain_idx ON jobs (leased_by, attempts);
CREATE INDEX expression_idx ON jobs ((payload ->> 'to'), upper(status));
CREATE INDEX partial_idx ON jobs (id) WHERE status = 'processing';
CREATE INDEX brin_idx ON jobs USING brin (leased_until);
CREATE INDEX gin_idx ON jobs USING gin (errors);
CREATE INDEX hash_idx ON jobs USING hash (lease_token);
CREATE FUNCTION bare(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT lower($1)$$;
CREATE INDEX function_idx ON jobs (bare(leased_by));
SET enable_seqscan = off;
SET jit = off;
CREATE FUNCTION found() RETURNS TABLE (plain bigint, expression bigint, part bigint, brin bigint, gin bigint, hash bigint, function bigint) LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM jobs WHERE leased_by = 'Worker' AND attempts > 0), (SELECT count(*) FROM jobs WHERE payload ->> 'to' = 'a' AND upper(status) = 'PROCESSING'), (SELECT count(*) FROM jobs WHERE status = 'processing'),
		(SELECT count(*) FROM jobs WHERE leased_until > now() + interval '1 minute'), (SELECT count(*) FROM jobs WHERE errors @> '[{"error": "x"}]'), (SELECT count(*) FROM jobs j JOIN leases l USING (lease_token)), (SELECT count(*) FROM jobs WHERE bare(leased_by) = 'worker')$$;
SELECT count(*) FROM queue_enqueue_many('q', array_fill('{"to": "a"}'::jsonb, ARRAY[50]));
SELECT * FROM found();
TRUNCATE leases;
INSERT INTO leases SELECT * FROM queue_claim('q', 'Worker', 20, '1 hour');
SELECT * FROM found();
SELECT outcome, count(*) FROM (SELECT * FROM leases LIMIT 5) l, queue_fail(l.job_id, l.lease_token, 'x') GROUP BY 1;
SELECT * FROM found();
RESET enable_seqscan;
RESET jit;
DROP INDEX plain_idx, expression_idx, partial_idx, brin_idx, gin_idx, hash_idx, function_idx;

-- uniqueness: at once, deferred, by exclusion
DELETE FROM jobs;
CREATE UNIQUE INDEX one_per_worker ON jobs (leased_by) WHERE status = 'processing';
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 4) i;
SELECT payload FROM queue_claim('q', 'a');
SELECT payload FROM queue_claim('q', 'a');
SELECT payload FROM queue_claim('q', 'b');
SELECT payload FROM queue_claim('q', 'c', 2);
DROP INDEX one_per_worker;
ALTER TABLE jobs ADD CONSTRAINT one_per_worker UNIQUE (leased_by) DEFERRABLE INITIALLY DEFERRED;
BEGIN;
SELECT payload FROM queue_claim('q', 'a');
COMMIT;
BEGIN;
SELECT job_id, lease_token, payload FROM queue_claim('q', 'a') \gset
UPDATE jobs SET leased_by = 'd' WHERE id = :'job_id';
COMMIT;
SELECT payload, leased_by FROM jobs ORDER BY payload;
ALTER TABLE jobs DROP CONSTRAINT one_per_worker, ADD CONSTRAINT one_per_worker EXCLUDE (leased_by WITH =) WHERE (status = 'processing');
SELECT payload FROM queue_claim('q', 'a');
SELECT payload FROM queue_claim('q', 'e');
ALTER TABLE jobs DROP CONSTRAINT one_per_worker;

-- a key that the update itself leaves alone: of an index that has not every row (it is partial, or still being built), and set by a trigger
DELETE FROM jobs;
CREATE TABLE twins AS SELECT i AS n, job_id AS id, 0::bigint AS token
FROM generate_series(1, 3) i, queue_enqueue('q', to_jsonb(i), job_type => 'twin');
UPDATE twins SET token = lease_token FROM queue_claim('q', 'a', 3) WHERE job_id = id;
CREATE UNIQUE INDEX one_completed ON jobs (job_type) WHERE status = 'completed';
SELECT n, outcome FROM twins, queue_complete(id, token) WHERE n = 1;
SELECT n, outcome FROM twins, queue_complete(id, token) WHERE n = 2;
DROP INDEX one_completed;
UPDATE jobs SET job_type = 'only' WHERE id = (SELECT id FROM twins WHERE n = 3);
DELETE FROM jobs WHERE id = (SELECT id FROM twins WHERE n = 1);
CREATE UNIQUE INDEX one_of_a_type ON jobs (job_type);
UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'one_of_a_type'::regclass;
UPDATE jobs SET job_type = 'twin' WHERE id = (SELECT id FROM twins WHERE n = 3);
UPDATE pg_index SET indisready = true WHERE indexrelid = 'one_of_a_type'::regclass;
SELECT n, outcome FROM twins, queue_complete(id, token) WHERE n = 3;
DROP INDEX one_of_a_type;
CREATE FUNCTION take_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.id := (SELECT id FROM public.twins WHERE n = 3);
	RETURN NEW;
END$$;
CREATE TRIGGER take_id BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION take_id();
SELECT n, outcome FROM twins, queue_complete(id, token) WHERE n = 2;
DROP TRIGGER take_id ON jobs;
SELECT n, outcome FROM twins, queue_complete(id, token) WHERE n > 1 ORDER BY n;
DROP TABLE twins;

-- foreign keys: to jobs, ON DELETE CASCADE and not; from jobs, also deferred, also where a trigger sets the column
DELETE FROM jobs;
CREATE TABLE files (job uuid REFERENCES jobs (id) ON DELETE CASCADE, name text);
SELECT queue_set('q', keep_completed => '0') IS NOT NULL AS set;
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 2) i;
INSERT INTO files SELECT id, payload FROM jobs;
SELECT c.outcome FROM queue_claim('q') j, queue_complete(j.job_id, j.lease_token) c;
SELECT name FROM files;
SELECT f.outcome FROM queue_claim('q') j, queue_fail(j.job_id, j.lease_token, dead => true) f;
SELECT name FROM files;
ALTER TABLE files DROP CONSTRAINT files_job_fkey, ADD CONSTRAINT files_job_fkey FOREIGN KEY (job) REFERENCES jobs (id);
SELECT job_id FROM queue_enqueue('q', '3') \gset
INSERT INTO files VALUES (:'job_id', '3');
SELECT lease_token FROM queue_claim('q') \gset
SELECT queue_complete(:'job_id', :lease_token);
DROP TABLE files;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
CREATE TABLE customers (id text PRIMARY KEY);
INSERT INTO customers VALUES ('a'), ('b');
ALTER TABLE jobs ADD COLUMN customer text DEFAULT 'a' REFERENCES customers DEFERRABLE INITIALLY DEFERRED;
SELECT job_id FROM queue_enqueue('q', '4') \gset
SELECT attempt, lease_token FROM queue_claim('q') \gset
DELETE FROM customers WHERE id = 'a';
-- the check of a row that the transaction inserted is not lost with the claim
BEGIN;
INSERT INTO jobs (queue_id, payload, customer) VALUES (:q, '5', 'nobody');
SELECT payload FROM queue_claim('q');
COMMIT;
CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.customer := 'nobody'; RETURN NEW; END$$;
CREATE TRIGGER sets BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION sets();
SELECT queue_cancel(:'job_id');
DROP FUNCTION sets() CASCADE;
ALTER TABLE jobs DROP COLUMN customer;
CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.queue_id := '00000000-0000-4000-8000-000000000000'; RETURN NEW; END$$;
CREATE TRIGGER sets BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION sets();
SELECT queue_cancel(:'job_id');
DROP FUNCTION sets() CASCADE;
SELECT outcome FROM queue_cancel(:'job_id');

-- the table is changed between calls of one transaction, and of one session
BEGIN;
SELECT created FROM queue_enqueue('q', '6');
ALTER TABLE jobs ADD COLUMN later text DEFAULT 'later';
SELECT created FROM queue_enqueue('q', '7');
ALTER TABLE jobs ADD CONSTRAINT not_8 CHECK (payload <> '8');
SAVEPOINT s;
SELECT created FROM queue_enqueue('q', '8');
ROLLBACK TO s;
ALTER TABLE jobs DROP CONSTRAINT not_8;
SELECT created FROM queue_enqueue('q', '8');
SELECT payload FROM queue_claim('q', max_jobs => 10);
SELECT payload, later FROM jobs WHERE payload IN ('6', '7', '8') ORDER BY 1;
ROLLBACK;
SELECT created FROM queue_enqueue('q', '9');
REINDEX TABLE jobs;
CLUSTER jobs USING jobs_pkey;
ALTER TABLE jobs SET (fillfactor = 50);
VACUUM FULL jobs;
SELECT payload FROM queue_claim('q', max_jobs => 10);
BEGIN;
ALTER TABLE jobs DROP COLUMN payload CASCADE;
SELECT queue_enqueue('q');
ROLLBACK;
BEGIN;
ALTER TABLE jobs ALTER COLUMN payload TYPE text;
SELECT queue_enqueue('q');
ROLLBACK;
ALTER TABLE jobs RENAME COLUMN payload TO work;
SELECT created FROM queue_enqueue('q');
ALTER TABLE jobs RENAME COLUMN work TO payload;
SELECT created FROM queue_enqueue('q');
ALTER TABLE jobs RENAME TO tasks;
SELECT queue_enqueue('q');
ALTER TABLE tasks RENAME TO jobs;
SELECT created FROM queue_enqueue('q');
-- the extension goes, and comes back in another schema
DROP EXTENSION queue_service CASCADE;
CREATE SCHEMA "Other schema";
CREATE EXTENSION queue_service SCHEMA "Other schema";
SELECT queue_enqueue('q');
SET search_path = "Other schema";
INSERT INTO tenants (id) VALUES (:tenant);
SELECT created FROM queue_create('q');
SELECT created FROM queue_enqueue('q', '"other"', idempotency_key => 'k');
SELECT c.payload, d.outcome FROM queue_claim('q') c, queue_complete(c.job_id, c.lease_token) d;
DROP EXTENSION queue_service;
SET search_path = public;
CREATE EXTENSION queue_service;
INSERT INTO tenants (id) VALUES (:tenant);
SELECT queue_claim('q');
SELECT created FROM queue_create('q');
SELECT created FROM queue_enqueue('q', '"again"');
RESET search_path;
SELECT payload FROM queue_claim('q');

\c :home
DROP DATABASE regress_queue_service_objects;
