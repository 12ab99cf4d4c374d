# Eight clients complete overlapping batches in any order, FAULT_JOBS (400) jobs in
# all: many of them deadlock, none of them stands still, and each job is
# completed by one of them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $jobs = times_of('FAULT_JOBS', 400);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'queue_service'
deadlock_timeout = 5ms
));
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';));
$node->safe_psql('postgres', qq(
	SELECT queue_create('kept'), queue_create('gone', keep_completed => '0');
	INSERT INTO jobs (queue_id) SELECT id FROM queues, generate_series(1, $jobs / 2);
	CREATE TABLE held AS SELECT job_id AS id, lease_token AS token FROM unnest('{kept, gone}'::text[]) q,
		LATERAL queue_claim(q, max_jobs => 10000, lease => '1 hour') ORDER BY job_id;
	CREATE INDEX ON held (id);
	CREATE TABLE done (id uuid PRIMARY KEY);
	-- Ten of the next 40 or so, as several workers would have them that were given
	-- each other's leases; how many it completed.
	CREATE FUNCTION batch() RETURNS bigint LANGUAGE plpgsql AS \$\$
	DECLARE
		ids uuid[];
		tokens bigint[];
		n bigint;
	BEGIN
		SELECT array_agg(id), array_agg(token) INTO ids, tokens FROM (SELECT id, token FROM
			(SELECT id, token FROM held WHERE NOT EXISTS (SELECT FROM done WHERE done.id = held.id) ORDER BY id LIMIT 40) next
			ORDER BY random() LIMIT 10) batch
			HAVING count(*) > 0;
		IF ids IS NULL THEN
			RETURN 0;
		END IF;
		WITH c AS (SELECT job_id FROM queue_complete_many(ids, tokens) WHERE outcome = 'done')
		INSERT INTO done SELECT job_id FROM c;
		GET DIAGNOSTICS n = ROW_COUNT;
		RETURN n;
	END \$\$;));
is($node->safe_psql('postgres', 'SELECT count(*) FROM held'), $jobs, "$jobs leases");

# Two batches in a transaction; who deadlocks tries again. As many transactions as
# one client alone would need.
my $start = time;
my $left = $jobs;
for (my $round = 0; $left > 0 && $round < 20; $round++)
{
	$node->pgbench('--no-vacuum --client=8 --transactions=' . int($jobs / 20 + 1) . ' --max-tries=1000 --failures-detailed', 0,
		[qr/number of deadlock failures: 0 /], [qr/^$/], "round $round: every client gets through",
		{ "208_batches_$round" => "BEGIN;\nSELECT batch();\nSELECT batch();\nCOMMIT;\n" });
	$left = $jobs - $node->safe_psql('postgres', 'SELECT count(*) FROM done');
}
my $seconds = time - $start;
is($left, 0, 'all are completed');
is($node->safe_psql('postgres', q(SELECT count(*) FROM jobs WHERE status <> 'completed')), 0, 'none is left');
my $deadlocks = () = slurp_file($node->logfile) =~ /ERROR: .*deadlock detected/g;
cmp_ok($deadlocks, '>', 0, "there were $deadlocks deadlocks");
row(8, '8 clients, two batches of 10 in a transaction', "$deadlocks deadlocks", "$jobs enqueues, $jobs completions in " . sprintf('%.0f s', $seconds) . ' | 0 | 0');
$node->stop;

done_testing();
