-- Attacks on rows: by SQL on the tables that the attacker may read or insert into.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/sql/attack.inc'
\i :file

-- attack: Read a foreign row by its primary key
-- fails: the policies compare tenant_id; there is no row
SELECT attack.try('SELECT id, status FROM jobs WHERE id = {waiting}');
SELECT attack.try('SELECT id, status FROM critical_jobs WHERE id = {critical}');
SELECT attack.try('SELECT id, reason FROM dead_letter_jobs WHERE id = {dead}');
SELECT attack.try('SELECT id, name FROM queues WHERE id = {queue}');
-- attack: Read by the foreign tenant_id
-- fails: the policies are ANDed to it
SELECT attack.try('SELECT * FROM jobs WHERE tenant_id = {tenant}');
SELECT attack.try('SELECT * FROM queues WHERE tenant_id <> queue_tenant() OR true');
-- attack: Read all rows of every table, whatever is in them
-- fails: each table has both policies, forced
SELECT attack.try(format('SELECT %s FROM %s', c.columns, c.name)) FROM (
	SELECT c.oid::regclass AS name, string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns
	FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0
	WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND has_column_privilege(c.oid, attnum, 'SELECT')
	GROUP BY 1 ORDER BY c.oid::regclass::text) c;
-- attack: Look for foreign rows in a sub-select, a join, an aggregate, a window or a set operation
-- fails: row-level security is applied to each mention of a table
SELECT attack.try('SELECT (SELECT name FROM queues q WHERE q.id = x) FROM (SELECT {queue}::uuid) s (x)');
SELECT attack.try('SELECT count(*) FROM jobs a FULL JOIN critical_jobs b ON a.queue_id = b.queue_id WHERE b.queue_id = {queue}');
SELECT attack.try('SELECT max(name), min(name), array_agg(id) FROM queues');
SELECT attack.try('SELECT string_agg(name, '' '') OVER () FROM queues UNION ALL SELECT message FROM alert_history');
SELECT attack.try('SELECT q.name FROM (SELECT {queue}::uuid) s (id) LEFT JOIN LATERAL (SELECT name FROM queues WHERE queues.id = s.id) q ON true');
SELECT attack.try('WITH RECURSIVE r AS (SELECT id FROM queues UNION SELECT j.queue_id FROM jobs j, r) SELECT * FROM r');
-- attack: TABLESAMPLE, which reads whole pages
-- fails: what was sampled is filtered by the policies
SELECT attack.try('SELECT id, payload FROM jobs TABLESAMPLE SYSTEM (100)');
SELECT attack.try('SELECT name FROM queues TABLESAMPLE BERNOULLI (100) REPEATABLE (1)');
-- attack: Read by ctid, page by page
-- fails: no privilege on system columns: columns are granted one by one
SELECT attack.try('SELECT ctid, id FROM jobs');
SELECT attack.try('SELECT id FROM jobs WHERE ctid = ''(0,7)''');
SELECT attack.try('SELECT id FROM jobs WHERE ctid = ANY (ARRAY[''(0,1)'', ''(0,2)'']::tid[])');
-- attack: xmin and xmax of rows, to follow who writes and locks
-- fails: no privilege on system columns
SELECT attack.try('SELECT xmin, xmax, cmin, tableoid FROM queues');
-- attack: currtid2(), which follows a foreign row to its newest version without asking row-level security
-- fails: it asks for SELECT on the whole table, which nobody has
SELECT attack.try('SELECT currtid2(''jobs'', ''(0,1)'')');
SELECT attack.try('SELECT currtid2(''queues'', ''(0,2)'')');
-- attack: Lock a foreign row, to stop its tenant
-- fails: locks need UPDATE or DELETE, which nobody has
SELECT attack.try('SELECT FROM jobs WHERE id = {waiting} FOR KEY SHARE');
SELECT attack.try('SELECT FROM queues FOR UPDATE NOWAIT');
-- attack: Lock a whole table
-- fails: it needs a right to the whole table
SELECT attack.try('LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE');
SELECT attack.try('LOCK TABLE queues IN ROW EXCLUSIVE MODE');
SELECT attack.try('LOCK TABLE queues IN ACCESS SHARE MODE');
-- attack: UPDATE, DELETE, MERGE, TRUNCATE of foreign rows
-- fails: no role is ever given these
SELECT attack.try('UPDATE jobs SET tenant_id = queue_tenant() WHERE tenant_id = {tenant}');
SELECT attack.try('UPDATE queues SET name = ''mine'' WHERE id = {queue}');
SELECT attack.try('DELETE FROM jobs WHERE id = {waiting}');
SELECT attack.try('MERGE INTO jobs j USING (SELECT {waiting}::uuid AS id) s ON j.id = s.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (queue_id) VALUES ({own queue})');
SELECT attack.try('TRUNCATE idempotency_keys');
-- attack: INSERT a job for the foreign tenant
-- fails: WITH CHECK of the policies, before any key is looked at
SELECT attack.try('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {queue})');
SELECT attack.try('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {own queue})');
-- attack: INSERT an own job into a foreign queue
-- fails: the foreign key is (tenant_id, queue_id): the error is that of a missing queue
SELECT attack.try('INSERT INTO jobs (queue_id) VALUES ({queue})');
SELECT attack.try('INSERT INTO jobs (queue_id) VALUES ({own queue}), ({queue})');
-- attack: INSERT with RETURNING of what the attacker may not read, or of a foreign row
-- fails: there is none; RETURNING needs SELECT on its columns
SELECT attack.try('INSERT INTO jobs (queue_id) VALUES ({queue}) RETURNING *');
SELECT attack.try('INSERT INTO jobs (queue_id) VALUES ({own queue}) RETURNING tableoid, xmin');
-- attack: INSERT with ON CONFLICT, to see or change the row in the way
-- fails: id cannot be given, so nothing is in the way; DO UPDATE needs UPDATE
SELECT attack.try('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {queue}) ON CONFLICT DO NOTHING');
SELECT attack.try('INSERT INTO jobs (queue_id) VALUES ({queue}) ON CONFLICT (id) DO UPDATE SET payload = jobs.payload RETURNING payload');
-- attack: A unique violation of a foreign id tells that it exists
-- fails: no role may insert an id
SELECT attack.try('INSERT INTO jobs (id, queue_id) VALUES ({waiting}, {own queue})');
SELECT attack.try('INSERT INTO critical_jobs (id, queue_id, idempotency_key) VALUES ({critical}, {own queue}, ''k'')');
-- attack: A unique violation of a foreign key or name tells that it is taken
-- fails: unique keys begin with the tenant: what bravo has is free for alpha
SELECT attack.try('SELECT created FROM queue_create({name})');
SELECT attack.try('SELECT created FROM queue_enqueue(''alpha'', idempotency_key => {key}, on_conflict => ''reject'')');
SELECT attack.try('SELECT created FROM queue_enqueue_critical(''alpha'', ''{}'', {critical key}, on_conflict => ''reject'')');
SELECT attack.try('INSERT INTO idempotency_keys (key) VALUES ({key})');
SELECT attack.try('INSERT INTO rate_limiters (service_name) VALUES ({name})');
-- attack: Set what makes a job overtake, or look finished or leased
-- fails: these columns are not granted
SELECT attack.try(format('INSERT INTO jobs (queue_id, %s) VALUES ({own queue}, DEFAULT)', c))
FROM unnest('{status, attempts, lease_token, leased_until, held, final_attempt, idempotency_key, schedule_id, result, errors}'::text[]) c;
-- attack: A foreign key of an own table to ours, which checks without row-level security
-- fails: it needs REFERENCES, which nobody has
SELECT attack.try('CREATE TABLE own.r (id uuid REFERENCES public.jobs DEFAULT {waiting})');
SELECT attack.try('CREATE TABLE own.r (id uuid REFERENCES public.queues DEFAULT {queue})');
SELECT attack.try('CREATE TABLE own.r (id uuid REFERENCES public.tenants DEFAULT {tenant})');
-- attack: Read the table of tenants
-- fails: it is granted to nobody
SELECT attack.try('SELECT * FROM tenants');
-- attack: COPY a table out, with or without a query
-- fails: COPY of a table with row-level security is that of a query; of no table without a right
COPY queues (name, description) TO stdout;
COPY (SELECT payload FROM jobs UNION ALL SELECT payload FROM critical_jobs) TO stdout;
COPY tenants TO stdout;
-- attack: COPY rows in, past the policies
-- fails: PostgreSQL refuses COPY FROM where row-level security applies
\copy jobs (tenant_id, queue_id) from /dev/null
-- attack: COPY by the server, to a file or a program
-- fails: roles of PostgreSQL that nobody is given
SELECT attack.try('COPY (SELECT 1) TO PROGRAM ''cat''');
SELECT attack.try('COPY jobs (queue_id) FROM ''/etc/hostname''');
-- attack: A view of one's own, to have the tables read by somebody else
-- fails: it reads as its owner, who is the attacker, under the policies
SELECT attack.try('WITH s AS (SELECT * FROM queues) SELECT name FROM s');
CREATE VIEW own.v AS SELECT * FROM public.queues;
CREATE MATERIALIZED VIEW own.m AS SELECT name FROM public.queues;
SELECT attack.try('SELECT * FROM own.v');
SELECT attack.try('REFRESH MATERIALIZED VIEW own.m');
SELECT attack.try('SELECT * FROM own.m');
-- attack: A view that skips the policies by security_invoker, or by another owner
-- fails: only a superuser, or who is a member of a role, gives an object to it
SELECT attack.try('ALTER VIEW own.v SET (security_invoker = true)');
SELECT attack.try('ALTER VIEW own.v OWNER TO ' || quote_ident(rolname)) FROM pg_roles WHERE rolname = 'pg_monitor';
-- attack: The views of the extension, to read tables as their owner
-- fails: none of them reads a table with tenants
SELECT attack.try('SELECT ok FROM queue_health WHERE item = ''tenants''');
SELECT attack.try('SELECT claims >= 0 FROM queue_cache');
SELECT attack.try('SELECT name, labels FROM queue_monitor(''queues'')') ~ '^nothing: \d+ rows$' AS failed;
SELECT attack.try('SELECT string_agg(line, '' '') FROM queue_top');
SELECT attack.try('SELECT translate(queue_report(), E''\n'', '' '')');
-- attack: row_security = off
-- fails: it turns a filtered read into an error
SET row_security = off;
SELECT attack.try('SELECT name FROM queues');
SELECT attack.try('INSERT INTO jobs (tenant_id, queue_id) VALUES ({tenant}, {queue})');
RESET row_security;
-- attack: A tenant that matches more than one, or none
-- fails: the policies compare text for equality, and need the canonical form
SELECT attack.try(format('WITH s AS MATERIALIZED (SELECT set_config(''app.current_tenant'', %L, true)) SELECT name FROM s, queues', v))
FROM unnest(ARRAY['%', '*', '', 'NULL', '00000000-0000-7000-8000-00000000000', '{00000000-0000-7000-8000-00000000000b}',
	'00000000-0000-7000-8000-00000000000B', ' 00000000-0000-7000-8000-00000000000b', ''' OR true --']) v;

\set file :abs_srcdir '/sql/attack.end'
\i :file
