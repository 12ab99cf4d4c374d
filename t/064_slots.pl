# Slots of limited queues: what must not happen in the windows between shared
# memory and the rows, step by step (src/slots.h has the rules).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Steps;
use Test::More;
use Time::HiRes qw(sleep);

start();

# A queue with so many slots, and jobs 1 to 20.
sub limited
{
	my ($slots) = @_;
	my $q = queue();

	query("SELECT queue_set('$q', max_concurrency => $slots)") if $slots;
	query(insert($q, 1, 20));
	return $q;
}

# Claims, and keeps the lease in a variable of the session.
sub hold
{
	my ($session, $q, $arguments) = @_;
	my $job = $session->query_safe(
		"SELECT payload AS job, job_id AS id, lease_token AS token FROM queue_claim('$q'"
		  . (defined $arguments ? ", $arguments" : '')
		  . ") \\gset\n\\echo :job");

	$job =~ s/\s//g;
	return $job;
}

my $complete = q(SELECT outcome FROM queue_complete(:'id', :token));
my $heartbeat = q(SELECT held FROM queue_heartbeat(:'id', :token, '1 day'));

# A slot is free when the end of its lease is visible, not before.
my $q = limited(1);
is(hold($other, $q), '1', 'the one slot');
$other->query_safe("BEGIN; $complete");
is_empty($q, 'its job is completed, not committed');
$other->query_safe('COMMIT');
is_claimed($q, '2', 'committed');
is_empty($q, 'the one slot, again');

# ... rolled back, by an error and by the end of the session as well.
$q = limited(1);
foreach my $end ('ROLLBACK', 'SELECT 1/0; ROLLBACK', 'SAVEPOINT s; SELECT 1/0; ROLLBACK TO s; ROLLBACK')
{
	$other->query_safe("BEGIN; @{[claim($q)]}");
	is_empty($q, 'a slot of a claim in progress');
	$other->query($end);
	$other->{stderr} = '';
	is(hold($other, $q), '1', "free after $end");
	$other->query_safe("SELECT queue_release(:'id', :token)");
}
$other->query_safe("BEGIN; @{[claim($q)]}");
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM queue_claim('$q')")
  or die 'not free after a session was ended';
$other->{run}->kill_kill;
$other = session();

# A claim takes its slot before it writes, a heartbeat before it does.
$q = limited(2);
stop_at($other, 'take', claim($q));
is_claimed($q, '1', 'the second slot');
is_empty($q, 'the first is taken already');
is(go_on($other), '2', 'and used');
$q = limited(1);
is(hold($other, $q, "lease => '300 ms'"), '1', 'a short lease');
stop_at($other, 'tell', $heartbeat);
query('SELECT pg_sleep(0.4)');
is_empty($q, 'its slot was extended before the row was');
is(go_on($other), 't', 'the heartbeat');
is_empty($q, 'held');
$other->query_safe($complete);

# A heartbeat that is rolled back leaves its slot extended.
$q = limited(1);
is(hold($other, $q, "lease => '100 ms'"), '1', 'a short lease');
$other->query_safe("BEGIN; $heartbeat; ROLLBACK");
query('SELECT pg_sleep(0.2)');
is_empty($q, 'a heartbeat was rolled back');
is($other->query_safe($heartbeat), 't', 'which then holds');

# A slot is passed on within a transaction, and held as long as either lease.
$q = limited(1);
is(hold($other, $q), '1', 'the one slot');
$other->query_safe("BEGIN; $complete");
is($other->query_safe(claim($q, "lease => '50 ms'")), '2', 'passed on');
query('SELECT pg_sleep(0.1)');
is_empty($q, 'the new lease has expired, the old one may come back');
$other->query_safe('ROLLBACK');
is_empty($q, 'the old lease');
$other->query_safe("BEGIN; $complete");
is($other->query_safe(claim($q, "lease => '50 ms'")), '2', 'passed on');
$other->query_safe('COMMIT');
query('SELECT pg_sleep(0.1)');
is_claimed($q, '2', 'the new lease has expired, and it is the one that counts');

# ... and what a savepoint did is taken back with it.
$q = limited(1);
hold($other, $q);
$other->query_safe("BEGIN; $complete; SAVEPOINT s; @{[claim($q)]}; ROLLBACK TO s");
is_empty($q, 'passed on, and back');
$other->query_safe('COMMIT');
is_claimed($q, '2', 'and then ended');

