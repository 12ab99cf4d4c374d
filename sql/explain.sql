-- queue_explain(): each reason why a job does not run.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000007501\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'explain');
SET app.current_tenant = :tenant;
CREATE FUNCTION pg_temp.explain(job uuid) RETURNS TABLE (reason text, detail text, until text) LANGUAGE sql AS $$
	SELECT reason, regexp_replace(detail, '[0-9a-f-]{36}', coalesce((SELECT payload #>> '{}' FROM jobs WHERE id = substring(detail, '[0-9a-f-]{36}')::uuid), 'another')),
		CASE WHEN until > clock_timestamp() + interval '10 minutes' THEN 'much later' WHEN until > clock_timestamp() THEN 'later' WHEN until IS NOT NULL THEN 'past' END
	FROM queue_explain(job) WHERE reason <> 'unclaimed' $$;
-- which has a row each
CREATE FUNCTION pg_temp.job(payload text) RETURNS uuid LANGUAGE sql AS $$
	SELECT id FROM (SELECT id, tenant_id, payload, run_at FROM jobs UNION ALL SELECT id, tenant_id, payload, run_at FROM critical_jobs) j WHERE tenant_id = queue_tenant() AND j.payload = to_jsonb(job.payload) ORDER BY run_at DESC LIMIT 1 $$;

SELECT created FROM queue_create('q', backoff_base => '1 hour', backoff_max => '1 hour', dead_letters => true);
SELECT created FROM queue_enqueue('q', '"first"');
SELECT created FROM queue_enqueue('q', '"second"');
SELECT created FROM queue_enqueue('q', '"third"');
SELECT * FROM pg_temp.explain(pg_temp.job('first'));
-- others come first: also of higher priority, and critical ones
SELECT * FROM pg_temp.explain(pg_temp.job('second'));
SELECT * FROM pg_temp.explain(pg_temp.job('third'));
SELECT created FROM queue_enqueue('q', '"higher"', priority => 1);
SELECT created FROM queue_enqueue_critical('q', '"critical"', 'key');
SELECT * FROM pg_temp.explain(pg_temp.job('first'));
SELECT * FROM pg_temp.explain(pg_temp.job('higher'));
SELECT * FROM pg_temp.explain(pg_temp.job('critical'));
-- as ageing has it
SELECT queue_set('q', ageing => '1 minute') IS NOT NULL AS set;
UPDATE jobs SET run_at = now() - interval '90 seconds' WHERE id = pg_temp.job('second');
SELECT * FROM pg_temp.explain(pg_temp.job('second'));
SELECT * FROM pg_temp.explain(pg_temp.job('higher'));
SELECT * FROM pg_temp.explain(pg_temp.job('first'));
SELECT array_agg(payload) FROM queue_peek('q');
SELECT queue_set('q', ageing => '0') IS NOT NULL AS set;
SELECT queue_purge('q');

-- paused, delayed, or both
SELECT created FROM queue_enqueue('q', '"late"', run_at => now() + interval '1 hour');
SELECT * FROM pg_temp.explain(pg_temp.job('late'));
SELECT queue_pause('q');
SELECT * FROM pg_temp.explain(pg_temp.job('late'));
SELECT queue_resume('q');
SELECT queue_purge('q');

-- leased, to be retried, dead, sent back, finished
SELECT created FROM queue_enqueue('q', '"job"', max_attempts => 2);
SELECT job_id, lease_token FROM queue_claim('q', 'worker 1', lease => '5 minutes') \gset
SELECT * FROM pg_temp.explain(pg_temp.job('job'));
UPDATE jobs SET leased_until = now() - interval '1 second' WHERE id = :'job_id';
SELECT * FROM pg_temp.explain(pg_temp.job('job'));
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'broken');
SELECT * FROM pg_temp.explain(pg_temp.job('job'));
UPDATE jobs SET run_at = now() WHERE id = :'job_id';
SELECT job_id, lease_token FROM queue_claim('q', 'worker 1') \gset
SELECT outcome FROM queue_fail(:'job_id', :lease_token, 'broken');
SELECT * FROM pg_temp.explain(:'job_id');
SELECT queue_redrive('q');
SELECT * FROM pg_temp.explain(:'job_id');
SELECT job_id, lease_token FROM queue_claim('q') \gset
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT * FROM pg_temp.explain(:'job_id');
SELECT created, job_id FROM queue_enqueue('q', '"cancelled"') \gset
SELECT outcome FROM queue_cancel(:'job_id');
SELECT * FROM pg_temp.explain(:'job_id');

-- held by its group: behind its head, or blocked
SELECT created FROM queue_create('g', group_concurrency => 1, dead_letters => false);
SELECT created FROM queue_enqueue('g', '"head"', group_key => 'k');
SELECT created FROM queue_enqueue('g', '"next"', group_key => 'k');
SELECT * FROM pg_temp.explain(pg_temp.job('next'));
SELECT outcome FROM queue_claim('g') c, queue_fail(c.job_id, c.lease_token, 'broken', dead => true);
SELECT * FROM pg_temp.explain(pg_temp.job('next'));

-- no slot, no token
SELECT created FROM queue_create('s', max_concurrency => 1);
SELECT created FROM queue_enqueue('s', '"runs"');
SELECT created FROM queue_enqueue('s', '"waits"');
SELECT count(*) FROM queue_claim('s', lease => '5 minutes');
SELECT * FROM pg_temp.explain(pg_temp.job('waits'));
SELECT queue_limiter_set('explained', 1, 1e-6);
SELECT queue_set('s', max_concurrency => 0, rate_limiter => 'explained') IS NOT NULL AS set;
SELECT granted FROM queue_rate_acquire('explained');
SELECT * FROM pg_temp.explain(pg_temp.job('waits'));
SELECT queue_set('s', rate_limiter => '') IS NOT NULL AS set;
DELETE FROM rate_limiters WHERE service_name = 'explained';
SELECT * FROM pg_temp.explain(pg_temp.job('waits'));

-- which is not there, or another tenant's
SELECT queue_explain(gen_random_uuid());
SELECT queue_explain(NULL);
SELECT pg_temp.job('waits') AS job_id \gset
INSERT INTO tenants (id, name) VALUES ('00000000-0000-4000-8000-000000007502', 'explain 2');
SET app.current_tenant = '00000000-0000-4000-8000-000000007502';
SELECT queue_explain(:'job_id');
RESET app.current_tenant;
SELECT reason FROM queue_explain(:'job_id') LIMIT 1;
