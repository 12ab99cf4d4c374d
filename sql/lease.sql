-- Leases: who lost one is told so, in each verb and in batches; strict calls undo the effect.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
\set tenant '\'00000000-0000-4000-8000-000000000f01\''
INSERT INTO tenants (id, name) VALUES (:tenant, 'lease');
SET app.current_tenant = :tenant;
SELECT queue_create('q') IS NOT NULL AS created;
-- every verb with the token of a lease, in all its forms: what it says, and whether strict raises
CREATE FUNCTION pg_temp.verbs(job uuid, token bigint, undo boolean DEFAULT false) RETURNS TABLE (verb text, outcome text, if_strict text) LANGUAGE plpgsql AS $$
DECLARE
	statement text;
BEGIN
	FOR verb, statement IN SELECT * FROM (VALUES
		('complete', 'SELECT outcome FROM queue_complete($1, $2, strict => $3)'),
		('complete_many', 'SELECT outcome FROM queue_complete_many(ARRAY[$1], ARRAY[$2], strict => $3)'),
		('complete_and_claim', 'SELECT kind FROM queue_complete_and_claim(''empty'', ARRAY[$1], ARRAY[$2], strict => $3)'),
		('fail', 'SELECT outcome FROM queue_fail($1, $2, ''late'', strict => $3)'),
		('fail dead', 'SELECT outcome FROM queue_fail($1, $2, ''late'', dead => true, strict => $3)'),
		('heartbeat', 'SELECT CASE WHEN held THEN ''held'' ELSE ''not held'' END FROM queue_heartbeat($1, $2, strict => $3)'),
		('heartbeat_many', 'SELECT CASE WHEN held THEN ''held'' ELSE ''not held'' END FROM queue_heartbeat_many(ARRAY[$1], ARRAY[$2], strict => $3)'),
		('snooze', 'SELECT outcome FROM queue_snooze($1, $2, ''1 hour'', strict => $3)'),
		('release', 'SELECT outcome FROM queue_release($1, $2, strict => $3)')) v
	LOOP
		BEGIN
			EXECUTE statement INTO outcome USING job, token, false;
			IF undo THEN
				RAISE EXCEPTION 'undone' USING ERRCODE = 'RESET';
			END IF;
		EXCEPTION WHEN SQLSTATE 'RESET' THEN
		END;
		BEGIN
			EXECUTE statement INTO if_strict USING job, token, true;
			-- undone, for the next one
			RAISE EXCEPTION '%', if_strict USING ERRCODE = 'RESET';
		EXCEPTION WHEN OTHERS THEN
			if_strict := CASE WHEN SQLSTATE = 'RESET' THEN SQLERRM ELSE SQLSTATE END;
		END;
		RETURN NEXT;
	END LOOP;
END$$;
-- the verbs at once: only where they differ from what a lost lease must give
CREATE FUNCTION pg_temp.refused(job uuid, token bigint) RETURNS TABLE (refused bigint, not_refused text, changed bigint) LANGUAGE plpgsql AS $$
DECLARE
	before text := pg_temp.everything();
BEGIN
	SELECT count(*) FILTER (WHERE outcome IN ('lost', 'refused', 'not held') AND if_strict = 'QS030'), string_agg(verb, ' ') FILTER (WHERE outcome NOT IN ('lost', 'refused', 'not held') OR if_strict <> 'QS030')
	INTO refused, not_refused FROM pg_temp.verbs(job, token);
	changed := (before <> pg_temp.everything())::integer;
	RETURN NEXT;
END$$;
CREATE FUNCTION pg_temp.everything() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT md5(concat((SELECT string_agg(j::text, ' ' ORDER BY id) FROM jobs j), (SELECT string_agg(j::text, ' ' ORDER BY id) FROM critical_jobs j), (SELECT string_agg(j::text, ' ' ORDER BY id) FROM dead_letter_jobs j)))$$;
SELECT queue_create('empty') IS NOT NULL AS created;

