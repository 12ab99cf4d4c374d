# The system's clock is set an hour forward or back, FAULT_STEPS (4) times under
# load: no bucket refills for it nor gets stuck, no permit comes free, what expires
# at once is rescued in batches, a schedule does not fire twice, and each job is
# done once. QS_FAKETIME is the library that steps the server's clock
# (libfaketime); the monotonic clock goes on, as it does on a real machine. Up to
# PostgreSQL 15 background workers begin in a signal handler, where that library
# has no effect on them, so maintenance is run by queue_maintain().

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'libfaketime is not installed (Debian: apt-get install libfaketime)' unless $ENV{QS_FAKETIME};

my $steps = times_of('FAULT_STEPS', 4);
my $clock = PostgreSQL::Test::Utils::tempdir . '/clock';

# Replaced, not written to, as all processes read it all the time.
sub set_clock
{
	my ($hours) = @_;

	open(my $file, '>', "$clock.new") or die "$clock.new: $!";
	print $file sprintf('%+dh', $hours), "\n";
	close($file);
	rename("$clock.new", $clock) or die "$clock: $!";
	return;
}

set_clock(0);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'queue_service'
));
{
	local $ENV{LD_PRELOAD} = $ENV{QS_FAKETIME};
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
	local $ENV{DONT_FAKE_MONOTONIC} = 1;

	$node->start;
}

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

query(q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';));
query(q(
	SELECT queue_create('load', max_attempts => 1000), queue_create('dying', max_attempts => 1), queue_create('scheduled', keep_completed => '30 days');
	SELECT queue_limiter_set('bucket', 60, 1), queue_limiter_set('permits', 1000000, 1000000, 1, '30 minutes');
	CREATE TABLE made (id uuid PRIMARY KEY);
	CREATE TABLE effects (id uuid PRIMARY KEY);
	CREATE TABLE fired (id uuid PRIMARY KEY, at timestamptz);
	-- whether the lease was held to the end
	CREATE FUNCTION finish(id uuid, token bigint) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM queue_complete(id, token, strict => true);
		INSERT INTO effects VALUES (id);
		RETURN true;
	EXCEPTION WHEN SQLSTATE 'QS030' THEN
		RETURN false;
	END $$;));
query(q(SELECT queue_schedule('often', 'scheduled', '* * * * *', catch_up => 'last')));
my $began = query('SELECT clock_timestamp()');
my $real = time;
set_clock(1);
cmp_ok(query("SELECT extract(epoch FROM clock_timestamp() - '$began')"), '>', 3590, 'the clock of the server was set');
set_clock(0);

# The load goes on in the background while the clock is set.
my $seconds = 2 * $steps;
my ($out, $err);
my $script = "$clock.work";
append_to_file($script, q(
WITH e AS (SELECT job_id FROM queue_enqueue('load')) INSERT INTO made SELECT job_id FROM e;
SELECT coalesce(max(job_id::text), '00000000-0000-0000-0000-000000000000') AS job, coalesce(max(lease_token), 0) AS token
	FROM queue_claim('load', 'w', lease => '10 minutes') \gset
SELECT finish(':job', :token);
));
my $load = IPC::Run::start(
	[ 'pgbench', '--no-vacuum', '--client=4', "--time=$seconds", '-f', $script, $node->connstr('postgres') ],
	'>', \$out, '2>', \$err);

my ($granted, $most_rescued) = (0, 0);
my $permit = query(q(SELECT permit FROM queue_rate_acquire('permits')));
for my $step (1 .. $steps)
{
	# forward, back, back, forward: an hour off at most on either side
	my $next = (1, 0, -1, 0)[ ($step - 1) % 4 ];
	my $batches;

	query(q(SELECT count(*) FROM queue_enqueue_many('dying', array_fill('1'::jsonb, ARRAY[2500]))));
	query(q(SELECT count(*) FROM queue_claim('dying', max_jobs => 2500, lease => '10 minutes')));
	$granted += query(q(SELECT count(*) FROM generate_series(1, 100) n, queue_rate_acquire('bucket', n / n) WHERE granted));
	set_clock($next);
	$granted += query(q(SELECT count(*) FROM generate_series(1, 100) n, queue_rate_acquire('bucket', n / n) WHERE granted));
	is(query(q(SELECT bool_and(retry_after BETWEEN '0' AND '2 seconds') FROM generate_series(1, 100) n, queue_rate_acquire('bucket', 2 * n / n) WHERE NOT granted)), 't',
		"step $step: a refused call is told to wait for as long as it takes");
	is(query(q(SELECT granted, retry_after BETWEEN '1 second' AND '30 minutes' FROM queue_rate_acquire('permits'))), 'f|t', "step $step: the permit is held on");
	# A claim that comes by ends a hundred, a pass of the task a thousand.
	$batches = query(q(SELECT max(done) FROM generate_series(1, 2) n, _queue_task('rescue', clock_timestamp() + 0 * n * interval '1 second')));
	$most_rescued = $batches if $batches > $most_rescued;
	query('SELECT queue_maintain()') for 1 .. 2;
	is(query(q(SELECT count(*) FROM jobs j JOIN queues q ON q.id = j.queue_id AND q.name = 'dying' WHERE leased_until < clock_timestamp() - interval '1 minute')), 0,
		"step $step: what expired is rescued");
	sleep(1);
}
set_clock(0);
my $elapsed = time - $real;
cmp_ok($granted, '<=', 60 + $elapsed, sprintf('the bucket granted %d in %.0f s', $granted, $elapsed));
cmp_ok($granted, '>=', 60 - 1, 'and was not stuck');
cmp_ok($most_rescued, '<=', 1000, "a batch of the rescue had $most_rescued jobs at most");
is(query("SELECT queue_rate_release('permits', $permit)"), 't', 'the permit was held all the time');

# A minute that comes again does not fire again.
query(q(SELECT queue_unschedule('often')));
is(query(q(SELECT count(*) FROM (SELECT payload, run_at FROM jobs j JOIN queues q ON q.id = j.queue_id AND q.name = 'scheduled') j)) <= 2 * $steps ? 't' : 'f', 't',
	'an hour that was missed fires once');

$load->finish;
unlike($err, qr/ERROR|aborted/, 'no client failed') or diag($err);
# what a lease of an hour ago or ahead may have kept
set_clock(2);
ok($node->poll_query_until('postgres', q(SELECT count(finish(job_id, lease_token)) = 0 FROM queue_claim('load', 'w', max_jobs => 1000))), 'drained');
is(query(q(SELECT count(*) FROM made LEFT JOIN effects USING (id) WHERE effects.id IS NULL)), 0, 'each job was done');
is(query(q(SELECT count(*) FROM jobs j JOIN queues q ON q.id = j.queue_id AND q.name = 'load' WHERE status <> 'completed')), 0, 'and is completed');
my ($made, $effects) = map { query("SELECT count(*) FROM $_") } qw(made effects);
row(6, sprintf('4 clients, %d/s', $made / $seconds), "$steps steps of an hour", "$made enqueues, $effects completions | 0 | 0");
$node->stop;

done_testing();
