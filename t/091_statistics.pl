# Statistics of queues: each way in which jobs come, change and go is counted once,
# when it has committed; a recount is exact whatever happens meanwhile, step by
# step (src/stats_table.h has the rules).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Steps;
use Test::More;

start();
my $third = session();

# depth, processing, and what they are worth
sub counted
{
	my ($q) = @_;

	return query("SELECT depth, processing, counted FROM queue_stats WHERE queue = '$q'");
}

sub truth
{
	my ($q) = @_;

	return query(qq(
		SELECT count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'processing'), 'exact'
		FROM (SELECT queue_id, status FROM jobs UNION ALL SELECT queue_id, status FROM critical_jobs) j
		WHERE queue_id = (SELECT id FROM queues WHERE name = '$q')));
}

sub is_exact
{
	my ($q, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(counted($q), truth($q), $name);
	return;
}

sub events
{
	my ($q) = @_;

	return query("SELECT enqueued, claimed, completed, failed, dead, cancelled FROM queue_stats WHERE queue = '$q'");
}

sub recount
{
	return 'SELECT done FROM _queue_task(\'recount\')';
}

# Recounts until nothing is left to be.
sub recount_all
{
	for (1 .. 100)
	{
		last if query('SELECT done > 0 OR more FROM _queue_task(\'recount\')') eq 'f';
	}
	return;
}

# No queue is known any more.
sub forget
{
	query('TRUNCATE critical_jobs');
	return;
}

# Each verb, with a queue that keeps what has finished and one that does not.
foreach my $keep ('0', '1 day')
{
	my $q = queue();
	my $hold = sub {
		query(qq(SELECT job_id AS id, lease_token AS token FROM queue_claim('$q', max_jobs => 1) \\gset));
	};
	query("SELECT queue_set('$q', keep_completed => '$keep')");
	is(counted($q), '0|0|exact', "exact from the beginning, keep_completed $keep");
	query("SELECT queue_enqueue('$q', '$_') FROM generate_series(1, 8)") foreach 1;
	query("SELECT queue_enqueue_critical('$q', '9', idempotency_key => 'k$q')");
	query("SELECT count(*) FROM queue_enqueue_many('$q', ARRAY['1', '2']::jsonb[])");
	query(insert($q, 20, 22));
	is(events($q), '14|0|0|0|0|0', 'enqueued');
	is_exact($q, 'enqueued');
	$hold->();
	query(q(SELECT queue_complete(:'id', :token)));
	is(events($q), '14|1|1|0|0|0', 'completed a critical job');
	$hold->();
	query(q(SELECT queue_complete(:'id', :token); SELECT queue_complete(:'id', :token)));
	$hold->();
	query(q(SELECT queue_fail(:'id', :token, 'no', retry_in => '0')));
	is(events($q), '14|3|2|1|0|0', 'failed');
	$hold->();
	query(q(SELECT queue_fail(:'id', :token, 'no', dead => true)));
	is(events($q), '14|4|2|2|1|0', 'dead');
	$hold->();
	query(q(SELECT queue_release(:'id', :token)));
	$hold->();
	query(q(SELECT queue_snooze(:'id', :token, '1 hour')));
	is_exact($q, 'given back');
	query("SELECT queue_cancel(id) FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q') AND status = 'pending' LIMIT 1");
	is(events($q), '14|6|2|2|1|1', 'cancelled');
	$hold->();
	query(q(SELECT queue_heartbeat(:'id', :token); SELECT queue_cancel(:'id'); SELECT queue_fail(:'id', :token, 'no')));
	is(events($q), '14|7|2|3|1|2', 'cancelled while it ran');
	is_exact($q, 'cancelled');
	is(query("SELECT queue_redrive('$q')"), '1', 'sent back');
	is(events($q), '15|7|2|3|1|2', 'counted as enqueued');
	$hold->();
	query(q(UPDATE jobs SET leased_until = clock_timestamp() - interval '1 second' WHERE id = :'id'));
	$hold->();
	is(events($q), '15|9|2|4|1|2', 'a lease that expired');
	query(q(UPDATE jobs SET leased_until = clock_timestamp() - interval '1 second', attempts = max_attempts WHERE id = :'id'));
	query("SELECT count(*) FROM queue_claim('$q')");
	is(events($q), '15|10|2|5|2|2', 'the last lease');
	query("SELECT queue_set('$q', dead_letters => false)");
	$hold->();
	query(q(SELECT queue_fail(:'id', :token, 'no', dead => true); SELECT queue_retry(:'id')));
	is(events($q), '15|11|2|6|3|2', 'dead, and retried');
	is_exact($q, 'every verb');
}

# SQL of every kind, and COPY.
my $q = queue();
my $r = queue();
query(insert($q, 1, 10));
query(insert($q, 11, 13, %leased));
is(counted($q), '10|3|exact', 'INSERT');
query("UPDATE jobs SET queue_id = (SELECT id FROM queues WHERE name = '$r') " . where($q, $_)) foreach 1, 11;
is(counted($q) . ' ' . counted($r), '9|2|exact 1|1|exact', 'UPDATE of queue_id');
query("UPDATE jobs SET status = 'completed', finished_at = now(), finish_reason = 'completed' " . where($q, $_)) foreach 2, 12;
is_exact($q, 'UPDATE of finished_at');
query("UPDATE jobs SET status = 'pending', finished_at = NULL, finish_reason = NULL " . where($q, 2));
is_exact($q, '... and back');
query("UPDATE jobs SET priority = 3 WHERE queue_id = (SELECT id FROM queues WHERE name = '$q')");
is_exact($q, 'another UPDATE');
query('DELETE FROM jobs ' . where($q, $_)) foreach 3, 12, 13;
is_exact($q, 'DELETE, also of what has finished');
query("SELECT queue_purge('$q', max_jobs => 2)");
is_exact($q, 'queue_purge()');
query("COPY jobs TO '@{[$node->data_dir]}/jobs'; DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q');");
is(counted($q), '0|0|exact', 'DELETE of all');
query("BEGIN; DELETE FROM jobs; COPY jobs FROM '@{[$node->data_dir]}/jobs'; COMMIT");
is_exact($q, 'COPY');
is_exact($r, 'COPY, another queue');
query(qq(SELECT set_config('session_replication_role', 'replica', false)));
query('DELETE FROM jobs ' . where($q, 6));
query('RESET session_replication_role');
is_exact($q, 'as a replica');

# Counted at commit, not before, and not what was rolled back.
$q = queue();
$other->query_safe('BEGIN; ' . insert($q, 1, 5) . claim($q));
is(counted($q), '0|0|exact', 'not before it has committed');
$other->query_safe('COMMIT');
is(counted($q), '4|1|exact', 'when it has');
$other->query_safe('BEGIN; ' . insert($q, 6, 9) . claim($q) . '; ROLLBACK');
$other->query('BEGIN; ' . insert($q, 6, 9) . claim($q) . '; SELECT 1/0; COMMIT');
$other->{stderr} = '';
is(counted($q), '4|1|exact', 'not what was rolled back');
my $before = events($q);
$other->query_safe('BEGIN; ' . insert($q, 6, 6)
	  . 'SAVEPOINT a; ' . insert($q, 7, 7) . 'SAVEPOINT b; ' . claim($q) . '; ' . insert($q, 8, 8)
	  . 'ROLLBACK TO b; SAVEPOINT c; ' . insert($q, 9, 9) . 'SAVEPOINT d; ' . insert($q, 10, 10)
	  . 'RELEASE d; RELEASE c; COMMIT');
is_exact($q, 'savepoints');
is(events($q), '9|1|0|0|0|0', 'savepoints, events');
$other->query_safe('BEGIN; SAVEPOINT a; SAVEPOINT b; ' . insert($q, 11, 11) . 'RELEASE b; ROLLBACK TO a; COMMIT');
is_exact($q, 'released into what was rolled back');
query(qq(DO \$\$
	BEGIN
		FOR i IN 1..100 LOOP
			BEGIN
				PERFORM queue_enqueue('$q', '1');
				IF i % 2 = 0 THEN
					RAISE division_by_zero;
				END IF;
			EXCEPTION WHEN division_by_zero THEN
			END;
		END LOOP;
	END \$\$));
is_exact($q, 'a hundred subtransactions');
my @many = map { queue() } 1 .. 40;
query('BEGIN; SAVEPOINT s; ' . join('', map { insert($_, 1, 3) } @many) . 'RELEASE s; SAVEPOINT s; '
	  . join('', map { insert($_, 4, 5) } @many) . 'ROLLBACK TO s; ' . join('', map { insert($_, 6, 6) } @many) . 'COMMIT');
is(join(' ', map { counted($_) } @many), join(' ', ('4|0|exact') x 40), 'many queues in a transaction');
$other->query_safe('BEGIN; ' . insert($q, 6, 6));
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'");
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'idle in transaction'");
is_exact($q, 'not what an ended session did');
$other->{run}->kill_kill;
$other = session();

# Emptied tables.
query('BEGIN; TRUNCATE critical_jobs; ROLLBACK');
is_exact($q, 'TRUNCATE, rolled back');
query('BEGIN; SAVEPOINT s; TRUNCATE critical_jobs; ROLLBACK TO s; COMMIT');
is_exact($q, 'TRUNCATE, rolled back to a savepoint');
query('BEGIN; SAVEPOINT s; TRUNCATE jobs; RELEASE s; COMMIT');
like(counted($q), qr/stored/, 'TRUNCATE');
recount_all();
is(counted($q), '0|0|exact', 'TRUNCATE, counted');

# Prepared transactions.
$q = queue();
query(insert($q, 1, 5));
query('BEGIN; ' . insert($q, 6, 7) . claim($q) . "; PREPARE TRANSACTION 'p'");
is(counted($q), '5|0|uncertain', 'prepared');
recount_all();
is(counted($q), '5|0|uncertain', 'still prepared, and not counted again');
query("COMMIT PREPARED 'p'");
query(insert($q, 8, 8));
is(counted($q), '6|0|uncertain', 'off by what was prepared');
recount_all();
is(counted($q), '7|1|exact', 'until it is counted');
query('BEGIN; ' . insert($q, 9, 9) . "PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'");
recount_all();
is_exact($q, 'rolled back');
query("BEGIN; TRUNCATE critical_jobs; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'");
like(counted($q), qr/uncertain/, 'a prepared TRUNCATE');
forget();
query('BEGIN; ' . insert($q, 10, 10) . "PREPARE TRANSACTION 'p'");
recount_all();
is(counted($q), '7|1|uncertain', 'a first count that something prepared may have missed');
query("COMMIT PREPARED 'p'");
recount_all();
is_exact($q, 'and a second one');

# A recount, and what is done meanwhile. A run counts one queue: the only one.
query('SELECT queue_drop(name, force => true) FROM queues');
$q = queue();
query(insert($q, 1, 100));
forget();
$other->query_safe('BEGIN; ' . insert($q, 101, 110) . 'DELETE FROM jobs ' . where($q, 1));
stop_at($third, 'counted', recount());
query(insert($q, 111, 113));
query('BEGIN; ' . insert($q, 120, 123) . 'ROLLBACK');
query('BEGIN; SAVEPOINT s; ' . insert($q, 120, 123) . 'RELEASE s; COMMIT');
query("SELECT queue_complete(job_id, lease_token) FROM queue_claim('$q', max_jobs => 3)");
query('DELETE FROM jobs ' . where($q, 50));
$other->query_safe('COMMIT');
like(counted($q), qr/stored/, 'not counted before the end');
is(go_on($third), '1', 'counted');
is_exact($q, 'what is done while it is counted');
query(insert($q, 200, 200));
is_exact($q, 'and afterwards');

# Who is visible to the count, but has not applied yet, applies before its end.
forget();
stop_at($other, 'apply', insert($q, 300, 309));
is(query('SELECT count(*) FROM jobs ' . where($q, 305)), '1', 'visible before it is applied');
$third->query_until(qr/started/, "\\echo started\n" . recount() . ";\n");
$node->poll_query_until('postgres',
	"SELECT wait_event_type = 'Extension' OR state = 'idle' FROM pg_stat_activity WHERE query LIKE '%recount%' AND pid <> pg_backend_pid()")
  or die 'not counting';
go_on($other);
$third->query_safe('');
is_exact($q, 'a late change that was counted');

# ... but who is not waits for nobody.
forget();
$other->query_safe('BEGIN; ' . insert($q, 310, 319));
is(query(recount()), '1', 'counted beside an open transaction');
$other->query_safe('COMMIT');
is_exact($q, 'which then commits');

# What the recount's own transaction did.
forget();
query('BEGIN; ' . insert($q, 320, 322) . 'DELETE FROM jobs ' . where($q, 100) . '; '
	  . recount() . '; ' . insert($q, 323, 323) . 'COMMIT');
is_exact($q, 'in one transaction with other things');
forget();
query('BEGIN; ' . insert($q, 330, 332) . recount() . '; ROLLBACK');
is_exact($q, 'in one that is rolled back');

# A recount whose session dies, or that fails, is no more.
forget();
stop_at($third, 'counted', recount());
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'");
$controller->query_safe('SELECT pg_advisory_unlock(42)');
$third->{run}->kill_kill;
$third = session();
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'");
query(insert($q, 340, 342));
like(counted($q), qr/stored/, 'not counted');
recount_all();
is_exact($q, 'counted by another session');

# Rows that are written while a trigger is off.
foreach my $trigger ('queue_announce', 'queue_removed', 'queue_emptied', 'ALL')
{
	query("ALTER TABLE jobs DISABLE TRIGGER $trigger");
	query('DELETE FROM jobs ' . where($q, 342));
	query(insert($q, 342, 342));
	like(counted($q), qr/stored/, "trigger $trigger is off");
	query("ALTER TABLE jobs ENABLE ALWAYS TRIGGER $_")
	  foreach 'queue_announce', 'queue_removed', 'queue_emptied';
	like(counted($q), qr/stored/, "trigger $trigger was off");
	recount_all();
	is_exact($q, "trigger $trigger, counted");
}
query("BEGIN; ALTER TABLE jobs DISABLE TRIGGER queue_removed; DELETE FROM jobs @{[where($q, 341)]};"
	  . 'ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_removed; COMMIT');
like(counted($q), qr/stored/, 'off and on in a transaction');
recount_all();
is_exact($q, 'counted');

# Totals and counts over restarts, and what was prepared before.
my $totals = events($q);
query("SELECT * FROM _queue_task('flush', now() + interval '1 day')");
foreach my $mode ('fast', 'immediate')
{
	query('BEGIN; ' . insert($q, 400, 400) . "PREPARE TRANSACTION 'p'") if $mode eq 'fast';
	foreach ($main, $other, $controller, $horizon, $third)
	{
		$_->quit;
	}
	$node->stop($mode);
	$node->start;
	begin_sessions();
	$third = session();
	like(counted($q), qr/stored/, "not known after a stop, $mode");
	query(insert($q, 401, 401));
	like(counted($q), qr/stored/, 'nor then');
	recount_all();
	like(counted($q), $mode eq 'fast' ? qr/uncertain/ : qr/exact/, 'counted');
	query("COMMIT PREPARED 'p'") if $mode eq 'fast';
	recount_all();
	is_exact($q, 'exact again');
	is(events($q) =~ s/\|.*//r, ($totals =~ s/\|.*//r) + 1, 'totals go on');
	query("SELECT * FROM _queue_task('flush', now() + interval '1 day')");
	$totals = events($q);
}

# Whether anybody claims is a reason why a job waits.
$q = queue();
query(insert($q, 1, 2));
my $reasons = "SELECT string_agg(reason || ': ' || detail, ', ') FROM queue_explain((SELECT id FROM jobs @{[where($q, 2)]}))";
is(query($reasons), 'behind: 1 job comes before it, unclaimed: no claim from the queue is on record', 'nobody claims');
query(claim($q));
is(query($reasons), 'none: the next claim takes it', 'somebody has claimed');

$node->stop;
done_testing();
