-- The table of tenants: one's own or the extension's, and which gives way; the
-- seeds of rate_limiters. In a database of its own: it drops the extension.

\set home :DBNAME
CREATE DATABASE regress_queue_service_tenants;
\c regress_queue_service_tenants
\set SHOW_CONTEXT never
\set keys 'SELECT count(*) AS keys, count(*) FILTER (WHERE convalidated) AS valid, min(confrelid::regclass::text) AS refer_to FROM pg_constraint WHERE contype = ''f'' AND conname LIKE ''%_tenant_fkey'';'
\set own 'SELECT EXISTS (SELECT FROM pg_depend WHERE objid = ''tenants''::regclass AND deptype = ''e'') AS own_tenants;'

-- a table tenants that is there before must have a key to refer to
BEGIN;
CREATE TABLE tenants (name text PRIMARY KEY);
CREATE EXTENSION queue_service;
ROLLBACK;
BEGIN;
CREATE TABLE tenants (id integer PRIMARY KEY);
CREATE EXTENSION queue_service;
ROLLBACK;
BEGIN;
CREATE TABLE tenants (id uuid, name text, PRIMARY KEY (id, name));
CREATE UNIQUE INDEX ON tenants (id) WHERE name <> '';
CREATE UNIQUE INDEX ON tenants ((id::text));
ALTER TABLE tenants ADD UNIQUE (id) DEFERRABLE;
CREATE EXTENSION queue_service;
ROLLBACK;
BEGIN;
CREATE UNLOGGED TABLE tenants (id uuid PRIMARY KEY);
CREATE EXTENSION queue_service;
ROLLBACK;
BEGIN;
CREATE VIEW tenants AS SELECT gen_random_uuid() AS id;
CREATE EXTENSION queue_service;
ROLLBACK;

-- what goes with it, and what stays
BEGIN;
CREATE TABLE tenants (name text, id uuid UNIQUE);
INSERT INTO tenants VALUES ('one', gen_random_uuid());
CREATE EXTENSION queue_service;
:keys
:own
DROP EXTENSION queue_service;
SELECT name FROM tenants;
SELECT evtname FROM pg_event_trigger WHERE evtname LIKE 'queue%';
ROLLBACK;
BEGIN;
CREATE SCHEMA "Our queues";
CREATE TABLE tenants (id text);
CREATE EXTENSION queue_service SCHEMA "Our queues";
:keys
CREATE TABLE "Our queues".tenants (id uuid PRIMARY KEY);
:keys
DROP EXTENSION queue_service;
ROLLBACK;

CREATE EXTENSION queue_service;
:keys
:own
CREATE ROLE regress_tenants_user;
GRANT CREATE ON SCHEMA public TO regress_tenants_user;
CREATE TYPE tenant AS (id uuid, name text);
CREATE TABLE template (name text, id uuid);

-- it gives way, however the new table is written
BEGIN;
CREATE TABLE tenants (id uuid PRIMARY KEY, plan text);
:keys
:own
SELECT c::regclass FROM pg_extension, unnest(extconfig) c WHERE c = 'tenants'::regclass;
ROLLBACK;
BEGIN;
CREATE TABLE IF NOT EXISTS public . "tenants" (plan text, ID pg_catalog.UUID, CONSTRAINT id UNIQUE (id));
:keys
ROLLBACK;
BEGIN;
SELECT 1 \; CREATE TABLE other (id uuid) \; CREATE TABLE tenants (LIKE template) \; CREATE TABLE another ();
:own
:keys
CREATE UNIQUE INDEX ON tenants (id);
:keys
ROLLBACK;
BEGIN;
CREATE TABLE tenants OF tenant (PRIMARY KEY (id));
:keys
ROLLBACK;
BEGIN;
CREATE TABLE tenants () INHERITS (template);
:own
ALTER TABLE tenants ADD PRIMARY KEY (name);
:keys
ALTER TABLE tenants ADD UNIQUE (id);
:keys
ROLLBACK;
-- a partitioned table as pg_dump writes it: its key is valid once all partitions have it
BEGIN;
CREATE TABLE tenants (id uuid NOT NULL) PARTITION BY HASH (id);
CREATE TABLE part (id uuid NOT NULL);
ALTER TABLE ONLY tenants ATTACH PARTITION part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
ALTER TABLE ONLY tenants ADD CONSTRAINT tenants_pkey PRIMARY KEY (id);
:keys
ALTER TABLE ONLY part ADD CONSTRAINT part_pkey PRIMARY KEY (id);
ALTER INDEX tenants_pkey ATTACH PARTITION part_pkey;
:keys
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CREATE TABLE tenants (id uuid PRIMARY KEY);
:keys
ROLLBACK;
-- a failure leaves everything as it was
CREATE TABLE tenants (id uuid REFERENCES nowhere);
:keys
:own

