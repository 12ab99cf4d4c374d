# What queue_worker costs for a job, beyond the command that it runs: see bench/run.
# Expects a private server with the extension and nothing else on it.
#
# BENCH_JOBS (2000) jobs whose command is /bin/true, with one and with eight at
# once, against a loop that does nothing but fork and exec (spawn.c); in turn,
# BENCH_ROUNDS (5) times. The overhead is the difference of the two, for a job:
# claim, completion, pipes, heartbeats, a line of JSON. CPU is that of the worker
# and its commands, without the server's.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
use lib dirname($0);
use Bench qw(median);
use Session;

my $jobs   = $ENV{BENCH_JOBS}   || 2000;
my $rounds = $ENV{BENCH_ROUNDS} || 5;
my $folder = tempdir(CLEANUP => 1);
my $tenant = '01890000-0000-7000-8000-000000000001';

system('cc', '-O2', '-o', "$folder/spawn", dirname($0) . '/spawn.c') == 0 or die "spawn.c does not compile\n";
my $session = connect_to($ENV{PGDATABASE});
$session->do("INSERT INTO tenants (id, name) VALUES ('$tenant', 'bench')");
$session->do("SET app.current_tenant = '$tenant'");
$session->do("SELECT queue_create('work', keep_completed => '0')");

# Microseconds a job that a command takes, and of CPU.
sub timed_run
{
	my @command = @_;
	my @before = times;
	my $begun = clock_gettime(CLOCK_MONOTONIC);
	my $pid = fork // die "fork: $!\n";

	if (!$pid)
	{
		open STDOUT, '>', '/dev/null' or die;
		exec { $command[0] } @command or die "$command[0]: $!\n";
	}
	waitpid $pid, 0;
	die "$command[0] failed\n" if $?;
	my $seconds = clock_gettime(CLOCK_MONOTONIC) - $begun;
	my @after = times;
	return map { 1e6 * $_ / $jobs } $seconds, $after[2] + $after[3] - $before[2] - $before[3];
}

sub work
{
	my ($at_once) = @_;

	for (my $left = $jobs; $left > 0; $left -= 10000)
	{
		my $batch = $left > 10000 ? 10000 : $left;

		$session->do("SELECT count(*) FROM queue_enqueue_many('work', array_fill('{}'::jsonb, ARRAY[$batch]))");
	}
	return timed_run('queue_worker', '-t', $tenant, '-q', 'work', '-c', $at_once, '--drain', '--json', '--', '/bin/true');
}

print "### queue_worker against a loop of fork and exec; $jobs jobs, $rounds rounds\n\n";
print "| at once | fork and exec: us a job | queue_worker: us | overhead: us | CPU, fork and exec: us | CPU, queue_worker: us |\n";
print "|--:|--:|--:|--:|--:|--:|\n";
foreach my $at_once (1, 8)
{
	my (@bare, @ours, @overhead, @bare_cpu, @our_cpu);

	foreach (1 .. $rounds)
	{
		my ($bare, $bare_cpu) = timed_run("$folder/spawn", $jobs, $at_once, '/bin/true');
		my ($ours, $our_cpu) = work($at_once);

		push @bare, $bare;
		push @ours, $ours;
		push @overhead, $ours - $bare;
		push @bare_cpu, $bare_cpu;
		push @our_cpu, $our_cpu;
	}
	printf "| %d | %.0f | %.0f | %.0f [%.0f-%.0f] | %.0f | %.0f |\n", $at_once, median(@bare), median(@ours),
	  median(@overhead), (sort { $a <=> $b } @overhead)[ 0, -1 ], median(@bare_cpu), median(@our_cpu);
}
