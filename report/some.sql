-- Some tenants with queues, as they might be: samples of a day, jobs that wait,
-- run and failed, and alerts.
SET client_min_messages = warning;
SELECT setseed(0.5);
INSERT INTO tenants (id, name)
	SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, name
	FROM unnest(ARRAY['acme', 'globex', 'initech', 'umbrella', 'hooli', 'stark', 'wayne', 'tyrell', 'wonka', 'cyberdyne', 'soylent',
		'massive dynamic', 'aperture', 'oscorp', 'pied piper', 'vandelay', 'duff', 'sterling cooper']) WITH ORDINALITY t (name, n);
SELECT queue_limiter_set('stripe', 100, 2);
DO $$
DECLARE
	t record;
	q text;
	job record;
	errors constant text[] := ARRAY['connection to smtp.example.org timed out after 3012 ms', 'no such mailbox: user4711',
		'502 Bad Gateway from https://hooks.example.org/in', 'out of memory'];
BEGIN
	FOR t IN SELECT id, row_number() OVER (ORDER BY id) AS n FROM tenants LOOP
		PERFORM set_config('app.current_tenant', t.id::text, false);
		FOREACH q IN ARRAY ARRAY['emails', 'reports', 'webhooks'] LOOP
			PERFORM queue_create(q, alert_depth => 500, keep_completed => '0');
			PERFORM queue_enqueue_many(q, array_fill('{}'::jsonb, ARRAY[900 / t.n::integer + 5]));
			PERFORM queue_enqueue_many(q, array_fill('{}'::jsonb, ARRAY[10]), run_at => now() + interval '1 hour') WHERE q <> 'reports';
			FOR job IN SELECT * FROM queue_claim(q, 'host' || t.n % 4 || ':4242', max_jobs => 300 / t.n::integer + 3) LOOP
				IF random() < 0.9 THEN
					PERFORM queue_complete(job.job_id, job.lease_token);
				ELSIF random() < 0.5 THEN
					PERFORM queue_fail(job.job_id, job.lease_token, errors[1 + floor(random() * 4)::integer], dead => true);
				END IF;
			END LOOP;
		END LOOP;
	END LOOP;
END
$$;
RESET app.current_tenant;
SELECT FROM queue_rate_acquire('stripe', 60);
-- a busy evening, a peak, and an hour without maintenance
INSERT INTO queue_metrics (id, tenant_id, queue_id, sampled_at, depth, delayed, processing, oldest_claimable_age, enqueued_per_second, claimed_per_second,
		completed_per_second, failed_per_second, dead_per_second, wait_p50, wait_p95, wait_p99, run_p50, run_p95, run_p99)
	SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '70008000' || right(queue_new_id()::text, 12))::uuid, tenant_id, id, t,
		50 + 40 * s.wave + random() * 10 + 200 * s.peak, 10, 8 + 4 * s.wave, make_interval(secs => 2 + random() * 5 + 60 * s.peak),
		12 + 9 * s.wave + random(), 12 + 9 * s.wave + random(), 11.5 + 9 * s.wave + random(), 0.3 + random() * 0.2 + s.peak, random() * 0.02 + 0.3 * s.peak,
		make_interval(secs => 0.05 + random() * 0.02), make_interval(secs => 0.8 + random() * 0.4 + 20 * s.peak), make_interval(secs => 2.8 + random() * 2 + 60 * s.peak),
		make_interval(secs => 0.12 + random() * 0.02), make_interval(secs => 0.6 + random() * 0.1), make_interval(secs => 1.6 + random() * 0.5)
	FROM queues, generate_series(date_trunc('minute', now()) - interval '26 hours', now(), '1 minute') t,
		LATERAL (SELECT sin(extract(epoch FROM now() - t) / 9000 + 2) AS wave, exp(-abs(extract(epoch FROM now() - t) - 20000) / 3000) AS peak) s
	WHERE t NOT BETWEEN now() - interval '11 hours' AND now() - interval '10 hours';
SELECT FROM queue_maintain();
