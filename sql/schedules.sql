-- Schedules: what queue_schedule() states, and what the task "fire" makes of it by a clock that the test sets.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\set tenant '\'00000000-0000-4000-8000-000000007101\''
\set other '\'00000000-0000-4000-8000-000000007102\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'schedules'), (:other, 'other');
SET app.current_tenant = :other;
SELECT created FROM queue_create('q');
SET app.current_tenant = :tenant;
SELECT created FROM queue_create('q', max_attempts => 7);
SELECT created FROM queue_create('small', max_payload => 100);

-- a schedule is stated once or many times; its next time changes with its times only
SELECT created, next_run_at = queue_cron_next('0 3 * * *', 'Europe/Berlin') AS next FROM queue_schedule('s', 'q', '0 3 * * *', timezone => 'Europe/Berlin');
SELECT * FROM schedules \gset first_
CREATE TEMP VIEW s AS SELECT s.name, q.name AS queue, cron, timezone, job_type, payload, priority, catch_up, catch_up_max, overlap, jitter, s.enabled, next_run_at, last_run_at, last_job_id IS NOT NULL AS fired, retry_at, last_error
	FROM schedules s JOIN queues q ON q.id = queue_id AND q.tenant_id = s.tenant_id WHERE s.tenant_id = queue_tenant();
SELECT name, queue, cron, timezone, job_type, payload, priority, catch_up, catch_up_max, overlap, jitter, enabled, last_run_at, fired, retry_at, last_error FROM s;
UPDATE schedules SET next_run_at = '2027-01-01', retry_at = '2027-01-02', last_error = 'e' WHERE tenant_id = :tenant;
SELECT xmin AS row_version FROM schedules \gset
SELECT schedule_id = :'first_id' AS same, created, next_run_at FROM queue_schedule('s', 'q', '0 3 * * *', timezone => 'Europe/Berlin');
SELECT xmin = :'row_version' AS unwritten, last_error FROM schedules;
SELECT schedule_id = :'first_id' AS same, created, next_run_at FROM queue_schedule('s', 'small', '0 3 * * *', '{"a": 1}', 'Europe/Berlin', 'mail', 3, 'all', 5, 'skip', '10 seconds');
SELECT * FROM s;
SELECT next_run_at = queue_cron_next('0 4 * * *', 'Europe/Berlin') AS next FROM queue_schedule('s', 'q', '0 4 * * *', timezone => 'Europe/Berlin');
SELECT next_run_at = queue_cron_next('0 4 * * *') AS next FROM queue_schedule('s', 'q', '0 4 * * *');
SELECT next_run_at FROM queue_schedule('s', 'q', '0 4 * * *', enabled => false);
SELECT xmin AS row_version FROM schedules \gset
SELECT created, next_run_at FROM queue_schedule('s', 'q', '0 4 * * *', enabled => false);
SELECT xmin = :'row_version' AS unwritten, next_run_at FROM schedules;
SELECT next_run_at = queue_cron_next('0 4 * * *') AS next FROM queue_schedule('s', 'q', '0 4 * * *');
-- never at or before a time that it has fired for, even if the clock went back
UPDATE schedules SET next_run_at = '2090-01-01 00:01', last_run_at = '2090-01-01 00:00:00';
SELECT next_run_at FROM queue_schedule('s', 'q', '0 5 * * *');
\set VERBOSITY terse
UPDATE schedules SET next_run_at = '2026-01-01', last_run_at = NULL;
UPDATE schedules SET last_run_at = '2026-01-01';
UPDATE schedules SET next_run_at = 'infinity';
UPDATE schedules SET next_run_at = '-infinity';
-- each tenant has its own
SET app.current_tenant = :other;
SELECT queue_unschedule('s');
SELECT created FROM queue_schedule('s', 'q', '* * * * *');
SELECT queue_unschedule('s'), queue_unschedule('s');
SELECT created FROM queue_schedule('x', 'small', '* * * * *');
SET app.current_tenant = :tenant;
SELECT queue_unschedule('s'), queue_unschedule('s');
SELECT count(*) FROM schedules;