-- where nothing is to give way
CREATE TABLE tenants (name text);
CREATE TABLE tenants (id integer);
CREATE TABLE tenants (id uuid[]);
CREATE TABLE tenants (LIKE template, id text);
CREATE UNLOGGED TABLE tenants (id uuid);
CREATE TABLE tenants AS SELECT gen_random_uuid() AS id;
CREATE TABLE nowhere.tenants (id uuid);
DO 'BEGIN EXECUTE ''CREATE TABLE tenants (id uuid)''; END';
CREATE SCHEMA aside CREATE TABLE tenants (id uuid);
CREATE TEMPORARY TABLE tenants (id uuid);
DROP TABLE pg_temp.tenants;
CREATE TABLE pg_temp.tenants (id uuid);
DROP TABLE pg_temp.tenants;
SET search_path = aside, public;
DROP TABLE tenants;
CREATE TABLE tenants (id uuid);
RESET search_path;
SET ROLE regress_tenants_user;
CREATE TABLE tenants (id uuid);
CREATE TABLE unrelated (id uuid PRIMARY KEY, tenants text);
CREATE INDEX ON unrelated (tenants);
ALTER TABLE unrelated ADD UNIQUE (tenants);
DROP TABLE unrelated;
RESET ROLE;
:keys
:own
-- others depend on it
BEGIN;
CREATE VIEW names AS SELECT name FROM tenants;
SAVEPOINT a;
CREATE TABLE tenants (id uuid);
ROLLBACK TO a;
:keys
ROLLBACK;
-- it has rows, or may have some that an old snapshot does not show
BEGIN;
INSERT INTO tenants (name) VALUES ('one');
CREATE TABLE tenants (id uuid);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CREATE TABLE tenants (id uuid);
ROLLBACK;
:keys
-- one that was taken over is one's own
BEGIN;
ALTER EXTENSION queue_service DROP TABLE tenants;
CREATE TABLE tenants (id uuid);
ROLLBACK;
-- the caller's names and operators mean nothing
BEGIN;
CREATE FUNCTION never(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 / 0 > 0';
CREATE OPERATOR = (LEFTARG = name, RIGHTARG = text, PROCEDURE = never);
CREATE FUNCTION pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT 1 / 0 > 0';
SET search_path = public, pg_catalog;
CREATE TABLE tenants (id uuid PRIMARY KEY);
:keys
ROLLBACK;

-- without the library nothing gives way, and nothing fails
BEGIN;
UPDATE pg_proc SET probin = '/nowhere' WHERE proname = '_queue_creates_tenants';
CREATE TABLE unrelated (id uuid PRIMARY KEY);
SET ROLE regress_tenants_user;
CREATE TABLE unrelated_too (id uuid PRIMARY KEY);
ROLLBACK;

-- a table of one's own that goes and comes
CREATE TABLE tenants (id uuid PRIMARY KEY, plan text);
INSERT INTO tenants VALUES ('11111111-1111-7111-8111-111111111111'), ('22222222-2222-7222-8222-222222222222');
INSERT INTO queues (tenant_id, name) SELECT id, 'mail' FROM tenants;
SET client_min_messages = warning;
DROP TABLE tenants CASCADE;
RESET client_min_messages;
:keys
-- not for a table of just anybody
SET ROLE regress_tenants_user;
CREATE TABLE tenants (id uuid PRIMARY KEY);
RESET ROLE;
:keys
DROP TABLE tenants;
CREATE TABLE renamed (id uuid PRIMARY KEY, plan text);
:keys
INSERT INTO renamed VALUES ('11111111-1111-7111-8111-111111111111');
ALTER TABLE renamed RENAME TO tenants;
:keys
INSERT INTO queues (tenant_id, name) VALUES ('33333333-3333-7333-8333-333333333333', 'mail');
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE contype = 'f' AND conname LIKE '%_tenant_fkey' AND NOT convalidated;
-- other statements do not try again
CREATE TABLE unrelated (id uuid PRIMARY KEY);
ALTER TABLE tenants ADD name text;
INSERT INTO tenants VALUES ('22222222-2222-7222-8222-222222222222');
CREATE INDEX ON tenants (name);
:keys
-- a tenant with anything left stays
DO $$ BEGIN DELETE FROM tenants; EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN RAISE NOTICE 'refused'; END $$;
DROP EXTENSION queue_service;
SELECT count(*) FROM tenants;
CREATE TABLE tenants (id uuid);
DROP TABLE tenants;

-- an owner of the extension who is no superuser any more
BEGIN;
CREATE ROLE regress_tenants_owner SUPERUSER;
SET ROLE regress_tenants_owner;
CREATE EXTENSION queue_service;
ALTER ROLE regress_tenants_owner NOSUPERUSER;
RESET ROLE;
GRANT CREATE ON SCHEMA public TO regress_tenants_owner;
SET ROLE regress_tenants_owner;
CREATE TABLE tenants (id uuid PRIMARY KEY);
:keys
:own
RESET ROLE;
INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) VALUES ('stripe', 1, 2, 3);
ROLLBACK;

