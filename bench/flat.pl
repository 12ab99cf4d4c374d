# How flat claims stay: see bench/run. Expects a private server with the
# extension and nothing else on it.
#
# Each scenario puts many rows in front of a claim, for both queues in turn. Then
# a session enqueues, claims and completes job after job, and times each claim;
# in turn with a session that does the same in another database, whose table is
# emptied for each slice. Entries are those that the very same claims looked at.
#
# What the first claim had to look at is told apart.
#
# BENCH_SIZE (1) scales the rows, BENCH_ROUNDS (10) is how many slices there are
# of 100 claims, or as many as fit into 2 seconds. BENCH_PLOT=FILE draws claim
# latency over dead rows as SVG into FILE.
use strict;
use warnings;
use File::Basename qw(dirname);
use POSIX qw(sysconf);
use Time::HiRes qw(sleep time);
use lib dirname($0);
use Bench;
use Plot;
use Session;

my $size   = $ENV{BENCH_SIZE}   || 1;
my $rounds = $ENV{BENCH_ROUNDS} || 10;
my @sides  = ('queue_service', 'minimal');
my %table  = (queue_service => 'jobs', minimal => 'minimal_jobs');
my ($scenario_db, $fresh_db) = ($ENV{PGDATABASE}, 'fresh');

sub scaled { return int($_[0] * $size + 0.5) }

# Statements that insert so many waiting jobs. Expressions may use i, the number
# of the job.
sub fill
{
	my ($side, $count, %o) = @_;
	my $queue = $o{queue} // "'keep0'";
	my $columns = join '', map { ", $_" } grep { $_ ne 'queue' } sort keys %o;
	my $values = join '', map { ", $o{$_}" } grep { $_ ne 'queue' } sort keys %o;
	my $rows = "FROM generate_series(1, $count) AS i";
	# without the triggers of the foreign keys, for speed
	return $side eq 'minimal' ? <<"END1" : <<"END2";
INSERT INTO minimal_jobs (queue, payload$columns) SELECT $queue, '$payload'$values $rows
END1
SET session_replication_role = replica;
INSERT INTO jobs (tenant_id, queue_id, payload$columns)
	SELECT tenant_id, id, '$payload'$values $rows JOIN queues ON name = $queue;
SET session_replication_role = origin
END2
}

