# Long calls: how far they are, for whom; what a cancel leaves, and what goes on
# after it. PROGRESS_JOBS (6000, in steps of 2000) is how many.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $jobs = $ENV{PROGRESS_JOBS} || 6000;
my $tenant = '01890000-0000-7000-8000-000000000001';
my $other = '01890000-0000-7000-8000-000000000002';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'queue_service'
fsync = off
));
$node->start;
$node->safe_psql(
	'postgres', qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one'), ('$other', 'two');
	SET app.current_tenant = '$other';
	SELECT queue_create('q');
	SET app.current_tenant = '$tenant';
	SELECT queue_create('q'), queue_create('kept', keep_completed => '1 hour');
	-- Whoever deletes the job "hold", or sends it back, waits while somebody holds the lock.
	CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(7);
		RETURN OLD;
	END \$\$;
	CREATE TRIGGER hold BEFORE DELETE ON jobs FOR EACH ROW WHEN (OLD.payload = '"hold"') EXECUTE FUNCTION public.hold();
	CREATE TRIGGER hold AFTER UPDATE ON dead_letter_jobs FOR EACH ROW WHEN (OLD.payload = '"hold"') EXECUTE FUNCTION public.hold();
	ALTER DATABASE postgres SET app.current_tenant = '$tenant';
));

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# Waits until a query of the platform's is true.
sub await
{
	my ($sql) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return 1 if query("SET app.current_tenant = ''; $sql") eq 't';
		usleep(100_000);
	}
	return 0;
}

my $progress = 'SELECT what, queue, done, total FROM queue_progress';
my $holder = $node->background_psql('postgres');

# Calls the procedure while the job at which it has to wait is in the middle, looks
# how far it is, stops it by a function, and goes on.
sub stop_and_go_on
{
	my ($name, $call, $stop, $done, $left) = @_;
	my ($what) = $call =~ /(\w+)\(/;
	my ($runner, $shown, $error);

	$holder->query_safe('SELECT pg_advisory_lock(7)');
	$runner = $node->background_psql('postgres', on_error_stop => 0);
	$runner->query_until(qr/begun/, "\\echo begun\n$call;\n");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") or die;
	$shown = query($progress);
	is($shown, "$what()|q|$done|$jobs", "$name: how far it is");
	is(query(q(SELECT pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted), per_second > 0, since > '0', tenant_id FROM queue_progress)),
		"t|t|t|$tenant", "$name: who, and how fast");
	is(query("SET app.current_tenant = '$other'; $progress"), '', "$name: nothing for another tenant");
	is(query("SET app.current_tenant = ''; $progress"), $shown, "$name: all for the platform");
	query("SELECT $stop(pid) FROM queue_progress");
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM queue_progress') or die;
	pass("$name: it is shown no longer");
	eval { $runner->quit };
	$holder->query_safe('SELECT pg_advisory_unlock(7)');
	is(query($left), $jobs - $done, "$name: what it had committed stays");

	my $begun = time;
	my ($status, undef, $err) = $node->psql('postgres', $call);
	is($status, 0, "$name: goes on");
	my $seconds = time - $begun;
	like($err, qr/NOTICE:  $what\(\): @{[ $jobs - $done ]}, and that is all/, "$name: with the rest");
	is(query($left), '0', "$name: nothing is left");
	note(sprintf("%s: %d rows in %.1f s, %d a second; %d notices on the way", $name, $jobs - $done,
		$seconds, ($jobs - $done) / $seconds, scalar(() = $err =~ /NOTICE: .* of /g)));
	return;
}

my $half = $jobs / 2;
my $payloads = "ARRAY(SELECT CASE WHEN n = $half + 500 THEN to_jsonb('hold'::text) ELSE to_jsonb(n) END FROM generate_series(1, $jobs) n)";

# 10,000 in a call of queue_enqueue_many()
sub enqueue
{
	for (my $first = 1; $first <= $jobs; $first += 10000)
	{
		my $last = $first + 9999 < $jobs ? $first + 9999 : $jobs;

		query("SELECT count(*) FROM queue_enqueue_many('q', ($payloads)[$first:$last])");
	}
	return;
}

enqueue();
stop_and_go_on('purge', q(CALL queue_purge_all('q', batch => 1000)), 'pg_cancel_backend', $half,
	q(SELECT count(*) FROM jobs WHERE status = 'pending'));

query(
	qq(INSERT INTO dead_letter_jobs (id, queue_id, source_table, reason, died_at, run_at, enqueued_at, attempts, max_attempts, priority, job_type, payload, last_error)
	SELECT queue_new_id(), id, 'jobs', 'exhausted', now() - interval '1 hour' + n * interval '1 ms', now(), now(), 3, 3, 0, 'default', ($payloads)[1], 'error'
	FROM queues, generate_series(1, $jobs) n WHERE name = 'q' AND tenant_id = '$tenant';
	WITH h AS (SELECT id FROM dead_letter_jobs ORDER BY died_at, id OFFSET $half + 499 LIMIT 1)
	UPDATE dead_letter_jobs SET payload = '"hold"' WHERE id = (SELECT id FROM h)));
stop_and_go_on('redrive', q(CALL queue_redrive_all('q', error_like => 'error%')), 'pg_terminate_backend', $half,
	'SELECT count(*) FROM dead_letter_jobs WHERE redriven_at IS NULL');
is(query(q(SELECT count(*), count(DISTINCT id) FROM jobs WHERE status = 'pending')), "$jobs|$jobs", 'redrive: each is a job once');

# Retention, by the worker: shown while there is more, to the platform only.
query("SELECT queue_purge('q', 'all')");
query(
	qq(INSERT INTO jobs (queue_id, payload, status, finish_reason, finished_at)
	SELECT id, ($payloads)[1], 'completed', 'completed', now() - interval '1 day' + n * interval '1 ms' FROM queues, generate_series(1, $jobs) n WHERE name = 'kept';
	WITH h AS (SELECT id FROM jobs ORDER BY finished_at, id OFFSET 2500 LIMIT 1)
	UPDATE jobs SET payload = '"hold"' WHERE id = (SELECT id FROM h)));
$holder->query_safe('SELECT pg_advisory_lock(7)');
query('SELECT queue_worker_start()');
ok(await("SELECT count(*) = 1 FROM queue_progress WHERE what = 'finished' AND done = 2000 AND total IS NULL"),
	'retention: how far it is');
is(query($progress), '', 'retention: not for a tenant');
$holder->query_safe('SELECT pg_advisory_unlock(7)');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM jobs'), 'retention: all is gone');
ok(await('SELECT count(*) = 0 FROM queue_progress'), 'retention: it is shown no longer');

# A whole tenant.
enqueue();
is($node->psql('postgres', "CALL queue_tenant_purge_all('$tenant', 5000)"), 0, 'a tenant is purged');
is(query('SELECT count(*) FROM jobs'), '0', 'of all jobs');

$holder->quit;
$node->stop;
done_testing();
