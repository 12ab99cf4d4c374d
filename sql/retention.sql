-- Retention: what each task deletes, and what it leaves.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000002501\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'retention');
SET app.current_tenant = :tenant;
SELECT queue_create('day') IS NOT NULL AS created, queue_create('hour', keep_completed => '1 hour', keep_dead => '1 hour', dead_letters => true) IS NOT NULL AS created, queue_create('ever', keep_completed => '100 years', keep_dead => '100 years') IS NOT NULL AS created;
CREATE VIEW pg_temp.left_over AS
SELECT q.name AS queue, k.kind, string_agg(k.what, ' ' ORDER BY k.what) AS what FROM queues q, LATERAL (
	SELECT 'job' AS kind, payload #>> '{}' AS what FROM jobs WHERE queue_id = q.id UNION ALL SELECT 'critical job', payload #>> '{}' FROM critical_jobs WHERE queue_id = q.id
	UNION ALL SELECT 'dead letter', payload #>> '{}' FROM dead_letter_jobs WHERE queue_id = q.id UNION ALL SELECT 'sample', depth::text FROM queue_metrics WHERE queue_id = q.id AND enqueued_per_second IS NULL
	UNION ALL SELECT 'alert', message FROM alert_history WHERE queue_id = q.id) k
WHERE q.tenant_id = :tenant GROUP BY 1, 2 ORDER BY 1, 2;
CREATE VIEW pg_temp.ages AS SELECT q.id, q.name, a.age, now() - a.age::interval AS at FROM queues q, unnest(ARRAY['2 days', '2 hours', '10 minutes']) a (age) WHERE q.tenant_id = :tenant;

INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, to_jsonb(age), 'completed', 'completed', at FROM pg_temp.ages;
INSERT INTO jobs (queue_id, payload, run_at, enqueued_at) SELECT id, '"waiting"', at, at FROM pg_temp.ages WHERE age = '2 days';
INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, '"cancelled"', 'failed', 'cancelled', at FROM pg_temp.ages WHERE age = '2 days';
INSERT INTO critical_jobs (queue_id, payload, idempotency_key, status, finish_reason, finished_at) SELECT id, to_jsonb(age), age || name, 'completed', 'completed', at FROM pg_temp.ages;
INSERT INTO dead_letter_jobs (id, queue_id, source_table, reason, died_at, run_at, enqueued_at, attempts, max_attempts, priority, job_type, payload) SELECT queue_new_id(), id, 'jobs', 'dead', at, at, at, 1, 1, 0, 'x', to_jsonb(age) FROM pg_temp.ages;
INSERT INTO queue_metrics (queue_id, sampled_at, depth) SELECT id, at - d * interval '1 day', d FROM pg_temp.ages, unnest(ARRAY[1, 8]) d WHERE age = '10 minutes';
INSERT INTO alert_history (queue_id, alert, message, raised_at, resolved_at) SELECT id, 'x', 'old', at - interval '100 days', at FROM pg_temp.ages WHERE age = '10 minutes' UNION ALL SELECT id, 'x', 'lasts', at - interval '100 days', NULL FROM pg_temp.ages WHERE age = '10 minutes' UNION ALL SELECT id, 'x', 'new', at, at FROM pg_temp.ages WHERE age = '10 minutes';
INSERT INTO alert_history (tenant_id, alert, message, raised_at, resolved_at) VALUES (NULL, 'retention', 'old', now() - interval '100 days', now()), (NULL, 'retention', 'lasts', now() - interval '100 days', NULL);
SELECT task, done, error FROM queue_maintain() WHERE task IN ('finished', 'dead', 'metrics', 'alert_history');
SELECT * FROM pg_temp.left_over;
SELECT message FROM alert_history WHERE alert = 'retention';
SELECT task, done FROM queue_maintain() WHERE task IN ('finished', 'dead', 'metrics', 'alert_history');

-- What was put before the place that the session came to is left over until it begins anew.
INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, '"late"', 'completed', 'completed', at - interval '1 day' FROM pg_temp.ages WHERE name = 'day' AND age = '2 days';
SELECT done FROM queue_maintain() WHERE task = 'finished';
SELECT done FROM queue_maintain(now() + interval '61 minutes') WHERE task = 'finished';
SELECT * FROM pg_temp.left_over WHERE queue = 'day' AND kind = 'job';

-- What stays goes when it is to, though it was looked at before; sooner if less is to be kept.
SELECT done FROM queue_maintain(now() + interval '63 minutes') WHERE task = 'finished';
SELECT queue_create('week', keep_completed => '1 week') IS NOT NULL AS created;
INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, to_jsonb(age), 'completed', 'completed', at FROM pg_temp.ages WHERE name = 'week';
SELECT done FROM queue_maintain(now() + interval '64 minutes') WHERE task = 'finished';
SELECT queue_set('week', keep_completed => '1 day') IS NOT NULL AS set;
SELECT done FROM queue_maintain(now() + interval '65 minutes') WHERE task = 'finished';
SELECT queue_set('week', keep_completed => '80 minutes') IS NOT NULL AS set;
SELECT done FROM queue_maintain(now() + interval '69 minutes') WHERE task = 'finished';
SELECT done FROM queue_maintain(now() + interval '71 minutes') WHERE task = 'finished';
SELECT queue_drop('week', true);

-- A row that a user's foreign key keeps stays, the others go.
CREATE TABLE retention_refers (job_id uuid REFERENCES jobs);
INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, to_jsonb(n), 'completed', 'completed', at FROM pg_temp.ages, generate_series(1, 5) n WHERE name = 'hour' AND age = '2 days';
INSERT INTO retention_refers SELECT id FROM jobs WHERE payload = '3' AND tenant_id = :tenant;
SELECT task, done, error FROM queue_maintain(now() + interval '3 hours') WHERE task = 'finished';
SELECT payload FROM jobs, queues q WHERE queue_id = q.id AND q.name = 'hour' AND q.tenant_id = :tenant AND status = 'completed';
DROP TABLE retention_refers;
SELECT done FROM queue_maintain(now() + interval '3 hours') WHERE task = 'finished';
SELECT done FROM queue_maintain(now() + interval '5 hours') WHERE task = 'finished';

-- many, of the same time, in batches
INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, to_jsonb(n), 'completed', 'completed', at FROM pg_temp.ages, generate_series(1, 2500) n WHERE name = 'hour' AND age = '2 days';
SELECT done, more FROM _queue_task('finished', now() + interval '7 hours');
SELECT done FROM queue_maintain(now() + interval '7 hours') WHERE task = 'finished';

-- finished before a run, and seen only after it
SELECT done FROM queue_maintain(now() + interval '8 hours') WHERE task = 'finished';
INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at) SELECT id, '"late"', 'completed', 'completed', now() + interval '477 minutes' FROM queues WHERE tenant_id = :tenant AND name = 'hour';
SELECT done FROM queue_maintain(now() + interval '538 minutes') WHERE task = 'finished';

RESET app.current_tenant;
DELETE FROM alert_history WHERE alert = 'retention';
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE name = 'retention';
