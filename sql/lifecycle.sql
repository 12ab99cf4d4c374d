-- The life of a job: every way from one status to the next, for jobs and critical jobs alike.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000e01\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'lifecycle');
SET app.current_tenant = :tenant;

-- each test works on the job that the session has enqueued last, in either table
CREATE TABLE pg_temp.job (id uuid, token bigint, critical boolean);
INSERT INTO pg_temp.job DEFAULT VALUES;
CREATE FUNCTION pg_temp.enqueue(queue text, critical boolean, max_attempts integer DEFAULT 3) RETURNS void LANGUAGE sql AS $$
	UPDATE pg_temp.job SET token = NULL, critical = enqueue.critical, id = CASE WHEN critical
		THEN (SELECT job_id FROM queue_enqueue_critical(queue, '{"a": 1}', gen_random_uuid()::text, 'mail', 3, max_attempts => enqueue.max_attempts, group_key => 'g', headers => '{"h": 1}'))
		ELSE (SELECT job_id FROM queue_enqueue(queue, '{"a": 1}', 'mail', 3, max_attempts => enqueue.max_attempts, idempotency_key => gen_random_uuid()::text, group_key => 'g', headers => '{"h": 1}')) END$$;
CREATE FUNCTION pg_temp.claim(queue text, lease interval DEFAULT '1 hour') RETURNS boolean LANGUAGE sql AS $$
	UPDATE pg_temp.job SET token = c.lease_token FROM queue_claim(queue, 'w', 1, lease) c WHERE c.job_id = id RETURNING true$$;
-- the columns that a life changes; wrong is what contradicts the columns' definitions
CREATE VIEW pg_temp.state AS
WITH every AS (
	SELECT 'jobs' AS kind, * FROM jobs UNION ALL SELECT 'critical', * FROM critical_jobs)
SELECT kind, status, finish_reason AS reason, attempts AS att, max_attempts AS max, final_attempt AS final, cancel_requested AS cancel, lease_token IS NOT NULL AS token, leased_until IS NOT NULL AS lease,
	CASE WHEN run_at <= now() THEN 'now' WHEN run_at <= now() + interval '1 minute' THEN 'soon' ELSE 'later' END AS due, finished_at IS NOT NULL AS finished, last_error, jsonb_array_length(errors) AS errors, result,
	concat_ws(' ', CASE WHEN final_attempt <> (attempts - (status = 'processing')::integer >= max_attempts - 1) THEN 'final_attempt' END,
		CASE WHEN (lease_token IS NOT NULL) <> (status = 'processing') THEN 'lease_token' END, CASE WHEN finished_at < enqueued_at THEN 'finished_at' END) AS wrong
FROM every JOIN pg_temp.job USING (id)
UNION ALL
SELECT 'dead ' || source_table, reason, NULL, attempts, max_attempts, NULL, NULL, NULL, leased_until IS NOT NULL,
	CASE WHEN run_at <= now() THEN 'now' ELSE 'later' END, died_at > enqueued_at, last_error, jsonb_array_length(errors), NULL, NULL
FROM dead_letter_jobs JOIN pg_temp.job USING (id);
\set state 'SELECT * FROM pg_temp.state;'
CREATE FUNCTION pg_temp.due() RETURNS void LANGUAGE sql AS $$
	UPDATE jobs SET run_at = now() WHERE id = (SELECT id FROM pg_temp.job);
	UPDATE critical_jobs SET run_at = now() WHERE id = (SELECT id FROM pg_temp.job)$$;
SELECT queue_create('q', backoff_jitter => 0), queue_create('deletes', keep_completed => '0'), queue_create('keeps', dead_letters => false) \gset

-- jobs --------------------------------------------------------------------

-- completed and kept
SELECT pg_temp.enqueue('q', false);
:state
SELECT pg_temp.claim('q');
:state
SELECT outcome, c.job_id = id AS same FROM pg_temp.job, queue_complete(id, token, '{"r": 1}') c;
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
-- completed and deleted
SELECT pg_temp.enqueue('deletes', false), pg_temp.claim('deletes');
SELECT outcome FROM pg_temp.job, queue_complete(id, token, '{"r": 1}') c;
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
-- failed: tried again after the backoff, which doubles, then after retry_in, then dead with all its errors
SELECT pg_temp.enqueue('q', false, 4), pg_temp.claim('q');
BEGIN;
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'first');
:state
SELECT run_at - (errors -> 0 ->> 'at')::timestamptz AS backoff FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
COMMIT;
SELECT pg_temp.due(), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_fail(id, token);
SELECT run_at - (errors -> 1 ->> 'at')::timestamptz AS backoff FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
:state
SELECT pg_temp.due(), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'third', '2 hours');
SELECT run_at - (errors -> 2 ->> 'at')::timestamptz AS retry_in FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
:state
SELECT pg_temp.due(), pg_temp.claim('q');
:state
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'fourth', '2 hours');
:state
SELECT source_table, reason, attempts, max_attempts, priority, job_type, payload, headers, group_key, idempotency_key IS NOT NULL AS key, leased_by, last_error, redriven_at, redriven_as,
	jsonb_path_query_array(errors, '$[*].attempt') AS attempts, jsonb_path_query_array(errors, '$[*].worker') AS workers, jsonb_path_query_array(errors, '$[*].error') AS errors,
	(errors -> 3 ->> 'at')::timestamptz = died_at AS at, enqueued_at < leased_at AND leased_at < died_at AS times
