# The program queue_worker: what becomes of a job, by how its command ends; stops,
# cancels, timeouts; restarts of the server, and of the worker.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $tenant = '01890000-0000-7000-8000-000000000001';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'queue_service'
max_connections = 50
));
$node->start;
$node->safe_psql(
	'postgres', qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '$tenant';
));
my $connection = $node->connstr('postgres');
my $folder = PostgreSQL::Test::Utils::tempdir;

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

my @options = ('queue_worker', '-d', $connection, '--json');

# Runs a shell command for each job of a queue, until it is drained.
sub drain
{
	my ($queue, $command, @more) = @_;
	my ($out, $err);

	IPC::Run::run([ @options, '-q', $queue, '--drain', @more, '--', 'sh', '-c', $command ],
		'>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

# What it says goes to a file: a pipe that nobody reads would hold it up.
my $workers = 0;

sub start_worker
{
	my ($queue, $command, @more) = @_;
	my %worker = (file => "$folder/worker" . ++$workers);

	$worker{run} = IPC::Run::start([ @options, '-q', $queue, @more, '--', 'sh', '-c', $command ],
		'<', '/dev/null', '>', $worker{file}, '2>', "$worker{file}.err");
	return \%worker;
}

# Waits until the worker has said something so often.
sub await
{
	my ($worker, $pattern, $times) = @_;
	my $end = time + 180;

	$times //= 1;
	while ((() = slurp_file($worker->{file}) =~ /$pattern/g) < $times)
	{
		die "no $pattern in " . slurp_file($worker->{file}) if time > $end;
		sleep 0.02;
	}
	return;
}

sub pid
{
	return $_[0]{run}{KIDS}[0]{PID};
}

sub stop
{
	my ($worker) = @_;

	kill 'TERM', pid($worker);
	$worker->{run}->finish;
	return $worker->{run}->result(0) // $? >> 8;
}

# The server is asked for what it knows, and the worker for what it said.
query(q(SELECT queue_create('table', backoff_base => '0', backoff_jitter => 0, max_attempts => 2)));
my %table = (
	'cat' => ['completed', "\"{\\\"a\\\": \\\"\x{FC}\\\"}\"", ''],
	'true' => ['completed', '', ''],
	'printf "a\0b\377"' => ['completed', "\"a\x{FFFD}b\x{FFFD}\"", ''],
	'head -c 200000 /dev/zero | tr "\0" x' => ['completed', '"' . 'x' x 65536 . '"', ''],
	'exit 65' => ['dead', '', 'exit status 65'],
	'echo said; echo why >&2; exit 3' => ['dead', '', 'exit status 3: why'],
	'echo said; exit 3' => ['dead', '', 'exit status 3: said'],
	'kill -9 $$' => ['dead', '', 'killed by signal 9'],
	'exit 75' => ['dead', '', 'exit status 75'],
	'echo 3600; exit 75' => ['pending', '', 'exit status 75: 3600'],
	'yes | head -c 3000000 >&2; exit 1' => ['dead', '', 'exit status 1: ' . "y\n" x 999 . 'y'],
	'exec 0<&-; true' => ['completed', '', ''],
	'exec /nowhere 2>/dev/null' => ['dead', '', 'exit status 127'],
	'test $QUEUE_ATTEMPT = 2 && test "$QUEUE_HEADERS" = "{\"h\": 1}" && echo $QUEUE_NAME $QUEUE_JOB_TYPE $QUEUE_PRIORITY $QUEUE_MAX_ATTEMPTS' => ['completed', '"table mail 7 2"', '']
);
foreach my $command (sort keys %table)
{
	my ($status, $result, $error) = @{ $table{$command} };
	my ($code, $out, $err);
	my $id = query(q(SELECT job_id FROM queue_enqueue('table', '{"a": "ü"}', 'mail', 7, headers => '{"h": 1}')));
	my $found;

	($code, $out, $err) = drain('table', $command);
	is($code, 0, "$command: the worker ends");
	utf8::encode($result);
	$found = query(qq(SELECT CASE WHEN status = 'failed' THEN 'dead' ELSE status END, result, CASE WHEN status <> 'completed' THEN last_error END FROM queue_job('$id')));
	is($found, "$status|$result|$error", "$command: $status");
	query(qq(SELECT queue_purge('table', what => 'all')));
}
my $later = query(q(SELECT job_id FROM queue_enqueue('table')));
drain('table', 'echo 3600; exit 75');
is(query(qq(SELECT run_at BETWEEN now() + interval '59 minutes' AND now() + interval '61 minutes' FROM queue_job('$later'))), 't', 'a number of seconds to wait');
query(qq(SELECT queue_purge('table', what => 'all')));

# Large payloads, also to who does not read them; many at once.
query(q(SELECT queue_create('large')));
query(q(SELECT count(*) FROM generate_series(1, 20) i, queue_enqueue('large', to_jsonb(repeat('x', 500000 + i % 2)))));
my ($code, $out, $err) = drain('large', 'wc -c', '-c', 5);
is(query(q(SELECT count(*), count(DISTINCT trim(result #>> '{}')), min(trim(result #>> '{}')) FROM jobs WHERE status = 'completed' AND payload::text LIKE '"xxx%')), '20|2|500002', 'large payloads are read');
query(q(SELECT count(*) FROM generate_series(1, 20) i, queue_enqueue('large', to_jsonb(repeat('x', 500000 + i % 2)))));
($code, $out, $err) = drain('large', 'true', '-c', 5);
is($code, 0, 'large payloads need not be read');
like($out, qr/"event": "stopped", "done": 20, /, 'and the jobs are done');

# What is wrong with what it was told.
($code, $out, $err) = drain('missing', 'true');
is($code, 78, 'an unknown queue');
like($out, qr/queue \\"missing\\" does not exist/, 'is named');
command_fails_like([ 'queue_worker', '--queue', 'x' ], qr/the command is missing/, 'no command');
command_fails_like([ 'queue_worker', '--', 'true' ], qr/--queue is missing/, 'no queue');
command_fails_like([ 'queue_worker', '-q', 'x', '-c', '0', '--', 'true' ], qr/between 1 and 1000/, 'no concurrency');
command_like([ 'queue_worker', '--help' ], qr/Usage: queue_worker/, 'help');
command_like([ 'queue_worker', '--version' ], qr/^queue_worker 1\.0$/, 'version');

# A heartbeat keeps a lease that is shorter than the handler.
query(q(SELECT queue_create('slow', max_attempts => 3, backoff_base => '0')));
query(q(SELECT queue_enqueue('slow')));
($code, $out, $err) = drain('slow', 'sleep 4', '--lease', 1);
is(query(q(SELECT status, attempts FROM jobs WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1)), 'completed|1', 'a lease is renewed');

# A handler that hangs, whatever it does with SIGTERM.
query(q(SELECT queue_set('slow', max_attempts => 1)));
my $id = query(q(SELECT job_id FROM queue_enqueue('slow')));
drain('slow', 'sleep 100', '--timeout', 1);
like(query("SELECT last_error FROM queue_job('$id')"), qr/^timed out after [1-9] seconds/, 'a timeout');
$id = query(q(SELECT job_id FROM queue_enqueue('slow')));
drain('slow', 'trap "" TERM; while true; do sleep 1; done', '--timeout', 1, '--grace', 1);
like(query("SELECT last_error FROM queue_job('$id')"), qr/^timed out after \d+ seconds/, 'a timeout of who ignores it');

# It waits for work, and is told of a cancel by the next heartbeat.
my $worker = start_worker('slow', 'echo $$ > ' . "$folder/pid; exec sleep 100", '--lease', 1);
await($worker, 'connected');
$id = query(q(SELECT job_id FROM queue_enqueue('slow')));
$node->poll_query_until('postgres', "SELECT status = 'processing' FROM queue_job('$id')") or die;
query("SELECT queue_cancel('$id')");
await($worker, '"event": "cancelled"');
is(query("SELECT status, finish_reason FROM queue_job('$id')"), 'failed|cancelled', 'cancelled');

# Told to stop it lets what runs end; told again it stops that, too.
query(q(SELECT queue_set('slow', max_attempts => 3)));
$id = query(q(SELECT job_id FROM queue_enqueue('slow')));
$node->poll_query_until('postgres', "SELECT status = 'processing' FROM queue_job('$id')") or die;
kill 'TERM', pid($worker);
await($worker, '"event": "stopping"');
is(query("SELECT status FROM queue_job('$id')"), 'processing', 'the handler goes on');
kill 'TERM', pid($worker);
$worker->{run}->finish;
is(query("SELECT status, attempts FROM queue_job('$id')"), 'pending|0', 'its job is released');
like(slurp_file($worker->{file}), qr/"event": "stopped", .*"released": 1/, 'as it says');
drain('slow', 'true');

# A tenant by name, from a role that has none set.
my $other = '01890000-0000-7000-8000-000000000002';
query(qq(INSERT INTO tenants (id, name) VALUES ('$other', 'two');
	SET app.current_tenant = '$other'; SELECT queue_create('theirs'); SELECT queue_enqueue('theirs')));
($code, $out, $err) = drain('theirs', 'echo $QUEUE_TENANT_ID', '--tenant', $other);
is(query(qq(SELECT result FROM jobs WHERE tenant_id = '$other')), "\"$other\"", 'the tenant that was named');

# Handlers that end well, crash, hang and print megabytes, many at once; the
# server restarts twice, the worker is killed twice. Each job is done, and done
# by one: its handler writes a line when it is about to end well, and the queue
# knows whose line counts.
query(q(SELECT queue_create('soak', max_attempts => 100, backoff_base => '10 ms', backoff_max => '100 ms');
	ALTER SYSTEM SET restart_after_crash = on));
my $count = $ENV{QUEUE_WORKER_JOBS} || 300;
query(qq(SELECT count(*) FROM queue_enqueue_many('soak', ARRAY(SELECT to_jsonb(i) FROM generate_series(1, $count) i))));
my $handler = <<'END';
case $(od -An -N1 -tu1 /dev/urandom | tr -d ' ') in
	?) exit 1;;
	1?) kill -9 $$;;
	2?) sleep 100;;
	3?) head -c 2000000 /dev/zero; exit 75;;
	4?) sleep 0.5;;
esac
echo $QUEUE_JOB_ID $QUEUE_ATTEMPT
END
my @soak = ('soak', $handler, '-c', 64, '--lease', 2, '--timeout', 2, '--grace', 1);
my $done = 0;
$worker = start_worker(@soak);
foreach my $disturbance ('restart', 'kill', 'restart', 'kill', 'none')
{
	my $before = query(q(SELECT count(*) FROM jobs WHERE status = 'completed' AND queue_id = (SELECT id FROM queues WHERE name = 'soak')));

	last if $disturbance eq 'none';
	$node->poll_query_until('postgres',
		qq(SELECT count(*) >= least($before + $count / 10, $count) FROM jobs WHERE status = 'completed' AND queue_id = (SELECT id FROM queues WHERE name = 'soak'))) or die;
	if ($disturbance eq 'restart')
	{
		$node->stop($before % 2 ? 'fast' : 'immediate');
		$node->start;
	}
	else
	{
		kill 'KILL', pid($worker);
		$worker->{run}->finish;
		$worker = start_worker(@soak);
	}
}
{
	my $end = time + 300;

	while (query(q(SELECT count(*) FROM jobs WHERE finished_at IS NULL AND queue_id = (SELECT id FROM queues WHERE name = 'soak'))) > 0 && time < $end)
	{
		sleep 0.2;
	}
}
stop($worker);
is(query(q(SELECT count(*), count(*) FILTER (WHERE status = 'completed'), count(DISTINCT payload) FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = 'soak'))), "$count|$count|$count", 'no job is lost');
is(query(q(SELECT count(*) FROM jobs WHERE status = 'completed' AND result #>> '{}' <> id || ' ' || attempts AND queue_id = (SELECT id FROM queues WHERE name = 'soak'))), '0', 'each is completed by the handler that has its lease');
is(query(q(SELECT count(*) FROM dead_letter_jobs)), query(q(SELECT count(*) FROM dead_letter_jobs WHERE queue_id <> (SELECT id FROM queues WHERE name = 'soak'))), 'none is given up');

# A worker that is told to stop does not wait for ever for a server that is gone.
$id = query(q(SELECT job_id FROM queue_enqueue('slow')));
$worker = start_worker('slow', 'sleep 2', '--grace', 1);
$node->poll_query_until('postgres', "SELECT status = 'processing' FROM queue_job('$id')") or die;
$node->stop('immediate');
await($worker, 'disconnected', 2);
is(stop($worker), 69, 'it gives up');
like(slurp_file($worker->{file}), qr/\blost\b.*\Q$id\E|\Q$id\E.*\blost\b/, 'and says which job it could not tell of');
$node->start;

is(`pgrep -f '[o]d -An -N1 -tu1' | wc -l` + 0, 0, 'no handler is left behind');

$node->stop;
done_testing();
