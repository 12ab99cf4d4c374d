# Alerts of the server: who holds back vacuum, named, and that no worker runs. And
# what NOTIFY tells.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'queue_service'
queue_service.databases = 'other, postgres'
max_worker_processes = 0
max_prepared_transactions = 5
autovacuum = off
));
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION queue_service');

# What the task does when it runs so long from now; a worker may be at it.
sub watch
{
	my ($later, $from) = @_;
	my $done = '';

	$from //= 'clock_timestamp()';
	for (1 .. 1000)
	{
		$done = $node->safe_psql('postgres',
			"SELECT done FROM _queue_task('alerts', $from + interval '$later')");
		last if $done ne '';
	}
	return $done;
}

sub open_alert
{
	my ($alert) = @_;

	return $node->safe_psql('postgres',
		"SELECT string_agg(message, '|') FROM alert_history WHERE alert = '$alert' AND resolved_at IS NULL AND tenant_id IS NULL"
	);
}

sub is_raised
{
	my ($message, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(watch('9 minutes'), 0, "$name: not at once");
	is(watch('20 minutes'), 1, "$name: raised");
	like(open_alert('horizon'), $message, "$name: named");
	is(watch('21 minutes'), 0, "$name: once");
	return;
}

sub is_resolved
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(watch('21 minutes'), 1, "$name: resolved");
	is(open_alert('horizon'), '', "$name: none is left");
	return;
}

# A worker that is listed, and does not come.
is(watch('59 s', 'pg_postmaster_start_time()'), 0, 'a worker may take a while to come');
is(watch('61 s', 'pg_postmaster_start_time()'), 1, 'no worker');
like(open_alert('worker'), qr/no background worker/, 'it is said');
is(watch('62 s', 'pg_postmaster_start_time()'), 0, '... once');
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN queue_service_alerts');

$node->safe_psql('postgres', "ALTER SYSTEM SET queue_service.databases = 'other'");
$node->restart;
is(watch('62 s', 'pg_postmaster_start_time()'), 1, 'no worker is to be there any more');
is(open_alert('worker'), '', 'that is resolved');
$listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN queue_service_alerts');

# A transaction
my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe(
	"SET application_name = 'report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues");
is_raised(qr/transaction of process $pid \(.*"report"\).*pg_terminate_backend\($pid\)/,
	'a transaction');
{
	local $ENV{PGOPTIONS} = '-c queue_service.alert_horizon=1';

	ok( $node->poll_query_until(
			'postgres',
			"SELECT NOT ok AND detail LIKE '%process $pid%' FROM queue_health WHERE item = 'horizon'"
		),
		'queue_health names it');
}

# It ends, and another one is to blame: the same alert
my $writer = $node->background_psql('postgres');
my $writer_pid = $writer->query_safe('SELECT pg_backend_pid()');
$node->safe_psql('postgres', 'CREATE TABLE moves (n integer)');
$writer->query_safe('BEGIN; INSERT INTO moves VALUES (1)');
is(watch('22 minutes'), 0, 'a second one, which needs less');
$session->query_safe('COMMIT');
is(watch('22 minutes'), 1, 'another culprit');
like(open_alert('horizon'), qr/process $writer_pid /, 'it is named instead');
is( $node->safe_psql('postgres', "SELECT count(*) FROM alert_history WHERE alert = 'horizon'"),
	'1', 'in the same alert');
$writer->query_safe('COMMIT');
is_resolved('a transaction');
like(
	$listener->query_safe('SELECT 1'),
	qr/^1\nAsynchronous notification "queue_service_alerts" received from server process with PID \d+\.\n/,
	'who listens is told, and nothing more');

# A transaction of another database is not to blame.
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $other = $node->background_psql('other');
$other->query_safe('BEGIN; CREATE TABLE t (); SELECT count(*) FROM t');
is(watch('20 minutes'), 0, 'another database');
$other->query_safe('COMMIT');

# A prepared transaction
$node->safe_psql('postgres',
	"BEGIN; INSERT INTO moves VALUES (1); PREPARE TRANSACTION 'forgotten'");
is_raised(qr/prepared transaction "forgotten"/, 'a prepared transaction');
$node->safe_psql('postgres', "COMMIT PREPARED 'forgotten'");
is_resolved('a prepared transaction');