FROM dead_letter_jobs JOIN pg_temp.job USING (id);
SELECT outcome FROM pg_temp.job, queue_fail(id, token);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
-- given up by its worker
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'hopeless', dead => true);
:state
-- a queue without dead letters keeps the job
SELECT pg_temp.enqueue('keeps', false, 1), pg_temp.claim('keeps');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'last');
:state
SELECT pg_temp.enqueue('keeps', false), pg_temp.claim('keeps');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'hopeless', dead => true);
:state
SELECT pg_temp.enqueue('keeps', false, 1), pg_temp.claim('keeps', '1 microsecond');
SELECT count(*) FROM queue_claim('keeps');
:state
-- snooze and release give the attempt back, also the last
SELECT pg_temp.enqueue('q', false, 1), pg_temp.claim('q');
:state
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '1 hour');
:state
SELECT pg_temp.claim('q'), pg_temp.due(), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_release(id, token);
:state
SELECT pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '0');
:state
SELECT pg_temp.claim('q');
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
-- a released job keeps its place, a snoozed one does not
SELECT pg_temp.enqueue('q', false, 2), pg_temp.claim('q');
SELECT run_at AS before FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id) \gset
SELECT outcome FROM pg_temp.job, queue_release(id, token);
SELECT run_at = :'before' AS same_place FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
SELECT pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '0');
SELECT run_at > :'before' AS later FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
-- a lease that expires: claimed again, then dead
SELECT pg_temp.claim('q', '1 microsecond');
:state
SELECT pg_temp.claim('q', '1 microsecond');
:state
SELECT pg_temp.claim('q');
:state
SELECT jsonb_path_query_array(errors, '$[*].error') AS errors, jsonb_path_query_array(errors, '$[*].attempt') AS attempts FROM dead_letter_jobs JOIN pg_temp.job USING (id);
-- an expired lease that nobody took is still held
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q', '1 microsecond');
SELECT held, cancel_requested, leased_until > now() + interval '59 minutes' AS extended FROM pg_temp.job, queue_heartbeat(id, token, '1 hour');
SELECT count(*) FROM queue_claim('q');
-- a heartbeat never shortens a lease
SELECT h.leased_until > now() + interval '59 minutes' AS still FROM pg_temp.job, queue_heartbeat(id, token, '1 minute') h;
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
-- cancelled while it waits: at once
SELECT pg_temp.enqueue('q', false);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
:state
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT count(*) FROM queue_claim('q');
SELECT pg_temp.enqueue('deletes', false);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
:state
-- cancelled while it runs: the worker is told, and may still complete it
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
:state
SELECT held, cancel_requested FROM pg_temp.job, queue_heartbeat(id, token);
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
:state
-- ... but it is not tried again: fail, release, snooze, expiry
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'stopped', '1 hour');
:state
SELECT pg_temp.enqueue('q', false, 1), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'stopped', dead => true);
:state
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_release(id, token);
:state
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '1 hour');
:state
SELECT pg_temp.enqueue('q', false), pg_temp.claim('q', '1 microsecond');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT count(*) FROM queue_claim('q');
:state
SELECT pg_temp.enqueue('deletes', false), pg_temp.claim('deletes');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_release(id, token);
:state

-- critical jobs -----------------------------------------------------------