-- what is wrong
CREATE FUNCTION pg_temp.wrong(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	EXECUTE 'SELECT queue_schedule(' || arguments || ')';
	RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', SQLSTATE, message, nullif(detail, ''));
END$$;
SELECT arguments, pg_temp.wrong(arguments) FROM unnest(ARRAY[
	'NULL, ''q'', ''@daily''', ''''', ''q'', ''@daily''', '''s'', NULL, ''@daily''', '''s'', ''none'', ''@daily''', '''s'', ''q'', NULL', '''s'', ''q'', ''0 0 * *''', '''s'', ''q'', ''0 0 30 2 *''']
	|| ARRAY(SELECT '''s'', ''q'', ''@daily'', ' || a FROM unnest(ARRAY['payload => NULL', 'timezone => NULL', 'timezone => ''Mars''', 'job_type => NULL', 'job_type => ''''', 'priority => NULL', 'priority => 40000', 'catch_up => NULL', 'catch_up => ''some''',
	'catch_up_max => NULL', 'catch_up_max => 0', 'catch_up_max => 10001', 'overlap => NULL', 'overlap => ''some''', 'jitter => NULL', 'jitter => ''-1s''', 'jitter => ''2 years''', 'enabled => NULL']) a)
	|| ARRAY['''s'', ''small'', ''@daily'', to_jsonb(repeat(''x'', 100))']) arguments;
\set VERBOSITY sqlstate
SELECT queue_unschedule(NULL);
SELECT queue_unschedule('');
\set VERBOSITY terse
SELECT count(*) FROM schedules;

-- firing, at a time that the test sets; other tests' schedules are not in the way
CREATE FUNCTION pg_temp.fire(now timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', done, more) FROM _queue_task('fire', now) $$;
CREATE TEMP VIEW j AS SELECT s.name AS schedule, q.name AS queue, j.run_at, j.headers->>'due_at' AS due_at, headers->>'schedule' AS says, j.job_type, j.payload, j.priority, j.max_attempts, j.status
	FROM jobs j JOIN queues q ON q.id = j.queue_id LEFT JOIN schedules s ON s.id = j.schedule_id WHERE j.tenant_id = queue_tenant();
CREATE FUNCTION pg_temp.at(name text, next timestamptz) RETURNS void LANGUAGE sql AS $$ UPDATE schedules SET next_run_at = next, last_run_at = NULL WHERE schedules.name = at.name AND tenant_id = queue_tenant() $$;
SELECT FROM queue_schedule('every "10" minutes', 'q', '*/10 * * * *', '{"n": 1}', job_type => 'tick', priority => 5);
SELECT pg_temp.at('every "10" minutes', '2026-05-05 12:10');
SELECT pg_temp.fire('2026-05-05 12:09:59.999999');
SELECT pg_temp.fire('2026-05-05 12:10');
SELECT * FROM j;
SELECT name, next_run_at, last_run_at, fired FROM s;
SELECT j.id = last_job_id AS last, enqueued_at FROM jobs j JOIN schedules s ON s.id = schedule_id;
SELECT pg_temp.fire('2026-05-05 12:10'), pg_temp.fire('2026-05-05 12:19');
SELECT pg_temp.fire('2026-05-05 12:20:03');
SELECT due_at, run_at FROM j ORDER BY due_at;
-- an ordinary worker takes it
SELECT payload, headers, max_attempts FROM queue_claim('q', max_jobs => 1);
-- it does not fire for what it has fired for, even if it is set back
BEGIN;
UPDATE schedules SET next_run_at = '2026-05-05 12:20' WHERE tenant_id = :tenant;
ROLLBACK;
-- by hand, at any time
UPDATE schedules SET next_run_at = '2026-05-05 12:23:45' WHERE tenant_id = :tenant;
SELECT pg_temp.fire('2026-05-05 12:24');
SELECT name, next_run_at, last_run_at FROM s;
-- not while it is disabled
UPDATE schedules SET enabled = false WHERE tenant_id = :tenant;
SELECT pg_temp.fire('2026-05-05 13:00');
SELECT queue_unschedule('every "10" minutes');
SELECT count(*), count(schedule) AS with_schedule FROM j;
SELECT queue_purge('q', 'all') > 0 AS purged;
DELETE FROM jobs;

-- a row of plain SQL, or of a dump, is due next after now
INSERT INTO schedules (name, queue_id, cron) SELECT 'plain', id, '@hourly' FROM queues WHERE name = 'q' AND tenant_id = :tenant;
INSERT INTO schedules (name, queue_id, cron, enabled) SELECT 'plain off', id, '@hourly', false FROM queues WHERE name = 'q' AND tenant_id = :tenant;
SELECT pg_temp.fire('2026-05-05 12:30');
SELECT name, next_run_at, last_run_at, fired FROM s ORDER BY name;
SELECT pg_temp.fire('2026-05-05 13:00');
SELECT due_at FROM j;
DELETE FROM schedules; DELETE FROM jobs;

-- a day of downtime, by each policy
SELECT FROM unnest(ARRAY['none', 'last', 'all']) c, unnest(ARRAY[3, 100]) m, queue_schedule(c || ' ' || m, 'q', '0 */6 * * *', catch_up => c, catch_up_max => m);
SELECT pg_temp.at(name, '2026-05-05 12:00') FROM s;
SELECT pg_temp.fire('2026-05-06 12:00:30');
SELECT schedule, string_agg(due_at, ' ' ORDER BY due_at) FROM j GROUP BY schedule ORDER BY schedule;
SELECT name, next_run_at, last_run_at FROM s ORDER BY name;
DELETE FROM jobs;
-- ... none fires what is a minute late at most
SELECT pg_temp.at(name, '2026-05-05 12:00') FROM s;
SELECT pg_temp.fire('2026-05-06 13:07');
SELECT schedule, string_agg(due_at, ' ' ORDER BY due_at) FROM j GROUP BY schedule ORDER BY schedule;
SELECT name, next_run_at, last_run_at FROM s WHERE name LIKE 'none%' ORDER BY name;
DELETE FROM jobs;
SELECT pg_temp.at(name, '2026-05-05 12:00') FROM s;
SELECT pg_temp.fire('2026-05-05 12:01'), pg_temp.at('none 3', '2026-05-05 12:00'), pg_temp.fire('2026-05-05 12:01:00.000001');
SELECT schedule, string_agg(due_at, ' ' ORDER BY due_at) FROM j GROUP BY schedule ORDER BY schedule;
DELETE FROM schedules; DELETE FROM jobs;
-- ... also over a change of the clocks, and after years
SELECT FROM queue_schedule('dst', 'q', '30 2 * * *', timezone => 'Europe/Berlin', catch_up => 'all') a, queue_schedule('hourly', 'q', '@hourly', catch_up => 'all', catch_up_max => 2) b, queue_schedule('leap', 'q', '0 0 29 2 *', catch_up => 'all', catch_up_max => 3) c,
	queue_schedule('minutes of new year', 'q', '* * 1 1 *', catch_up => 'all', catch_up_max => 2) d;
SELECT pg_temp.at(name, '1990-01-01 00:00') FROM s;
SELECT pg_temp.at('dst', '2026-03-28 01:30');
SELECT pg_temp.fire('2026-03-30 12:00');
SELECT schedule, string_agg(due_at, ' ' ORDER BY due_at) FROM j GROUP BY schedule ORDER BY schedule;
SELECT name, next_run_at, last_run_at FROM s ORDER BY name;
DELETE FROM schedules; DELETE FROM jobs;

-- overlap: skip while the last job is unfinished
SELECT FROM queue_schedule('skip', 'q', '* * * * *', overlap => 'skip', catch_up => 'all');
SELECT pg_temp.at('skip', '2026-05-05 12:00');
SELECT pg_temp.fire('2026-05-05 12:05'), pg_temp.fire('2026-05-05 12:06');
SELECT due_at, status FROM j;
SELECT next_run_at, last_run_at FROM s;
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT pg_temp.fire('2026-05-05 12:07');
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT pg_temp.fire('2026-05-05 12:08');
SELECT due_at, status FROM j ORDER BY due_at;
-- ... a dead letter is finished, and so is a job that is gone
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'broken', dead => true);
SELECT pg_temp.fire('2026-05-05 12:09');
DELETE FROM jobs;
SELECT pg_temp.fire('2026-05-05 12:10');
-- ... a letter that is sent back tells where it came from
SELECT count(*) FROM queue_redrive('q');
SELECT count(*), count(schedule) AS with_schedule FROM j;
DELETE FROM schedules; DELETE FROM jobs; DELETE FROM dead_letter_jobs;

-- jitter: later by up to so much, and before the next due time
SELECT FROM queue_schedule('jitter', 'q', '* * * * *', jitter => '10 seconds', catch_up => 'all', catch_up_max => 1000) a, queue_schedule('much', 'q', '* * * * *', jitter => '1 day', catch_up => 'all', catch_up_max => 1000) b;
SELECT pg_temp.at(name, '2026-05-05 12:00') FROM s;
SELECT pg_temp.fire('2026-05-06 04:39');
SELECT schedule, count(*), min(run_at - due_at::timestamptz) >= '0' AS early, max(run_at - due_at::timestamptz) BETWEEN '9 seconds' AND '10 seconds' AS ten, max(run_at - due_at::timestamptz) BETWEEN '50 seconds' AND '59.999999 seconds' AS minute,
	count(DISTINCT run_at - due_at::timestamptz) > 900 AS random FROM j GROUP BY schedule ORDER BY schedule;
DELETE FROM schedules; DELETE FROM jobs;

-- one that cannot fire is not in the way of others: it says why, and is tried again each minute
SELECT FROM generate_series(1, 300) n, queue_schedule('s' || n, 'q', '* * * * *');
UPDATE schedules SET next_run_at = '2026-05-05 12:00' WHERE tenant_id = :tenant;
UPDATE schedules SET cron = 'never' WHERE name = 's7';
UPDATE schedules SET timezone = 'Mars' WHERE name = 's150';
UPDATE schedules SET job_type = repeat('x', 200) WHERE name = 's151';
UPDATE schedules SET payload = to_jsonb(repeat('x', 200)), queue_id = (SELECT id FROM queues WHERE name = 'small') WHERE name = 's300';
UPDATE schedules SET queue_id = (SELECT id FROM queues WHERE name = 'small'), next_run_at = NULL, cron = 'never' WHERE name = 's299';
SELECT pg_temp.fire('2026-05-05 12:00:10');
SELECT count(DISTINCT schedule), count(*) FROM j;
SELECT name, next_run_at, last_run_at, retry_at, last_error FROM s WHERE last_error IS NOT NULL ORDER BY name;
SELECT pg_temp.fire('2026-05-05 12:00:59');
UPDATE schedules SET cron = '* * * * *' WHERE name = 's7';
SELECT pg_temp.fire('2026-05-05 12:01:09');
SELECT name, last_run_at, retry_at FROM s WHERE last_error IS NOT NULL ORDER BY name;
SELECT pg_temp.fire('2026-05-05 12:01:10');
SELECT name, last_run_at, retry_at FROM s WHERE last_error IS NOT NULL ORDER BY name;
SELECT next_run_at, last_run_at, retry_at, last_error FROM s WHERE name = 's7';
-- ... a trigger of the user's as well
CREATE FUNCTION regress_schedules_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.headers->>'schedule' LIKE 's1%' THEN RAISE 'not today'; END IF; RETURN new; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION regress_schedules_refuse();
DELETE FROM schedules WHERE last_error IS NOT NULL;
SELECT pg_temp.fire('2026-05-05 12:05');
SELECT last_error, count(*), count(*) FILTER (WHERE name LIKE 's1%') AS refused, max(last_run_at) AS last FROM s GROUP BY 1 ORDER BY 1;
DROP TRIGGER refuse ON jobs;
DROP FUNCTION regress_schedules_refuse;
DELETE FROM schedules; DELETE FROM jobs;

-- bounded: a thousand schedules, ten thousand jobs in a run
SELECT FROM generate_series(1, 1005) n, queue_schedule('s' || n, 'q', '* * * * *');
UPDATE schedules SET next_run_at = '2026-05-05 12:00' WHERE tenant_id = :tenant;
SELECT pg_temp.fire('2026-05-05 12:00'), pg_temp.fire('2026-05-05 12:00'), pg_temp.fire('2026-05-05 12:00');
SELECT count(*), count(DISTINCT schedule) FROM j;
DELETE FROM schedules; DELETE FROM jobs;
SELECT FROM generate_series(1, 4) n, queue_schedule('s' || n, 'q', '* * * * *', catch_up => 'all', catch_up_max => 6000);
UPDATE schedules SET next_run_at = '2026-05-01 12:00' WHERE tenant_id = :tenant;
SELECT pg_temp.fire('2026-05-05 12:00'), pg_temp.fire('2026-05-05 12:00'), pg_temp.fire('2026-05-05 12:00');
SELECT schedule, count(*), min(due_at), max(due_at) FROM j GROUP BY 1 ORDER BY 1;
-- all of it at once
UPDATE schedules SET next_run_at = '2026-05-06 12:00' WHERE tenant_id = :tenant;
SELECT task, done, error FROM queue_maintain('2026-05-06 12:01') WHERE task = 'fire';
DELETE FROM schedules; DELETE FROM jobs;

-- tenants: each into its own queue; a foreign one cannot be named
SELECT FROM queue_schedule('mine', 'q', '* * * * *');
SET app.current_tenant = :other;
SELECT FROM queue_schedule('theirs', 'q', '* * * * *');
UPDATE schedules SET next_run_at = '2026-05-05 12:00';
SET app.current_tenant = '';
SELECT pg_temp.fire('2026-05-05 12:00');
SELECT s.name, j.tenant_id = s.tenant_id AS same_tenant, q.tenant_id = s.tenant_id AS same_queue FROM jobs j JOIN schedules s ON s.id = j.schedule_id JOIN queues q ON q.id = j.queue_id WHERE j.tenant_id IN (:tenant, :other) ORDER BY 1;
UPDATE schedules s SET queue_id = (SELECT id FROM queues WHERE name = 'q' AND tenant_id = :tenant) WHERE name = 'theirs';
DELETE FROM schedules; DELETE FROM jobs;

-- at REPEATABLE READ it does not fire twice either
SET app.current_tenant = :tenant;
SELECT FROM queue_schedule('rr', 'q', '* * * * *');
SELECT pg_temp.at('rr', '2026-05-05 12:00');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.fire('2026-05-05 12:00'), pg_temp.fire('2026-05-05 12:00');
COMMIT;
SELECT count(*) FROM j;
-- a queue goes with its schedules, if that is meant
SELECT queue_drop('q');
SELECT queue_drop('q', force => true);
SELECT count(*) FROM schedules;

SELECT one.done, two.done FROM queue_tenant_purge(:tenant) one, queue_tenant_purge(:other) two;
DELETE FROM tenants WHERE id IN (:tenant, :other);