-- seeds
CREATE EXTENSION queue_service;
\set limiters 'SELECT service_name, tokens_available, max_tokens, refill_per_second, max_concurrent, tenant_id, seeded FROM rate_limiters ORDER BY service_name;'
\set triggers 'SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = ''rate_limiters''::regclass AND NOT tgisinternal ORDER BY tgname;'
:limiters
:triggers
-- an edit, even one that changes nothing
UPDATE rate_limiters SET max_concurrent = max_concurrent WHERE service_name = 'stripe';
UPDATE rate_limiters SET seeded = true WHERE service_name = 'stripe';
:limiters
-- a row of the name of a seed, but not of an edited one
INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) VALUES ('twilio', 1, 2, 3);
INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) VALUES ('twilio', 4, 5, 6);
INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) VALUES ('stripe', 4, 5, 6);
COPY rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) FROM stdin;
sendgrid	7	8	9
own	7	8	9
\.
:limiters
-- as a subscriber applies changes
BEGIN;
SET session_replication_role = replica;
INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) VALUES ('solana_rpc', 1, 2, 3);
ROLLBACK;
-- as pg_restore --data-only --disable-triggers loads them
ALTER TABLE rate_limiters DISABLE TRIGGER ALL;
COPY rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) FROM stdin;
solana_rpc	1	2	3
\.
ALTER TABLE rate_limiters ENABLE TRIGGER ALL;
:limiters
:triggers
DELETE FROM rate_limiters WHERE service_name IN ('solana_rpc', 'own');
ALTER TABLE rate_limiters DISABLE TRIGGER queue_seed;
ALTER TABLE rate_limiters ENABLE REPLICA TRIGGER queue_seed;
:limiters
:triggers

\c :home
DROP DATABASE regress_queue_service_tenants;
DROP ROLE regress_tenants_user;
