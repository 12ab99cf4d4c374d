-- Attacks by what a session has: names that hide others, settings, objects of
-- its own, roles; and what it finds of the tenant that it served before.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/sql/attack.inc'
\i :file

-- attack: Tables of one's own that hide ours, in search_path or as temporary ones
-- fails: functions find tables by the schema that they are in themselves
CREATE TEMP TABLE jobs (id uuid, tenant_id uuid);
CREATE TEMP TABLE queues (id uuid, tenant_id uuid, name text);
INSERT INTO queues VALUES (:other, :own, 'bravo'), (:other, :own, 'alpha');
CREATE TABLE own.queues AS TABLE pg_temp.queues;
SET search_path = own, pg_temp, public, pg_catalog;
SELECT attack.try('SELECT * FROM public.queue_claim({name})');
SELECT attack.try('SELECT * FROM public.queue_peek({name})');
SELECT created FROM public.queue_enqueue('alpha', group_key => 'shadow');
SELECT count(*) FROM pg_temp.jobs;
-- attack: Functions of one's own that hide those that the policies call
-- fails: policies know functions by oid, and ours names in functions are looked up in pg_catalog
CREATE FUNCTION own.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''00000000-0000-7000-8000-00000000000b''';
CREATE FUNCTION own.queue_tenant() RETURNS uuid LANGUAGE sql AS 'SELECT ''00000000-0000-7000-8000-00000000000b''::uuid';
CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''00000000-0000-7000-8000-00000000000b''';
CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''infinity''::timestamptz';
SELECT string_agg(name, ' ') FROM public.queues;
SELECT attack.try('SELECT * FROM public.jobs');
-- attack: Operators of one's own that hide = of uuid and text
-- fails: the same
CREATE FUNCTION own.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION own.always(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR own.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = own.always);
CREATE OPERATOR own.= (LEFTARG = text, RIGHTARG = text, FUNCTION = own.always);
SELECT string_agg(name, ' ') FROM public.queues;
SELECT attack.try('SELECT outcome FROM public.queue_cancel({waiting})');
SELECT attack.try('SELECT outcome FROM public.queue_complete({running}, {running token})');
SELECT attack.try('SELECT public.queue_redrive({name})');
-- attack: Types and domains that hide uuid, text and jsonb
-- fails: the same; signatures know types by oid
CREATE DOMAIN own.uuid AS text;
CREATE DOMAIN pg_temp.jsonb AS text;
SELECT attack.try('SELECT payload FROM public.queue_job({finished})');
SELECT payload FROM public.queue_peek('alpha') WHERE payload = to_jsonb('alpha'::text) LIMIT 1;
RESET search_path;
DROP TABLE pg_temp.jobs, pg_temp.queues;
DROP FUNCTION pg_temp.current_setting, pg_temp.clock_timestamp;
-- attack: A function of one's own where others look for ours
-- fails: no right to CREATE in the schema; PostgreSQL 15 gives PUBLIC none
SELECT attack.try('CREATE FUNCTION public.queue_enqueue(text, text) RETURNS text LANGUAGE sql AS ''SELECT $2''');
SELECT attack.try('CREATE OR REPLACE FUNCTION public.queue_tenant() RETURNS uuid LANGUAGE sql AS ''SELECT NULL::uuid''');
SELECT attack.try('CREATE TABLE public.tenants2 ()');
-- attack: SECURITY DEFINER functions of one's own
-- fails: they run as the attacker
CREATE FUNCTION own.peek() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT string_agg(name, '' '') FROM public.queues';
SELECT attack.try('SELECT own.peek()');
SELECT attack.try('ALTER FUNCTION own.peek() OWNER TO CURRENT_ROLE');
SELECT attack.try('ALTER FUNCTION own.peek() OWNER TO pg_database_owner');
-- attack: Have the owner of the tables run code of the attacker's: a trigger, a rule, a policy, a default, a check, an index
-- fails: no right to TRIGGER, and nothing of the rest without owning the table
SELECT attack.try('CREATE TRIGGER t BEFORE INSERT ON public.jobs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()');
SELECT attack.try('CREATE RULE r AS ON INSERT TO public.jobs DO ALSO NOTHING');
SELECT attack.try('CREATE RULE "_RETURN" AS ON SELECT TO public.queues DO INSTEAD SELECT * FROM public.queues');
SELECT attack.try('CREATE POLICY p ON public.jobs USING (true)');
SELECT attack.try('ALTER POLICY tenant_isolation_policy ON public.jobs USING (true)');
SELECT attack.try('ALTER TABLE public.jobs ALTER payload SET DEFAULT ''1''');
SELECT attack.try('ALTER TABLE public.jobs ADD CHECK (own.tell(id::text))');
SELECT attack.try('CREATE INDEX ON public.jobs (own.always(job_type, group_key))');
SELECT attack.try('CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public._queue_ddl_end()');
-- attack: Turn row-level security, triggers or constraints off
-- fails: for the owner only
SELECT attack.try('ALTER TABLE public.jobs ' || a) FROM unnest(ARRAY['DISABLE ROW LEVEL SECURITY', 'NO FORCE ROW LEVEL SECURITY',
	'DISABLE TRIGGER ALL', 'DROP CONSTRAINT jobs_queue_fkey', 'OWNER TO regress_attacker', 'RENAME TO j']) a;
