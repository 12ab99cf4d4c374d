-- What doc/from-pgmq.md moves from: a queue and its archive, with the columns
-- that pgmq's tables have. Some messages wait, some are being read, some are late.
CREATE SCHEMA pgmq;
CREATE TABLE pgmq.q_mail (
	msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	read_ct integer NOT NULL DEFAULT 0,
	enqueued_at timestamptz NOT NULL DEFAULT now(),
	last_read_at timestamptz,
	vt timestamptz NOT NULL,
	message jsonb,
	headers jsonb);
CREATE TABLE pgmq.a_mail (
	msg_id bigint PRIMARY KEY,
	read_ct integer NOT NULL DEFAULT 0,
	enqueued_at timestamptz NOT NULL DEFAULT now(),
	last_read_at timestamptz,
	archived_at timestamptz NOT NULL DEFAULT now(),
	vt timestamptz NOT NULL,
	message jsonb,
	headers jsonb);
INSERT INTO pgmq.q_mail (vt, message, headers)
SELECT now(), jsonb_build_object('n', n), '{"trace": "x"}' FROM generate_series(1, 30) n;
INSERT INTO pgmq.q_mail (vt, message) SELECT now() + interval '1 day', '{"late": true}' FROM generate_series(1, 5);
INSERT INTO pgmq.q_mail (vt, message, read_ct, last_read_at)
SELECT now() + interval '1 minute', '{"read": true}', 1, now() FROM generate_series(1, 3);
INSERT INTO pgmq.a_mail (msg_id, vt, message) SELECT 1000 + n, now(), '{}' FROM generate_series(1, 4) n;
