# What groups cost others, and who waits for whom.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Steps;
use PostgreSQL::Test::Utils;
use Test::More;

Steps::start();

sub group_queue
{
	my ($concurrency, %settings) = @_;
	my $name = queue();
	my $settings = join '', map { ", $_ => $settings{$_}" } sort keys %settings;

	query("SELECT queue_set('$name', group_concurrency => $concurrency$settings)");
	return $name;
}

# The state of a group: its jobs that are let go, and those that are held.
sub group
{
	my ($queue) = @_;

	return query(qq(SELECT coalesce(string_agg(payload::text, ' ' ORDER BY j.id) FILTER (WHERE NOT held), '')
		|| ' / ' || coalesce(string_agg(payload::text, ' ' ORDER BY j.id) FILTER (WHERE held), '')
		FROM jobs j JOIN queues q ON q.id = queue_id WHERE q.name = '$queue' AND finished_at IS NULL));
}

# Claims a job, and returns arguments that end it.
sub lease
{
	my ($queue) = @_;

	return query("SELECT format('%L, %s', job_id, lease_token) FROM queue_claim('$queue')");
}

my $claim = sub { return "SELECT FROM queue_claim('$_[0]', 'w', lease => '1 day')" };

# 100,000 jobs that are held, in front of one that is not
my $plain = queue();
my $blocked = group_queue(1);
foreach my $queue ($plain, $blocked)
{
	query("SELECT queue_enqueue('$queue', '0', group_key => 'g')");
	query("SELECT queue_fail(" . lease($queue) . ", dead => true)");
}
query("SELECT queue_enqueue('$plain', '100001')");
my @visited = map { visited($_, $claim->($plain)) } 1, 5;
# a statement looks at its group once, not for each row
is( query(qq(
		BEGIN;
		INSERT INTO jobs (queue_id, payload, group_key) SELECT id, to_jsonb(n), 'g' FROM queues, generate_series(1, 100000) n WHERE name = '$blocked' ORDER BY n;
		SELECT pg_stat_get_xact_numscans('jobs_group_idx'::regclass) < 20;
		COMMIT;)),
	't', 'rows of one group in a statement');
query("SELECT queue_enqueue('$blocked', '100001')");
is(visited(1, $claim->($blocked)), $visited[0], 'held jobs are not visited');
is(visited(5, $claim->($blocked)), $visited[1], '... nor by who finds nothing');
note("visited: @visited");
is(query("SELECT count(*) FILTER (WHERE held) FROM jobs WHERE group_key = 'g'"), 100000, 'they are held');
query("SELECT queue_redrive('$blocked')");
is_claimed($blocked, 0, 'the job that blocked goes first');
is_empty($blocked, '... and no other');

# ... of many groups as well, and by queue_enqueue_many()
is( query(qq(
		BEGIN;
		SELECT count(*) FROM queue_enqueue_many('$blocked', array_fill('1'::jsonb, ARRAY[5000]), group_key => 'many');
		SELECT pg_stat_get_xact_numscans('jobs_group_idx'::regclass) < 20;
		COMMIT;)),
	"5000\nt", 'queue_enqueue_many()');
query("INSERT INTO jobs (queue_id, group_key) SELECT id, 'group ' || n FROM queues, generate_series(1, 20000) n WHERE name = '$blocked'");
is(query("SELECT count(*) FROM jobs WHERE group_key LIKE 'group %' AND held"), 0, '20,000 groups in a transaction');

# A prepared transaction has the lock: neither claims nor maintenance wait.
my $prepared = group_queue(1);
query("SELECT queue_enqueue('$prepared', to_jsonb(n), group_key => 'g') FROM generate_series(1, 2) n");
my $lease = lease($prepared);
query("BEGIN; SELECT queue_complete($lease); PREPARE TRANSACTION 'group'");
is_empty($prepared, 'a prepared end lets nobody go');
is(query("SELECT done FROM _queue_task('groups')"), 0, '... nor does the task');
query("COMMIT PREPARED 'group'");
is_claimed($prepared, 2, 'until it commits');
query("SELECT queue_enqueue('$prepared', '3', group_key => 'g')");
$lease = query("SELECT format('%L, %s', id, lease_token) FROM jobs WHERE payload = '2' AND status = 'processing'");
query("BEGIN; SELECT queue_complete($lease); PREPARE TRANSACTION 'group'");
query("ROLLBACK PREPARED 'group'");
is(group($prepared), '2 / 3', 'or rolls back');

