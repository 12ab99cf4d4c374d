# Clients that enqueue, claim and complete while tenants move and nodes restart.
# Each writes down what it was told, for Check.pm; one line an event, the time
# first:
#
#	enqueued NAME ID			acknowledged; NAME is unique, and in the payload
#	unknown NAME				the connection broke in the commit
#	rolled_back NAME
#	claimed ID TOKEN UNTIL		UNTIL: seconds from now that the lease lasts
#	ended ID TOKEN				about to complete or fail, so the lease may end
#	done ID TOKEN				completion acknowledged
#	given_back ID TOKEN			failure acknowledged
#	lost ID TOKEN
package Load;

use strict;
use warnings;
use Exporter qw(import);
use IO::Handle;
use Cells;

our @EXPORT = qw(start_clients finish_clients history_files);

my @clients;
my $history;
my $name;
my %session;

sub note
{
	printf $history "%.6f %s\n", time, join ' ', @_;
}

sub router
{
	return $session{router} //= connect_router();
}

sub at_node
{
	my ($node) = @_;
	return $session{$node} //= connect_node($node, 'router');
}

# A session that broke is made anew.
sub failed
{
	foreach (keys %session)
	{
		delete $session{$_} unless $session{$_} && $session{$_}->ping;
	}
	sleep 0.05;
}

# Enqueue through the router: it commits by itself, so whoever gets no answer asks
# again. With the key that makes one job, wherever the tenant is by then.
sub produce
{
	my ($tenant) = @_;
	my ($id, $tries);

	until ($id)
	{
		eval {
			($id) = row(router(), q{SELECT job_id FROM cells.enqueue(?, 'work', jsonb_build_object('name', ?::text), ?)},
				$tenant, $name, $name);
			1;
		} or failed();
		return if ++$tries > 1000;
	}
	note(enqueued => $name, $id);
}

# Enqueue on the tenant's node, in the transaction of the order.
sub produce_directly
{
	my ($tenant) = @_;
	my ($id, $node, $committing);

	eval {
		$node = at_node(row(router(), 'SELECT cells.node(?)', $tenant));
		$node->do('BEGIN');
		row($node, q{SELECT set_config('app.current_tenant', ?, true)}, $tenant);
		$node->do('INSERT INTO orders (name, tenant_id) VALUES (?, ?)', undef, $name, $tenant);
		($id) = row($node, q{SELECT job_id FROM queue_enqueue('work', jsonb_build_object('name', ?::text, 'order', true))}, $name);
		if (rand() < 0.1)
		{
			$node->do('ROLLBACK');
			note(rolled_back => $name);
			return 1;
		}
		$committing = 1;
		$node->do('COMMIT');
		note(enqueued => $name, $id);
		1;
	} and return;
	# Moved, or the node is down: nothing has happened, unless the answer was lost.
	note($committing ? 'unknown' : 'rolled_back', $name);
	eval { $node->do('ROLLBACK') } if $node;
	failed();
}

sub claimed
{
	my ($session, $sql, @arguments) = @_;
	my @jobs;

	eval {
		@jobs = @{ $session->()->selectall_arrayref($sql, { Slice => {} }, @arguments) };
		note(claimed => $_->{job_id}, $_->{lease_token}, $_->{lasts}) foreach @jobs;
		1;
	} or failed();
	return @jobs;
}

# A worker of one tenant, through the router.
sub work
{
	my ($tenant) = @_;
	my @jobs = claimed(\&router,
		q{SELECT job_id, lease_token, extract(epoch FROM leased_until - clock_timestamp()) AS lasts
		FROM cells.claim(?, 'work', 'router', 5, '8 s')}, $tenant);

	foreach my $job (@jobs)
	{
		my @lease = @$job{qw(job_id lease_token)};
		my $fails = rand() < 0.05;
		my ($outcome, $tries);

		note(ended => @lease);
		until ($outcome || ++$tries > 3)
		{
			eval {
				($outcome) = $fails ? row(router(), q{SELECT cells.fail(?, ?, ?, 'by chance', '0')}, $tenant, @lease)
				  : row(router(), 'SELECT cells.complete(?, ?, ?)', $tenant, @lease);
				1;
			} or failed();
		}
		note({ done => 'done', retry => 'given_back' }->{ $outcome // '' } // 'lost', @lease);
	}
	sleep 0.02 unless @jobs;
}

# The effect and the completion in one transaction, where the tenant is.
sub complete_with_effect
{
	my ($node, $job) = @_;

	$node->do('BEGIN');
	row($node, q{SELECT set_config('app.current_tenant', ?, true)}, $job->{tenant_id});
	$node->do('INSERT INTO effects (name, tenant_id) VALUES (?, ?)', undef, @$job{qw(name tenant_id)});
	row($node, 'SELECT outcome FROM queue_complete(?, ?, strict => true)', @$job{qw(job_id lease_token)});
	$node->do('COMMIT');
}

# A worker of a node, for all tenants that are on it. If one has moved with a job
# that this worker holds, the job is completed where it is now: under the same
# lease.
sub work_on_node
{
	my ($here) = @_;
	my @jobs = claimed(sub { at_node($here) },
		q{SELECT job_id, lease_token, tenant_id, payload->>'name' AS name,
			extract(epoch FROM leased_until - clock_timestamp()) AS lasts
		FROM queue_claim('work', 'node', 5, '8 s')});

	foreach my $job (@jobs)
	{
		my @lease = @$job{qw(job_id lease_token)};
		my ($done, $node);

		note(ended => @lease);
		foreach (1 .. 3)
		{
			last if $done = eval {
				$node = at_node(row(router(), 'SELECT cells.node(?)', $job->{tenant_id}));
				complete_with_effect($node, $job);
				1;
			};
			eval { $node->do('ROLLBACK') } if $node;
			failed();
		}
		note($done ? 'done' : 'lost', @lease);
	}
	sleep 0.02 unless @jobs;
}

sub start
{
	my ($label, $until, $turn) = @_;
	my $pid = fork();

	if (!defined $pid)
	{
		die "fork: $!\n";
	}
	elsif ($pid)
	{
		push @clients, { pid => $pid, until => $until };
		return;
	}
	@clients = ();
	open $history, '>', "$dir/history.$label" or die "$dir/history.$label: $!\n";
	$history->autoflush;
	srand $$;
	for (my $n = 0; !-e "$dir/$until"; $n++)
	{
		$name = "$label.$n";
		$turn->();
	}
	close $history;
	require POSIX;
	POSIX::_exit(0);
}

# start_clients(TENANTS): two producers of each kind, a worker for each third
# tenant, and one for each node.
sub start_clients
{
	my (@tenants) = @_;
	my $any = sub { $tenants[ rand @tenants ] };

	foreach my $n (1, 2)
	{
		start("router$n", 'no_more', sub { produce($any->()); sleep 0.01 });
		start("direct$n", 'no_more', sub { produce_directly($any->()); sleep 0.01 });
		start("work$n", 'stop', sub { work($any->()) });
	}
	foreach my $node (@nodes)
	{
		start("node$node", 'stop', sub { work_on_node($node) });
	}
}

# finish_clients(UNTIL): those that go on until the file UNTIL is there.
sub finish_clients
{
	my ($until) = @_;

	open my $file, '>', "$dir/$until" or die "$dir/$until: $!\n";
	close $file;
	waitpid $_->{pid}, 0 foreach grep { $_->{until} eq $until } @clients;
	@clients = grep { $_->{until} ne $until } @clients;
}

sub history_files
{
	return glob "$dir/history.*";
}

END
{
	local $?;
	kill TERM => map { $_->{pid} } @clients;
}

1;
