# Claims, enqueues, ends and permits in savepoints that are rolled back or not, at
# random, in FAULT_ROUNDS (60) transactions: after each of them what is in shared
# memory (slots, the quota, statistics, permits) agrees with the tables.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = times_of('FAULT_ROUNDS', 60);
my $seed = times_of('FAULT_SEED', 1);
my ($slots, $depth) = (3, 12);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\n");
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';));
$node->safe_psql('postgres', qq(
	SELECT queue_create('q', max_concurrency => $slots, max_depth => $depth, max_attempts => 1000);
	SELECT queue_limiter_set('service', 1000000, 1000000, 100000, '1 day');
	CREATE TABLE held (id uuid, token bigint);
	SELECT count(*) FROM _queue_task('recount');));
srand($seed);
note("seed $seed");

my %steps = (
	enqueue => q(SELECT created FROM queue_enqueue('q')),
	insert => q(INSERT INTO jobs (queue_id) SELECT id FROM queues),
	claim => q(INSERT INTO held SELECT job_id, lease_token FROM queue_claim('q', max_jobs => 2, lease => '1 hour')),
	complete => q(WITH h AS (DELETE FROM held WHERE ctid = (SELECT ctid FROM held ORDER BY id LIMIT 1) RETURNING *) SELECT outcome FROM h, queue_complete(id, token)),
	snooze => q(WITH h AS (DELETE FROM held WHERE ctid = (SELECT ctid FROM held ORDER BY id DESC LIMIT 1) RETURNING *) SELECT outcome FROM h, queue_snooze(id, token, '0')),
	permit => q(SELECT granted FROM queue_rate_acquire('service')));
my @names = sort keys %steps;
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $watcher = $node->background_psql('postgres', on_error_stop => 0);
my ($permits, $undone, %wrong) = (0, 0);

# Whether it was done; permits are taken whatever becomes of the transaction.
sub step
{
	my $name = $names[ int(rand(@names)) ];
	my $answer = $session->query($steps{$name});
	my $failed = $session->{stderr} =~ /ERROR/;

	die $session->{stderr} if $failed && $session->{stderr} !~ /is full|holds as many/;
	$session->{stderr} = '';
	$permits++ if $name eq 'permit';
	return !$failed;
}

for my $round (1 .. $rounds)
{
	$session->query('BEGIN');
	for (1 .. 1 + int(rand(4)))
	{
		$session->query('SAVEPOINT s');
		my $ok = 1;
		$ok &&= step() for 1 .. 1 + int(rand(3));
		$undone++ if !$ok || rand() < 0.5;
		$session->query(!$ok || rand() < 0.5 ? 'ROLLBACK TO s' : 'RELEASE s');
	}
	$session->query(rand() < 0.3 ? 'ROLLBACK' : 'COMMIT');
	my ($wait, $run, $counted, $stats_wait, $stats_run, $exact, $out, $room, $free) = split /\|/, $watcher->query_safe(qq(
		WITH t AS (SELECT count(*) FILTER (WHERE status = 'pending') AS wait, count(*) FILTER (WHERE status = 'processing') AS run FROM jobs),
			s AS (SELECT depth, processing, counted FROM queue_stats WHERE queue = 'q')
		SELECT wait, run, run, depth, processing, counted, permits_out, $depth - wait - run, least($slots - run, wait) FROM t, s, queue_rate_peek('service')));
	my $claimed = $watcher->query_safe(q(BEGIN; SELECT count(*) FROM queue_claim('q', max_jobs => 100); ROLLBACK;));

	$wrong{"round $round: $stats_wait|$stats_run wait and run, not $wait|$run"}++ if "$stats_wait|$stats_run" ne "$wait|$run";
	$wrong{"round $round: $out permits are out, not $permits"}++ if $out != $permits;
	$wrong{"round $round: $claimed could be claimed, not $free"}++ if $claimed != $free;
	my $filled = $watcher->query(qq(BEGIN; SELECT count(*) FROM generate_series(1, $room) n, queue_enqueue('q', priority => 0 * n); SAVEPOINT s;));
	$wrong{"round $round: $filled could be enqueued, not $room"}++ if $filled != $room;
	$watcher->{stderr} = '';
	$watcher->query(q(SELECT queue_enqueue('q')));
	$wrong{"round $round: one more could be enqueued"}++ if $watcher->{stderr} !~ /ERROR/;
	$watcher->{stderr} = '';
	$watcher->query('ROLLBACK');
}
is(join("\n", sort keys %wrong), '', 'shared memory agrees with the tables');
cmp_ok($undone, '>', 0, "$undone savepoints were rolled back");
row(11, "1 client, $rounds transactions", "$undone savepoints rolled back", "$permits permits, claims, enqueues and ends: shared memory and tables agree after each | 0 | 0");
$_->quit for ($session, $watcher);
$node->stop;

done_testing();
