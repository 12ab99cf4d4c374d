# A load for FAULT_SOAK seconds (4), a quarter of it each with the horizon held or
# not, and autovacuum on or off. In each quarter: claims look at as few index
# entries at the end as they do on average, take no longer at the end than at the
# beginning, and the memory of a session does not grow.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $quarter = int(times_of('FAULT_SOAK', 4) / 4) || 1;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'queue_service'
autovacuum_naptime = 1s
max_wal_size = 4GB
));
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';));
$node->safe_psql('postgres', q(
	SELECT queue_create('q', keep_completed => '0', default_lease => '1 hour'), queue_create('kept');
	-- the memory of the session, in kB, and when each claim began and what it took, in ms
	CREATE FUNCTION memory() RETURNS bigint LANGUAGE sql AS $$ SELECT (sum(total_bytes) / 1024)::bigint FROM pg_backend_memory_contexts $$;
	CREATE UNLOGGED TABLE claims (pid integer, memory bigint, ms double precision, at timestamptz);
	SELECT count(*) FROM queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[100])) a, queue_enqueue_many('kept', array_fill('1'::jsonb, ARRAY[100])) b;));

# Each transaction of a client makes a job and does one; of a few it is noted how
# long the claim took.
my $work = q(
SELECT count(*) FROM queue_enqueue(:queue, '{"n": 1}');
SELECT job_id, lease_token FROM queue_claim(:queue, 'w') \gset
SELECT outcome FROM queue_complete(':job_id', :lease_token);
);
my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/work", $work);
append_to_file("$dir/look", q(
SELECT clock_timestamp() AS began \gset
SELECT job_id, lease_token FROM queue_claim(:queue, 'w') \gset
INSERT INTO claims VALUES (pg_backend_pid(), memory(), 1000 * extract(epoch FROM clock_timestamp() - ':began'), clock_timestamp());
SELECT outcome FROM queue_complete(':job_id', :lease_token);
SELECT count(*) FROM queue_enqueue(:queue, '{"n": 1}');
));

my ($jobs, @rows) = (0);
foreach my $vacuum (qw(on off))
{
	foreach my $held (0, 1)
	{
		my $name = "autovacuum $vacuum, horizon " . ($held ? 'held' : 'free');
		my $holder = $node->background_psql('postgres');
		my (@loads, $out, $err);

		$node->append_conf('postgresql.conf', "autovacuum = $vacuum");
		$node->reload;
		$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenants') if $held;
		my $before = $node->safe_psql('postgres', 'TRUNCATE claims; SELECT claims, visited_mean * claims FROM queue_cache');
		foreach my $queue (qw(q kept))
		{
			push @loads, IPC::Run::start(
				[
					'pgbench', '--no-vacuum', '--client=2', "--time=$quarter", '-D', "queue='$queue'", '-f', "$dir/work\@19",
					'-f', "$dir/look\@1", $node->connstr('postgres')
				], '>', \$out, '2>', \$err);
		}
		$_->finish for @loads;
		my $after = $node->safe_psql('postgres', 'SELECT claims, visited_mean * claims FROM queue_cache');
		$holder->quit;
		unlike($err // '', qr/ERROR|aborted/, "$name: no client failed");
		my ($claims, $visited) = map { (split /\|/, $after)[$_] - (split /\|/, $before)[$_] } 0, 1;
		$jobs += $claims;
		cmp_ok($visited / $claims, '<', 30, sprintf("$name: %.1f entries for each of %d claims", $visited / $claims, $claims));

		# the first third of the quarter against the last
		my ($first, $last, $grown) = split /\|/, $node->safe_psql('postgres', q(
			WITH t AS (SELECT *, ntile(3) OVER (ORDER BY at) AS third FROM claims)
			SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE third = 1))::numeric, 3),
				round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE third = 3))::numeric, 3),
				(SELECT max(grown) FROM (SELECT max(memory) FILTER (WHERE third = 3) - max(memory) FILTER (WHERE third = 1) AS grown FROM t GROUP BY pid) g)
			FROM t));
		cmp_ok($last, '<', 3 * $first + 1, "$name: the median claim took $first ms at first, $last ms at last");
		cmp_ok($grown, '<', 1024, "$name: a session's memory grew by $grown kB at most");
		push @rows, sprintf('%s: %.1f entries a claim, median %s and %s ms, memory +%d kB', $name, $visited / $claims, $first, $last, $grown);
	}
}
is($node->safe_psql('postgres', q(SELECT count(*) FROM jobs WHERE status <> 'completed')), 200, 'as many wait as at first');
row(16, '4 clients, ' . int($jobs / 4 / $quarter) . '/s', 4 * $quarter . ' s; ' . join('; ', @rows), "$jobs claims and completions | 0 | 0");
$node->stop;

done_testing();
