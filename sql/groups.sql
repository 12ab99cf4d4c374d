-- Groups: how many jobs of a group are let go at once, who is next, and what a failed job does to them.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000002a01\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'groups');
SET app.current_tenant = :tenant;
SELECT count(queue_create(n, group_concurrency => k, group_on_failure => f, max_attempts => a, keep_completed => c::interval, dead_letters => d)) AS created FROM (VALUES
	('one', 1, 'block', 3, '1 day', true), ('two', 2, 'pass', 1, '0', true), ('stays', 1, 'block', 1, '1 day', false),
	('free', NULL, NULL, NULL, NULL, NULL), ('both', 1, 'block', 3, '0', true)) q (n, k, f, a, c, d);
CREATE TEMP TABLE leased (job text, id uuid PRIMARY KEY, token bigint);
-- claims one job of a queue
CREATE FUNCTION pg_temp.next(queue text) RETURNS text LANGUAGE sql AS $$
	WITH c AS (INSERT INTO leased SELECT payload #>> '{}', job_id, lease_token FROM queue_claim($1, 'w') ON CONFLICT (id) DO UPDATE SET token = excluded.token RETURNING job)
	SELECT coalesce((SELECT job FROM c), 'none')
$$;
CREATE FUNCTION pg_temp.complete(job text) RETURNS text LANGUAGE sql AS $$
	SELECT c.outcome FROM leased l, queue_complete(l.id, l.token) c WHERE l.id = (SELECT max(id::text)::uuid FROM leased WHERE leased.job = $1)
$$;
CREATE FUNCTION pg_temp.fail(job text, dead boolean) RETURNS text LANGUAGE sql AS $$
	SELECT f.outcome FROM leased l, queue_fail(l.id, l.token, 'no', retry_in => '0', dead => $2) f WHERE l.id = (SELECT max(id::text)::uuid FROM leased WHERE leased.job = $1)
$$;
CREATE FUNCTION pg_temp.enqueue(queue text, key text, jobs text) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM string_to_table($3, ' ') j, queue_enqueue($1, to_jsonb(j), group_key => $2)
$$;
CREATE VIEW pg_temp.groups AS
SELECT q.name AS queue, j.group_key, string_agg(j.job, ' ' ORDER BY j.run_at, j.id) FILTER (WHERE NOT held) AS let_go, string_agg(j.job, ' ' ORDER BY j.priority DESC, j.run_at, j.id) FILTER (WHERE held) AS held
FROM (SELECT queue_id, group_key, payload #>> '{}' AS job, held, priority, run_at, id FROM jobs WHERE finished_at IS NULL
	UNION ALL SELECT queue_id, group_key, payload #>> '{}', held, priority, run_at, id FROM critical_jobs WHERE finished_at IS NULL) j
JOIN queues q ON q.id = j.queue_id WHERE q.tenant_id = :tenant GROUP BY 1, 2 ORDER BY 1, 2;

-- one after the other; groups do not wait for each other, and who is in none waits for nobody
SELECT pg_temp.enqueue('one', 'a', 'a1 a2 a3'), pg_temp.enqueue('one', 'b', 'b1 b2'), pg_temp.enqueue('one', NULL, 'x1 x2'), pg_temp.enqueue('free', 'a', 'f1 f2');
TABLE pg_temp.groups;
SELECT pg_temp.next('one') FROM generate_series(1, 5);
SELECT pg_temp.complete('a1'), pg_temp.complete('x1');
TABLE pg_temp.groups;
SELECT pg_temp.next('one') FROM generate_series(1, 2);
-- a job that is tried again, waits, or was given back keeps its place
SELECT pg_temp.fail('a2', false), (SELECT s.outcome FROM leased, queue_snooze(id, token, '1 hour') s WHERE job = 'b1');
SELECT pg_temp.next('one') FROM generate_series(1, 2);
SELECT r.outcome FROM leased, queue_release(id, token) r WHERE job = 'a2';
SELECT pg_temp.next('one') FROM generate_series(1, 2);
TABLE pg_temp.groups;
-- ... also when its lease runs out
UPDATE jobs SET leased_until = now() WHERE payload = '"a2"' AND status = 'processing';
SELECT pg_temp.next('one') FROM generate_series(1, 2);
-- failed for good: the group is blocked, until it is retried
SELECT pg_temp.fail('a2', true);
SELECT pg_temp.enqueue('one', 'a', 'a4');
SELECT pg_temp.next('one');
SELECT r.outcome FROM dead_letter_jobs d, queue_retry(d.id) r WHERE payload = '"a2"';
SELECT pg_temp.next('one') FROM generate_series(1, 2);
SELECT pg_temp.complete('a2');
SELECT pg_temp.next('one') FROM generate_series(1, 2);
-- ... redriven, cancelled or deleted
SELECT pg_temp.fail('a3', true), pg_temp.next('one'), queue_redrive('one'), pg_temp.next('one'), pg_temp.next('one');
SELECT pg_temp.fail('a3', true), pg_temp.next('one');
SELECT c.outcome FROM dead_letter_jobs d, queue_cancel(d.id) c WHERE payload = '"a3"' ORDER BY died_at;
SELECT c.outcome FROM dead_letter_jobs d, queue_cancel(d.id) c WHERE payload = '"a3"' AND reason = 'cancelled';
SELECT pg_temp.next('one'), queue_redrive('one');
SELECT pg_temp.enqueue('one', 'a', 'a5'), pg_temp.fail('a4', true), pg_temp.next('one'), queue_purge('one', 'dead') > 0 AS purged, pg_temp.next('one');
TABLE pg_temp.groups;

-- two at once, and failed jobs let the next go
SELECT pg_temp.enqueue('two', 'a', 't1 t2 t3 t4 t5 t6 t7');
SELECT pg_temp.next('two') FROM generate_series(1, 3);
SELECT pg_temp.fail('t1', false);
SELECT pg_temp.next('two') FROM generate_series(1, 2);
SELECT outcome FROM queue_complete_many(ARRAY(SELECT id FROM leased WHERE job IN ('t2', 't3') ORDER BY job), ARRAY(SELECT token FROM leased WHERE job IN ('t2', 't3') ORDER BY job));
TABLE pg_temp.groups;
-- the worker's turn
SELECT payload FROM queue_claim('two') \g /dev/null
SELECT kind, payload FROM queue_complete_and_claim('two', ARRAY(SELECT id FROM jobs WHERE payload = '"t4"' AND status = 'processing'), ARRAY(SELECT lease_token FROM jobs WHERE payload = '"t4"' AND status = 'processing'), max_jobs => 5) ORDER BY payload;
TABLE pg_temp.groups;
-- an expired last attempt, put away by a claim, and by the task
UPDATE jobs SET leased_until = now() WHERE payload = '"t5"' AND status = 'processing';
SELECT pg_temp.next('two');
SELECT pg_temp.next('two');
SELECT payload, reason FROM dead_letter_jobs WHERE queue_id = (SELECT id FROM queues WHERE name = 'two' AND tenant_id = :tenant) ORDER BY payload;
SELECT pg_temp.enqueue('two', 'a', 't8 t9');
UPDATE jobs SET leased_until = now() WHERE payload = '"t6"' AND status = 'processing';
SELECT done FROM _queue_task('rescue');
TABLE pg_temp.groups;

-- kept as failed instead of a letter
SELECT pg_temp.enqueue('stays', 'a', 's1 s2 s3');
SELECT pg_temp.next('stays'), pg_temp.fail('s1', false), pg_temp.next('stays');
SELECT r.outcome FROM jobs j, queue_retry(j.id) r WHERE payload = '"s1"' AND status = 'failed';
SELECT pg_temp.next('stays');
SELECT pg_temp.fail('s1', false), pg_temp.next('stays');
SELECT c.outcome FROM jobs j, queue_cancel(j.id) c WHERE payload = '"s1"' AND status = 'failed';
SELECT pg_temp.next('stays'), pg_temp.fail('s2', false), pg_temp.next('stays');
DELETE FROM jobs WHERE payload = '"s2"' AND status = 'failed';
SELECT pg_temp.next('stays');

-- critical jobs are of the same group, and the first of those held
SELECT pg_temp.enqueue('both', 'a', 'u1 u2');
SELECT created FROM queue_enqueue_critical('both', '"c1"', 'c1', group_key => 'a');
SELECT pg_temp.next('both'), pg_temp.next('both');
SELECT pg_temp.complete('u1'), pg_temp.next('both'), pg_temp.next('both'), pg_temp.enqueue('both', 'a', 'u4'), pg_temp.next('both');
SELECT pg_temp.complete('c1'), pg_temp.next('both');
-- by priority and time then
SELECT count(*) FROM (VALUES (0, '0'), (5, '1 hour'), (5, '0'), (-1, '-1 hour')) j (p, t), queue_enqueue('both', to_jsonb(p || ' ' || t), group_key => 'a', priority => p, run_at => now() + t::interval);
TABLE pg_temp.groups;
SELECT c.outcome FROM jobs j, queue_cancel(j.id) c WHERE payload = '"u2"' AND status = 'processing';
SELECT pg_temp.complete('u2'), pg_temp.next('both');
-- cancelled while it waits, first or behind
SELECT c.outcome FROM jobs j, queue_cancel(j.id) c WHERE payload IN ('"5 0"', '"0 0"') AND status = 'pending';
TABLE pg_temp.groups;

-- what a repeated enqueue replaces may come into another group
SELECT created FROM queue_enqueue('both', '"r1"', group_key => 'r', idempotency_key => 'r1');
SELECT created FROM queue_enqueue('both', '"r2"', group_key => 'r', idempotency_key => 'r2');
SELECT created FROM queue_enqueue('both', '"s1"', group_key => 's');
TABLE pg_temp.groups;
SELECT created FROM queue_enqueue('both', '"r1 to s"', group_key => 's', idempotency_key => 'r1', on_conflict => 'replace');
TABLE pg_temp.groups;
SELECT created FROM queue_enqueue('both', '"r1 to none"', idempotency_key => 'r1', on_conflict => 'replace');
SELECT created FROM queue_enqueue('both', '"r2 again"', group_key => 'r', idempotency_key => 'r2', on_conflict => 'replace');
TABLE pg_temp.groups;

-- SQL: inserts, also many in one statement, deletes and updates
SELECT pg_temp.complete('5 0');
SELECT queue_purge('both', 'all') > 0 AS purged;
INSERT INTO jobs (queue_id, payload, group_key) SELECT id, to_jsonb(translate(g, 'ab', 'uv') || n), g FROM queues, generate_series(1, 3) n, unnest(ARRAY['a', 'b']) g WHERE name = 'both' AND tenant_id = :tenant ORDER BY n, g;
TABLE pg_temp.groups;
DELETE FROM jobs WHERE payload = '"u1"' AND NOT held AND queue_id = (SELECT id FROM queues WHERE name = 'both' AND tenant_id = :tenant);
UPDATE jobs SET status = 'completed', finished_at = now(), finish_reason = 'completed' WHERE payload = '"v1"' AND finished_at IS NULL;
TABLE pg_temp.groups;
UPDATE jobs SET group_key = 'c' WHERE payload = '"v2"' AND finished_at IS NULL AND NOT held;
DELETE FROM jobs WHERE group_key = 'a' AND queue_id = (SELECT id FROM queues WHERE name = 'both' AND tenant_id = :tenant);
TABLE pg_temp.groups;
-- as from a dump: what was held or tried comes as it was
INSERT INTO jobs (queue_id, payload, group_key, held, attempts) SELECT id, to_jsonb(p), 'd', h, a FROM queues, (VALUES ('d2', true, 0), ('d1', false, 1)) v (p, h, a) WHERE name = 'both' AND tenant_id = :tenant;
TABLE pg_temp.groups;

-- undone with its savepoint, or not
SELECT pg_temp.enqueue('both', 'e', 'e1 e2'), queue_set('both', max_attempts => 1) IS NOT NULL AS set;
UPDATE jobs SET run_at = '2000-01-01' WHERE payload = '"e1"';
SELECT pg_temp.next('both');
BEGIN;
SAVEPOINT s;
SELECT pg_temp.complete('e1');
ROLLBACK TO s;
SELECT pg_temp.enqueue('both', 'e', 'e3');
COMMIT;
SELECT * FROM pg_temp.groups WHERE group_key = 'e';
BEGIN;
SELECT pg_temp.enqueue('both', 'f', 'f1 f2'), pg_temp.enqueue('both', 'g', 'g1');
SAVEPOINT s;
SELECT pg_temp.enqueue('both', 'h', 'h1');
ROLLBACK TO s;
SELECT pg_temp.enqueue('both', 'h', 'h2'), pg_temp.enqueue('both', 'g', 'g2');
COMMIT;
SELECT * FROM pg_temp.groups WHERE group_key IN ('e', 'f', 'g', 'h');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.complete('e1'), pg_temp.enqueue('both', 'i', 'i1 i2');
COMMIT;
SELECT * FROM pg_temp.groups WHERE group_key IN ('e', 'i');

-- the limit changes: the task follows
SELECT queue_purge('both', 'all') > 0 AS purged, pg_temp.enqueue('both', 'a', 'u1 u2 u3 u4 u5'), pg_temp.enqueue('both', 'b', 'b1 b2');
SELECT created FROM queue_enqueue_critical('both', '"c2"', 'c2', group_key => 'b');
SELECT queue_set('both', group_concurrency => 3) IS NOT NULL AS set;
-- ... as does who comes, and nobody is overtaken
SELECT pg_temp.enqueue('both', 'b', 'b3');
TABLE pg_temp.groups;
SELECT done, error FROM queue_maintain() WHERE task = 'groups';
TABLE pg_temp.groups;
SELECT queue_set('both', group_concurrency => 1) IS NOT NULL AS set, pg_temp.enqueue('both', 'a', 'u6');
SELECT queue_set('both', group_concurrency => 0) IS NOT NULL AS set;
SELECT pg_temp.enqueue('both', 'a', 'u7'), (SELECT done FROM queue_maintain() WHERE task = 'groups');
TABLE pg_temp.groups;
-- a letter that was kept for long enough; block becomes pass
SELECT queue_purge('both', 'all') > 0 AS purged, queue_set('both', group_concurrency => 1, keep_dead => '1 hour') IS NOT NULL AS set, pg_temp.enqueue('both', 'a', 'u1 u2 u3');
SELECT pg_temp.next('both');
SELECT pg_temp.fail('u1', true), (SELECT done FROM queue_maintain() WHERE task = 'groups'), pg_temp.next('both');
SELECT task, done FROM queue_maintain(now() + interval '2 hours') WHERE task IN ('groups', 'dead') AND done > 0;
SELECT pg_temp.next('both'), pg_temp.fail('u2', true), pg_temp.next('both'), queue_set('both', group_on_failure => 'pass') IS NOT NULL AS set;
SELECT (SELECT done FROM queue_maintain() WHERE task = 'groups'), pg_temp.next('both');

-- more than one run of the task admits
SELECT queue_purge('both', 'all') > 0 AS purged;
SELECT count(*) FROM queue_enqueue_many('both', array_fill('1'::jsonb, ARRAY[2500]), group_key => 'many');
INSERT INTO jobs (queue_id, group_key) SELECT id, 'group ' || n / 2 FROM queues, generate_series(1, 601) n WHERE name = 'both' AND tenant_id = :tenant;
SELECT count(*) FILTER (WHERE held) AS held, count(*) FILTER (WHERE NOT held) AS let_go FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = 'both' AND tenant_id = :tenant);
SELECT queue_set('both', group_concurrency => 0) IS NOT NULL AS set;
SELECT done FROM queue_maintain() WHERE task = 'groups';
SELECT count(*) FILTER (WHERE held) AS held FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = 'both' AND tenant_id = :tenant);