-- completed and kept
SELECT pg_temp.enqueue('q', true);
:state
SELECT pg_temp.claim('q');
:state
SELECT outcome, c.job_id = id AS same FROM pg_temp.job, queue_complete(id, token, '{"r": 1}') c;
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
-- completed and deleted
SELECT pg_temp.enqueue('deletes', true), pg_temp.claim('deletes');
SELECT outcome FROM pg_temp.job, queue_complete(id, token, '{"r": 1}') c;
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
-- failed: tried again after the backoff, which doubles, then after retry_in, then dead with all its errors
SELECT pg_temp.enqueue('q', true, 4), pg_temp.claim('q');
BEGIN;
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'first');
:state
SELECT run_at - (errors -> 0 ->> 'at')::timestamptz AS backoff FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
COMMIT;
SELECT pg_temp.due(), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_fail(id, token);
SELECT run_at - (errors -> 1 ->> 'at')::timestamptz AS backoff FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
:state
SELECT pg_temp.due(), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'third', '2 hours');
SELECT run_at - (errors -> 2 ->> 'at')::timestamptz AS retry_in FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
:state
SELECT pg_temp.due(), pg_temp.claim('q');
:state
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'fourth', '2 hours');
:state
SELECT source_table, reason, attempts, max_attempts, priority, job_type, payload, headers, group_key, idempotency_key IS NOT NULL AS key, leased_by, last_error, redriven_at, redriven_as,
	jsonb_path_query_array(errors, '$[*].attempt') AS attempts, jsonb_path_query_array(errors, '$[*].worker') AS workers, jsonb_path_query_array(errors, '$[*].error') AS errors,
	(errors -> 3 ->> 'at')::timestamptz = died_at AS at, enqueued_at < leased_at AND leased_at < died_at AS times
FROM dead_letter_jobs JOIN pg_temp.job USING (id);
SELECT outcome FROM pg_temp.job, queue_fail(id, token);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
-- given up by its worker
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'hopeless', dead => true);
:state
-- a queue without dead letters keeps the job
SELECT pg_temp.enqueue('keeps', true, 1), pg_temp.claim('keeps');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'last');
:state
SELECT pg_temp.enqueue('keeps', true), pg_temp.claim('keeps');
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'hopeless', dead => true);
:state
SELECT pg_temp.enqueue('keeps', true, 1), pg_temp.claim('keeps', '1 microsecond');
SELECT count(*) FROM queue_claim('keeps');
:state
-- snooze and release give the attempt back, also the last
SELECT pg_temp.enqueue('q', true, 1), pg_temp.claim('q');
:state
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '1 hour');
:state
SELECT pg_temp.claim('q'), pg_temp.due(), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_release(id, token);
:state
SELECT pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '0');
:state
SELECT pg_temp.claim('q');
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
-- a released job keeps its place, a snoozed one does not
SELECT pg_temp.enqueue('q', true, 2), pg_temp.claim('q');
SELECT run_at AS before FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id) \gset
SELECT outcome FROM pg_temp.job, queue_release(id, token);
SELECT run_at = :'before' AS same_place FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
SELECT pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '0');
SELECT run_at > :'before' AS later FROM (SELECT * FROM jobs UNION ALL SELECT * FROM critical_jobs) j JOIN pg_temp.job USING (id);
-- a lease that expires: claimed again, then dead
SELECT pg_temp.claim('q', '1 microsecond');
:state
SELECT pg_temp.claim('q', '1 microsecond');
:state
SELECT pg_temp.claim('q');
:state
SELECT jsonb_path_query_array(errors, '$[*].error') AS errors, jsonb_path_query_array(errors, '$[*].attempt') AS attempts FROM dead_letter_jobs JOIN pg_temp.job USING (id);
-- an expired lease that nobody took is still held
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q', '1 microsecond');
SELECT held, cancel_requested, leased_until > now() + interval '59 minutes' AS extended FROM pg_temp.job, queue_heartbeat(id, token, '1 hour');
SELECT count(*) FROM queue_claim('q');
-- a heartbeat never shortens a lease
SELECT h.leased_until > now() + interval '59 minutes' AS still FROM pg_temp.job, queue_heartbeat(id, token, '1 minute') h;
:state
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
-- cancelled while it waits: at once
SELECT pg_temp.enqueue('q', true);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
:state
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT count(*) FROM queue_claim('q');
SELECT pg_temp.enqueue('deletes', true);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
:state
-- cancelled while it runs: the worker is told, and may still complete it
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_cancel(id);
:state
SELECT held, cancel_requested FROM pg_temp.job, queue_heartbeat(id, token);
SELECT outcome FROM pg_temp.job, queue_complete(id, token);
:state
-- ... but it is not tried again: fail, release, snooze, expiry
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'stopped', '1 hour');
:state
SELECT pg_temp.enqueue('q', true, 1), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_fail(id, token, 'stopped', dead => true);
:state
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_release(id, token);
:state
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_snooze(id, token, '1 hour');
:state
SELECT pg_temp.enqueue('q', true), pg_temp.claim('q', '1 microsecond');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT count(*) FROM queue_claim('q');
:state
SELECT pg_temp.enqueue('deletes', true), pg_temp.claim('deletes');
SELECT outcome FROM pg_temp.job, queue_cancel(id);
SELECT outcome FROM pg_temp.job, queue_release(id, token);
:state

