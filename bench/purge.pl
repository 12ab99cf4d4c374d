# What the purge of finished jobs costs, and whether a load beside it waits: see
# bench/run. Expects a private server with the extension and nothing else on it.
#
# Clients enqueue, claim and complete jobs that are kept, in short
# transactions, while queue_maintain()'s task deletes BENCH_ROWS (1000000) jobs
# that were finished before, batch by batch as the worker does it. Shown are
# the task's CPU and WAL for a row, and the load's throughput and the longest wait
# of a session for a lock, sampled all the time: before, beside it, and after.
use strict;
use warnings;
use File::Basename qw(dirname);
use Time::HiRes qw(sleep clock_gettime CLOCK_MONOTONIC);
use lib dirname($0);
use Bench;
use Session;

my $rows    = $ENV{BENCH_ROWS}    || 1000000;
my $clients = $ENV{BENCH_CLIENTS} || 4;

# CPU seconds that a process has used
sub cpu
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/stat") or die "/proc/$pid/stat: $!\n";
	my @stat = split / /, (<$file> =~ s/^.*\) //r);
	return ($stat[11] + $stat[12]) / 100;
}

# One client's jobs, counted in a pipe.
sub work
{
	my ($pipe) = @_;
	my $session = connect_to($ENV{PGDATABASE});
	my $verbs = prepare_verbs($session, 'queue_service');
	while (1)
	{
		timed($verbs->{enqueue}, 'keep1d');
		my (undef, @job) = timed($verbs->{claim}, 'keep1d');
		timed($verbs->{complete}, @job) if @job;
		syswrite $pipe, 'x';
	}
}

setup(dirname($0) . '/setup.sql');
my $session = connect_to($ENV{PGDATABASE});
$session->do("SELECT queue_create('keep1d')");
$session->do("INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at)
	SELECT id, '$payload', 'completed', 'completed', now() - interval '2 days' + n * interval '1 ms'
	FROM queues, generate_series(1, $rows) n WHERE name = 'keep1d'");
$session->do('VACUUM ANALYZE jobs');

pipe(my $from_clients, my $to_here) or die "pipe: $!\n";
$from_clients->blocking(0);
my @pids;
foreach (1 .. $clients)
{
	my $pid = fork // die "fork: $!\n";
	work($to_here) if !$pid;
	push @pids, $pid;
}
sub jobs
{
	my $n = 0;
	while (my $got = sysread $from_clients, my $bytes, 65536) { $n += $got }
	return $n;
}

# A sampler of waits for locks, in a process of its own. Tells the longest one
# since it was asked last.
pipe(my $from_sampler, my $to_parent) or die "pipe: $!\n";
my $sampler = fork // die "fork: $!\n";
if (!$sampler)
{
	my $look = connect_to($ENV{PGDATABASE});
	my $longest = 0;
	my $asked = 0;
	$SIG{USR1} = sub { $asked = 1 };
	while (1)
	{
		my ($wait) = $look->selectrow_array(
			'SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0) FROM pg_locks WHERE NOT granted');
		$longest = $wait if $wait > $longest;
		if ($asked)
		{
			syswrite $to_parent, sprintf("%.1f\n", 1000 * $longest);
			$asked = $longest = 0;
		}
		sleep 0.002;
	}
}

sub longest_wait
{
	kill 'USR1', $sampler;
	return <$from_sampler> + 0;
}

sleep 2;
jobs();
longest_wait();
sleep 10;
my $alone = jobs() / 10;
my @waits = longest_wait();

my $purger = connect_to($ENV{PGDATABASE});
my ($pid) = $purger->selectrow_array('SELECT pg_backend_pid()');
my $cpu = cpu($pid);
my $begun = clock_gettime(CLOCK_MONOTONIC);
my ($deleted, $longest) = (0, 0);
my $more = 1;
my $lsn = $session->selectrow_array('SELECT pg_current_wal_insert_lsn()');
jobs();
while ($more)
{
	my $before = clock_gettime(CLOCK_MONOTONIC);
	my ($done, $again) = $purger->selectrow_array("SELECT * FROM _queue_task('finished')");
	my $took = clock_gettime(CLOCK_MONOTONIC) - $before;
	$deleted += $done;
	$more = $again;
	$longest = $took if $took > $longest;
	sleep $took;
}
my $seconds = clock_gettime(CLOCK_MONOTONIC) - $begun;
my $beside = jobs();
push @waits, longest_wait();
$cpu = cpu($pid) - $cpu;
my ($wal) = $session->selectrow_array("SELECT pg_current_wal_insert_lsn() - '$lsn'::pg_lsn");
# the load's own, of as many jobs, without the purge
$lsn = $session->selectrow_array('SELECT pg_current_wal_insert_lsn()');
jobs();
sleep 10;
my $after = jobs();
push @waits, longest_wait();
my ($load) = $session->selectrow_array("SELECT pg_current_wal_insert_lsn() - '$lsn'::pg_lsn");
kill 'KILL', @pids, $sampler;
waitpid $_, 0 foreach @pids, $sampler;

print "### The purge of ", with_commas($deleted), " finished jobs beside $clients clients\n\n";
printf "| | |\n|---|--:|\n";
printf "| time | %.0f s |\n", $seconds;
printf "| CPU of the purge, a row | %.1f us |\n", 1e6 * $cpu / $deleted;
printf "| WAL of the purge, a row | %.0f bytes |\n", ($wal - $load / $after * $beside) / $deleted;
printf "| longest run of the task | %.0f ms |\n", 1000 * $longest;
printf "| longest wait of the load for a lock, before, beside, after | %.1f, %.1f, %.1f ms |\n", @waits;
printf "| jobs/s of the load, before, beside, after | %.0f, %.0f, %.0f |\n", $alone, $beside / $seconds, $after / 10;