# A claim without a free slot looks at no entry of an index.
$q = limited(1);
is_claimed($q, '1', 'the one slot');
is(visited(20, claim($q)), 0, 'claims that find no slot look at nothing');

# A session that does not know of the limit: its lease is told afterwards.
$q = limited(0);
stop_at($other, 'tell', claim($q));
query("SELECT queue_set('$q', max_concurrency => 2)");
is_claimed($q, '2', 'one slot is left');
is_empty($q, 'the lease in progress was found');
is(go_on($other), '1', 'and goes on');
is_empty($q, 'it has one slot');

# ... also if the one who filled the group came to the row before it was written.
$q = limited(0);
stop_at($other, 'take', claim($q));
query("SELECT queue_set('$q', max_concurrency => 2)");
is_claimed($q, '1', 'one slot is taken');
is(go_on($other), '2', 'a claim of who does not know of the limit');
is_empty($q, 'it was told');

# ... and if it is rolled back, its slot is free.
$q = limited(0);
$other->query_safe('BEGIN');
stop_at($other, 'take', claim($q));
query("SELECT queue_set('$q', max_concurrency => 2)");
is_claimed($q, '1', 'one slot is taken');
is(go_on($other), '2', 'a claim of who does not know of the limit');
is_empty($q, 'it was told');
$other->query_safe('ROLLBACK');
is_claimed($q, '2', 'rolled back');
is_empty($q, 'full');

# What ends while the group is filled does not come back. One session fills,
# others wait for it.
$q = limited(0);
is(hold($main, $q), '1', 'before there is a limit');
query("SELECT queue_set('$q', max_concurrency => 1)");
stop_at($other, 'walk', claim($q));
query($complete);
is(go_on($other), '2', 'ended after it was read');
is_empty($q, 'full');

$q = limited(0);
is(hold($main, $q), '1', 'before there is a limit');
query("SELECT queue_set('$q', max_concurrency => 2)");
stop_at($other, 'fill', claim($q));
my $third = session();
$third->query_until(qr/started/, "\\echo started\n@{[claim($q)]};\n");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'object' AND NOT granted")
  or die 'did not wait for who fills';
my $filler = go_on($other);
my $waiter = $third->query_until(qr/done/, "\\echo done\n") =~ s/\D//gr;
is($filler . $waiter, '2', 'who fills or who waited takes the second slot, not both');

