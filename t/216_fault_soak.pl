# A load for FAULT_SOAK seconds (4), a quarter of it each with the horizon held or
# not, and autovacuum on or off. In each quarter: claims look at as few index
# entries as ever, take no longer at the end than at the beginning (by the time
# that a look at a small table takes meanwhile), and the memory of a session does
# not grow.

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
	-- the memory of the session, in kB, and what a claim took, and a look at tenants, in ms
	CREATE UNLOGGED TABLE claims (pid integer, memory bigint, ms double precision, look_ms double precision, at timestamptz);
	-- does a job, and makes another
	CREATE FUNCTION work(name text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		looked timestamptz := clock_timestamp();
		claimed timestamptz;
		got record;
	BEGIN
		PERFORM count(*) FROM tenants;
		claimed := clock_timestamp();
		SELECT * INTO STRICT got FROM queue_claim(name, 'w');
		INSERT INTO claims SELECT pg_backend_pid(), sum(total_bytes) / 1024, 1000 * extract(epoch FROM clock_timestamp() - claimed),
			1000 * extract(epoch FROM claimed - looked), claimed FROM pg_backend_memory_contexts;
		PERFORM queue_complete(got.job_id, got.lease_token), queue_enqueue(name, '{"n": 1}');
	END $$;
	SELECT count(*) FROM queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[100])) a, queue_enqueue_many('kept', array_fill('1'::jsonb, ARRAY[100])) b;));

# Each client makes jobs and does them at a steady pace; of one in twenty it is
# noted how long the claim took.
my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/work", q(
SELECT count(*) FROM queue_enqueue(:queue, '{"n": 1}');
SELECT job_id, lease_token FROM queue_claim(:queue, 'w') \gset
SELECT outcome FROM queue_complete(':job_id', :lease_token);
));
append_to_file("$dir/look", "SELECT work(:queue);\n");

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
					'pgbench', '--no-vacuum', '--client=2', '--rate=100', "--time=$quarter", '-D', "queue='$queue'", '-f', "$dir/work\@19",
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
		my ($first, $last, $ms, $grown) = split /\|/, $node->safe_psql('postgres', q(
			WITH t AS (SELECT *, ntile(3) OVER (ORDER BY at) AS third FROM claims),
				m AS (SELECT third, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS ms, percentile_cont(0.5) WITHIN GROUP (ORDER BY look_ms) AS look_ms FROM t GROUP BY third)
			SELECT round((SELECT ms / look_ms FROM m WHERE third = 1)::numeric, 1), round((SELECT ms / look_ms FROM m WHERE third = 3)::numeric, 1),
				round((SELECT ms FROM m WHERE third = 3)::numeric, 2),
				(SELECT max(grown) FROM (SELECT max(memory) FILTER (WHERE third = 3) - max(memory) FILTER (WHERE third = 1) AS grown FROM t GROUP BY pid) g)));
		# a third of a second has too few to compare
		cmp_ok($last, '<', 3 * $first + 1, "$name: the median claim took $first times a look at first, $last times at last ($ms ms)")
		  if $quarter >= 10;
		cmp_ok($grown, '<', 1024, "$name: a session's memory grew by $grown kB at most");
		push @rows, sprintf('%s: %.1f entries a claim, median %s looks at first, %s at last, %+d kB', $name, $visited / $claims, $first, $last, $grown);
	}
}
is($node->safe_psql('postgres', q(SELECT count(*) FROM jobs WHERE status <> 'completed')), 200, 'as many wait as at first');
row(16, '4 clients, ' . int($jobs / 4 / $quarter) . '/s', 4 * $quarter . ' s; ' . join('; ', @rows), "$jobs claims and completions | 0 | 0");
$node->stop;

done_testing();
