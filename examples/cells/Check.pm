# Compares what clients were told (Load.pm) with what there is on all nodes in
# the end, when the queues are drained.
package Check;

use strict;
use warnings;
use Exporter qw(import);
use Cells;
use Load;

our @EXPORT = qw(check_history);

my %told;		# name => how its enqueue ended
my %id;			# name => the job's id
my %done;		# id => acknowledged completions
my @claims;		# [id, token, told at, lease ends]
my %ended;		# token => when its end was asked for

sub read_history
{
	foreach my $file (history_files())
	{
		open my $lines, '<', $file or die "$file: $!\n";
		while (<$lines>)
		{
			my ($time, $what, $subject, @rest) = split;

			if ($what =~ /^(enqueued|unknown|rolled_back)$/)
			{
				$told{$subject} = $what;
				$id{$subject} = $rest[0] if $what eq 'enqueued';
			}
			elsif ($what eq 'claimed')
			{
				push @claims, [ $subject, $rest[0], $time, $time + $rest[1] ];
			}
			elsif ($what eq 'ended')
			{
				$ended{ $rest[0] } = $time;
			}
			elsif ($what eq 'done')
			{
				$done{$subject}++;
			}
		}
	}
}

# Claims that were told while another lease of the job was held for certain.
sub overlapping
{
	my (%last, $overlapping);

	foreach my $claim (sort { $a->[2] <=> $b->[2] } @claims)
	{
		my ($id, $token, $time, $until) = @$claim;

		$overlapping++ if $last{$id} && $time < $last{$id};
		$last{$id} = $until;
		$last{$id} = $ended{$token} if defined $ended{$token} && $ended{$token} < $until;
	}
	return $overlapping // 0;
}

# How often each name is in a table, over all nodes.
sub names
{
	my ($sql) = @_;
	my %count;

	foreach my $node (@nodes)
	{
		$count{$_}++ foreach column(connect_node($node), $sql);
	}
	return \%count;
}

sub number
{
	my ($what, @which) = @_;
	return is(scalar @which, 0, "$what: 0" . (@which ? " (such as $which[0])" : ''));
}

# Whether nothing was lost or doubled; says how many of each.
sub check_history
{
	my ($jobs, $completed, $orders, $effects, $order_jobs, %name);

	read_history();
	$jobs = names(q{SELECT payload->>'name' FROM jobs WHERE payload->>'name' IS NOT NULL
		UNION ALL SELECT payload->>'name' FROM dead_letter_jobs WHERE payload->>'name' IS NOT NULL});
	$completed = names(q{SELECT payload->>'name' FROM jobs WHERE payload->>'name' IS NOT NULL AND status = 'completed'});
	$order_jobs = names(q{SELECT payload->>'name' FROM jobs WHERE payload->>'order' IS NOT NULL});
	# twice: as an order, and as one with its job beside it
	$orders = names(q{SELECT name FROM orders WHERE name LIKE 'direct%'
		UNION ALL SELECT o.name FROM orders o JOIN jobs j ON j.tenant_id = o.tenant_id AND j.payload->>'name' = o.name});
	$effects = names('SELECT name FROM effects');
	%name = reverse %id;

	my @acknowledged = grep { $told{$_} eq 'enqueued' } keys %told;
	my @lost = grep { !$jobs->{$_} || !$completed->{$_} } @acknowledged;
	my $overlapping = overlapping();
	my @doubled = (
		(grep { $jobs->{$_} > 1 } keys %$jobs),
		(grep { $effects->{$_} > 1 } keys %$effects),
		(grep { $done{$_} > 1 } keys %done));

	number('acknowledged enqueues without a completed job', @lost);
	number('acknowledged completions of a job that is not completed', grep { $name{$_} && !$completed->{ $name{$_} } } keys %done);
	number('jobs twice, completions twice, effects twice', @doubled);
	is($overlapping, 0, 'claims while another held the job: 0');
	number('jobs of rolled back transactions', grep { $jobs->{$_} && $told{$_} eq 'rolled_back' } keys %told);
	number('jobs that nobody enqueued', grep { !$told{$_} } keys %$jobs);
	number('orders without their job on the same node, or the other way round',
		(grep { $orders->{$_} != 2 } keys %$orders), (grep { !$orders->{$_} } keys %$order_jobs));
	number('effects of jobs that are not completed', grep { !$completed->{$_} } keys %$effects);
	printf "%d enqueued, %d claimed, %d completed: %d lost, %d doubled\n",
	  scalar @acknowledged, scalar @claims, scalar(keys %$completed), scalar @lost, @doubled + $overlapping;
}

1;
