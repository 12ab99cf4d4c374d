# What the way through a router costs: pgbench against a node itself, and against
# the router in front of it, in turn; all on this machine. "make bench-cells" has
# scripts/cells start them. BENCH_SECONDS (3) and BENCH_ROUNDS (5) as in run.
use strict;
use warnings;
use FindBin;
use Time::HiRes qw(time);
use lib $FindBin::Bin;
use Bench;

my $seconds = $ENV{BENCH_SECONDS} // 3;
my $rounds = $ENV{BENCH_ROUNDS} // 5;
my $id = '018f0000-0000-7000-8000-000000000001';
my %port = (router => $ENV{PGPORT});

sub at
{
	my ($port, $database, $query) = @_;
	local @ENV{qw(PGPORT PGDATABASE)} = ($port, $database);
	return sql($query);
}

$port{node} = $port{router} + 1 + at($port{router}, 'router', "SELECT cells.node('$id')");
at($port{node}, 'cell', "INSERT INTO tenants (id) VALUES ('$id'); SET app.current_tenant = '$id';
	SELECT queue_create('q', keep_completed => '0');");

my %script = (
	'enqueue' => {
		node => "SELECT job_id FROM queue_enqueue('q', '$payload');\n",
		router => "SELECT job_id FROM cells.enqueue('$id', 'q', '$payload');\n",
	},
	'enqueue, claim, complete' => {
		node => "SELECT job_id FROM queue_enqueue('q', '$payload');\n" . service('q', 1),
		router => <<"END",
SELECT job_id FROM cells.enqueue('$id', 'q', '$payload');
SELECT job_id, lease_token, payload, attempt FROM cells.claim('$id', 'q', 'worker') \\gset
SELECT cells.complete('$id', :job_id, :lease_token);
END
	},
);
my %database = (node => 'cell', router => 'router');

sub rate
{
	my ($where, $what, $clients) = @_;
	local $ENV{PGOPTIONS} = $where eq 'node' ? "-c app.current_tenant=$id" : '';
	my $file = write_file("$where.sql", $script{$what}{$where});
	my $output = qx(pgbench -n -M prepared -c $clients -j 1 -T $seconds -f $file -p $port{$where} $database{$where} 2>&1);
	my ($tps) = $output =~ /^tps = ([\d.]+)/m or die $output;
	return $tps;
}

print "| | clients | direct, a second | through the router | times as long |\n|---|--:|--:|--:|--:|\n";
foreach my $durable (1, 0)
{
	at($port{node}, 'cell', "ALTER SYSTEM SET synchronous_commit = " . ($durable ? 'on' : 'off'));
	at($port{node}, 'cell', 'SELECT pg_reload_conf()');
	foreach my $what (sort keys %script)
	{
		foreach my $clients (1, 8)
		{
			my (@direct, @router, @ratio);

			foreach (1 .. $rounds)
			{
				at($port{node}, 'cell', "SET app.current_tenant = '$id'; SELECT queue_purge('q')");
				push @direct, rate('node', $what, $clients);
				push @router, rate('router', $what, $clients);
				push @ratio, $direct[-1] / $router[-1];
			}
			printf "| %s%s | %d | %s | %s | %s |\n", $what, $durable ? '' : ', synchronous_commit = off', $clients,
			  with_commas(median(@direct)), with_commas(median(@router)), spread("%.2f", @ratio);
		}
	}
}

# A tenant that moves: for how long it waits.
my $jobs = 100_000;
my $to = (at($port{router}, 'router', "SELECT cells.node('$id')") + 1) % $ENV{CELLS_NODES};
at($port{node}, 'cell', "SET app.current_tenant = '$id'; SELECT queue_purge('q');
	SELECT count(*) FROM (SELECT queue_enqueue_many('q', array_fill('$payload'::jsonb, ARRAY[10000])) FROM generate_series(1, $jobs / 10000)) AS q");
my $start = time;
local $ENV{PGDATABASE} = 'router';
system("$FindBin::Bin/../examples/cells/move", $id, $to) == 0 or die "move failed\n";
printf "\n| a tenant with %s jobs moves, s | %.1f |\n", with_commas($jobs), time - $start;
