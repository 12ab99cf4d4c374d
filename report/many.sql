-- Many tenants with a queue each, samples of the last two hours, and many jobs.
-- Variables: tenants, jobs.
SET client_min_messages = warning;
SET synchronous_commit = off;
INSERT INTO tenants (id) SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid FROM generate_series(1, :tenants) i;
INSERT INTO queues (tenant_id, name, alert_depth)
	SELECT id, 'queue ' || substr(id::text, 30), CASE WHEN substr(id::text, 36) = '0' THEN 100 END FROM tenants;
INSERT INTO jobs (tenant_id, queue_id, payload)
	SELECT tenant_id, id, '{"to": "ada@example.org"}' FROM queues, generate_series(1, :jobs / :tenants);
INSERT INTO dead_letter_jobs (id, tenant_id, queue_id, source_table, reason, died_at, run_at, enqueued_at, attempts, max_attempts, priority, job_type, payload, last_error)
	SELECT queue_new_id(), tenant_id, id, 'jobs', 'exhausted', now() - i * interval '1 second', now(), now(), 3, 3, 0, 'mail', '{}', 'error ' || i || ' of a kind ' || chr(97 + i % 26)
	FROM queues, generate_series(1, 100000 / :tenants) i;
INSERT INTO queue_metrics (id, tenant_id, queue_id, sampled_at, depth, delayed, processing, oldest_claimable_age, enqueued_per_second, claimed_per_second,
		completed_per_second, failed_per_second, dead_per_second, wait_p50, wait_p95, wait_p99, run_p50, run_p95, run_p99)
	SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '70008000' || right(queue_new_id()::text, 12))::uuid,
		tenant_id, id, t, 500, 0, 2, '5 seconds', 2, 2, 2, 0.1, 0.01, '10 ms', '100 ms', '1 second', '20 ms', '200 ms', '2 seconds'
	FROM generate_series(now() - interval '2 hours', now(), '1 minute') t, queues;
VACUUM ANALYZE;
