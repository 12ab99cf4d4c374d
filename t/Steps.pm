# What the tests of single steps share: a server in whose sessions a test can stop
# claims at places in the code (src/fault.h), and jobs whose key is a number.
package Steps;

use strict;
use warnings;
use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw($tenant $node $main $other $controller $horizon start
  begin_sessions session query hold_horizon free_horizon stop_at go_on queue
  insert insert_dead %leased claim where is_claimed is_empty cache visited
  is_flat);

our $tenant = '01890000-0000-7000-8000-000000000001';
our $node;
our ($main, $other, $controller, $horizon);

# A server with the extension, and sessions. Skips the test if sessions would
# not stop.
sub start
{
	if (!$ENV{QS_FAULTS})
	{
		plan skip_all => 'needs a build with -DQS_FAULT_POINTS';
	}
	$node = PostgreSQL::Test::Cluster->new('faults',
		install_path => $ENV{QS_FAULTS});
	$node->init(allows_streaming => 1);
	$node->append_conf(
		'postgresql.conf', q(
shared_preload_libraries = 'queue_service'
queue_service.cache_size = '1MB'
autovacuum = off
max_prepared_transactions = 5
));
	$node->start;
	$node->safe_psql(
		'postgres', qq(
		CREATE EXTENSION queue_service;
		INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
		ALTER DATABASE postgres SET app.current_tenant = '$tenant';
	));
	begin_sessions();
	return;
}

# Sessions that go on while others act.

sub session
{
	my ($database) = @_;

	return $node->background_psql($database // 'postgres', on_error_stop => 0);
}

sub begin_sessions
{
	($main, $other, $controller, $horizon) = map { session() } 1 .. 4;
	return;
}

sub query
{
	my ($sql) = @_;

	return $main->query_safe($sql);
}

# While this is on, dead rows stay, and their index entries.
sub hold_horizon
{
	$horizon->query_safe(
		'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues;');
	return;
}

sub free_horizon
{
	$horizon->query_safe('COMMIT');
	return;
}

# Lets the session begin with the SQL, up to the place in the code.
sub stop_at
{
	my ($session, $place, $sql) = @_;

	$controller->query_safe('SELECT pg_advisory_lock(42)');
	$session->query_safe("SET queue_service.fault_point = '$place'");
	$session->query_until(qr/started/, "\\echo started\n$sql;\n");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
	) or die "did not come to $place";
	return;
}

# Lets it go on, and returns what the SQL gave, which may end with an error.
sub go_on
{
	my ($session) = @_;
	my $result;

	$controller->query_safe('SELECT pg_advisory_unlock(42)');
	$result = $session->query('RESET queue_service.fault_point');
	$session->{stderr} = '';
	$result =~ s/\s+$//;
	$result =~ s/^\s+//;
	return $result;
}

# Queues and jobs. A job's key is its number; its payload as well.

my $queues = 0;

sub queue
{
	my $name = 'q' . ++$queues;

	query("SELECT queue_create('$name', keep_completed => '0', default_lease => '1 day')");
	return $name;
}

sub insert
{
	my ($queue, $from, $to, %columns) = @_;
	my $names = join '', map { ", $_" } sort keys %columns;
	my $values = join '', map { ", $columns{$_}" } sort keys %columns;

	return qq(INSERT INTO jobs (queue_id, run_at, payload$names)
		SELECT q.id, timestamptz '2020-01-01 UTC' + i * interval '1 second', to_jsonb(i)$values
		FROM queues q, generate_series($from\::numeric, $to) i
		WHERE name = '$queue';);
}

# Jobs that were there, and are gone.
sub insert_dead
{
	my ($queue, $from, $to) = @_;

	query(insert($queue, $from, $to));
	query(qq(DELETE FROM jobs WHERE payload::numeric BETWEEN $from AND $to
		AND queue_id = (SELECT id FROM queues WHERE name = '$queue')));
	return;
}

our %leased = (
	status => q('processing'),
	lease_token => '1',
	leased_until => q(now() + interval '1 day'),
	attempts => 1);

sub claim
{
	my ($queue, $arguments) = @_;

	$arguments = defined $arguments ? ", $arguments" : '';
	return "SELECT payload FROM queue_claim('$queue', 'w'$arguments)";
}

sub where
{
	my ($queue, $job) = @_;

	return "WHERE payload = '$job' AND queue_id = (SELECT id FROM queues WHERE name = '$queue')";
}

sub is_claimed
{
	my ($queue, $job, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(query(claim($queue)), $job, $name);
	return;
}

sub is_empty
{
	my ($queue, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(query(claim($queue)), '', $name);
	return;
}

sub cache
{
	my ($column) = @_;

	return query("SELECT $column FROM queue_cache");
}

# How many index entries so many runs of a claim look at.
sub visited
{
	my ($claims, $sql) = @_;

	return query(
		"SELECT visited_mean * claims AS before FROM queue_cache \\gset\n"
		  . "$sql;\n" x $claims
		  . "SELECT round(visited_mean * claims - :before) FROM queue_cache");
}

# The first claim looks at so many entries, if it has to, the next ones at few.
sub is_flat
{
	my ($queue, $first, $name) = @_;
	my $sql = "SELECT FROM queue_claim('$queue', 'w', lease => '1 day')";
	my $all;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	cmp_ok(visited(1, $sql), '>=', $first, "$name: the first claim looks at all")
	  if $first;
	$all = visited(20, $sql);
	cmp_ok($all, '<=', 20 * 5, "$name: the next ones look at few");
	note("$name: 20 claims look at $all entries");
	return;
}

1;