-- a lease that is held, for comparison; each verb is undone before the next
SELECT created FROM queue_enqueue('q');
SELECT o.* FROM queue_claim('q') c, pg_temp.verbs(c.job_id, c.lease_token, true) o;
SELECT queue_purge('q', 'all');
-- a wrong token, of a job that is held
SELECT created FROM queue_enqueue('q', '1', max_attempts => 5);
SELECT job_id, lease_token FROM queue_claim('q', 'first', lease => '1 microsecond') \gset
SELECT * FROM pg_temp.refused(:'job_id', :lease_token + 1);
SELECT * FROM pg_temp.refused(:'job_id', 0);
SELECT * FROM pg_temp.refused(:'job_id', -1);
-- after rescue: the lease expired and another worker has the job
SELECT job_id = :'job_id' AS same, lease_token <> :lease_token AS another_token, lease_token AS second FROM queue_claim('q', 'second') \gset
SELECT :'same' AS same, :'another_token' AS another_token;
SELECT * FROM pg_temp.refused(:'job_id', :lease_token);
-- after release, and the next claim
SELECT outcome FROM queue_release(:'job_id', :second);
SELECT * FROM pg_temp.refused(:'job_id', :second);
SELECT lease_token AS third FROM queue_claim('q', 'third') \gset
SELECT * FROM pg_temp.refused(:'job_id', :second);
-- after snooze
SELECT outcome FROM queue_snooze(:'job_id', :third, '0');
SELECT * FROM pg_temp.refused(:'job_id', :third);
-- after fail
SELECT lease_token AS fourth FROM queue_claim('q', 'fourth') \gset
SELECT outcome FROM queue_fail(:'job_id', :fourth, retry_in => '0');
SELECT * FROM pg_temp.refused(:'job_id', :fourth);
-- after retry took it away
SELECT lease_token AS fifth FROM queue_claim('q', 'fifth') \gset
SELECT outcome FROM queue_retry(:'job_id');
SELECT * FROM pg_temp.refused(:'job_id', :fifth);
-- after redrive, under the old id and the new one
SELECT lease_token AS sixth FROM queue_claim('q', 'sixth') \gset
SELECT outcome FROM queue_fail(:'job_id', :sixth, dead => true);
SELECT * FROM pg_temp.refused(:'job_id', :sixth);
SELECT queue_redrive('q');
SELECT redriven_as FROM dead_letter_jobs WHERE id = :'job_id' \gset
SELECT * FROM pg_temp.refused(:'job_id', :sixth);
SELECT * FROM pg_temp.refused(:'redriven_as', :sixth);
-- after complete and cancel
SELECT job_id, lease_token FROM queue_claim('q', 'seventh') \gset
SELECT outcome FROM queue_complete(:'job_id', :lease_token);
SELECT * FROM pg_temp.refused(:'job_id', :lease_token);
-- of a job that there is not, of a waiting job
SELECT * FROM pg_temp.refused('00000000-0000-4000-8000-000000000000', 1);
SELECT job_id FROM queue_enqueue('q') \gset
SELECT * FROM pg_temp.refused(:'job_id', 0);
-- the same for critical jobs
SELECT queue_purge('q', 'all') > 0 AS purged;
SELECT created FROM queue_enqueue_critical('q', '1', 'rescue');
SELECT job_id, lease_token FROM queue_claim('q', 'first', lease => '1 microsecond') \gset
SELECT lease_token AS second FROM queue_claim('q', 'second') \gset
SELECT * FROM pg_temp.refused(:'job_id', :lease_token);
SELECT outcome FROM queue_complete(:'job_id', :second);
-- another tenant's lease is as good as none
SELECT created FROM queue_enqueue('q');
SELECT job_id, lease_token FROM queue_claim('q') \gset
INSERT INTO tenants (id, name) VALUES ('00000000-0000-4000-8000-000000000f02', 'lease');
SET app.current_tenant = '00000000-0000-4000-8000-000000000f02';
SELECT queue_create('empty') IS NOT NULL AS created;
SELECT * FROM pg_temp.refused(:'job_id', :lease_token);
SET app.current_tenant = :tenant;
SELECT outcome FROM queue_complete(:'job_id', :lease_token);

-- strict completion: exactly one effect, though the lease was taken away in between
CREATE TABLE pg_temp.effects (worker text);
SELECT created FROM queue_enqueue('q', '"effect"');
SELECT job_id, lease_token FROM queue_claim('q', 'first', lease => '1 microsecond') \gset
SELECT lease_token AS second FROM queue_claim('q', 'second') \gset
BEGIN;
INSERT INTO pg_temp.effects VALUES ('first');
SELECT outcome FROM queue_complete(:'job_id', :lease_token, strict => true);
COMMIT;
BEGIN;
INSERT INTO pg_temp.effects VALUES ('second');
SELECT outcome FROM queue_complete(:'job_id', :second, strict => true);
COMMIT;
SELECT worker FROM pg_temp.effects;
-- the message names the job and nothing else
\set VERBOSITY terse
DO $$
BEGIN
	PERFORM queue_complete('00000000-0000-4000-8000-000000000000', 1, '"secret"', true);
END$$;
\set VERBOSITY sqlstate