-- one claim puts away no more than a hundred leases that expired for good, and finds what is behind them
SELECT queue_create('many', max_attempts => 1) IS NOT NULL AS created;
SELECT count(queue_enqueue('many', priority => 1)) FROM generate_series(1, 150);
SELECT count(*) FROM queue_claim('many', 'w', 200, '1 microsecond');
SELECT created FROM queue_enqueue('many', '"behind"');
CREATE VIEW pg_temp.many AS SELECT (SELECT count(*) FROM dead_letter_jobs d WHERE d.queue_id = q.id) AS dead, (SELECT count(*) FROM jobs j WHERE j.queue_id = q.id) AS jobs FROM queues q WHERE tenant_id = queue_tenant() AND name = 'many';
SELECT payload FROM queue_claim('many', max_jobs => 10);
SELECT * FROM pg_temp.many;
SELECT payload FROM queue_claim('many');
SELECT * FROM pg_temp.many;

-- the backoff: base x factor ^ (attempt - 1), at most max, then jitter
CREATE FUNCTION pg_temp.backoffs(queue text, attempts integer) RETURNS TABLE (attempt integer, backoff interval) LANGUAGE plpgsql AS $$
DECLARE
	j record;
BEGIN
	PERFORM queue_purge(queue), queue_enqueue(queue, max_attempts => attempts + 1);
	FOR i IN 1..attempts LOOP
		SELECT * INTO STRICT j FROM queue_claim(queue);
		PERFORM queue_fail(j.job_id, j.lease_token);
		RETURN QUERY SELECT i, run_at - (errors -> -1 ->> 'at')::timestamptz FROM jobs WHERE id = j.job_id;
		UPDATE jobs SET run_at = now() WHERE id = j.job_id;
	END LOOP;
END$$;
SELECT queue_create('backoff', backoff_base => '10 seconds', backoff_factor => 3, backoff_max => '5 minutes', backoff_jitter => 0) IS NOT NULL AS created;
SELECT * FROM pg_temp.backoffs('backoff', 6);
SELECT queue_set('backoff', backoff_factor => 1) IS NOT NULL AS set;
SELECT DISTINCT backoff FROM pg_temp.backoffs('backoff', 5);
SELECT queue_set('backoff', backoff_base => '0') IS NOT NULL AS set;
SELECT DISTINCT backoff FROM pg_temp.backoffs('backoff', 5);
SELECT queue_set('backoff', backoff_base => '365 days', backoff_factor => 100, backoff_max => '365 days') IS NOT NULL AS set;
SELECT DISTINCT backoff FROM pg_temp.backoffs('backoff', 160);
-- jitter: within its bounds, and on both sides
SELECT queue_set('backoff', backoff_base => '100 seconds', backoff_factor => 1, backoff_jitter => 0.25) IS NOT NULL AS set;
SELECT min(backoff) BETWEEN '75 seconds' AND '90 seconds' AS low, max(backoff) BETWEEN '110 seconds' AND '125 seconds' AS high, count(DISTINCT backoff) > 90 AS spread FROM pg_temp.backoffs('backoff', 100);
SELECT queue_set('backoff', backoff_jitter => 1) IS NOT NULL AS set;
SELECT min(backoff) BETWEEN '0' AND '60 seconds' AS low, max(backoff) BETWEEN '140 seconds' AND '200 seconds' AS high FROM pg_temp.backoffs('backoff', 100);
-- only the last hundred errors are kept, each cut to 4096 bytes at a character's end
SELECT queue_set('backoff', backoff_base => '0', backoff_jitter => 0, max_attempts => 1000) IS NOT NULL AS set;
DO $$
DECLARE
	j record;
BEGIN
	PERFORM queue_purge('backoff'), queue_enqueue('backoff', '"errors"');
	FOR i IN 1..103 LOOP
		SELECT * INTO STRICT j FROM queue_claim('backoff');
		PERFORM queue_fail(j.job_id, j.lease_token, repeat('ä', 3000));
	END LOOP;
END$$;
SELECT jsonb_array_length(errors) AS errors, errors -> 0 -> 'attempt' AS first, errors -> 99 -> 'attempt' AS last, octet_length(last_error) AS bytes, last_error = repeat('ä', 2048) AS whole_characters, octet_length(errors -> 99 ->> 'error') AS bytes
FROM jobs WHERE tenant_id = :tenant AND payload = '"errors"';

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant);
DELETE FROM tenants WHERE id = :tenant;
