# Failover to a synchronous standby under load, FAULT_FAILOVERS (1) times: all
# processes of the primary are killed, the standby is promoted, and the old
# primary becomes its standby. Nothing acknowledged is lost, stale tokens are
# refused, the worker is there by itself, limits hold, and claims are flat again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $failovers = times_of('FAULT_FAILOVERS', 1);
my ($primary, $standby) = stress_pair();
my ($done, $worker) = (0, 0);

sub has_worker
{
	my ($node) = @_;

	return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service worker'");
}

sub fail_over
{
	my $start = time;

	kill_server($primary, all => 1);
	$standby->promote;
	has_worker($standby) or die 'the promoted server has no worker';
	$worker = time - $start if time - $start > $worker;
	($primary, $standby) = ($standby, $primary);
	follow($standby, $primary);
	$done++;
	return;
}

my $found = stress(
	[ $primary, $standby ],
	FAULTS => $failovers,
	CRASH => 2,
	SECONDS => 4,
	FAULT => \&fail_over);
checks_ok($found, 'failed over');
is($done, $failovers, "there were $done failovers");
row(3, 'synchronous standby', sprintf('%d kill -9 of the primary and promotions, commits again after %.1f s, worker after %.1f s, at most',
	$done, $found->{away}, $worker), $found);

# What is in shared memory, on a server that becomes the primary.

sub query
{
	return $primary->safe_psql('postgres', $_[0]);
}

query(q(
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';));
query(q(
	SELECT queue_create('slots', max_concurrency => 2), queue_create('flat', keep_completed => '0', default_lease => '1 hour');
	SELECT count(*) FROM queue_enqueue_many('slots', array_fill('1'::jsonb, ARRAY[5]));
	SELECT count(*) FROM queue_enqueue_many('flat', array_fill('1'::jsonb, ARRAY[3000]));
	SELECT queue_limiter_set('bucket', 50, 1), queue_limiter_set('permits', 1000, 1000, 2, '1 hour');
	SELECT count(*) FROM queue_claim('flat', max_jobs => 2900);
	CREATE TABLE held AS SELECT * FROM queue_claim('slots', lease => '1 hour', max_jobs => 5);
	CREATE TABLE stale AS SELECT * FROM queue_claim('flat', lease => '1 us');
	SELECT granted FROM queue_rate_acquire('permits') UNION ALL SELECT granted FROM queue_rate_acquire('permits');));
is(query('SELECT count(*) FROM held'), 2, 'two slots are taken');
fail_over();
is(query(q(SELECT count(*) FROM queue_claim('slots', max_jobs => 5))), 0, 'promoted: the slots are still taken');
is(query('SELECT outcome FROM held, queue_complete(job_id, lease_token) LIMIT 1'), 'done', 'promoted: a lease is held on');
is(query(q(SELECT count(*) FROM queue_claim('slots', max_jobs => 5))), 1, 'promoted: and its slot is free once it ended');
is(query(q(SELECT granted FROM queue_rate_acquire('bucket', 2))), 'f', 'promoted: a bucket begins empty');
ok($primary->poll_query_until('postgres', q(SELECT granted FROM queue_rate_acquire('bucket', 2))), 'promoted: and refills');
is(query(q(SELECT granted, retry_after > '50 minutes' FROM queue_rate_acquire('permits'))), 'f|t', 'promoted: no permit until all have expired');
# Claims are lost that nobody waited for; the table of them was waited for.
is(query(q(SELECT count(*) FROM jobs JOIN queues q ON q.id = queue_id AND q.name = 'flat' WHERE leased_until > now())), 2900, 'promoted: the leases are there');
is(query(q(SELECT count(*) FROM queue_claim('flat', max_jobs => 50))), 50, 'promoted: what stands behind them is found');
is(query(q(SELECT outcome FROM stale, queue_complete(job_id, lease_token))), 'lost', 'promoted: a token that is stale is refused');
is(query(q(SELECT visited_mean * claims AS before FROM queue_cache \gset
	SELECT count(*) FROM queue_claim('flat');
	SELECT round(visited_mean * claims - :before) < 500 FROM queue_cache)), "1\nt", 'promoted: and the next claim does not look at them again');
$_->stop('immediate') for ($standby, $primary);

done_testing();
