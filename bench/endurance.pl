# How long a queue keeps up while its horizon is held: see bench/run. Expects a
# private server with the extension and nothing else on it.
#
# For each queue in turn: 4 clients of pgbench enqueue 800 jobs a second, 4
# processes claim and complete one by one, durably, and a snapshot is held all the
# time. The first window of time is compared with the last.
#
# BENCH_SCENARIOS picks one, queue_service or minimal. BENCH_SECONDS (180) is how
# long each is measured; a window is 30 seconds, or a quarter of that if it is
# shorter.
use strict;
use warnings;
use File::Basename qw(dirname);
use List::Util qw(min);
use Time::HiRes qw(sleep time);
use lib dirname($0);
use Bench;
use Session;

my $seconds = $ENV{BENCH_SECONDS} || 180;
my $window  = min(30, $seconds / 4);
my $rate    = 800;

my %enqueue = (
	queue_service => "SELECT job_id FROM queue_enqueue('keep0', :payload);",
	minimal => "INSERT INTO minimal_jobs (queue, payload) VALUES ('keep0', :payload);",
);

# Runs the code in a process of its own; its id.
sub start
{
	my ($code) = @_;
	my $pid = fork // die "fork: $!\n";
	return $pid if $pid;
	$code->();
	exit 0;
}

# Until the end, claims and completes. Notes when each job was completed, in
# seconds since the start, and how many ms its claim took.
sub consume
{
	my ($side, $start, $file) = @_;
	my $session = connect_to($ENV{PGDATABASE}, durable => 1);
	my $verbs = prepare_verbs($session, $side);
	open(my $notes, '>', $file) or die "$file: $!\n";

	while ((my $now = time - $start) < $seconds)
	{
		my ($ms, @job) = timed($verbs->{claim}, 'keep0');
		if (!@job)
		{
			$side eq 'minimal' ? sleep(0.01) : $session->do("CALL queue_wait('keep0', '1 second')");
			next;
		}
		$verbs->{complete}->execute(@job);
		$verbs->{complete}->finish;
		printf $notes "%.3f %.3f\n", time - $start, $ms;
	}
	close($notes) or die "$file: $!\n";
}

# What all consumers noted between two times: the ms of their claims.
sub noted
{
	my ($from, $to) = @_;
	my @found;
	foreach my $file (glob "$temp/consumer*")
	{
		open(my $notes, '<', $file) or die "$file: $!\n";
		while (my $note = <$notes>)
		{
			my ($at, $ms) = split ' ', $note;
			push @found, $ms if $at >= $from && $at < $to;
		}
	}
	return @found;
}

sub run_side
{
	my ($side) = @_;
	my $horizon = hold_horizon($ENV{PGDATABASE});
	my $start = time;
	my @consumers = map {
		my $file = "$temp/consumer$_";
		start(sub { consume($side, $start, $file) })
	} 1 .. 4;

	my $enqueued = pgbench(script => $enqueue{$side}, clients => 4, rate => $rate,
		seconds => $seconds, variables => { payload => $payload });
	foreach my $pid (@consumers)
	{
		waitpid $pid, 0;
		die "a consumer failed\n" if $?;
	}
	$horizon->disconnect;

	my @first = noted(0, $window);
	my @last = noted($seconds - $window, $seconds);
	my ($first_p99, $last_p99) = map { percentile(0.99, @$_) } \@first, \@last;
	printf "| %s | %.0f | %.0f | %.0f | %.3f | %.3f | %.2f | %.2f | %.2f |\n", $side,
	  $enqueued->{rate}, @first / $window, @last / $window, median(@first), median(@last),
	  $first_p99, $last_p99, $last_p99 / $first_p99;
}

my @chosen = chosen(map { { name => $_ } } 'queue_service', 'minimal');
setup(dirname($0) . '/setup.sql');
print "### $rate enqueues a second, 4 producers, 4 consumers, horizon held for $seconds s; first and last $window s\n\n",
  "| | enqueued/s | completed/s, first | last | claim p50 ms, first | last | p99 ms, first | last | times |\n",
  '|---', '|--:' x 8, "|\n";
run_side($_->{name}) foreach @chosen;
