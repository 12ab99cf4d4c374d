-- Alerts: raised at a threshold, resolved well below it, once each.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-00000000a1e1\''
\set rival '\'00000000-0000-4000-8000-00000000a1e2\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'alerts'), (:rival, 'rival of alerts');
SET app.current_tenant = :tenant;
SET queue_service.alert_horizon = 0;
SELECT queue_create('q', alert_depth => 100, alert_age => '10 hours', alert_dead => 10) IS NOT NULL AS created, queue_create('silent') IS NOT NULL AS silent;
PREPARE run AS SELECT done, more FROM _queue_task('alerts', $1);
PREPARE alerts AS SELECT q.name, a.alert, a.severity, a.message, a.value, a.threshold, a.raised_at - '2030-01-01 UTC' AS raised, a.resolved_at - '2030-01-01 UTC' AS resolved
FROM alert_history a JOIN queues q ON q.id = a.queue_id WHERE a.tenant_id IN (:tenant, :rival) ORDER BY a.raised_at, a.alert, q.name;
CREATE FUNCTION pg_temp.at(hours double precision, minutes integer DEFAULT 0) RETURNS timestamptz LANGUAGE sql AS $$SELECT timestamptz '2030-01-01 UTC' + hours * interval '1 hour' + minutes * interval '1 minute'$$;
-- makes so many jobs wait, which are not due yet
CREATE FUNCTION pg_temp.fill(name text, depth integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	n integer := fill.depth - count(*) FROM jobs j JOIN queues q ON q.id = queue_id WHERE q.name = fill.name AND j.tenant_id = queue_tenant();
BEGIN
	PERFORM queue_enqueue_many(name, array_fill('1'::jsonb, ARRAY[greatest(n, 0)]), run_at => '2040-01-01') WHERE n > 0;
	PERFORM queue_purge(name, max_jobs => -n) WHERE n < 0;
END
$$;
-- makes a job wait that is due from then on, and no other
CREATE FUNCTION pg_temp.wait_since(run_at timestamptz) RETURNS void LANGUAGE sql AS $$SELECT queue_purge('q'); SELECT queue_enqueue('q', '1', run_at => $1); $$;
-- without shared memory only what is counted now and then is known
CREATE PROCEDURE pg_temp.look(hours double precision) LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT done > 0 OR more FROM _queue_task('recount', pg_temp.at(hours))) LOOP
	END LOOP;
	WHILE (SELECT more FROM _queue_task('sample', pg_temp.at(hours))) LOOP
	END LOOP;
END
$$;

-- nothing waits yet
EXECUTE run (pg_temp.at(0));

-- depth: at the threshold, and not below 80 % of it
\o /dev/null
SELECT pg_temp.fill('q', 99);
CALL pg_temp.look(1);
\o
EXECUTE run (pg_temp.at(1));
\o /dev/null
SELECT pg_temp.fill('q', 100);
CALL pg_temp.look(2);
\o
EXECUTE run (pg_temp.at(2));
EXECUTE run (pg_temp.at(3));
EXECUTE alerts;
-- up and down around the threshold it stays raised
\o /dev/null
SELECT pg_temp.fill('q', 99);
CALL pg_temp.look(4);
\o
EXECUTE run (pg_temp.at(4));
\o /dev/null
SELECT pg_temp.fill('q', 101);
CALL pg_temp.look(5);
\o
EXECUTE run (pg_temp.at(5));
\o /dev/null
SELECT pg_temp.fill('q', 80);
CALL pg_temp.look(6);
\o
EXECUTE run (pg_temp.at(6));
\o /dev/null
SELECT pg_temp.fill('q', 79);
CALL pg_temp.look(7);
\o
EXECUTE run (pg_temp.at(7));
\o /dev/null
SELECT pg_temp.fill('q', 99);
CALL pg_temp.look(8);
\o
EXECUTE run (pg_temp.at(8));
-- anew it is another alert
\o /dev/null
SELECT pg_temp.fill('q', 1000);
CALL pg_temp.look(9);
\o
EXECUTE run (pg_temp.at(9));
EXECUTE alerts;
-- a threshold that is raised, or taken away, resolves it
SELECT queue_set('q', alert_depth => 2000) IS NOT NULL AS set;
EXECUTE run (pg_temp.at(10));
SELECT queue_set('q', alert_depth => 500) IS NOT NULL AS set;
EXECUTE run (pg_temp.at(11));
SELECT queue_set('q', alert_depth => 0) IS NOT NULL AS set;
EXECUTE run (pg_temp.at(12));
-- defaults, for queues that have none
SET queue_service.alert_depth = 1000;
\o /dev/null
SELECT pg_temp.fill('silent', 1000);
CALL pg_temp.look(13);
\o
EXECUTE run (pg_temp.at(13));
RESET queue_service.alert_depth;
EXECUTE run (pg_temp.at(14));
EXECUTE alerts;
DELETE FROM alert_history WHERE tenant_id = :tenant;

