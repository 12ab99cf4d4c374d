# What statistics say beside how many jobs there are: rates, percentiles and delayed
# jobs against what is known of the jobs, and what becomes of queues that are too many.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '11111111-1111-4111-8111-111111111111';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
queue_service.max_statistics = 100
autovacuum = off
END
$node->start;
$node->safe_psql('postgres', <<END);
CREATE EXTENSION queue_service;
INSERT INTO tenants (id) VALUES ('$tenant');
ALTER DATABASE postgres SET app.current_tenant = '$tenant';
END

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub task
{
	my ($task, $later) = @_;

	return query("SELECT done FROM _queue_task('$task', now() + interval '$later')");
}

# Waits of 1 to 1000 ms, and runs of 10 to 10,000 ms, each once: a claim by plain
# SQL says itself when it was, and a completion when it ended.
query(q(SELECT queue_create('known', keep_completed => '1 day')));
query(q(
	INSERT INTO jobs (queue_id, run_at, payload) SELECT id, '2025-01-01 UTC', to_jsonb(n)
	FROM queues, generate_series(1, 1000) n;
	UPDATE jobs SET status = 'processing', attempts = 1, lease_token = 1, leased_until = '2025-01-02 UTC',
		leased_at = run_at + payload::integer * interval '1 ms';
	UPDATE jobs SET status = 'completed', finish_reason = 'completed', lease_token = NULL,
		finished_at = leased_at + payload::integer * interval '10 ms';
));
my $error = 1.42;
my $percentiles = join ', ', map { my $p = $_; map { "${_}_p$p" } qw(wait run) } 50, 95, 99;

sub are_percentiles
{
	my ($from, $name) = @_;
	my @said = split /\|/, query("SELECT " . join(', ', map { "extract(epoch FROM $_)" } split(', ', $percentiles)) . " FROM $from");
	my @truth = map { ($_ / 100, $_ / 10) } 50, 95, 99;

	for my $i (0 .. $#truth)
	{
		cmp_ok($said[$i], '<', $truth[$i] * $error, "$name, percentile $i: not far above $truth[$i]");
		cmp_ok($said[$i] * $error, '>', $truth[$i], "$name, percentile $i: nor below");
	}
	return;
}

are_percentiles('queue_stats', 'queue_stats');
task('sample', '1 minute');
are_percentiles('queue_stats', 'queue_stats after a sample');
are_percentiles('queue_metrics', 'queue_metrics');

# Rates are of the time between two samples, whose clock is given.
query(q(SELECT FROM queue_enqueue_many('known', array_fill('1'::jsonb, ARRAY[600]))));
query(q(SELECT queue_complete(job_id, lease_token) FROM queue_claim('known', max_jobs => 300)));
query(q(SELECT queue_fail(job_id, lease_token, 'no') FROM queue_claim('known', max_jobs => 60)));
query(q(SELECT queue_fail(job_id, lease_token, 'no', dead => true) FROM queue_claim('known', max_jobs => 30)));
# in one transaction, of one clock
query(q(BEGIN; SELECT FROM _queue_task('sample', now() + interval '10 minutes');
	SELECT FROM queue_enqueue('known', '1'); COMMIT;));
my @rates = split /\|/, query(q(
	SELECT enqueued_per_second, claimed_per_second, completed_per_second, failed_per_second, dead_per_second
	FROM queue_metrics ORDER BY sampled_at DESC LIMIT 1));
my @known = (600, 390, 300, 90, 30);
for my $i (0 .. $#known)
{
	# from one sample to the next are 540 seconds, and what this test took
	cmp_ok(abs($rates[$i] * 540 / $known[$i] - 1), '<', 0.15, "rate $i of $known[$i] in 9 minutes");
}
is(query(q(SELECT depth, processing FROM queue_metrics ORDER BY sampled_at DESC LIMIT 1)), '270|0', 'depth of the sample');

# Delayed jobs are counted up to 10,000; beyond, the last recount counts.
query(q(SELECT queue_create('late')));
query(q(SELECT FROM generate_series(1, 2), queue_enqueue_many('late', array_fill('1'::jsonb, ARRAY[4999]), run_at => now() + interval '1 day')));
query(q(SELECT FROM queue_enqueue_many('late', array_fill('1'::jsonb, ARRAY[4999]), run_at => now() + interval '1 day')));
sub delayed
{
	return query(q(SELECT delayed, depth FROM queue_stats WHERE queue = 'late'));
}
task('sample', '20 minutes');
is(delayed(), '9998|9998', 'fewer than 10,000 are counted');
query(q(SELECT FROM queue_enqueue_many('late', array_fill('1'::jsonb, ARRAY[3000]), run_at => now() + interval '1 day')));
task('sample', '30 minutes');
is(delayed(), '10000|12998', 'more are 10,000 at least');
query("SELECT FROM _queue_task('recount', now() + interval '2 days')") for 1 .. 10;
task('sample', '40 minutes');
like(delayed(), qr/^\d+\|12998$/, 'counted');
query("SELECT FROM _queue_task('recount', now() - interval '2 days')") for 1 .. 10;
is(delayed(), '12998|12998', 'all are found by a recount');
task('sample', '50 minutes');
is(delayed(), '12998|12998', 'and known from then on');

# More queues than there is room for: the first to go are those that nothing has
# changed for ten minutes, and whose rows have all; nobody's counts are wrong.
query(q(SELECT FROM generate_series(1, 1000) n, queue_create('many ' || n)));
query(q(SELECT FROM generate_series(1, 1000) n, queue_enqueue('many ' || n, '1')));
is(query(q(SELECT ok FROM queue_health WHERE item = 'statistics')), 'f', 'not all have room, which is said');

sub those_with_room
{
	return query(q(SELECT string_agg(queue, ',' ORDER BY queue_id) FROM queue_stats WHERE counted = 'exact'));
}

sub recount
{
	my ($later) = @_;

	query("SELECT _queue_task('recount', now() + interval '$later') FROM generate_series(1, 1200)");
	is(query(q(SELECT count(*) FROM queue_stats WHERE queue LIKE 'many%' AND depth = 1)), '1000', "each has one job, $later");
	return;
}

my $first = those_with_room();
my $known = (() = $first =~ /,/g) + 1;
cmp_ok($known, '<', 600, 'room for few');
recount('6 minutes');
recount('20 minutes');
is(those_with_room(), $first, 'none goes whose row does not have all');
task('flush', '21 minutes');
recount('5 minutes');
is(those_with_room(), $first, 'nor one that has just changed');
recount('40 minutes');
isnt(those_with_room(), $first, 'others make room');
cmp_ok(query(q(SELECT count(*) FROM queue_stats WHERE enqueued = 1 AND queue LIKE 'many%')), '>=', $known - 2,
	'totals of those that went are in their rows');
query(q(SELECT queue_enqueue('many ' || n, '1') FROM generate_series(1, 1000) n));
is(query(q(SELECT count(*) FROM queue_stats WHERE counted = 'exact' AND queue LIKE 'many%' AND depth <> 2)), '0', 'counts go on where there is room');

$node->stop;
done_testing();
