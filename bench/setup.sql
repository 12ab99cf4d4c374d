-- The opponents, and a queue for each setting of keep_completed.

-- A queue as one writes it in an afternoon, in the best known shape: a claim
-- that never takes too many, a partial index for it, nothing else.
CREATE TABLE minimal_jobs (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	queue text NOT NULL,
	status text NOT NULL DEFAULT 'pending',
	priority smallint NOT NULL DEFAULT 0,
	run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	payload jsonb NOT NULL,
	attempts integer NOT NULL DEFAULT 0,
	leased_by text,
	leased_at timestamptz,
	leased_until timestamptz,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz
);
CREATE INDEX minimal_jobs_pending_idx ON minimal_jobs (queue, priority DESC, run_at)
	WHERE status = 'pending';

-- What an update by primary key costs here: the floor of one transaction.
CREATE TABLE rows_to_update (
	n integer PRIMARY KEY,
	status text NOT NULL DEFAULT 'pending',
	attempts integer NOT NULL DEFAULT 0,
	leased_by text,
	leased_at timestamptz,
	leased_until timestamptz
) WITH (fillfactor = 45);
INSERT INTO rows_to_update SELECT generate_series(1, 10000);

-- Jobs that need not be searched, as each client knows the numbers of its own:
-- the floor of a claim and a completion. They lie beside each other as they do in
-- a queue, where the next job is the next row.
CREATE TABLE numbered_jobs (
	n integer PRIMARY KEY,
	status text NOT NULL DEFAULT 'pending',
	payload jsonb NOT NULL,
	attempts integer NOT NULL DEFAULT 0,
	lease_token bigint,
	leased_by text,
	leased_at timestamptz,
	leased_until timestamptz,
	finished_at timestamptz
) WITH (fillfactor = 45);

-- jobs without keys, checks, triggers and policies: the floor of an enqueue.
CREATE TABLE bare_jobs (LIKE jobs INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING INDEXES INCLUDING STORAGE)
	WITH (fillfactor = 45);

INSERT INTO tenants (id) VALUES ('018f0000-0000-7000-8000-000000000001');
SET app.current_tenant = '018f0000-0000-7000-8000-000000000001';
SELECT queue_create('keep0', keep_completed => '0', default_lease => '10 minutes'),
	queue_create('keep1', keep_completed => '1 day', default_lease => '10 minutes');
