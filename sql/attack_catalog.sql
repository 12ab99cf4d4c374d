-- Attacks by what PostgreSQL tells everybody: catalogs, statistics, locks, files.
-- What it does tell of a table as a whole is listed in doc/security.md.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/sql/attack.inc'
\i :file

-- attack: Catalogs: comments, definitions, policies, dependencies
-- fails: they describe the extension, and nothing that a tenant has put in
SELECT DISTINCT split_part(attack.try(format('SELECT r::text FROM %s r', c)), ':', 1) FROM unnest('{pg_class, pg_attribute, pg_proc, pg_policies, pg_constraint, pg_index,
	pg_depend, pg_description, pg_trigger, pg_views, pg_rules, pg_tables, pg_attrdef, pg_settings, pg_db_role_setting, pg_seclabels, pg_namespace}'::text[]) c;
SELECT DISTINCT split_part(attack.try(format('SELECT r::text FROM information_schema.%I r', c)), ':', 1) FROM unnest('{tables, columns, triggers, routines, table_constraints}'::text[]) c;
-- attack: Views of statistics: who does what, on which rows
-- fails: the text of queries is shown to members of the role only; counts are those of whole tables
SELECT DISTINCT split_part(attack.try(format('SELECT r::text FROM %s r', c)), ':', 1) FROM unnest('{pg_stat_activity, pg_stat_user_tables, pg_statio_user_tables, pg_stat_user_indexes,
	pg_stat_user_functions, pg_stat_database, pg_stat_xact_user_tables, pg_stat_progress_copy, pg_stat_replication, pg_stat_subscription}'::text[]) c;
-- attack: Locks, waits, prepared transactions, cursors and statements of others
-- fails: they show relations, numbers and hashes, no names or ids of rows
SELECT DISTINCT split_part(attack.try(format('SELECT r::text FROM %s r', c)), ':', 1) FROM unnest('{pg_locks, pg_prepared_xacts, pg_cursors, pg_prepared_statements, pg_timezone_abbrevs, pg_replication_slots}'::text[]) c;
SELECT split_part(attack.try('SELECT pg_blocking_pids(pid), pg_safe_snapshot_blocking_pids(pid) FROM pg_stat_activity'), ':', 1);
-- attack: Size, pages and files of tables, to see what others write
-- fails: sizes are known, as PostgreSQL tells them to everybody; contents are not
SELECT attack.try(format('SELECT %s IS NULL', f)) FROM unnest(ARRAY['pg_relation_size(''jobs'')', 'pg_total_relation_size(''jobs'')', 'pg_relation_filepath(''jobs'')']) f;
SELECT attack.try('SELECT pg_read_binary_file(pg_relation_filepath(''jobs''))');
SELECT attack.try('SELECT pg_read_file(''PG_VERSION'')');
SELECT attack.try('SELECT pg_ls_dir(''base'')');
SELECT attack.try('SELECT * FROM pg_hba_file_rules');
SELECT attack.try('SELECT pg_current_logfile(), pg_ls_logdir()');
-- attack: Pages through extensions
-- fails: for superusers
SELECT DISTINCT attack.try('CREATE EXTENSION ' || name) FROM pg_available_extensions
	WHERE name IN ('pageinspect', 'pg_buffercache', 'pgstattuple', 'amcheck', 'pg_visibility', 'file_fdw', 'postgres_fdw');
-- attack: The write-ahead log: a replication slot, a publication, a subscription
-- fails: these need REPLICATION, ownership or a superuser
SELECT attack.try('SELECT pg_create_logical_replication_slot(''s'', ''test_decoding'')');
SELECT attack.try('SELECT pg_logical_slot_peek_changes(''s'', NULL, NULL)');
SELECT attack.try('CREATE PUBLICATION p FOR TABLE public.jobs');
SELECT attack.try('CREATE PUBLICATION p FOR ALL TABLES');
SELECT attack.try('CREATE SUBSCRIPTION s CONNECTION ''dbname=postgres'' PUBLICATION p WITH (connect = false)');
-- attack: VACUUM, ANALYZE, CLUSTER or REINDEX of our tables
-- fails: for the owner
ANALYZE jobs;
SELECT attack.try('CLUSTER jobs USING jobs_pkey');
SELECT attack.try('REINDEX TABLE jobs');
SELECT attack.try('SELECT pg_stat_reset_single_table_counters(''jobs''::regclass)');
-- attack: Sequences: lastval(), currval(), and the gaps in them
-- fails: there are none; ids are times and random bits
SELECT attack.try('SELECT lastval()');
SELECT count(*) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'queue_service') AND c.relkind = 'S';
-- attack: Advisory locks that stand in the way of ours
-- fails: ours are of another kind, which no function of SQL takes
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';
BEGIN;
SELECT count(pg_advisory_xact_lock(h)) FROM (SELECT hashtext(id::text) AS h FROM attack.object WHERE id IS NOT NULL) s;
SELECT attack.try('SELECT count(*) FROM queue_claim(''alpha'')');
ROLLBACK;
-- attack: Large objects
-- fails: we have none; those of others are not readable
SELECT attack.try('SELECT loid FROM pg_largeobject_metadata l (loid)');
SELECT attack.try('SELECT * FROM pg_largeobject');
SELECT attack.try('SELECT lo_import(''/etc/hostname'')');
-- attack: End or cancel the session of another tenant, or have the server read its files anew
-- fails: these need membership of its role, or a superuser
SELECT attack.try('SELECT pg_current_snapshot() IS NULL');
SELECT attack.try('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = ''checkpointer''');
SELECT attack.try('SELECT pg_reload_conf()');
-- attack: Commit or roll back the prepared transaction of somebody else
-- fails: for who prepared it, and superusers
COMMIT PREPARED 'somebody''s';
-- attack: xmin of a row by other ways: txid_status(), pg_xact_commit_timestamp()
-- fails: they tell of a transaction whose number is known; none is told by our tables
SELECT attack.try('SELECT pg_xact_commit_timestamp(xmin) FROM jobs');
SELECT attack.try('SELECT pg_xact_status(pg_current_xact_id_if_assigned())');
-- attack: The privileges of others
-- fails: they are no secret, and no right
SELECT attack.try('SELECT has_function_privilege(''regress_attacker'', ''public._queue_all_tenants()'', ''EXECUTE'')');
-- attack: Names of functions that are internal
-- fails: EXECUTE is granted to nobody but on what the views of observers call
SELECT DISTINCT attack.try(format('SELECT %I(%s)', proname, (SELECT string_agg(format('NULL::%s', t::regtype), ', ') FROM unnest(proargtypes) t)))
FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname LIKE '\_queue%' AND prokind = 'f'
AND NOT has_function_privilege(oid, 'EXECUTE');

\set file :abs_srcdir '/sql/attack.end'
\i :file
