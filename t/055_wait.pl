# A hundred sessions that wait for work: they hold back nothing, and a job wakes
# one of them.

use strict;
use warnings;

use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'needs a build with -DQS_FAULT_POINTS' if !$ENV{QS_FAULTS};

my $waiters = 100;
my $jobs    = 3;
my $tenant  = '11111111-1111-4111-8111-111111111111';

my $node = PostgreSQL::Test::Cluster->new('main', install_path => $ENV{QS_FAULTS});
$node->init;
$node->append_conf('postgresql.conf', <<END);
max_connections = ${\($waiters + 10)}
shared_preload_libraries = 'queue_service'
END
$node->start;
$node->safe_psql('postgres', <<END);
CREATE EXTENSION queue_service;
INSERT INTO tenants (id) VALUES ('$tenant');
ALTER DATABASE postgres SET app.current_tenant = '$tenant';
SET app.current_tenant = '$tenant';
SELECT queue_create('q');
END

my $controller = $node->background_psql('postgres');
my $script = $node->basedir . '/wait.sql';
append_to_file($script, "CALL queue_wait('q', '1 hour');\n");
my $output = '';
local $ENV{PGOPTIONS} = '-c queue_service.fault_point=woken';
my $clients = start(
	[
		'pgbench', '-n', '-c', $waiters, '-t', 1, '-f', $script, '-h', $node->host,
		'-p', $node->port, 'postgres'
	],
	'>&', \$output);
delete local $ENV{PGOPTIONS};

my $waiting = q(FROM pg_stat_activity WHERE query LIKE 'CALL queue_wait%');
$node->poll_query_until('postgres',
	"SELECT count(*) = $waiters $waiting AND wait_event_type = 'Extension'")
  or die 'not all wait';
# Who is woken stops there, see src/fault.h. Not before all wait: the latch of a
# session may be set from its start.
$controller->query_safe('SELECT pg_advisory_lock(42)');

# Each looks for work once in a second, with a snapshot.
my $holding;
foreach my $attempt (1 .. 20)
{
	$holding = $controller->query_safe(
		"SELECT count(*) $waiting AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)");
	last if $holding == 0;
}
is($holding, 0, 'none of them holds a snapshot or a transaction id');

# Jobs that nobody finds who looks by himself.
foreach my $job (1 .. $jobs)
{
	$controller->query_safe(
		"BEGIN; SELECT queue_enqueue('q'); SELECT queue_claim('q', lease => '1 day'); COMMIT");
}
my $woken = "SELECT count(*) $waiting AND wait_event_type = 'Lock'";
$node->poll_query_until('postgres', "SELECT ($woken) >= $jobs")
  or die 'not enough were woken';
is($controller->query_safe($woken), $jobs, 'a job wakes one');

$controller->query_safe('SELECT pg_advisory_unlock(42)');
$node->safe_psql('postgres',
	"SELECT queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[$waiters]))");
$clients->finish;
like($output, qr/actually processed: $waiters\/$waiters/,
	'as many jobs as waiters wake all');

# A dead letter that is sent back wakes who serves all tenants.
$controller->query_safe(
	"SELECT queue_create('dead'); SELECT queue_enqueue('dead', max_attempts => 1);
	SELECT queue_fail(job_id, lease_token, 'no') FROM queue_claim('dead'); SELECT pg_advisory_lock(42)");
$ENV{PGOPTIONS} = '-c app.current_tenant= -c queue_service.fault_point=woken';
my $platform = $node->background_psql('postgres');
delete $ENV{PGOPTIONS};
$platform->query_until(qr/started/, "\\echo started\nCALL queue_wait('dead', '1 hour');\n");
$node->poll_query_until('postgres', "SELECT count(*) = 1 $waiting AND wait_event_type = 'Extension'")
  or die 'it does not wait';
$controller->query_safe(
	"BEGIN; SELECT queue_redrive('dead'); SELECT queue_claim('dead', lease => '1 day'); COMMIT");
my $state = '';
foreach my $attempt (1 .. 30)
{
	$state = $controller->query_safe("SELECT wait_event_type $waiting");
	last if $state eq 'Lock';
	sleep(0.1);
}
is($state, 'Lock', 'a dead letter that is sent back wakes one');
$controller->query_safe("SELECT pg_advisory_unlock(42); SELECT queue_enqueue('dead')");
$platform->quit;

$controller->quit;
$node->stop;
done_testing();