# A slot, which counts from when it was seen first, and as it does not move
$node->safe_psql('postgres',
	"SELECT pg_create_logical_replication_slot('lagging', 'pgoutput')");
is_raised(qr/replication slot "lagging"/, 'a logical slot');
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('lagging')");
is_resolved('a logical slot');

# A standby with feedback, first through a slot, then without one
$node->backup('backup');
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('physical')");
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf(
	'postgresql.conf', q(
primary_slot_name = 'physical'
hot_standby_feedback = on
wal_receiver_status_interval = 1s
));
$standby->start;
my $reader = $standby->background_psql('postgres');
$node->wait_for_catchup($standby);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues');
$node->safe_psql('postgres', 'INSERT INTO moves VALUES (1)');
$node->poll_query_until('postgres',
	'SELECT xmin IS NOT NULL FROM pg_replication_slots');
is_raised(qr/replication slot "physical"/, 'a slot of a standby');
# while nobody reads there, what it needs goes on with each transaction here
my $xmin = $node->safe_psql('postgres', 'SELECT xmin FROM pg_replication_slots');
$reader->query_safe('COMMIT');
$node->safe_psql('postgres', 'INSERT INTO moves VALUES (1)');
$node->poll_query_until('postgres',
	"SELECT xmin <> '$xmin' FROM pg_replication_slots");
is_resolved('a slot of a standby');

$reader->quit;
$standby->stop;
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('physical')");
$standby->adjust_conf('postgresql.conf', 'primary_slot_name', "''");
$standby->start;
$reader = $standby->background_psql('postgres');
$node->wait_for_catchup($standby);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues');
$node->poll_query_until('postgres',
	'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication');
is_raised(qr/standby "standby"/, 'a standby');
$reader->quit;
$standby->stop;
is_resolved('a standby');

# What waits in a queue is known at once, though its row cannot tell while a long
# transaction goes on; how old it is, after a sample.
my $tenant = '00000000-0000-4000-8000-000000000001';
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues');
$writer->query_safe("INSERT INTO tenants (id) VALUES ('$tenant'); SET app.current_tenant = '$tenant'");
$writer->query_safe("SELECT queue_create('q', alert_depth => 5, alert_age => '1 hour')");
$writer->query_safe("SELECT FROM queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[4]))");
is(watch('0 s'), 0, 'four jobs');
$writer->query_safe("SELECT queue_enqueue('q', '1')");
is(watch('0 s'), 1, 'five jobs');
is( $node->safe_psql('postgres',
		'SELECT alert, value, depth FROM alert_history a JOIN queues q ON q.id = a.queue_id'),
	'depth|5|0',
	'raised, while the row says nothing');
$writer->query_safe("SELECT queue_complete(job_id, lease_token) FROM queue_claim('q', max_jobs => 2)");
is(watch('0 s'), 1, 'three jobs');
$node->safe_psql('postgres', "SELECT FROM _queue_task('sample')");
is(watch('61 minutes'), 2, 'three jobs for an hour, and a transaction');
is( $node->safe_psql('postgres',
		"SELECT a.alert, oldest_claimable_at IS NULL FROM alert_history a JOIN queues q ON q.id = a.queue_id WHERE resolved_at IS NULL"),
	'age|t',
	'raised, while the row says nothing');
$session->query_safe('COMMIT');
$writer->query_safe("SELECT queue_purge('q')");
is(watch('61 minutes'), 2, 'both are over');
$writer->query_safe('RESET app.current_tenant');

# Two at once: the second does nothing.
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues');
$writer->query_safe(
	"BEGIN; SELECT done FROM _queue_task('alerts', clock_timestamp() + interval '30 minutes')");
is( $node->safe_psql('postgres',
		"SELECT done FROM _queue_task('alerts', clock_timestamp() + interval '30 minutes')"),
	'',
	'a second run beside the first');
$writer->query_safe('COMMIT');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM alert_history WHERE alert = 'horizon' AND resolved_at IS NULL"),
	'1',
	'raised once');

$_->quit for ($session, $writer, $other, $listener);
$node->stop;

done_testing();
