-- Inserts by functions lock queue and tenant once a call, in place of the foreign keys' own checks: only where these would
-- be made as usual. In a database of its own: it changes the keys, and takes rows away from under them.
\set home :DBNAME
CREATE DATABASE regress_queue_service_parents;
\c regress_queue_service_parents
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION queue_service;
\set tenant '\'00000000-0000-4000-8000-000000001901\''
INSERT INTO tenants (id) VALUES (:tenant);
SET app.current_tenant = :tenant;
\set q '\'00000000-0000-4000-8000-000000001902\''
\set gone '\'00000000-0000-4000-8000-000000001903\''
\set other '\'00000000-0000-4000-8000-000000001904\''
INSERT INTO queues (id, name) VALUES (:q, 'q'), (:gone, 'gone');

-- a dead letter whose queue is taken away from under it comes back by its id alone
SELECT created FROM queue_enqueue('gone', '"dead"');
SELECT f.job_id FROM queue_claim('gone') c, queue_fail(c.job_id, c.lease_token, dead => true) f \gset
SET session_replication_role = replica;
DELETE FROM queues WHERE id = :gone;
RESET session_replication_role;
CREATE FUNCTION retry(job uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text := 'nothing';
BEGIN
	PERFORM queue_retry(job);
	SELECT count(*) INTO found FROM jobs WHERE payload = '"dead"';
	SET CONSTRAINTS ALL IMMEDIATE;
	RAISE EXCEPTION 'undo';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLERRM WHEN 'undo' THEN 'no error' ELSE SQLSTATE END || ', inserted ' || found;
END$$;
SELECT retry(:'job_id');
-- no check in the role of a replica, nor where its triggers are off, nor without a key
BEGIN;
SET LOCAL session_replication_role = replica;
SELECT retry(:'job_id');
ROLLBACK;
SELECT tgname AS check FROM pg_trigger JOIN pg_constraint c ON c.oid = tgconstraint
WHERE tgrelid = 'jobs'::regclass AND conname = 'jobs_queue_fkey' AND tgfoid = '"RI_FKey_check_ins"'::regproc \gset
BEGIN;
ALTER TABLE jobs DISABLE TRIGGER ALL;
SELECT retry(:'job_id');
ROLLBACK;
BEGIN;
ALTER TABLE jobs DISABLE TRIGGER :"check";
SELECT retry(:'job_id');
ALTER TABLE jobs ENABLE TRIGGER :"check";
SELECT retry(:'job_id');
ROLLBACK;
BEGIN;
ALTER TABLE jobs DROP CONSTRAINT jobs_queue_fkey;
SELECT retry(:'job_id');
ROLLBACK;
-- the key's own check where it is another than the usual one: on replicas, always, deferred
BEGIN;
ALTER TABLE jobs ENABLE REPLICA TRIGGER :"check";
SELECT retry(:'job_id');
SET LOCAL session_replication_role = replica;
SELECT retry(:'job_id');
ROLLBACK;
BEGIN;
ALTER TABLE jobs ENABLE ALWAYS TRIGGER :"check";
SELECT retry(:'job_id');
SET LOCAL session_replication_role = replica;
SELECT retry(:'job_id');
ROLLBACK;
BEGIN;
ALTER TABLE jobs ALTER CONSTRAINT jobs_queue_fkey DEFERRABLE INITIALLY DEFERRED;
SELECT retry(:'job_id');
ROLLBACK;
-- a key that is not validated is checked for new rows
BEGIN;
ALTER TABLE jobs DROP CONSTRAINT jobs_queue_fkey, ADD CONSTRAINT jobs_queue_fkey FOREIGN KEY (tenant_id, queue_id) REFERENCES queues (tenant_id, id) NOT VALID;
SELECT retry(:'job_id');
ROLLBACK;
-- by an index in the other order
BEGIN;
ALTER TABLE queues DROP CONSTRAINT queues_tenant_id_id_key CASCADE;
CREATE UNIQUE INDEX turned ON queues (id, tenant_id) INCLUDE (name);
ALTER TABLE jobs ADD CONSTRAINT jobs_queue_fkey FOREIGN KEY (queue_id, tenant_id) REFERENCES queues (id, tenant_id);
SELECT retry(:'job_id');
SELECT created FROM queue_enqueue('q');
ROLLBACK;
-- and by one that took the place of another
SELECT created FROM queue_enqueue('q');
REINDEX TABLE CONCURRENTLY queues;
SELECT created FROM queue_enqueue('q');
SELECT retry(:'job_id');
-- the tenant, too
SET session_replication_role = replica;
DELETE FROM tenants;
RESET session_replication_role;
SELECT created FROM queue_enqueue('q');
SELECT created FROM queue_enqueue('q', idempotency_key => 'k');
SELECT created FROM queue_enqueue_critical('q', '1', 'k');
SELECT count(*) FROM queue_enqueue_many('q', '{1,2}');
INSERT INTO tenants (id) VALUES (:tenant);
SELECT created FROM queue_enqueue('q');

-- a trigger that sends the job to another queue; a user's key with the same columns
CREATE FUNCTION sends() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.queue_id := TG_ARGV[0]; RETURN NEW; END$$;
CREATE TRIGGER sends BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION sends('00000000-0000-4000-8000-000000001904');
SELECT created FROM queue_enqueue('q');
SELECT count(*) FROM queue_enqueue_many('q', '{1,2}');
INSERT INTO queues (id, name) VALUES (:other, 'other');
SELECT created FROM queue_enqueue('q', '"sent"');
SELECT queue_id = :other AS sent FROM jobs WHERE payload = '"sent"';
DROP FUNCTION sends() CASCADE;
CREATE TABLE accounts (tenant uuid PRIMARY KEY);
ALTER TABLE jobs ADD CONSTRAINT account FOREIGN KEY (tenant_id) REFERENCES accounts NOT VALID;
SELECT created FROM queue_enqueue('q');
INSERT INTO accounts VALUES (:tenant);
SELECT created FROM queue_enqueue('q');
ALTER TABLE jobs DROP CONSTRAINT account;
-- a column's default that takes the queue away
CREATE FUNCTION drops() RETURNS text LANGUAGE plpgsql SET search_path = public AS $$BEGIN DELETE FROM queues WHERE name = 'empty'; RETURN 'x'; END$$;
SELECT created FROM queue_create('empty');
ALTER TABLE jobs ADD COLUMN note text;
ALTER TABLE jobs ALTER COLUMN note SET DEFAULT drops();
SELECT created FROM queue_enqueue('empty');
SELECT created FROM queue_enqueue('q', '"with a note"');
SELECT note FROM jobs WHERE payload = '"with a note"';
ALTER TABLE jobs DROP COLUMN note;
DROP FUNCTION drops();
-- a trigger elsewhere that takes it away between two rows of a call
SELECT created FROM queue_create('empty');
SELECT count(*) FROM queue_enqueue_many('empty', '{1,2}');
SELECT f.outcome FROM queue_claim('empty', max_jobs => 2) c, queue_fail(c.job_id, c.lease_token, dead => true) f;
CREATE FUNCTION takes() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	DELETE FROM queues WHERE name = 'empty';
	SET LOCAL session_replication_role = origin;
	RETURN NEW;
END$$;
CREATE TRIGGER takes BEFORE UPDATE ON dead_letter_jobs FOR EACH ROW EXECUTE FUNCTION takes();
SELECT queue_redrive('empty', max_jobs => 1);
INSERT INTO queues (id, name) SELECT queue_id, 'empty' FROM dead_letter_jobs WHERE redriven_at IS NOT NULL;
SELECT count(*) FROM queue_enqueue_many('empty', '{3}');
SELECT f.outcome FROM queue_claim('empty', max_jobs => 1) c, queue_fail(c.job_id, c.lease_token, dead => true) f;
SELECT queue_redrive('empty');
DROP FUNCTION takes() CASCADE;

-- tenants in partitions: PostgreSQL's own check
DROP EXTENSION queue_service CASCADE;
CREATE TABLE parts (id uuid PRIMARY KEY) PARTITION BY HASH (id);
ALTER TABLE parts RENAME TO tenants;
CREATE TABLE part PARTITION OF tenants FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE EXTENSION queue_service;
INSERT INTO tenants (id) VALUES (:tenant);
SELECT created FROM queue_create('q');
SELECT created FROM queue_enqueue('q');
SET session_replication_role = replica;
DELETE FROM tenants;
RESET session_replication_role;
SELECT created FROM queue_enqueue('q');

\c :home
DROP DATABASE regress_queue_service_parents;
