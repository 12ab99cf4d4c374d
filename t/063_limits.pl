# What was granted, as clients saw it: between any two grants no more than the
# capacity and what refilled between them, while backends are killed, the
# server is killed and stopped; and between these, nearly all that there was.
#
# LIMITS_SECONDS (10) is how long the clients run.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Recovery;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{LIMITS_SECONDS} || 10;
my $clients = 16;
my $tenant  = '01890000-0000-7000-8000-000000000001';
my $dir     = PostgreSQL::Test::Utils::tempdir;
my $node    = PostgreSQL::Test::Cluster->new('main');

# by name: capacity and refill a second; all that asks for more than that
my %limits = (service => [ 200, 600 ], share => [ 50, 200 ]);

$node->init;
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
restart_after_crash = on
END
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	SELECT queue_limiter_set('hot', $limits{service}[0], $limits{service}[1]),
		queue_tenant_limit_set('$tenant', 'hot', $limits{share}[0], $limits{share}[1]);");

# A quarter of the clients are the tenant's. Each asks as fast as it can, for one
# token or for three, and writes down the time and number of what it is granted.
sub script
{
	my ($client) = @_;
	my $name = "$dir/script$client";
	my $is_tenant = $client % 4 == 0;
	my $query = join '', map { "SELECT (extract(epoch FROM granted_at) * 1000000)::bigint, $_ FROM queue_rate_acquire('hot', $_) WHERE granted;\n" } 1, 1, 3;

	append_to_file($name, ($is_tenant ? "SET app.current_tenant = '$tenant';\n" : '') . $query x 50_000);
	return $name;
}

my $test = $$;
my @pids;
foreach my $client (1 .. $clients)
{
	my $script = script($client);
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>>', "$dir/granted$client" or POSIX::_exit(1);
		open STDERR, '>', '/dev/null' or POSIX::_exit(1);
		while (getppid() == $test && !-e "$dir/stop")
		{
			system 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $script, '-d', $node->connstr('postgres');
			sleep 0.05;
		}
		POSIX::_exit(0);
	}
	push @pids, $pid;
}

# Runs for a part of the time, while the server goes on; some backends end.
my @segments;

sub run
{
	my $start = $node->safe_psql('postgres', 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint');
	my $end = time + $seconds / 4;

	while (time < $end)
	{
		sleep 0.5;
		$node->psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE query LIKE '%queue_rate_acquire%' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
	}
	push @segments, [ $start, $node->safe_psql('postgres', 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint') ];
	return;
}

run();
my $session = $node->background_psql('postgres', on_error_stop => 0);
kill 'KILL', $session->query_safe('SELECT pg_backend_pid()');
poll_through_crash($node, 'postgres', 'SELECT true') or die 'the server did not start again';
run();
kill_server($node);
$node->start;
run();
$node->restart;
run();
append_to_file("$dir/stop", '');
$node->psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%queue_rate_acquire%' AND pid <> pg_backend_pid()");
waitpid $_, 0 for @pids;

# [time, tokens] of all grants that a limit gave, in the order of times.
sub history
{
	my (@of) = @_;
	my @grants;

	foreach my $client (@of)
	{
		push @grants, map { [ split /\|/ ] } grep { /^\d{16}\|\d$/ } split /\n/, slurp_file("$dir/granted$client");
	}
	return sort { $a->[0] <=> $b->[0] } @grants;
}

# The largest excess over capacity + refill between any two grants, in
# millionths of a token: exact, as all numbers are whole.
sub excess
{
	my ($capacity, $rate, @grants) = @_;
	my ($sum, $least, $most) = (0, undef, undef);

	foreach my $grant (@grants)
	{
		my $refilled = $rate * ($grant->[0] - $grants[0][0]);

		$least = 1e6 * $sum - $refilled if !defined $least || 1e6 * $sum - $refilled < $least;
		$sum += $grant->[1];
		my $excess = 1e6 * $sum - $refilled - $least - 1e6 * $capacity;
		$most = $excess if !defined $most || $excess > $most;
	}
	return $most;
}

my %of = (service => [ 1 .. $clients ], share => [ grep { $_ % 4 == 0 } 1 .. $clients ]);
foreach my $name (sort keys %limits)
{
	my ($capacity, $rate) = @{ $limits{$name} };
	my @grants = history(@{ $of{$name} });

	cmp_ok(scalar @grants, '>', $rate * $seconds / 10, "$name: " . @grants . ' grants');
	cmp_ok(excess($capacity, $rate, @grants), '<=', 0, "$name: never more than there was");
	# the share gets what the others leave of the service
	foreach my $i ($name eq 'service' ? 0 .. $#segments : ())
	{
		my ($start, $end) = @{ $segments[$i] };
		my @inside = grep { $_->[0] >= $start && $_->[0] < $end } @grants;
		my $tokens = 0;

		# from the first grant on, as a client takes a while to come back
		$tokens += $_->[1] for @inside;
		my $share = 1e6 * $tokens / $rate / ($end - $inside[0][0]);
		cmp_ok($share, '>=', 0.98, sprintf("$name, part %d: %.3f of what there was", $i + 1, $share));
	}
}

done_testing();
