# Sessions that wait for a queue's name, for all tenants, are woken by whatever
# makes a job of any of them claimable, just as those that wait for one queue; a
# job wakes one of both kinds.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'needs a build with -DQS_FAULT_POINTS' if !$ENV{QS_FAULTS};

my @tenants = map { "11111111-1111-4111-8111-11111111111$_" } 1 .. 2;
my $node = PostgreSQL::Test::Cluster->new('main', install_path => $ENV{QS_FAULTS});
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\nmax_prepared_transactions = 5");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION queue_service; '
	  . "SELECT queue_limiter_set('slow', 1, 0.02);"
	  . join '', map { <<END } @tenants);
INSERT INTO tenants (id) VALUES ('$_');
SET app.current_tenant = '$_';
SELECT queue_create('q'), queue_create('other'), queue_create('limited', max_concurrency => 1),
	queue_create('tokens', rate_limiter => 'slow'), queue_create('paused');
END
my $controller = $node->background_psql('postgres');
$controller->query_safe("SET app.current_tenant = '$tenants[1]'");

my $waiting = q(FROM pg_stat_activity WHERE query LIKE 'CALL queue_wait%' AND wait_event_type =);

# A session in queue_wait(), for a tenant, or for all. Once it was woken, it stops
# (src/fault.h), so that it does not look by itself.
sub waiter
{
	my ($queue, $tenant) = @_;

	local $ENV{PGOPTIONS} = '-c queue_service.fault_point=woken -c app.current_tenant=' . ($tenant // '');
	my ($before) = $controller->query_safe("SELECT count(*) $waiting 'Extension'");
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/started/, "\\echo started\nCALL queue_wait('$queue', '1 hour');\n");
	$node->poll_query_until('postgres', "SELECT count(*) = $before + 1 $waiting 'Extension'")
	  or die 'it does not wait';
	return $session;
}

# Whether as many of the waiters are woken by the SQL as expected. What they could
# find by themselves it takes away again in its transaction.
sub woken
{
	my ($name, $expected, $sql, @waiters) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $woken = 0;

	$controller->query_safe("SELECT pg_advisory_lock(42); $sql");
	foreach my $attempt (1 .. 100)
	{
		$woken = $controller->query_safe("SELECT count(*) $waiting 'Lock'");
		last if $woken >= $expected;
		sleep(0.1);
	}
	# and no more
	sleep($expected ? 0.3 : 3);
	$woken = $controller->query_safe("SELECT count(*) $waiting 'Lock'");
	$controller->query_safe('SELECT pg_advisory_unlock(42)');
	# who waits goes on, and is to find something
	$controller->query_safe("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL queue_wait%'");
	$_->quit foreach @waiters;
	is($woken, $expected, $name);
	return;
}

sub wakes
{
	my ($name, $queue, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	woken($name, 1, $sql, waiter($queue));
	return;
}

my $claim = q(SELECT queue_claim('q', lease => '1 day'));
my $insert = q(INSERT INTO jobs (queue_id, payload) SELECT id, '1' FROM queues
	WHERE name = 'q' AND tenant_id = queue_tenant());

wakes('a plain INSERT', 'q', "BEGIN; $insert; $claim; COMMIT");
wakes('an enqueue', 'q', "BEGIN; SELECT queue_enqueue('q'); $claim; COMMIT");

$controller->query_safe("SELECT queue_enqueue('q')");
$controller->query_safe("SELECT job_id, lease_token FROM queue_claim('q') \\gset\n");
wakes('a release', 'q', "BEGIN; SELECT queue_release(:'job_id', :lease_token); $claim; COMMIT");

$controller->query_safe("SELECT queue_enqueue('q', max_attempts => 1)");
$controller->query_safe("SELECT job_id, lease_token FROM queue_claim('q') \\gset\n");
$controller->query_safe("SELECT queue_fail(:'job_id', :lease_token, 'no')");
wakes('a dead letter that is retried', 'q', "BEGIN; SELECT queue_retry(:'job_id'); $claim; COMMIT");

$controller->query_safe("SELECT queue_enqueue('limited')");
$controller->query_safe("SELECT job_id, lease_token FROM queue_claim('limited') \\gset\n");
wakes('a slot that is free', 'limited', "SELECT queue_complete(:'job_id', :lease_token)");

$controller->query_safe(q(SELECT queue_enqueue('tokens');
	BEGIN; SELECT queue_claim('tokens')));
wakes('a token that comes back', 'tokens', 'ROLLBACK');

$controller->query_safe(q(SELECT queue_pause('paused'), queue_enqueue('paused')));
wakes('a queue that is resumed', 'paused', q(BEGIN; SELECT queue_resume('paused'); SELECT queue_claim('paused', lease => '1 day'); COMMIT));

wakes('a queue that is new', 'new', q(BEGIN; SELECT queue_create('new'), queue_enqueue('new'); SELECT queue_claim('new', lease => '1 day'); COMMIT));
woken('and nothing wakes nobody', 0, 'SELECT 1', waiter('q'));
woken('nor does a job of another name', 0,
	q(BEGIN; SELECT queue_enqueue('other'); SELECT queue_claim('other', lease => '1 day'); COMMIT), waiter('q'));

# one job, and sessions of both kinds: whoever came first
my $both = sub { return (waiter('q'), waiter('q', $tenants[1]), waiter('q'), waiter('q', $tenants[1]), waiter('q', $tenants[0])) };
woken('a job wakes one of both kinds', 1, "BEGIN; $insert; $claim; COMMIT", $both->());
woken('so does an enqueue', 1, "BEGIN; SELECT queue_enqueue('q'); $claim; COMMIT", $both->());
woken('three jobs wake three', 3, "BEGIN; $insert; $insert; $insert; $claim FROM generate_series(1, 3); COMMIT", $both->());

$controller->quit;
$node->stop;
done_testing();