-- of another tenant: his groups, though the key is the same
INSERT INTO tenants (id, name) VALUES ('00000000-0000-4000-8000-000000002a02', 'groups 2');
SET app.current_tenant = '00000000-0000-4000-8000-000000002a02';
SELECT created FROM queue_create('one', group_concurrency => 1);
SELECT created FROM queue_enqueue('one', group_key => 'a');
SELECT held FROM jobs WHERE tenant_id = queue_tenant();
-- a row that nobody can insert
INSERT INTO jobs (queue_id, group_key) VALUES (queue_new_id(), 'a');
INSERT INTO jobs (queue_id, group_key) VALUES (NULL, 'a');
INSERT INTO jobs (queue_id, group_key) SELECT id, repeat('x', 600) FROM queues WHERE name = 'one' AND tenant_id = queue_tenant();
INSERT INTO jobs (queue_id, group_key) SELECT id, 'a' FROM queues WHERE name = 'one' AND tenant_id = :tenant;
SELECT created FROM queue_enqueue('one', group_key => repeat('x', 513));
SELECT queue_set('one', group_concurrency => -1);
SELECT queue_set('one', group_concurrency => 1000001);
SELECT queue_set('one', group_on_failure => 'stop');
SELECT _queue_group();
CREATE TRIGGER wrong AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION _queue_group_left();
SELECT created FROM queue_enqueue('one', group_key => 'b');
INSERT INTO jobs (queue_id) SELECT id FROM queues WHERE name = 'one' AND tenant_id = queue_tenant();
DROP TRIGGER wrong ON jobs;
SELECT queue_drop('one', force => true);
SELECT count(*) FROM jobs WHERE tenant_id = queue_tenant();
