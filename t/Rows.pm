# What the tests of dumps, upgrades and replication share: a row or more in each
# table, and all that has to be there afterwards, as text.
package Rows;

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw($tenant $other fill state);

our $tenant = '11111111-1111-7111-8111-111111111111';
our $other = '22222222-2222-7222-8222-222222222222';
my $queue = '33333333-3333-7333-8333-333333333333';
my $other_queue = '44444444-4444-7444-8444-444444444444';

# A row or more in each of the ten tables, seeds edited and added.
sub fill
{
	my ($node, $db, $schema) = @_;

	$node->safe_psql($db, <<"END");
SET search_path = $schema;
INSERT INTO tenants (id, name) VALUES ('$tenant', 'one'), ('$other', 'two');
INSERT INTO queues (id, tenant_id, name, config) VALUES
	('$queue', '$tenant', 'mail', '{"a": [1, 2]}'), ('$other_queue', '$other', 'mail', '{}');
INSERT INTO jobs (tenant_id, queue_id, payload, priority, max_attempts)
	SELECT '$tenant', '$queue', jsonb_build_object('n', n, 't', E'tab\\tline\\n\\\\'), n % 3, 1 + n % 2
	FROM generate_series(1, 50) n;
INSERT INTO jobs (tenant_id, queue_id, run_at) VALUES ('$other', '$other_queue', now() + interval '1 day');
INSERT INTO jobs (tenant_id, queue_id, status, attempts, max_attempts, lease_token, leased_by, leased_at, leased_until)
	SELECT '$other', '$other_queue', 'processing', n, 3, n, 'w', now(), now() + interval '1 hour'
	FROM generate_series(1, 3) n;
INSERT INTO jobs (tenant_id, queue_id, status, attempts, finish_reason, finished_at, result) VALUES
	('$tenant', '$queue', 'completed', 1, 'completed', now(), '{"ok": true}'),
	('$tenant', '$queue', 'failed', 0, 'cancelled', now(), NULL),
	('$tenant', '$queue', 'failed', 3, 'exhausted', now(), NULL);
UPDATE queues SET paused = true, weight = 3, ageing = '1 minute', max_concurrency = 5, critical_reserve = 1,
	rate_limiter = 'stripe', max_depth = 1000, alert_depth = 100, group_concurrency = 1 WHERE id = '$other_queue';
INSERT INTO jobs (tenant_id, queue_id, group_key) VALUES ('$other', '$other_queue', 'g'), ('$other', '$other_queue', 'g');
UPDATE jobs SET cancel_requested = true WHERE status = 'processing' AND attempts = 1;
INSERT INTO critical_jobs (tenant_id, queue_id, idempotency_key)
	SELECT '$tenant', '$queue', 'key ' || n FROM generate_series(1, 3) n;
INSERT INTO dead_letter_jobs (id, tenant_id, queue_id, source_table, reason, run_at, enqueued_at, attempts,
	max_attempts, priority, job_type, payload, errors)
	VALUES (queue_new_id(), '$tenant', '$queue', 'jobs', 'dead', now(), now(), 3, 3, 0, 'x', '{}', '[{"attempt": 1}]');
INSERT INTO idempotency_keys (tenant_id, queue_id, key, job_id, expires_at)
	SELECT tenant_id, queue_id, 'k', id, now() + interval '1 day' FROM jobs WHERE status = 'completed';
INSERT INTO schedules (tenant_id, name, queue_id, cron) VALUES ('$other', 'nightly', '$other_queue', '0 3 * * *');
UPDATE rate_limiters SET max_tokens = 500, refill_per_second = 500 WHERE service_name = 'stripe';
INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES
	('twilio', NULL, 3, 3, 1), ('own', '$tenant', 5, 5, 5);
INSERT INTO rate_limits (tenant_id, name, tokens_available, max_tokens, refill_per_second)
	VALUES ('$tenant', 'stripe', 50, 50, 50);
INSERT INTO queue_metrics (tenant_id, queue_id, depth, wait_p50) VALUES ('$other', '$other_queue', 7, '3 seconds');
INSERT INTO alert_history (tenant_id, queue_id, alert, message) VALUES
	('$tenant', '$queue', 'depth', 'too deep'), (NULL, NULL, 'worker', 'not running');
END
}

# All that a restore has to bring back, as text: rows of all tables, keys to
# tenants and to queues, row-level security, and what belongs to the extension (but
# for the types of its tables, which do so from PostgreSQL 16 on).
sub state
{
	my ($node, $db, $schema) = @_;
	my @tables = qw(queues jobs schedules rate_limits critical_jobs queue_metrics
	  idempotency_keys alert_history dead_letter_jobs tenants);

	return $node->safe_psql(
		$db,
		"SET search_path = $schema;"
		  . join('',
			map { "SELECT '$_', count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM $_ t;" } @tables)
		  . <<"END");
SELECT to_jsonb(l) - CASE WHEN seeded THEN 'last_refill_at' ELSE '' END FROM rate_limiters l ORDER BY service_name;
SELECT conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE contype = 'f' AND conparentid = 0 AND connamespace = '$schema'::regnamespace ORDER BY conrelid::regclass::text, conname;
SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
	WHERE relnamespace = '$schema'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1;
SELECT tablename, policyname, permissive, qual FROM pg_policies WHERE schemaname = '$schema' ORDER BY 1, 2;
SELECT tgenabled FROM pg_trigger WHERE tgname = 'queue_seed';
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_type'::regclass ORDER BY 1;
SELECT c::regclass FROM pg_extension, unnest(extconfig) c WHERE extname = 'queue_service' ORDER BY c::regclass::text;
END
}

1;