-- batches: one row for each job, in the order given; a job given twice is lost the second time
SELECT queue_purge('q', 'all') > 0 AS purged;
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(1, 6) i;
SELECT array_agg(job_id ORDER BY payload) AS ids, array_agg(lease_token ORDER BY payload) AS tokens FROM queue_claim('q', max_jobs => 6) \gset
SELECT n, job_id = (:'ids'::uuid[])[5 - n] AS aligned, held, cancel_requested, leased_until > now() + interval '59 minutes' AS extended
FROM queue_heartbeat_many((:'ids'::uuid[])[4:4] || (:'ids'::uuid[])[3:3] || (:'ids'::uuid[])[2:2], ARRAY[(:'tokens'::bigint[])[4], 0, (:'tokens'::bigint[])[2]], '1 hour') WITH ORDINALITY h (job_id, held, cancel_requested, leased_until, n);
SELECT n, array_position(:'ids'::uuid[], job_id) AS job, outcome FROM queue_complete_many(ARRAY(SELECT (:'ids'::uuid[])[i] FROM unnest(ARRAY[3, 1, 2, 1]) i), ARRAY(SELECT (:'tokens'::bigint[])[i] FROM unnest(ARRAY[3, 1, 3, 1]) i),
	ARRAY['"three"', NULL, '"two"', '"again"']::jsonb[]) WITH ORDINALITY c (job_id, outcome, n);
SELECT payload, status, result FROM jobs WHERE tenant_id = :tenant ORDER BY payload;
-- (a heartbeat given twice is a heartbeat)
SELECT held, cancel_requested FROM queue_heartbeat_many(array_fill((:'ids'::uuid[])[6], ARRAY[2]), array_fill((:'tokens'::bigint[])[6], ARRAY[2]));
SELECT outcome FROM queue_complete_many('{}', '{}');
SELECT outcome FROM queue_complete_many((:'ids'::uuid[])[4:5], ARRAY[(:'tokens'::bigint[])[4], 0], strict => true);
SELECT held FROM queue_heartbeat_many((:'ids'::uuid[])[4:5], ARRAY[(:'tokens'::bigint[])[4], 0], strict => true);
SELECT payload, status, result FROM jobs WHERE tenant_id = :tenant ORDER BY payload;
-- a whole turn: refused rows first, then what was claimed
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(7, 9) i;
SELECT n, kind, array_position(:'ids'::uuid[], job_id) AS job, lease_token > 0 AS token, tenant_id = :tenant AS tenant, queue, job_type, payload, headers, attempt, max_attempts, priority, critical, enqueued_at < now() AS enqueued, leased_until > now() + interval '1 hour 50 minutes' AS leased
FROM queue_complete_and_claim('q', (:'ids'::uuid[])[3:5], ARRAY[1, (:'tokens'::bigint[])[4], 2], ARRAY['1', '4', '5']::jsonb[], 'turner', 2, '2 hours') WITH ORDINALITY t (kind, job_id, lease_token, tenant_id, queue, job_type, payload, headers, attempt, max_attempts, priority, critical, enqueued_at, leased_until, n);
SELECT payload, status, result, leased_by = 'turner' AS turner FROM jobs WHERE tenant_id = :tenant ORDER BY payload;
SELECT kind, payload FROM queue_complete_and_claim('q');
SELECT kind, payload FROM queue_complete_and_claim('q', strict => true);
-- strict: nothing is claimed or completed if one is lost
SELECT count(queue_enqueue('q', to_jsonb(i))) FROM generate_series(10, 11) i;
SELECT kind, payload FROM queue_complete_and_claim('q', (:'ids'::uuid[])[5:6], ARRAY[(:'tokens'::bigint[])[5], 1], strict => true);
SELECT payload, status FROM jobs WHERE tenant_id = :tenant AND (payload > '9' OR payload IN ('5', '6')) ORDER BY payload;
-- jobs of another queue, and critical ones, are completed too
SELECT queue_create('r') IS NOT NULL AS created;
SELECT created FROM queue_enqueue_critical('r', '"critical"', 'turn');
SELECT job_id, lease_token FROM queue_claim('r') \gset
SELECT kind, payload FROM queue_complete_and_claim('q', ARRAY[:'job_id'::uuid], ARRAY[:lease_token::bigint], ARRAY['"r"'::jsonb]);
SELECT status, result FROM critical_jobs WHERE id = :'job_id';

RESET app.current_tenant;
SELECT done FROM queue_tenant_purge(:tenant);
SELECT done FROM queue_tenant_purge('00000000-0000-4000-8000-000000000f02');
DELETE FROM tenants WHERE name = 'lease';