-- age: time alone raises it; not of a paused queue
\o /dev/null
SELECT pg_temp.wait_since(pg_temp.at(20));
CALL pg_temp.look(29.9);
\o
EXECUTE run (pg_temp.at(29.9));
EXECUTE run (pg_temp.at(30));
\o /dev/null
SELECT pg_temp.wait_since(pg_temp.at(25));
CALL pg_temp.look(33);
\o
EXECUTE run (pg_temp.at(33));
\o /dev/null
SELECT pg_temp.wait_since(pg_temp.at(26));
CALL pg_temp.look(33.9);
\o
EXECUTE run (pg_temp.at(33.9));
EXECUTE run (pg_temp.at(36));
SELECT queue_pause('q');
EXECUTE run (pg_temp.at(37));
SELECT queue_resume('q');
EXECUTE run (pg_temp.at(38));
\o /dev/null
SELECT queue_purge('q');
CALL pg_temp.look(39);
\o
EXECUTE run (pg_temp.at(39));
SET queue_service.alert_age = '5 h';
\o /dev/null
SELECT pg_temp.wait_since(pg_temp.at(40));
SELECT queue_purge('silent');
SELECT queue_enqueue('silent', '1', run_at => pg_temp.at(40));
CALL pg_temp.look(46);
\o
EXECUTE run (pg_temp.at(46));
RESET queue_service.alert_age;
\o /dev/null
SELECT queue_purge('q');
CALL pg_temp.look(47);
\o
EXECUTE run (pg_temp.at(47));
EXECUTE alerts;
DELETE FROM alert_history WHERE tenant_id = :tenant;

-- dead: letters of the last hour
INSERT INTO dead_letter_jobs (id, queue_id, source_table, reason, died_at, attempts, max_attempts, priority, run_at, enqueued_at, job_type, payload)
SELECT gen_random_uuid(), id, 'jobs', 'dead', pg_temp.at(100, i * 2), 1, 3, 0, now(), now(), 'secret type', '"secret"' FROM queues, generate_series(0, 11) i WHERE tenant_id = :tenant AND name = 'q';
EXECUTE run (pg_temp.at(100, 17));
EXECUTE run (pg_temp.at(100, 18));
EXECUTE run (pg_temp.at(100, 65));
EXECUTE run (pg_temp.at(100, 68));
EXECUTE alerts;
DELETE FROM alert_history WHERE tenant_id = :tenant;

-- one open alert of a kind, whoever writes it
INSERT INTO alert_history (queue_id, alert, message) SELECT id, 'depth', 'one' FROM queues WHERE tenant_id = :tenant AND name = 'q';
INSERT INTO alert_history (queue_id, alert, message) SELECT id, 'depth', 'two' FROM queues WHERE tenant_id = :tenant AND name = 'q';
INSERT INTO alert_history (tenant_id, alert, message) VALUES (NULL, 'test', 'one');
INSERT INTO alert_history (tenant_id, alert, message) VALUES (NULL, 'test', 'two');
DELETE FROM alert_history WHERE tenant_id = :tenant OR alert = 'test';

-- of many queues, in batches; of those that maintenance has not come by, the row is all that is known
INSERT INTO queues (name, depth, alert_depth) SELECT 'many ' || i, 10, 5 FROM generate_series(1, 1500) i;
SELECT more FROM _queue_task('alerts', pg_temp.at(200));
SELECT more FROM _queue_task('alerts', pg_temp.at(200));
SELECT count(*), count(resolved_at) AS resolved FROM alert_history WHERE tenant_id = :tenant;
UPDATE queues SET depth = 0 WHERE tenant_id = :tenant;
SELECT task, done, error FROM queue_maintain(pg_temp.at(201)) WHERE task = 'alerts';
SELECT count(*), count(resolved_at) AS resolved FROM alert_history WHERE tenant_id = :tenant;

-- NOTIFY says that there was something, and nothing more; a tenant sees its own
LISTEN queue_service_alerts;
SET app.current_tenant = :rival;
SELECT queue_create('q', alert_depth => 1) IS NOT NULL AS created;
\o /dev/null
SELECT pg_temp.fill('q', 1);
CALL pg_temp.look(210);
EXECUTE run (pg_temp.at(210));
EXECUTE run (pg_temp.at(210));
\o
CREATE ROLE regress_alerts;
SELECT queue_grant('regress_alerts', 'observer') IS NOT NULL AS granted \gset
SET ROLE regress_alerts;
SELECT alert, message FROM alert_history;
SET app.current_tenant = :tenant;
SELECT count(*) FROM alert_history WHERE message LIKE '%"q"%';
SELECT count(*) FROM queue_health WHERE item = 'horizon';
RESET ROLE;
SELECT ok, detail FROM queue_health WHERE item = 'horizon';
SET queue_service.alert_horizon = '1 d';
SELECT ok, detail FROM queue_health WHERE item = 'horizon';
UNLISTEN queue_service_alerts;

RESET app.current_tenant;
SELECT queue_revoke('regress_alerts', 'observer') IS NOT NULL AS revoked \gset
DROP OWNED BY regress_alerts;
DROP ROLE regress_alerts;
SELECT done FROM (SELECT (queue_tenant_purge(id)).done FROM tenants WHERE name LIKE '%alerts') p;
DELETE FROM tenants WHERE name LIKE '%alerts';