# A filler that fails leaves nothing; what ended meanwhile is forgotten.
$q = limited(0);
is(hold($main, $q), '1', 'before there is a limit');
query("SELECT queue_set('$q', max_concurrency => 1)");
stop_at($other, 'fill', claim($q));
$node->safe_psql('postgres',
	"SELECT pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
is(go_on($other), '', 'it was cancelled');
query('BEGIN');
is_empty($q, 'filled by another');
is(query("SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND mode = 'ExclusiveLock'"), '0', 'who has let go of the lock');
query('COMMIT');
query($complete);
is_claimed($q, '2', 'and right');

# A leased row that moves while the walk is on its way is told.
$q = limited(0);
is(hold($main, $q), '1', 'before there is a limit');
query("SELECT queue_set('$q', max_concurrency => 1)");
query(insert($q, 0, 0));
stop_at($other, 'walk', claim($q));
query("UPDATE jobs SET priority = 5 @{[where($q, 1)]}");
is(go_on($other), '', 'a row that moved keeps its slot');
query($complete);
is_claimed($q, '0', 'and ends');

# Who fills has ended a lease himself, which may come back.
$q = limited(0);
is(hold($main, $q), '1', 'before there is a limit');
query("SELECT queue_set('$q', max_concurrency => 1)");
query("BEGIN; $complete");
is_claimed($q, '2', 'passed on by who fills');
query('ROLLBACK');
is_empty($q, 'the first has its slot');

# A prepared transaction keeps what it claimed, and what it ended.
$q = limited(1);
is(hold($main, $q, "lease => '3 s'"), '1', 'a short lease');
query("BEGIN; $complete; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'");
is_empty($q, 'an end that was prepared, and rolled back');
query("BEGIN; $complete");
is(query(claim($q, "lease => '200 ms'")), '2', 'passed on');
query("PREPARE TRANSACTION 'p'");
query('SELECT pg_sleep(0.3)');
is_empty($q, 'the first lease may come back');
query("COMMIT PREPARED 'p'; SELECT pg_sleep(2.8)");
is_claimed($q, '2', 'both have expired');
$q = limited(1);
is(hold($main, $q), '1', 'a lease');
query("BEGIN; $complete; @{[claim($q)]}; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'");
is(query($heartbeat), 't', 'its slot is its own after that was rolled back');

# After a restart the leases are found, prepared ones too.
$q = limited(3);
is(hold($main, $q), '1', 'a lease');
query("BEGIN; @{[claim($q)]}; PREPARE TRANSACTION 'p'");
$_->quit for ($main, $other, $controller, $horizon, $third);
$node->restart;
begin_sessions();
is_claimed($q, '3', 'one slot is left');
is_empty($q, 'none');
query("ROLLBACK PREPARED 'p'");
is_empty($q, 'it keeps its slot until it would expire');
$node->stop('immediate');
$_->{run}->kill_kill for ($main, $other, $controller, $horizon);
$node->start;
begin_sessions();
is_claimed($q, '2', 'not after a crash');
is_empty($q, 'all slots are taken');

# Another database with the same queue has slots of its own.
$q = limited(2);
is_claimed($q, '1', 'in one database');
$_->quit for ($main, $other, $controller, $horizon);
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
$node->safe_psql('template1', "ALTER DATABASE copy SET app.current_tenant = '$tenant'");
begin_sessions();
is_claimed($q, '2', 'full here');
my $copy = session('copy');
is($copy->query_safe(claim($q)), '2', 'not in the copy');
is($copy->query_safe(claim($q)), '', 'full there as well');
$copy->quit;

# Waits until a session sleeps in queue_wait(). The server may wake it for reasons of
# its own; then it goes on, and sleeps again.
sub falls_asleep
{
	foreach my $attempt (1 .. 600)
	{
		my $waits_for = $controller->query_safe(
			"SELECT wait_event_type FROM pg_stat_activity WHERE query LIKE 'CALL queue_wait%'");
		return if $waits_for eq 'Extension';
		$controller->query_safe('SELECT pg_advisory_unlock(42), pg_advisory_lock(42)')
		  if $waits_for eq 'Lock';
		sleep(0.1);
	}
	die 'does not wait';
}

# Who waits for a slot is woken when one is free; he looks by himself as well,
# but does not come to that place then.
$q = limited(1);
foreach my $end ($complete, 'ROLLBACK')
{
	query('BEGIN') if $end eq 'ROLLBACK';
	hold($main, $q);
	$controller->query_safe('SELECT pg_advisory_lock(42)');
	$other->query_safe("SET queue_service.fault_point = 'woken'");
	$other->query_until(qr/started/, "\\echo started\nCALL queue_wait('$q', '1 minute');\n");
	falls_asleep();
	query($end);
	my $woken = 0;
	foreach my $attempt (1 .. 50)
	{
		$woken = $controller->query_safe(
			"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
		last if $woken;
		sleep(0.1);
	}
	is($woken, 1, 'woken by a slot that is free');
	go_on($other);
}

# Shared memory without room: leases are counted under the queue's lock.
$_->quit for ($main, $other, $controller, $horizon);
$node->append_conf('postgresql.conf', 'queue_service.max_holders = 64');
$node->restart;
begin_sessions();
my $large = queue();
query("SELECT queue_set('$large', max_concurrency => 100)");
query(insert($large, 1, 200));
$q = limited(2);
is(query("SELECT count(*) FROM queue_claim('$large', max_jobs => 150)"),
	64, 'as many slots as there is room for');
is(query("SELECT count(*) FROM queue_claim('$large', max_jobs => 150)"),
	36, 'the others without');
is(query("SELECT count(*) FROM queue_claim('$large', max_jobs => 150)"), 0, 'no more');
$other->query_safe("BEGIN; @{[claim($q)]}");
query("SET lock_timeout = '100 ms'");
is($main->query(claim($q)), '', 'a claim waits for the queue');
$main->{stderr} = '';
$other->query_safe('ROLLBACK');
query('RESET lock_timeout');
is(query("SELECT count(*) FROM queue_claim('$q', max_jobs => 5)"), 2, 'and counts');
query("SELECT queue_complete(id, lease_token) FROM jobs WHERE lease_token IS NOT NULL LIMIT 90");
query("SELECT count(*) FROM queue_claim('$large', max_jobs => 150)") for 1 .. 2;
is(query("SELECT count(*) FROM jobs j, queues q WHERE q.id = j.queue_id AND q.name = '$large' AND status = 'processing'"),
	100, 'as many as allowed again');

$_->quit for ($main, $other, $controller, $horizon);
$node->stop;

done_testing();
