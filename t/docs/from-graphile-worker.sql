-- What doc/from-graphile-worker.md moves from: the private tables of
-- graphile-worker, with the columns that its version 0.16 and later has. Some jobs
-- wait, one runs, one has failed for good, some have a queue or a key.
CREATE SCHEMA graphile_worker;
CREATE TABLE graphile_worker._private_tasks (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	identifier text NOT NULL UNIQUE);
CREATE TABLE graphile_worker._private_job_queues (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	queue_name text NOT NULL UNIQUE,
	locked_at timestamptz,
	locked_by text);
CREATE TABLE graphile_worker._private_jobs (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	job_queue_id integer REFERENCES graphile_worker._private_job_queues,
	task_id integer NOT NULL REFERENCES graphile_worker._private_tasks,
	payload json NOT NULL DEFAULT '{}',
	priority smallint NOT NULL DEFAULT 0,
	run_at timestamptz NOT NULL DEFAULT now(),
	attempts smallint NOT NULL DEFAULT 0,
	max_attempts smallint NOT NULL DEFAULT 25,
	last_error text,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	key text UNIQUE,
	locked_at timestamptz,
	locked_by text,
	revision integer NOT NULL DEFAULT 0,
	flags jsonb);
INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('send_email'), ('resize');
INSERT INTO graphile_worker._private_job_queues (queue_name) VALUES ('user 7');
INSERT INTO graphile_worker._private_jobs (task_id, payload, priority)
SELECT 1 + n % 2, json_build_object('n', n), -(n % 3) FROM generate_series(1, 20) n;
INSERT INTO graphile_worker._private_jobs (task_id, payload, job_queue_id)
SELECT 1, json_build_object('n', n), 1 FROM generate_series(21, 25) n;
INSERT INTO graphile_worker._private_jobs (task_id, key, run_at) VALUES (1, 'digest', now() + interval '1 hour');
INSERT INTO graphile_worker._private_jobs (task_id, locked_at, locked_by, attempts) VALUES (2, now(), 'worker-1', 1);
INSERT INTO graphile_worker._private_jobs (task_id, attempts, last_error) VALUES (1, 25, 'no such mailbox');
