# Failover to an asynchronous standby that lacks the last FAULT_LAG (1) seconds of
# a load: what is lost and what is handed out again is what was done since, and
# no token of before is accepted for what was handed out again. The old primary
# is started alone afterwards, to see what it had acknowledged.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $lag = times_of('FAULT_LAG', 1);
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\nshared_buffers = 128MB\n");
$primary->start;
$primary->safe_psql('postgres', q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';));
$primary->safe_psql('postgres', q(
	SELECT queue_create('q', default_lease => '1 hour');
	SELECT count(*) FROM queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[500]));
	CREATE TABLE before (id uuid PRIMARY KEY);
	CREATE TABLE effects (id uuid PRIMARY KEY);
	INSERT INTO before SELECT id FROM jobs;));
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my $work = q(
		SELECT 1 AS n FROM queue_enqueue('q');
		SELECT job_id, lease_token FROM queue_claim('q', 'w', lease => '1 hour') \gset
		BEGIN;
		INSERT INTO effects VALUES (':job_id');
		SELECT outcome FROM queue_complete(':job_id', :lease_token, strict => true);
		COMMIT;);
my $loads = 0;

sub load
{
	my ($seconds) = @_;

	$primary->pgbench("--no-vacuum --client=4 --time=$seconds", 0, [qr/processed: [1-9]/], [qr/^$/], "$seconds s of load", { '203_work' . $loads++ => $work });
	return;
}

# One second that the standby gets, and then so many that it does not.
load(1);
my $leased = 'SELECT job_id, lease_token FROM queue_claim(\'q\', \'w\', max_jobs => 100, lease => \'1 hour\')';
$primary->safe_psql('postgres', "CREATE TABLE held AS $leased");
$primary->wait_for_catchup($standby);
$standby->append_conf('postgresql.conf', "primary_conninfo = ''");
$standby->reload;
$primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication') or die;
my $late = $primary->safe_psql('postgres', "BEGIN; CREATE TABLE late AS $leased; SELECT job_id, lease_token FROM late ORDER BY job_id; COMMIT");
load($lag);
kill_server($primary, all => 1);
$standby->promote;

# What the primary had acknowledged.
unlink($primary->data_dir . '/standby.signal');
$primary->start;
my $state = q(SELECT id || ' ' || status FROM jobs);
my %was = map { split / / } split /\n/, $primary->safe_psql('postgres', $state);
my %is = map { split / / } split /\n/, $standby->safe_psql('postgres', $state);
my @lost = grep { !exists $is{$_} } keys %was;
my @done = grep { $was{$_} eq 'completed' } keys %was;
my @again = grep { $was{$_} eq 'completed' && exists $is{$_} && $is{$_} ne 'completed' } keys %was;
is(scalar(grep { !exists $was{$_} } keys %is), 0, 'the standby has no job that the primary had not');
cmp_ok(scalar @lost, '>', 0, @lost . ' enqueues are lost');
cmp_ok(scalar @again, '>', 0, @again . ' jobs are to be done again');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM jobs JOIN effects USING (id) WHERE status <> 'completed')), 0,
	'none of these has its effect');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM jobs LEFT JOIN effects e USING (id) WHERE status = 'completed' AND e.id IS NULL)), 0,
	'all that is completed has');

# The workers go on with what they had.
is($standby->safe_psql('postgres', q(SELECT outcome, count(*) FROM held, queue_complete(job_id, lease_token) GROUP BY 1)), 'done|100',
	'leases that the standby has are held on');
my @stale = map { [ split /\|/ ] } grep { exists $is{ (split /\|/)[0] } } split /\n/, $late;
$standby->safe_psql('postgres', 'CREATE TABLE again AS SELECT job_id, lease_token FROM queue_claim(\'q\', \'w\', max_jobs => 10000, lease => \'1 hour\')');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM jobs WHERE status = 'pending')), 0, 'all others are handed out again');
my $tokens = join ', ', map { "('$_->[0]'::uuid, $_->[1])" } @stale;
cmp_ok(scalar @stale, '>', 0, @stale . ' tokens are stale');
is($standby->safe_psql('postgres', "SELECT outcome, count(*) FROM (VALUES $tokens) t (id, token), queue_complete(id, token) GROUP BY 1"),
	'lost|' . @stale, 'and refused');
is($standby->safe_psql('postgres', q(SELECT outcome, count(*) = (SELECT count(*) FROM again) FROM again, queue_complete(job_id, lease_token) GROUP BY 1)), 'done|t',
	'who has them now completes them');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM jobs WHERE status <> 'completed')), 0, 'all is done');
row('3, asynchronous', "4 clients; the standby lacks $lag s", '1 promotion', sprintf('%d enqueues, %d completions | %d enqueues; %d jobs done again; %d of %d stale tokens refused | 0',
	scalar keys %was, scalar @done, scalar @lost, scalar @again, scalar @stale, scalar @stale));
$_->stop for ($standby, $primary);

done_testing();
