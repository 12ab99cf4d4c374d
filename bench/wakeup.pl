# How soon an idle worker has the job: see bench/run. Expects a private server
# with the extension and nothing else on it.
#
# Workers wait in queue_wait() and claim when it returns. One job after another is
# enqueued. It is timed until the claim returned to its worker: from when the
# enqueue was sent, and from when its commit was answered, before which a worker
# may have the job already.
#
# BENCH_JOBS (1000) is how many there are, BENCH_WORKERS (16) how many wait.
use strict;
use warnings;
use File::Basename qw(dirname);
use Time::HiRes qw(sleep clock_gettime CLOCK_MONOTONIC);
use lib dirname($0);
use Bench;
use Session;

my $jobs    = $ENV{BENCH_JOBS}    || 1000;
my $workers = $ENV{BENCH_WORKERS} || 16;

# Writes the time at which it had a job into the pipe.
sub work
{
	my ($pipe, %o) = @_;
	my $session = connect_to($ENV{PGDATABASE}, %o);
	my $verbs = prepare_verbs($session, 'queue_service');
	while (1)
	{
		$session->do("CALL queue_wait('keep0', '1 hour')");
		my (undef, @job) = timed($verbs->{claim}, 'keep0');
		next if !@job;
		syswrite $pipe, pack 'd', clock_gettime(CLOCK_MONOTONIC);
		timed($verbs->{complete}, @job);
	}
}

sub run_scenario
{
	my ($title, %o) = @_;
	my (@pids, @sent, @answered);

	pipe(my $from_workers, my $to_here) or die "pipe: $!\n";
	foreach (1 .. $workers)
	{
		my $pid = fork // die "fork: $!\n";
		work($to_here, %o) if !$pid;
		push @pids, $pid;
	}
	my $session = connect_to($ENV{PGDATABASE}, %o);
	my $enqueue = prepare_verbs($session, 'queue_service')->{enqueue};
	foreach my $job (1 .. $jobs)
	{
		# all are back and wait
		sleep(0.005) while $session->selectrow_array(
			"SELECT count(*) < $workers FROM pg_stat_activity
				WHERE wait_event_type = 'Extension' AND query LIKE 'CALL queue_wait%'");
		my $before = clock_gettime(CLOCK_MONOTONIC);
		timed($enqueue, 'keep0');
		my $after = clock_gettime(CLOCK_MONOTONIC);
		sysread $from_workers, my $bytes, 8 or die "a worker failed\n";
		my $claimed = unpack 'd', $bytes;
		push @sent, 1000 * ($claimed - $before);
		push @answered, 1000 * ($claimed - $after);
	}
	# they wait in C, and so do their sessions
	kill 'KILL', @pids;
	waitpid $_, 0 foreach @pids;
	$session->do("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE query LIKE 'CALL queue_wait%'");
	$session->disconnect;
	printf "| %s | %.2f | %.2f | %.2f | %.2f |\n", $title,
	  map { (median(@$_), percentile(0.99, @$_)) } \@answered, \@sent;
}

setup(dirname($0) . '/setup.sql');
print "### From enqueue to claim returned, $workers idle workers, $jobs jobs\n\n",
  "| | from the commit's answer: p50 ms | p99 ms | from the call: p50 ms | p99 ms |\n",
  '|---', '|--:' x 4, "|\n";
run_scenario('durable', durable => 1);
run_scenario('synchronous_commit = off');
