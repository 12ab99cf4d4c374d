-- Ageing: jobs go by run_at - priority x ageing, exactly.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-00000000a6e1\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'ageing');
SET app.current_tenant = :tenant;
SET TimeZone = 'Europe/Berlin';

-- a job of priority 0 overtakes one of priority p exactly when it is p x ageing older
CREATE FUNCTION pg_temp.first_of(ageing interval, low integer, high integer, older interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE q text := 'pair ' || gen_random_uuid(); queue uuid; found text;
BEGIN
	SELECT queue_id INTO queue FROM queue_create(q, ageing => ageing);
	INSERT INTO jobs (queue_id, priority, run_at, payload) VALUES
		(queue, high, '2020-07-01 UTC', '"high"'), (queue, low, timestamptz '2020-07-01 UTC' - older, '"low"');
	ASSERT (SELECT array_agg(payload #>> '{}') FROM queue_peek(q)) = (SELECT array_agg(payload #>> '{}') FROM queue_claim(q, max_jobs => 2)), 'peek';
	UPDATE jobs SET status = 'pending' WHERE queue_id = queue;
	SELECT payload #>> '{}' INTO found FROM queue_claim(q);
	RETURN found;
END $$;
SELECT p, ageing, pg_temp.first_of(ageing, 0, p, p * ageing - '1 us') AS not_yet,
	pg_temp.first_of(ageing, 0, p, p * ageing) AS just_so, pg_temp.first_of(ageing, 0, p, p * ageing + '1 us') AS older
FROM (VALUES (1, interval '1 us'), (1, '1 hour'), (7, '10 minutes'), (100, '36 hours'), (32767, '1 hour')) v (p, ageing);
SELECT low, high, pg_temp.first_of('1 hour', low, high, '2:59:59.999999') AS not_yet, pg_temp.first_of('1 hour', low, high, '3 hours') AS just_so
FROM (VALUES (-3, 0), (-5, -2), (-1, 2), (-32768, -32765), (32764, 32767)) v (low, high);
-- a day has 24 hours and a month 30 days, whatever the calendar says
SELECT pg_temp.first_of('1 day', 0, 200, '4799:59:59.999999') AS not_yet, pg_temp.first_of('1 day', 0, 200, '4800 hours') AS just_so;
SELECT pg_temp.first_of('1 month', 0, 5, '3599:59:59.999999') AS not_yet, pg_temp.first_of('1 month', 0, 5, '3600 hours') AS just_so;
-- the longest ageing, with the lowest and highest priority
SELECT pg_temp.first_of('365 days', -32768, 32767, '6000 years') AS first;
SELECT created FROM queue_create('x', ageing => '366 days');
SELECT created FROM queue_create('x', ageing => '-1 s');
SELECT created FROM queue_create('x');
UPDATE queues SET ageing = '366 days' WHERE tenant_id = :tenant AND name = 'x';

-- the order of random jobs, among others that are not claimable, in batches and one by one
CREATE TEMP TABLE expected (n serial, id uuid, critical boolean);
CREATE TEMP TABLE claimed (n serial, id uuid, critical boolean);
CREATE FUNCTION pg_temp.in_order(levels integer, ageing interval, batch integer) RETURNS TABLE (jobs bigint, peeked boolean, in_order boolean) LANGUAGE plpgsql AS $$
DECLARE q text := 'random ' || gen_random_uuid(); queue uuid; any_left boolean := true;
BEGIN
	SELECT queue_id INTO queue FROM queue_create(q, ageing => ageing, max_attempts => 5);
	PERFORM setseed(0.5);
	INSERT INTO jobs (queue_id, priority, run_at, max_attempts, status, attempts, lease_token, leased_until, finished_at, finish_reason, held)
	SELECT queue, trunc(random() * levels) - levels / 2, CASE WHEN kind = 4 THEN now() + '1 day' ELSE timestamptz '2024-03-30 12:00 UTC' + trunc(random() * 3600) * interval '1 s' END, 5,
		CASE kind WHEN 1 THEN 'processing' WHEN 2 THEN 'processing' WHEN 3 THEN 'completed' ELSE 'pending' END, CASE WHEN kind IN (1, 2) THEN 1 ELSE 0 END,
		CASE WHEN kind IN (1, 2) THEN 7 END, CASE kind WHEN 1 THEN now() + '1 day' WHEN 2 THEN now() - interval '1 s' END, CASE kind WHEN 3 THEN now() END,
		CASE kind WHEN 3 THEN 'completed' END, kind = 5
	FROM (SELECT trunc(random() * 12) AS kind FROM generate_series(1, 700)) r;
	INSERT INTO critical_jobs (queue_id, priority, run_at, idempotency_key)
	SELECT queue, trunc(random() * levels), timestamptz '2024-03-30 12:00 UTC' + trunc(random() * 3600) * interval '1 s', queue || ' ' || i FROM generate_series(1, 100) i;
	DELETE FROM jobs j WHERE queue_id = queue AND random() < 0.2;
	TRUNCATE expected, claimed RESTART IDENTITY;
	INSERT INTO expected (id, critical)
	SELECT c.id, true FROM critical_jobs c WHERE queue_id = queue ORDER BY run_at - priority * ageing, run_at, c.id;
	INSERT INTO expected (id, critical)
	SELECT j.id, false FROM jobs j WHERE queue_id = queue AND finished_at IS NULL AND NOT held AND run_at < now() AND (status = 'pending' OR leased_until < now())
	ORDER BY run_at - priority * ageing, run_at, j.id;
	SELECT array_agg(e.id ORDER BY n) = (SELECT array_agg(job_id) FROM queue_peek(q, 333)) INTO peeked FROM expected e WHERE n <= 333;
	WHILE any_left LOOP
		INSERT INTO claimed (id, critical) SELECT c.job_id, c.critical FROM queue_claim(q, max_jobs => batch, lease => '1 day') c;
		any_left := FOUND;
	END LOOP;
	SELECT count(*), bool_and(e.id = c.id) INTO jobs, in_order FROM expected e FULL JOIN claimed c USING (n);
	RETURN NEXT;
END $$;
SELECT levels, ageing, batch, r.* FROM (VALUES (1, interval '1 minute', 3), (2, '5 minutes', 2), (16, '3 minutes', 1), (16, '3 minutes', 7), (16, '1 us', 50), (16, '1 day', 10000), (500, '20 s', 80)) v (levels, ageing, batch),
	LATERAL (SELECT jobs > 400 AS enough, peeked, in_order FROM pg_temp.in_order(levels, ageing, batch)) r;

-- set, changed and removed: the next claim goes by it
SELECT queue_id FROM queue_create('q') \gset
INSERT INTO jobs (queue_id, priority, run_at, payload)
SELECT :'queue_id', p, timestamptz '2020-01-01 UTC' + p * interval '1 hour', to_jsonb(p) FROM generate_series(1, 6) p;
SELECT payload FROM queue_claim('q');
SELECT queue_set('q', ageing => '59 minutes') IS NOT NULL AS set;
SELECT payload FROM queue_peek('q', 1);
SELECT payload FROM queue_claim('q');
SELECT queue_set('q', ageing => '61 minutes') IS NOT NULL AS set;
SELECT payload FROM queue_claim('q');
SELECT queue_set('q', ageing => '0') IS NOT NULL AS set;
SELECT payload FROM queue_claim('q', max_jobs => 2);

-- a job that fails comes back with its new run_at, and ages from there on
SELECT queue_id FROM queue_create('again', ageing => '1 hour', backoff_base => '0') \gset
INSERT INTO jobs (queue_id, priority, run_at, payload) VALUES (:'queue_id', 0, now() - interval '3 hours', '"old"'), (:'queue_id', 1, now() - interval '1 hour', '"one"');
SELECT job_id, lease_token, payload FROM queue_claim('again') \gset
SELECT :'payload' AS payload, outcome FROM queue_fail(:'job_id', :lease_token, 'again');
SELECT payload FROM queue_claim('again', max_jobs => 2);

-- a queue of a caller that serves all tenants
SELECT queue_id FROM queue_create('all ageing', ageing => '1 hour') \gset
INSERT INTO jobs (queue_id, priority, run_at, payload) VALUES (:'queue_id', 0, now() - interval '3 hours', '"old"'), (:'queue_id', 2, now() - interval '0.9 hour', '"two"');
RESET app.current_tenant;
SELECT payload FROM queue_claim('all ageing', max_jobs => 2);
SET app.current_tenant = :tenant;

-- at REPEATABLE READ what came later is passed over
SELECT queue_id FROM queue_create('rr', ageing => '1 hour') \gset
INSERT INTO jobs (queue_id, priority, run_at, payload) SELECT :'queue_id', i % 5, now() - i * interval '20 minutes', to_jsonb(i) FROM generate_series(1, 30) i;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT array_agg(payload::int) AS claimed FROM queue_claim('rr', max_jobs => 4);
SAVEPOINT s;
SELECT array_agg(payload::int) AS claimed FROM queue_claim('rr', max_jobs => 4);
ROLLBACK TO s;
SELECT array_agg(payload::int) AS claimed FROM queue_claim('rr', max_jobs => 4);
ROLLBACK;
SELECT array_agg(payload::int) AS claimed FROM queue_claim('rr', max_jobs => 8);

-- limits: as many as there are slots, the first ones
SELECT queue_id FROM queue_create('limited', ageing => '1 hour', max_concurrency => 3) \gset
INSERT INTO jobs (queue_id, priority, run_at, payload) SELECT :'queue_id', i % 5, now() - i * interval '20 minutes', to_jsonb(i) FROM generate_series(1, 30) i;
SELECT array_agg(payload::int) AS claimed FROM queue_claim('limited', max_jobs => 10);
SELECT count(*) FROM queue_claim('limited');

-- what ran out of attempts is put away on the way, in its turn
SELECT queue_id FROM queue_create('dead', ageing => '1 hour') \gset
INSERT INTO jobs (queue_id, priority, run_at, payload, status, attempts, lease_token, leased_until)
SELECT :'queue_id', i, now() - interval '10 hours', to_jsonb(i), 'processing', 3, 1, now() FROM generate_series(0, 3) i;
INSERT INTO jobs (queue_id, priority, run_at, payload) VALUES (:'queue_id', 2, now() - interval '9.5 hours', '"alive"');
SELECT payload FROM queue_claim('dead');
SELECT array_agg(payload ORDER BY payload) AS dead FROM dead_letter_jobs WHERE queue_id = :'queue_id';

SELECT count(queue_drop(name, true)) > 0 AS dropped FROM queues WHERE tenant_id = :tenant;
DELETE FROM tenants WHERE id = :tenant;
