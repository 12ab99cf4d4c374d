# What a limit costs a queue: see bench/run. Expects a private server with the
# extension and nothing else on it.
#
# One session enqueues, claims and completes job after job, in turn of a queue
# with max_concurrency and of one without; claim and completion are timed. A
# snapshot is held all the time, so that rows stay when they are dead. Then a
# queue whose slots are all taken, with jobs waiting, is claimed from.
#
# BENCH_JOBS (20000) is how many jobs of each there are, BENCH_WAITING (1000000)
# how many wait in the full queue.
use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname($0);
use Bench;
use Session;

my $jobs    = $ENV{BENCH_JOBS}    || 20_000;
my $waiting = $ENV{BENCH_WAITING} || 1_000_000;
my $slices  = 20;
my @queues  = ('keep0', 'limited');

setup(dirname($0) . '/setup.sql');
sql("SET app.current_tenant = '$tenant';
	SELECT queue_create('limited', keep_completed => '0', default_lease => '10 minutes', max_concurrency => 1000),
		queue_create('full', keep_completed => '0', default_lease => '1 day', max_concurrency => 10)");
my $session = connect_to($ENV{PGDATABASE});
my $verbs   = prepare_verbs($session, 'queue_service');
my $visited = $session->prepare('SELECT claims * visited_mean FROM queue_cache');

# A slice of each queue's jobs; its medians, in ms.
sub slice
{
	my %ms;
	foreach my $job (1 .. $jobs / $slices)
	{
		foreach my $queue ($job % 2 ? @queues : reverse @queues)
		{
			$verbs->{enqueue}->execute($queue);
			$verbs->{enqueue}->finish;
			my ($claim, @job) = timed($verbs->{claim}, $queue);
			my ($complete) = timed($verbs->{complete}, @job);
			push @{ $ms{$queue} }, $claim + $complete;
		}
	}
	return map { median(@{ $ms{$_} }) } @queues;
}

my $horizon = hold_horizon($ENV{PGDATABASE});
my (%medians, @ratios);
slice();
foreach my $n (1 .. $slices)
{
	my ($without, $with) = slice();
	push @{ $medians{keep0} }, $without;
	push @{ $medians{limited} }, $with;
	push @ratios, $with / $without;
}
$horizon->disconnect;
my @sorted = sort { $a <=> $b } @ratios;
printf "claim + complete, ms: %.3f without a limit, %.3f with; ratio %.3f (%.3f to %.3f)\n",
  median(@{ $medians{keep0} }), median(@{ $medians{limited} }), median(@ratios), @sorted[ 0, -1 ];
printf "ratio in the first tenth of the slices: %.3f, in the last: %.3f\n",
  median(@ratios[ 0 .. $slices / 10 ]), median(@ratios[ -($slices / 10) .. -1 ]);

sql("SET app.current_tenant = '$tenant';
	INSERT INTO jobs (queue_id, payload) SELECT id, '1' FROM queues, generate_series(1, $waiting) WHERE name = 'full'");
my ($fill, @first) = timed($verbs->{claim}, 'full');
timed($verbs->{claim}, 'full') for 2 .. 10;
my (undef, $before) = timed($visited);
my @empty = map { (timed($verbs->{claim}, 'full'))[0] } 1 .. 1000;
my (undef, $after) = timed($visited);
printf "%s waiting: the first claim took %.0f ms; 1000 claims that found no slot looked at %d entries, p50 %.3f ms\n",
  with_commas($waiting), $fill, $after - $before, median(@empty);
