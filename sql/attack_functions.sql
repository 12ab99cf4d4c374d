-- Attacks by calling functions: what hostile.sql does with every argument, and
-- what needs more than one call. Its matrix is the larger part of these.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/sql/attack.inc'
\i :file

-- attack: End, extend, snooze or release a foreign lease whose id and token are known
-- fails: the row is looked for with the tenant of the call; another's is a missing one
SELECT attack.try('SELECT outcome FROM queue_complete({running}, {running token})');
SELECT attack.try('SELECT outcome FROM queue_complete({running}, {running token}, strict => true)');
SELECT attack.try('SELECT outcome FROM queue_fail({running}, {running token}, ''x'', dead => true)');
SELECT attack.try('SELECT held FROM queue_heartbeat({running}, {running token})');
SELECT attack.try('SELECT outcome FROM queue_snooze({running}, {running token}, ''1 minute'')');
SELECT attack.try('SELECT outcome FROM queue_release({running}, {running token})');
-- attack: The same with an own job in front, in one batch
-- fails: each row of a batch is looked for in the same way
SELECT attack.try('SELECT outcome FROM queue_complete_many(ARRAY[{own running}, {running}]::uuid[], ARRAY[{own running token}, {running token}])');
SELECT attack.try('SELECT held FROM queue_heartbeat_many(ARRAY[{own running}, {running}]::uuid[], ARRAY[{own running token}, {running token}])');
SELECT attack.try('SELECT kind, job_id FROM queue_complete_and_claim(''alpha'', ARRAY[{running}]::uuid[], ARRAY[{running token}])');
-- attack: Look at, cancel or revive a foreign job
-- fails: the row is looked for with the tenant of the call
SELECT attack.try('SELECT * FROM queue_job({waiting})');
SELECT attack.try('SELECT * FROM queue_explain({waiting})');
SELECT attack.try('SELECT * FROM queue_job({finished})');
SELECT attack.try('SELECT outcome FROM queue_cancel({waiting})');
SELECT attack.try('SELECT outcome FROM queue_retry({dead})');
-- attack: Claim from, look into, wait for or change a foreign queue by its name
-- fails: a name is one of the tenant's own
SELECT attack.try('SELECT * FROM queue_claim({name})');
SELECT attack.try('SELECT * FROM queue_complete_and_claim({name})');
SELECT attack.try('SELECT * FROM queue_peek({name})');
SELECT attack.try('SELECT queue_pause({name})');
SELECT attack.try('SELECT queue_set({name}, max_attempts => 1)');
SELECT attack.try('SELECT queue_drop({name}, true)');
SELECT attack.try('SELECT queue_purge({name})');
SELECT attack.try('SELECT queue_redrive({name})');
-- attack: queue_wait() for a foreign queue, to be told when work is there
-- fails: the same error as for a missing one
CALL queue_wait('bravo', '1 second');
CALL queue_wait('gamma', '1 second');
-- attack: Wildcards, quotes and SQL in a name
-- fails: names are parameters of prepared statements, compared for equality
SELECT attack.try(format('SELECT * FROM queue_peek(%L)', n))
FROM unnest(ARRAY['%', 'br%', 'bravo'' OR ''a'' = ''a', 'bravo"', 'public.bravo', 'bravo; --', 'BRAVO', ' bravo']) n;
-- attack: error_like of queue_redrive() reaches the errors of others
-- fails: it is one condition beside the tenant's and the queue's
SELECT attack.try('SELECT queue_redrive(''alpha'', error_like => {name})');
SELECT attack.try('SELECT queue_redrive(''alpha'', error_like => ''br%'')');
-- attack: Replace, debounce or reject by a foreign idempotency key
-- fails: keys are unique in a tenant's queue; a foreign one is free
SELECT attack.try(format('SELECT created FROM queue_enqueue(''alpha'', ''1'', idempotency_key => {key}, on_conflict => %L)', c))
FROM unnest('{return, reject, replace, debounce}'::text[]) c;
SELECT attack.try(format('SELECT created FROM queue_enqueue_critical(''alpha'', ''1'', {critical key}, on_conflict => %L)', c))
FROM unnest('{return, reject}'::text[]) c;
-- attack: Join the group of another tenant
-- fails: a group is one of a queue
SELECT attack.try('SELECT created FROM queue_enqueue(''alpha'', group_key => {name})');
-- attack: Raise the attacker's own limits and weight by queue_set() or queue_create()
-- fails: they are the platform's, as is the error: 42501
SELECT attack.try(format('SELECT queue_set(''alpha'', %s)', s))
FROM unnest(ARRAY['weight => 1000', 'max_depth => 1000000', 'max_depth => 0', 'max_concurrency => 0', 'critical_reserve => 100', 'rate_limiter => ''stripe''', 'enqueue_limiter => ''''']) s;
SELECT attack.try('SELECT queue_create(''fast'', weight => 1000)');
SELECT attack.try('SELECT queue_create(''fast'', max_concurrency => 1000)');
-- attack: Drop a limited queue and create it anew, without its limit
-- fails: a tenant may not drop a queue that has a limit of the platform's
SELECT attack.try('SELECT queue_drop(''alpha'', true)');
-- attack: Set limits of services and of tenants
-- fails: these functions are granted to nobody, and the tables have a trigger that guards them
SELECT attack.try('SELECT queue_limiter_set(''stripe'', 1e6, 1e6)');
SELECT attack.try('SELECT queue_tenant_limit_set(queue_tenant(), ''stripe'', 1e6, 1e6)');
SELECT attack.try('SELECT queue_tenant_limit_set({tenant}, {name}, 1, 0.001)');
SELECT attack.try('INSERT INTO rate_limits (name, tokens_available, max_tokens, refill_per_second) VALUES (''stripe'', 1, 1e6, 1e6)');
-- attack: Take tokens and permits of a limit that is only another tenant's
-- fails: a tenant's own limits are looked up with its id; a foreign name is unknown
SELECT attack.try('SELECT granted FROM queue_rate_acquire({name})');
SELECT attack.try('SELECT * FROM queue_rate_peek({name})');
SELECT attack.try('SELECT queue_rate_release({name}, 1)');
-- attack: Purge a tenant, act for all of them, grant oneself more, or call what is internal
-- fails: EXECUTE on these is granted to nobody
SELECT attack.try('SELECT queue_tenant_purge({tenant})');
SELECT attack.try('SELECT _queue_all_tenants()');
SELECT attack.try('SELECT queue_grant(''regress_attacker'', ''worker'', all_tenants => true)');
SELECT attack.try('SELECT queue_revoke(''regress_attacked'', ''worker'')');
SELECT attack.try('SELECT _queue_privilege_statements(''regress_attacker'', ''worker'', true, false)');
-- attack: Act without a tenant, to serve all of them
-- fails: only who may execute _queue_all_tenants() does
SELECT attack.try('WITH s AS MATERIALIZED (SELECT set_config(''app.current_tenant'', '''', true)) SELECT c.* FROM s, LATERAL queue_claim(left(''bravo'', 5 + 0 * length(s.set_config))) c');
-- attack: Set the tenant for the length of a claim, beside it in one statement, and read what it gave afterwards
-- fails: it is for whom the setting stands when the call begins; what it gave is that tenant's. Bound, the setting is refused
SELECT attack.try('SELECT set_config(''app.current_tenant'', ''00000000-0000-7000-8000-00000000000c'', true), queue_claim({name})');
-- attack: Write what is too large or malformed, to have the error tell of the row or of another's
-- fails: no error shows a value of a row
SELECT attack.try('SELECT queue_enqueue(''alpha'', to_jsonb(repeat(''x'', 2000000)))');
SELECT attack.try('SELECT queue_enqueue(''alpha'', headers => to_jsonb(repeat(''x'', 2000000)))');
SELECT attack.try('SELECT queue_job({name})');
SELECT attack.try('SELECT queue_enqueue({name}, ''{"secret": 1}'', priority => 40000::smallint)');
-- attack: Guess the lease token of an own job that a fellow worker has
-- fails: 53 random bits, new with each claim
SELECT attack.try('SELECT held FROM queue_heartbeat({own running}, 1)');
-- attack: Tell times apart: a foreign id, which is found and refused, from a missing one
-- fails: not wholly: PostgreSQL looks the id up in an index first, and fetches the row of one that exists. See doc/security.md
SELECT attack.try('SELECT outcome FROM queue_cancel({running})');

-- A session that has acted for both tenants, as a pooler's does: what it keeps.
RESET SESSION AUTHORIZATION;
SELECT queue_grant('regress_attacked', 'worker'), queue_grant('regress_attacked', 'producer') \g /dev/null
SET app.current_tenant = :other;
SELECT job_id AS bravo_job, lease_token AS bravo_token FROM queue_claim('bravo') \gset
UPDATE attack.before SET digest = attack.digest();
SET app.current_tenant = :own;
SET SESSION AUTHORIZATION regress_attacker;
-- attack: End a foreign lease in the session that claimed it, which remembers where its row is
-- fails: what is remembered is a place to look first; the tenant is compared there, too
SELECT outcome FROM queue_complete(:'bravo_job', :bravo_token);
SELECT held FROM queue_heartbeat(:'bravo_job', :bravo_token);
SELECT count(*) FROM queue_job(:'bravo_job');
-- attack: A foreign queue by its name, in a session that has its definition at hand
-- fails: definitions are kept by tenant and name
SELECT attack.try('SELECT * FROM queue_claim({name})');
-- attack: The ids that the session made last, to guess the next of another tenant
-- fails: an id is no secret: a foreign one is a missing one everywhere
SELECT queue_new_id() > :'bravo_job' AS later;

\set file :abs_srcdir '/sql/attack.end'
\i :file
