# Quotas beside many clients: a queue never has more unfinished jobs than it may,
# and none fewer than it takes (src/quota.h), with statistics and without.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '01890000-0000-7000-8000-000000000001';
my $max = 500;
my $unfinished = "FROM jobs WHERE finished_at IS NULL AND queue_id = (SELECT id FROM queues WHERE name";
my $node = PostgreSQL::Test::Cluster->new('quota');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'queue_service'
max_prepared_transactions = 5
deadlock_timeout = 100ms
));
$node->start;
$node->safe_psql(
	'postgres', qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '$tenant';
));

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Scripts of pgbench: what a full queue refuses is no error to them.
my $folder = PostgreSQL::Test::Utils::tempdir;
my %scripts = (
	enqueue => q(SELECT pg_temp.try(format('SELECT FROM queue_enqueue(%L)', :queue));),
	many => q(SELECT pg_temp.try(format('SELECT count(*) FROM queue_enqueue_many(%L, array_fill(''1''::jsonb, ARRAY[7]))', :queue));),
	insert => q(SELECT pg_temp.try(format('INSERT INTO jobs (queue_id) SELECT id FROM queues, generate_series(1, 3) WHERE name = %L', :queue));),
	rollback => q(
BEGIN;
SELECT pg_temp.try(format('SELECT FROM queue_enqueue(%L)', :queue));
SAVEPOINT s;
SELECT pg_temp.try(format('SELECT FROM queue_enqueue(%L)', :queue));
ROLLBACK TO s;
SELECT pg_temp.try(format('SELECT FROM queue_enqueue(%L)', :queue));
ROLLBACK;),
	complete => q(SELECT count(outcome) FROM queue_claim(:queue, max_jobs => 3) c, queue_complete(c.job_id, c.lease_token);),
	follow => q(
BEGIN;
SELECT count(outcome) FROM queue_claim(:queue) c, queue_complete(c.job_id, c.lease_token);
SELECT pg_temp.try(format('SELECT FROM queue_enqueue(%L)', :queue));
COMMIT;));

foreach my $name (keys %scripts)
{
	append_to_file("$folder/$name", <<'END' . "$scripts{$name}\n");
CREATE OR REPLACE FUNCTION pg_temp.try(sql text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE sql;
EXCEPTION WHEN SQLSTATE 'QS034' THEN
END $$;
END
}

sub bench
{
	my ($queue, $transactions, @scripts) = @_;

	$node->command_ok(
		[
			'pgbench', '-n', '-c', '16', '-j', '2', '-t', $transactions, '-D', "queue='$queue'",
			(map { ('-f', "$folder/$_") } @scripts), 'postgres'
		],
		"$queue: 16 clients, @scripts");
	return;
}

# Clients that fill a queue, and empty it, while somebody looks at it.
sub fill
{
	my ($queue, $rounds) = @_;
	my $most = $node->background_psql('postgres', on_error_stop => 0);

	sql("SELECT queue_create('$queue', max_depth => $max)");
	$most->query_until(qr/started/, "\\echo started\n" . <<END);
DO \$\$
DECLARE
	n bigint;
BEGIN
	CREATE TEMP TABLE most AS SELECT 0::bigint AS depth;
	WHILE NOT EXISTS (SELECT FROM tenants WHERE name = 'stop') LOOP
		SELECT count(*) INTO n $unfinished = '$queue');
		UPDATE most SET depth = greatest(depth, n);
	END LOOP;
END \$\$;
END
	foreach my $round (1 .. $rounds)
	{
		bench($queue, 40, qw(enqueue many insert rollback complete follow));
		bench($queue, 40, qw(enqueue many insert));
		is(sql("SELECT count(*) $unfinished = '$queue')"), $max, "$queue: full, to the job");
	}
	sql("INSERT INTO tenants (name) VALUES ('stop')");
	is($most->query_safe('SELECT depth FROM most'), $max, "$queue: never more were seen");
	$most->quit;
	sql("DELETE FROM tenants WHERE name = 'stop'");
	return;
}

fill('counted', 3);
is(sql("SELECT counted, depth FROM queue_stats WHERE queue = 'counted'"), "exact|$max", 'by the statistics');

# A transaction that was prepared keeps its room until it is known how it ended.
sub refused
{
	my ($queue, $jobs) = @_;
	my ($status, undef, $error) = $node->psql('postgres',
		"SELECT count(*) FROM queue_enqueue_many('$queue', array_fill('1'::jsonb, ARRAY[$jobs]))");

	return $status == 0 ? 'enqueued' : $error =~ /is full/ ? 'refused' : $error;
}

sub recount
{
	sql('SELECT count(*) FROM queue_maintain()');
	return;
}

sql("SELECT queue_create('prepared', max_depth => 10)");
foreach my $end ('COMMIT', 'ROLLBACK')
{
	sql("BEGIN; SELECT count(*) FROM queue_enqueue_many('prepared', array_fill('1'::jsonb, ARRAY[4])); PREPARE TRANSACTION 'p'");
	is(refused('prepared', 7), 'refused', 'a prepared transaction has its room');
	recount();
	is(refused('prepared', 7), 'refused', '... also after a recount');
	is(refused('prepared', 6), 'enqueued', '... and no more than that');
	sql("$end PREPARED 'p'");
	recount();
	is(refused('prepared', 5), 'refused', "$end PREPARED") if $end eq 'ROLLBACK';
	is(refused('prepared', 1), $end eq 'COMMIT' ? 'refused' : 'enqueued', "$end PREPARED");
	sql("DELETE $unfinished = 'prepared')");
}

# After a start there are no statistics, until a recount: whoever enqueues counts.
$node->restart;
is(sql("SELECT counted FROM queue_stats WHERE queue = 'counted'"), 'stored', 'not counted');
is(refused('counted', 1), 'refused', 'not counted, and full');
sql("DELETE $unfinished = 'counted')");
my $first = $node->background_psql('postgres', on_error_stop => 0);
my $second = $node->background_psql('postgres', on_error_stop => 0);
$first->query_safe("BEGIN; SELECT count(*) FROM queue_enqueue_many('counted', array_fill('1'::jsonb, ARRAY[@{[$max - 1]}]))");
recount();
is(sql("SELECT counted FROM queue_stats WHERE queue = 'counted'"), 'exact', 'counted meanwhile');
$second->query_until(qr/started/,
	"\\echo started\nSELECT count(*) FROM queue_enqueue_many('counted', array_fill('1'::jsonb, ARRAY[2]));\n");
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted")
  or die 'nobody waits';
$first->query_safe('COMMIT');
like($second->query('SELECT 1') . $second->{stderr}, qr/queue "counted" is full/, 'who counts keeps others out');
$first->quit;
$second->quit;
is(refused('counted', 1), 'enqueued', 'there was room for one');

# Without statistics.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
fill('alone', 1);

$node->stop;
done_testing();
