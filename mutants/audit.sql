-- Mutants of the catalogs: each is a comment that names the rules (views of
-- sql/audit.sql) that must find it, and statements, which are rolled back.

-- function_labels: a function that writes is stable
ALTER FUNCTION queue_enqueue STABLE;
-- function_labels: a function that writes may run in a parallel worker
ALTER FUNCTION queue_claim PARALLEL SAFE;
-- function_labels: the policy's function is not leakproof
ALTER FUNCTION queue_tenant NOT LEAKPROOF;
-- function_labels: a strict function does nothing for a null argument, silently
ALTER FUNCTION queue_pause STRICT;
-- function_labels: a function runs with its owner's rights, and does not know its caller
ALTER FUNCTION queue_job SECURITY DEFINER;
-- comments function_labels: a function that nobody listed
CREATE FUNCTION queue_new() RETURNS uuid LANGUAGE c AS '$libdir/queue_service', 'queue_new_id';
REVOKE ALL ON FUNCTION queue_new() FROM PUBLIC;
ALTER EXTENSION queue_service ADD FUNCTION queue_new();
-- function_labels: a function is missing
ALTER EXTENSION queue_service DROP FUNCTION queue_pause(text);

-- function_signatures: an overload
CREATE FUNCTION queue_resume(queue text, at timestamptz) RETURNS boolean LANGUAGE c AS '$libdir/queue_service', 'queue_resume';
REVOKE ALL ON FUNCTION queue_resume(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION queue_resume(text, timestamptz) IS 'Ends a pause.';
ALTER EXTENSION queue_service ADD FUNCTION queue_resume(text, timestamptz);
-- function_labels function_signatures: another prefix
ALTER FUNCTION queue_release RENAME TO release_job;
-- function_signatures: an argument without a name
ALTER EXTENSION queue_service DROP FUNCTION queue_pause(text);
DROP FUNCTION queue_pause;
CREATE FUNCTION queue_pause(text) RETURNS boolean LANGUAGE c AS '$libdir/queue_service', 'queue_pause';
REVOKE ALL ON FUNCTION queue_pause FROM PUBLIC;
COMMENT ON FUNCTION queue_pause IS 'Pauses a queue.';
ALTER EXTENSION queue_service ADD FUNCTION queue_pause(text);
-- function_signatures: a time without a zone
ALTER EXTENSION queue_service DROP FUNCTION queue_pause(text);
DROP FUNCTION queue_pause;
CREATE FUNCTION queue_pause(queue text, until timestamp) RETURNS boolean LANGUAGE c AS '$libdir/queue_service', 'queue_pause';
REVOKE ALL ON FUNCTION queue_pause FROM PUBLIC;
COMMENT ON FUNCTION queue_pause IS 'Pauses a queue.';
ALTER EXTENSION queue_service ADD FUNCTION queue_pause(text, timestamp);

-- function_privileges: everybody may claim
GRANT EXECUTE ON FUNCTION queue_claim TO PUBLIC;
-- function_privileges: everybody serves all tenants
GRANT EXECUTE ON FUNCTION _queue_all_tenants TO PUBLIC;
-- function_privileges: a role that the script has no business with
GRANT EXECUTE ON FUNCTION queue_tenant_purge TO pg_monitor;
-- function_privileges: a plain INSERT needs the default of id
REVOKE EXECUTE ON FUNCTION queue_new_id FROM PUBLIC;

-- function_search_path: a function of the owner finds the caller's objects
ALTER FUNCTION _queue_seed RESET ALL;
-- function_search_path: temporary objects come first if pg_temp is not named last
ALTER FUNCTION queue_grant SET search_path = pg_catalog;
-- function_search_path: an SQL function
ALTER FUNCTION _queue_tenants_keys RESET search_path;

-- function_symbols: a symbol that another library may have
UPDATE pg_proc SET prosrc = 'pause' WHERE proname = 'queue_pause';
-- function_symbols: another library
UPDATE pg_proc SET probin = '$libdir/plpgsql' WHERE proname = 'queue_pause';

-- function_sqlstates: a SQLSTATE that is not listed
UPDATE pg_proc SET prosrc = replace(prosrc, '''QS020''', '''P0001''') WHERE proname = 'queue_grant';
-- function_sqlstates: the SQLSTATE of whatever is raised without one
UPDATE pg_proc SET prosrc = regexp_replace(prosrc, 'USING ERRCODE = ''QS020''', '') WHERE proname = 'queue_grant';

-- table_names: a table that nobody listed
ALTER EXTENSION queue_service DROP TABLE queue_metrics;
-- key_unique table_names: another primary key
ALTER TABLE alert_history DROP CONSTRAINT alert_history_pkey;
ALTER TABLE alert_history ADD PRIMARY KEY (raised_at);

-- table_tenant_id: a row of no tenant
ALTER TABLE schedules ALTER tenant_id DROP NOT NULL;
-- table_tenant_id: a plain INSERT would have to name the tenant
ALTER TABLE jobs ALTER tenant_id DROP DEFAULT;
ALTER TABLE critical_jobs ALTER tenant_id DROP DEFAULT;

-- table_row_security: no row-level security
ALTER TABLE dead_letter_jobs DISABLE ROW LEVEL SECURITY;
-- table_row_security: the owner sees all tenants
ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY;

-- table_policies: no policy
DROP POLICY tenant_isolation_policy ON jobs;
-- table_policies: a policy that means the same is not the literal one
ALTER POLICY tenant_isolation_policy ON queues USING (tenant_id = current_setting('app.current_tenant', true)::uuid);
-- table_policies: an error, not no rows, while the setting is unknown
ALTER POLICY tenant_isolation_policy ON queues USING (tenant_id::text = current_setting('app.current_tenant'));
-- table_policies: writes are checked otherwise
ALTER POLICY tenant_isolation_policy ON jobs WITH CHECK (true);
-- table_policies: for one role only
ALTER POLICY tenant_isolation_policy ON jobs TO pg_monitor;
-- table_policies: reads as slow as the literal policy makes them
DROP POLICY tenant_index_policy ON jobs;
-- table_policies: a second policy opens what the first closes
DROP POLICY tenant_index_policy ON jobs;
CREATE POLICY tenant_index_policy ON jobs USING (tenant_id = queue_tenant());
-- table_policies: a policy that nobody listed
CREATE POLICY shared ON rate_limiters FOR SELECT USING (tenant_id IS NULL);

-- table_privileges: everybody reads
GRANT SELECT ON jobs TO PUBLIC;
-- table_privileges: everybody reads one column
GRANT SELECT (id) ON critical_jobs TO PUBLIC;

-- table_views: a view of all tenants' rows
CREATE VIEW queue_waiting AS SELECT queue_id, count(*) FROM jobs GROUP BY queue_id;
COMMENT ON VIEW queue_waiting IS 'Waiting jobs.';
COMMENT ON COLUMN queue_waiting.count IS 'How many.';
ALTER EXTENSION queue_service ADD VIEW queue_waiting;

-- table_dump: a table that no dump has
UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = 'queue_service';
-- table_dump: the seeds are dumped
UPDATE pg_extension SET extcondition = array_replace(extcondition, 'WHERE NOT seeded', '') WHERE extname = 'queue_service';
-- comments table_dump: a sequence whose value is lost
CREATE SEQUENCE queue_numbers;
ALTER EXTENSION queue_service ADD SEQUENCE queue_numbers;

-- table_types: enum equality is not leakproof
CREATE TYPE severity AS ENUM ('warning', 'critical');
ALTER TABLE alert_history DROP CONSTRAINT severity_valid, ALTER severity DROP DEFAULT,
	ALTER severity TYPE severity USING severity::severity;
-- table_types: a time without a zone
ALTER TABLE queue_metrics ALTER sampled_at TYPE timestamp;

-- table_statistics: EXPLAIN tells how often a value is there
ALTER TABLE jobs ALTER COLUMN group_key SET STATISTICS -1;
-- table_statistics: so does an expression in an index
CREATE INDEX ON alert_history (tenant_id, (lower(alert)));

-- key_to_tenants: no key
ALTER TABLE queues DROP CONSTRAINT queues_tenant_fkey;
-- key_to_tenants: a tenant that goes takes its jobs along
ALTER TABLE jobs DROP CONSTRAINT jobs_tenant_fkey,
	ADD CONSTRAINT jobs_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE;
-- key_to_tenants: rows from before are not checked
ALTER TABLE jobs DROP CONSTRAINT jobs_tenant_fkey,
	ADD CONSTRAINT jobs_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE RESTRICT NOT VALID;
-- key_to_tenants: another table of that name
CREATE SCHEMA other;
CREATE TABLE other.tenants (id uuid PRIMARY KEY);
ALTER TABLE jobs DROP CONSTRAINT jobs_tenant_fkey,
	ADD CONSTRAINT jobs_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES other.tenants (id) ON DELETE RESTRICT;

-- key_between_tables key_indexed: a foreign queue is told from a missing one
ALTER TABLE jobs DROP CONSTRAINT jobs_queue_fkey,
	ADD CONSTRAINT jobs_queue_fkey FOREIGN KEY (queue_id) REFERENCES queues (id);
-- key_between_tables: no key
ALTER TABLE schedules DROP CONSTRAINT schedules_queue_fkey;

-- key_unique: a name that another tenant has is refused
CREATE UNIQUE INDEX ON queues (name);
-- key_unique: the tenant last
ALTER TABLE schedules ADD UNIQUE (name, tenant_id);
-- critical_jobs_like_jobs key_unique: an exclusion constraint
ALTER TABLE jobs ADD EXCLUDE USING btree (idempotency_key WITH =);

-- key_indexed: a queue's drop scans the table
DROP INDEX queue_metrics_queue_idx;
-- key_indexed: so it does if not all rows are in the index
DROP INDEX alert_history_queue_idx;
CREATE INDEX alert_history_queue_idx ON alert_history (tenant_id, queue_id) WHERE resolved_at IS NULL;

-- claim_is_hot critical_jobs_like_jobs: a key that a claim changes
CREATE INDEX ON jobs (queue_id, status);
-- claim_is_hot critical_jobs_like_jobs: a predicate
CREATE INDEX ON jobs (queue_id) WHERE status = 'processing';
-- claim_is_hot critical_jobs_like_jobs table_statistics: an expression
CREATE INDEX ON critical_jobs ((coalesce(leased_until, run_at)));
-- claim_is_hot critical_jobs_like_jobs: an included column
CREATE INDEX ON jobs (queue_id) INCLUDE (attempts);

-- critical_jobs_like_jobs table_statistics: a column more
ALTER TABLE jobs ADD note text;
COMMENT ON COLUMN jobs.note IS 'For people.';
-- critical_jobs_like_jobs table_statistics: a column that was dropped counts as well
ALTER TABLE critical_jobs DROP headers, ADD headers jsonb;
COMMENT ON COLUMN critical_jobs.headers IS 'Data about the job.';
-- critical_jobs_like_jobs: a check less
ALTER TABLE critical_jobs DROP CONSTRAINT status_valid;
-- critical_jobs_like_jobs: an index less
DROP INDEX critical_jobs_final_idx;
-- critical_jobs_like_jobs: pages without room for a claim
ALTER TABLE critical_jobs RESET (fillfactor);

-- trigger_states: a restore that disables triggers leaves one behind
ALTER TABLE queues DISABLE TRIGGER queue_changed;
ALTER TABLE queues ENABLE TRIGGER queue_changed;
-- trigger_states: the guard is off
ALTER TABLE rate_limits DISABLE TRIGGER queue_guard;
-- trigger_states: the guard is gone
DROP TRIGGER queue_guard ON queues;
-- trigger_states: keys are not checked
ALTER TABLE jobs DISABLE TRIGGER ALL;
-- trigger_states: tenants that are restored do not find the extension's
ALTER EVENT TRIGGER queue_service_ddl_start DISABLE;
-- comments trigger_states: a trigger that nobody listed
CREATE TRIGGER queue_guard BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION _queue_guard();

-- comments: a table
COMMENT ON TABLE jobs IS NULL;
-- comments: a column
COMMENT ON COLUMN jobs.priority IS NULL;
-- comments: a function
COMMENT ON FUNCTION queue_claim IS NULL;
-- comments: a trigger
COMMENT ON TRIGGER queue_guard ON queues IS NULL;
-- comments: an event trigger
COMMENT ON EVENT TRIGGER queue_service_ddl_end IS NULL;

-- schema_and_owner: another schema
CREATE SCHEMA other;
ALTER TABLE queue_metrics SET SCHEMA other;
-- schema_and_owner: another owner
ALTER FUNCTION queue_claim OWNER TO pg_monitor;
-- schema_and_owner: something of another kind
CREATE CAST (uuid AS jsonb) WITH INOUT;
ALTER EXTENSION queue_service ADD CAST (uuid AS jsonb);
