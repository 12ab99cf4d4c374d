-- Statistics of queues: what maintenance counts, and who sees it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set one '\'00000000-0000-4000-8000-000000009101\''
\set two '\'00000000-0000-4000-8000-000000009102\''
INSERT INTO tenants (id, name) VALUES (:one, 'one'), (:two, 'two');
CREATE FUNCTION pg_temp.count_all(now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT done > 0 OR more FROM _queue_task('recount', $1)) LOOP
	END LOOP;
	WHILE (SELECT more FROM _queue_task('sample', $1)) LOOP
	END LOOP;
	WHILE (SELECT more FROM _queue_task('flush', $1)) LOOP
	END LOOP;
END
$$;

SET app.current_tenant = :two;
SELECT queue_create('other') IS NOT NULL AS created;
SELECT count(*) FROM generate_series(1, 3) n, queue_enqueue('other', to_jsonb(n));
SET app.current_tenant = :one;
SELECT queue_create('q') IS NOT NULL AS q, queue_create('empty') IS NOT NULL AS empty;
SELECT count(*) FROM generate_series(1, 8) n, queue_enqueue('q', to_jsonb(n), priority => n % 3);
SELECT count(*) FROM generate_series(1, 4) n, queue_enqueue('q', to_jsonb(n), priority => n % 3, run_at => now() + interval '10 days');
SELECT created FROM queue_enqueue_critical('q', '13', 'k13');
SELECT created FROM queue_enqueue_critical('q', '14', 'k14', run_at => now() + interval '10 days');
SELECT count(*) FROM queue_claim('q', max_jobs => 3, lease => '9 days');
INSERT INTO jobs (queue_id, held) SELECT id, true FROM queues WHERE tenant_id = :one AND name = 'q';
\set columns 'queue, depth, delayed, processing, oldest_claimable_age > \'0\' AS due'
SELECT pg_temp.count_all(now() + interval '1 hour');
SELECT :columns FROM queue_stats ORDER BY queue;
SELECT name, depth, delayed, processing, oldest_claimable_at <= now() AS due, statistics_at > now() AS later FROM queues WHERE tenant_id = :one ORDER BY name;
-- as time passes, and jobs go
SELECT outcome, count(*) FROM jobs j, queue_complete(j.id, j.lease_token) WHERE j.tenant_id = :one AND status = 'processing' GROUP BY 1;
SELECT queue_purge('empty'), queue_purge('q', max_jobs => 2);
SELECT pg_temp.count_all(now() + interval '11 days');
SELECT :columns FROM queue_stats ORDER BY queue;
SELECT queue_purge('q', 'all');
SELECT pg_temp.count_all(now() + interval '12 days');
SELECT :columns FROM queue_stats ORDER BY queue;

-- a tenant's own, all for who serves all, none without a tenant
SET app.current_tenant = :two;
SELECT :columns FROM queue_stats ORDER BY queue;
RESET app.current_tenant;
SELECT :columns FROM queue_stats WHERE tenant_id IN (:one, :two) ORDER BY tenant_id, queue;
CREATE ROLE regress_queue_stats;
SET ROLE regress_queue_stats;
SELECT count(*) FROM queue_stats;
RESET ROLE;
SELECT queue_grant('regress_queue_stats', 'observer');
SET ROLE regress_queue_stats;
SELECT count(*) FROM queue_stats;
SET app.current_tenant = :two;
SELECT :columns FROM queue_stats ORDER BY queue;
RESET ROLE;
SELECT queue_revoke('regress_queue_stats', 'observer');
SET ROLE regress_queue_stats;
SELECT count(*) FROM queue_stats;
RESET ROLE;
DROP OWNED BY regress_queue_stats;
DROP ROLE regress_queue_stats;

-- a flush is no change of a definition
BEGIN;
SELECT count(*) FROM queue_peek('other');
UPDATE queues SET depth = depth + 1, statistics_at = now() WHERE tenant_id = :two;
SELECT pg_stat_get_xact_numscans('queues_tenant_id_name_key'::regclass) AS scans \gset
SELECT count(*) FROM queue_peek('other');
SELECT pg_stat_get_xact_numscans('queues_tenant_id_name_key'::regclass) - :scans AS read_anew;
UPDATE queues SET max_attempts = 7 WHERE tenant_id = :two;
SELECT pg_stat_get_xact_numscans('queues_tenant_id_name_key'::regclass) AS scans \gset
SELECT count(*) FROM queue_peek('other');
SELECT pg_stat_get_xact_numscans('queues_tenant_id_name_key'::regclass) - :scans AS read_anew;
ROLLBACK;
-- whichever column it is
SELECT string_agg(attname, ' ' ORDER BY attname) AS statistics
FROM pg_attribute a JOIN pg_trigger t ON t.tgrelid = a.attrelid AND t.tgname = 'queue_changed'
WHERE attrelid = 'queues'::regclass AND attnum > 0 AND attnum <> ALL (tgattr::int2[]);

-- triggers are called as triggers
SELECT _queue_removed();
CREATE TEMP TABLE t (a integer);
CREATE TRIGGER t BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION _queue_removed();
INSERT INTO t VALUES (1);
DELETE FROM t;

-- what is gone is forgotten
SET app.current_tenant = :one;
SELECT queue_drop('q', true), queue_drop('empty');
SELECT pg_temp.count_all(now() + interval '13 days');
SELECT count(*) FROM queue_stats;
RESET app.current_tenant;
SELECT queue_tenant_purge(:one) IS NOT NULL AS purged;
SELECT queue_tenant_purge(:two) IS NOT NULL AS purged;
DELETE FROM tenants WHERE id IN (:one, :two);