SELECT attack.try('SET session_replication_role = replica');
SELECT attack.try('DROP EXTENSION queue_service CASCADE');
SELECT attack.try('ALTER EXTENSION queue_service DROP TABLE public.jobs');
-- attack: A table of one's own as child, parent or partition of ours
-- fails: for the owner only
CREATE TABLE own.child (tenant_id uuid);
SELECT attack.try('CREATE TABLE own.c () INHERITS (public.jobs)');
SELECT attack.try('ALTER TABLE own.child INHERIT public.jobs');
SELECT attack.try('CREATE TABLE own.like (LIKE public.jobs INCLUDING ALL)');
SELECT attack.try('ALTER TABLE public.jobs INHERIT own.child');
-- attack: Triggers and rules on one's own tables that write into ours
-- fails: they run as the attacker, under the policies
CREATE TABLE own.t (tenant uuid, queue uuid);
CREATE FUNCTION own.forward() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
	'BEGIN INSERT INTO public.jobs (tenant_id, queue_id) VALUES (NEW.tenant, NEW.queue); RETURN NEW; END';
CREATE TRIGGER forward BEFORE INSERT ON own.t FOR EACH ROW EXECUTE FUNCTION own.forward();
CREATE RULE claim AS ON DELETE TO own.t DO ALSO SELECT * FROM public.queue_claim('bravo');
SELECT attack.try('INSERT INTO own.t VALUES ({tenant}, {queue})');
SELECT attack.try('DELETE FROM own.t /* bravo */');
-- attack: Grant on what one has been granted
-- fails: queue_grant() gives no grant option
SELECT attack.try('GRANT SELECT (id) ON public.jobs TO regress_attacked');
SELECT attack.try('GRANT EXECUTE ON FUNCTION public._queue_all_tenants TO regress_attacker');
SELECT count(*) FROM information_schema.role_column_grants WHERE grantee = 'regress_attacked' AND table_schema = 'public';
-- attack: Become another role
-- fails: only a member of it does. See also t/070_bound_tenants.pl
SELECT attack.try('SET ROLE regress_attacked');
SELECT attack.try('SET LOCAL ROLE pg_read_all_data');
SELECT attack.try('GRANT regress_attacked TO regress_attacker');
SELECT attack.try('ALTER ROLE regress_attacker BYPASSRLS');
SELECT attack.try('ALTER ROLE regress_attacker SUPERUSER');
SELECT attack.try('REASSIGN OWNED BY regress_attacked TO regress_attacker');
-- attack: Settings of ours
-- fails: what is the platform's is for superusers
SELECT attack.try('SET queue_service.max_payload = ''256MB''');
SELECT attack.try('SET queue_service.cache_size = ''1GB''');
ALTER SYSTEM SET queue_service.max_payload = '1kB';
-- attack: Load a library, or write a function in C
-- fails: for superusers
SELECT attack.try('LOAD ''/tmp/evil''');
SELECT attack.try('CREATE FUNCTION own.c() RETURNS void LANGUAGE c AS ''$libdir/queue_service'', ''qs_queue_all_tenants''');
SELECT attack.try('CREATE FUNCTION own.i() RETURNS void LANGUAGE internal AS ''pg_backend_pid''');
-- attack: LISTEN to all that other tenants do
-- fails: waiters are woken through shared memory; no NOTIFY has anything of a job in it
LISTEN jobs;
LISTEN queue_service;
RESET SESSION AUTHORIZATION;
SET app.current_tenant = :other;
SELECT created FROM queue_enqueue('bravo', '"bravo"');
SET app.current_tenant = :own;
UPDATE attack.before SET digest = attack.digest();
SET SESSION AUTHORIZATION regress_attacker;
SELECT count(*) FROM pg_listening_channels();
UNLISTEN *;

-- What a pooled session keeps of the tenant before, and what not.
RESET SESSION AUTHORIZATION;
BEGIN;
SET LOCAL app.current_tenant = :other;
SELECT count(*) > 0 AS claimed FROM queue_claim('bravo', lease => '1 day');
COMMIT;
UPDATE attack.before SET digest = attack.digest();
-- attack: Begin a transaction where another tenant's ended
-- fails: SET LOCAL ended with it; the session's own value is back
SELECT current_setting('app.current_tenant') = :own AS own;
SET app.current_tenant = '';
BEGIN;
SET LOCAL app.current_tenant = :other;
COMMIT;
SET SESSION AUTHORIZATION regress_attacker;
SELECT attack.try('SELECT name FROM queues');
SELECT attack.try('SELECT queue_claim({name})');
-- attack: The same after an error, a savepoint or a subtransaction
-- fails: the same
RESET SESSION AUTHORIZATION;
BEGIN;
SAVEPOINT s;
SET LOCAL app.current_tenant = :other;
SELECT 1 / 0;
ROLLBACK TO s;
SHOW app.current_tenant;
SET LOCAL app.current_tenant = :other;
SELECT 1 / 0;
COMMIT;
SHOW app.current_tenant;
SET app.current_tenant = :own;
SET SESSION AUTHORIZATION regress_attacker;

\set file :abs_srcdir '/sql/attack.end'
\i :file
