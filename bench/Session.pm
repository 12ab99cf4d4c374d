# Sessions of the benchmarks that time single statements, and what both queues
# are asked for in them. Session.pm needs DBD::Pg, which Bench.pm does not.
package Session;

use strict;
use warnings;
use DBI;
use Exporter qw(import);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
use Bench;

our @EXPORT = qw(connect_to hold_horizon prepare_verbs timed);

# The SQL of one queue's verbs. A claim gives the arguments of complete.
my %verbs = (
	queue_service => {
		enqueue => "SELECT job_id FROM queue_enqueue(?, '$payload')",
		claim => "SELECT job_id, lease_token FROM queue_claim(?, 'worker')",
		complete => 'SELECT outcome FROM queue_complete(?, ?)',
	},
	minimal => {
		enqueue => "INSERT INTO minimal_jobs (queue, payload) VALUES (?, '$payload')",
		claim => minimal_claim('?', 1) . ' RETURNING id',
		complete => "UPDATE minimal_jobs SET status = 'completed',
			finished_at = clock_timestamp() WHERE id = ?",
	},
);

# A session that commits without a flush, unless it is to be durable. Plans do
# not depend on what the tables hold: a sequential scan would be unfair to the
# minimal queue.
sub connect_to
{
	my ($database, %o) = @_;
	my $session = DBI->connect("dbi:Pg:dbname=$database", '', '',
		{ RaiseError => 1, PrintError => 0, AutoInactiveDestroy => 1, pg_switch_prepared => 1 });
	$session->do($_) foreach "SET app.current_tenant = '$tenant'",
	  'SET plan_cache_mode = force_generic_plan',
	  map { "SET $_ = off" } 'enable_seqscan', 'enable_bitmapscan', 'enable_sort',
	  $o{durable} ? () : 'synchronous_commit';
	return $session;
}

# A session whose snapshot keeps vacuum from removing what dies from now on.
sub hold_horizon
{
	my ($database) = @_;
	my $session = connect_to($database);
	$session->begin_work;
	$session->do('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
	$session->selectrow_array('SELECT count(*) FROM tenants');
	return $session;
}

sub prepare_verbs
{
	my ($session, $side) = @_;
	return { map { $_ => $session->prepare($verbs{$side}{$_}) } keys %{ $verbs{$side} } };
}

# Runs a prepared statement; its row, after how many ms it took.
sub timed
{
	my ($statement, @arguments) = @_;
	my $start = clock_gettime(CLOCK_MONOTONIC);
	$statement->execute(@arguments);
	my @row = $statement->fetchrow_array;
	my $ms = 1000 * (clock_gettime(CLOCK_MONOTONIC) - $start);
	$statement->finish;
	return ($ms, @row);
}

1;