# So many more dead rows, by claims of n jobs at a time. A minimal queue would
# take hours for it: its rows die at once, and are as dead.
sub kill_jobs
{
	my ($side, $count, $queue, $n) = @_;
	my $clients = 2;

	$count = int($count / $n / $clients) * $n * $clients;
	sql(fill($side, $count, queue => "'$queue'"));
	if ($side eq 'minimal')
	{
		sql("UPDATE minimal_jobs SET status = 'completed' WHERE status = 'pending'");
		return;
	}
	pgbench(script => service_turn($queue, $n), clients => $clients, async => 1,
		transactions => $count / $n,
		variables => { ids => '{}', tokens => '{}', payload => $payload });
	sql("SET app.current_tenant = '$tenant';
		SELECT count(*) FROM jobs j, queue_complete(j.id, j.lease_token)
		WHERE status = 'processing'");
}

# Starts a process that extends all leases, each once in ten seconds; its id.
sub start_heartbeats
{
	my ($side) = @_;
	my $pid = fork // die "fork: $!\n";
	return $pid if $pid;

	my $session = connect_to($scenario_db);
	my $leases = $session->selectall_arrayref($side eq 'minimal'
		? "SELECT id, 0 FROM minimal_jobs WHERE status = 'processing'"
		: "SELECT id, lease_token FROM jobs WHERE status = 'processing'");
	my $heartbeat = $session->prepare($side eq 'minimal'
		? "UPDATE minimal_jobs SET leased_until = clock_timestamp() + interval '30 seconds'
			WHERE id = ANY(?)"
		: "SELECT count(*) FROM queue_heartbeat_many(?, ?, '30 seconds') WHERE held");
	my $start = time;
	for (my $beat = 0; getppid() > 1; $beat++)
	{
		my @batch = map { $leases->[($beat * 100 + $_) % @$leases] } 0 .. 99;
		my @arguments = map { my $i = $_; [map { $_->[$i] } @batch] } 0, 1;
		$heartbeat->execute($side eq 'minimal' ? $arguments[0] : @arguments);
		my $due = $start + 10 * ($beat + 1) * 100 / @$leases;
		sleep($due - time) if $due > time;
	}
	exit;
}

sub lease_jobs
{
	my ($side, $count) = @_;
	sql(fill($side, $count));
	sql($side eq 'minimal'
		? "UPDATE minimal_jobs SET status = 'processing', leased_until = clock_timestamp() + interval '30 seconds'"
		: "SET app.current_tenant = '$tenant';
			SELECT count(*) FROM generate_series(1, $count / 100), queue_claim('keep0', 'worker', 100, '30 seconds')");
}

# hold: a snapshot is open. steps: sizes to measure at, the last of which counts.
# prepare puts that many more rows in place, start and stop surround the measuring.
my @scenarios = (
	{ name => 'fresh', title => 'fresh table', steps => [0], prepare => sub { } },
	{ name => 'dead', title => '300,000 dead, claimed one by one, horizon held', hold => 1,
		steps => [0, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000], plot => 1,
		prepare => sub { kill_jobs($_[0], $_[1], 'keep0', 1) } },
	{ name => 'dead_kept', title => '300,000 dead, claimed by hundreds and kept, horizon held', hold => 1,
		steps => [300_000], queue => 'keep1', prepare => sub { kill_jobs($_[0], $_[1], 'keep1', 100) } },
	{ name => 'waiting', title => '1,000,000 waiting', steps => [1_000_000],
		prepare => sub { sql(fill(@_)) } },
	{ name => 'delayed', title => '1,000,000 delayed, of higher priority', steps => [1_000_000],
		prepare => sub { sql(fill(@_, priority => 10, run_at => "now() + interval '1 day'")) } },
	{ name => 'leases', title => '10,000 live leases in front, heartbeats, horizon held', hold => 1,
		steps => [10_000], pause => 3,
		prepare => \&lease_jobs,
		start => \&start_heartbeats,
		stop => sub { kill 'TERM', $_[0]; waitpid $_[0], 0 } },
	{ name => 'open', title => '1,000,000 being inserted by an open transaction', steps => [1_000_000],
		prepare => sub { },
		start => sub {
			my ($side, $count) = @_;
			my $session = connect_to($scenario_db);
			$session->do('BEGIN');
			$session->do(fill($side, $count));
			return $session;
		},
		stop => sub { $_[0]->do('ROLLBACK'); $_[0]->disconnect } },
	{ name => 'queues', title => '1,000 queues, 100 waiting in each', steps => [100_000],
		queues => scaled(1000),
		prepare => sub { sql(fill(@_, queue => "'q' || 1 + i % " . scaled(1000))) } },
);

# A session that enqueues, claims and completes a job at each call; what it found
# of each claim: ms, and entries visited.
sub worker
{
	my ($database, $side, $queue) = @_;
	my $session = connect_to($database);
	my $verbs = prepare_verbs($session, $side);
	my $visited = $session->prepare('SELECT claims * visited_mean FROM queue_cache');
	my (@ms, @visited);

	my $turn = sub {
		my $name = $queue->();
		$verbs->{enqueue}->execute($name);
		$verbs->{enqueue}->finish;
		my (undef, $before) = timed($visited);
		my ($ms, @job) = timed($verbs->{claim}, $name);
		my (undef, $after) = timed($visited);
		die "$side: nothing to claim\n" if !@job;
		$verbs->{complete}->execute(@job);
		$verbs->{complete}->finish;
		push @ms, $ms;
		push @visited, $after - $before;
	};
	return { session => $session, turn => $turn, ms => \@ms, visited => \@visited };
}

# Puts processes on some cores. Whether a session and its client share one decides
# how long a round trip takes, which would else be by chance.
sub put_on
{
	my ($cores, @pids) = @_;
	system("taskset -pc $cores $_ >$temp/taskset") == 0 or die "taskset failed\n" foreach @pids;
}

sub measure
{
	my ($scenario, $side) = @_;
	my $queue = $scenario->{queues}
	  ? sub { 'q' . (1 + int(rand $scenario->{queues})) }
	  : sub { $scenario->{queue} // 'keep0' };
	my ($fresh, $worker) = map { worker($_, $side, $queue) } $fresh_db, $scenario_db;
	put_on('0', $$, map { $_->{session}{pg_pid} } $fresh, $worker);

	foreach my $round (1 .. $rounds)
	{
		my $start = time;
		$fresh->{session}->do("TRUNCATE $table{$side}");
		# in turn, as the machine's speed drifts
		for (my $claim = 0; $claim < 100 && time - $start < 2; $claim++)
		{
			$_->{turn}->() foreach $claim % 2 ? ($fresh, $worker) : ($worker, $fresh);
		}
		sleep($scenario->{pause} // 0);
	}
	$_->{session}->disconnect foreach $fresh, $worker;
	put_on('0-' . (sysconf(84) - 1), $$);

	my ($first, @visited) = @{ $worker->{visited} };
	my $sum = 0;
	$sum += $_ foreach @visited;
	return {
		p50 => median(@{ $worker->{ms} }),
		p99 => percentile(0.99, @{ $worker->{ms} }),
		ratio => median(@{ $worker->{ms} }) / median(@{ $fresh->{ms} }),
		first => $first,
		mean => $sum / @visited,
		visited_p99 => percentile(0.99, @visited),
		most => percentile(1, @visited),
	};
}

# The figures of a scenario at each of its steps.
sub run_scenario
{
	my ($scenario, $side) = @_;
	my ($done, @points) = (0);

	sql("TRUNCATE $table{$side}");
	my $horizon = $scenario->{hold} && hold_horizon($scenario_db);
	foreach my $step (map { scaled($_) } @{ $scenario->{steps} })
	{
		$scenario->{prepare}->($side, $step - $done) if $step > $done;
		$done = $step;
		my $other = $scenario->{start} && $scenario->{start}->($side, $step);
		my $figures = measure($scenario, $side);
		$scenario->{stop}->($other) if $scenario->{stop};
		push @points, { %$figures, rows => $step };
		printf STDERR "%s, %s, %s rows: p50 %.3f ms, p99 %.3f ms, %.2f times fresh\n",
		  $scenario->{name}, $side, with_commas($step), @$figures{qw(p50 p99 ratio)};
	}
	$horizon->disconnect if $horizon;
	return @points;
}

my @chosen = chosen(@scenarios);
setup(dirname($0) . '/setup.sql');
sql("SET app.current_tenant = '$tenant';
	SELECT queue_create('q' || i) FROM generate_series(1, " . scaled(1000) . ') i');
sql("CREATE DATABASE $fresh_db TEMPLATE $scenario_db");

print "| | p50 ms | p99 ms | p50, times fresh | entries: first | mean | p99 | most | minimal: p50 ms | p99 ms | p50, times fresh |\n",
  '|---', '|--:' x 10, "|\n";
foreach my $scenario (@chosen)
{
	my %points = map { $_ => [run_scenario($scenario, $_)] } @sides;
	my ($ours, $minimal) = map { $points{$_}[-1] } @sides;
	plot($ENV{BENCH_PLOT}, \%points, @sides) if $scenario->{plot} && $ENV{BENCH_PLOT};
	printf "| %s | %.3f | %.3f | %.2f | %s | %.1f | %s | %s | %.3f | %.3f | %.2f |\n",
	  $scenario->{title}, @$ours{qw(p50 p99 ratio)}, with_commas($ours->{first}),
	  $ours->{mean}, map({ with_commas($ours->{$_}) } qw(visited_p99 most)),
	  @$minimal{qw(p50 p99 ratio)};
}