# Batches that end jobs of the same groups take the locks in the same order.
my $batches = group_queue(2, group_on_failure => q('pass'));
query("SELECT queue_enqueue('$batches', to_jsonb(n || g), group_key => g) FROM generate_series(1, 3) n, unnest(ARRAY['a', 'b']) g");
query("CREATE TABLE batch AS SELECT job_id AS id, lease_token AS token, payload #>> '{}' AS job FROM queue_claim('$batches', max_jobs => 4)");
my $complete = sub {
	my ($n, $order) = @_;
	my $jobs = "FROM batch WHERE job LIKE '$n%' ORDER BY job $order";

	return "SELECT string_agg(outcome, ' ') FROM queue_complete_many(ARRAY(SELECT id $jobs), ARRAY(SELECT token $jobs))";
};
stop_at($main, 'group', $complete->(1, 'ASC'));
$other->query_until(qr/started/, "\\echo started\n" . $complete->(2, 'DESC') . ";\n");
$node->poll_query_until('postgres',
	"SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'object' AND NOT granted") or die 'does not wait';
is(go_on($main), 'done done', 'a batch that has a lock goes on');
is($other->query_safe('SELECT 1'), "done done\n1", '... and one in the other order');
is(query("SELECT string_agg(payload #>> '{}', ' ' ORDER BY payload) FROM jobs WHERE group_key IN ('a', 'b') AND finished_at IS NULL AND NOT held"),
	'3a 3b', 'both let go who is next');

# Nobody else waits for the lock of a group, nor a claim for its own.
my $mine = group_queue(1, max_attempts => 1);
query("SELECT queue_enqueue('$mine', to_jsonb(n), group_key => 'g') FROM generate_series(1, 2) n");
lease($mine);
query("UPDATE jobs SET leased_until = now() " . where($mine, 1));
$other->query_safe("BEGIN; SELECT queue_enqueue('$mine', '3', group_key => 'g')");
query("SET statement_timeout = '20s'");
query("SELECT queue_set('$mine', group_on_failure => 'pass')");
is_empty($mine, 'a claim puts an expired job away, and does not wait');
$node->safe_psql(
	'postgres', q(
	INSERT INTO tenants (id) VALUES ('01890000-0000-7000-8000-000000000002');
	CREATE ROLE tenant LOGIN;
	SELECT queue_grant('tenant', 'producer');));
my $id = query("SELECT id FROM queues WHERE name = '$mine'");
my ($status, $stdout, $stderr) = $node->psql(
	'postgres', qq(
	SET statement_timeout = '20s';
	SET app.current_tenant = '01890000-0000-7000-8000-000000000002';
	SET ROLE tenant;
	INSERT INTO jobs (tenant_id, queue_id, group_key) VALUES ('$tenant', '$id', 'g');));
like($stderr, qr/row-level security/, 'nor does another tenant find out that it is taken');
$other->query_safe('COMMIT');
query('RESET statement_timeout');
is(query("SELECT done FROM _queue_task('groups')"), 1, 'the task lets go whom the claim left');
is(group($mine), '2 / 3', 'the first one');

# Who waits for work is woken.
my $wait = group_queue(1);
query("SELECT queue_enqueue('$wait', to_jsonb(n), group_key => 'g') FROM generate_series(1, 2) n");
$lease = lease($wait);
$other->query_until(qr/started/, "\\echo started\nCALL queue_wait('$wait', '5 minutes');\n" . claim($wait) . ";\n");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE 'CALL queue_wait%'") or die 'does not wait';
query("SELECT queue_complete($lease)");
like($other->query_safe('SELECT 1'), qr/^2\n/, 'an end wakes who waits for the next one');

$_->quit foreach $main, $other, $controller, $horizon;
$node->stop;
done_testing();
