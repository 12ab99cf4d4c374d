# What is known in shared memory is gone after a crash, and is not there on a
# standby: one claim of each queue looks at all, and no job is missed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Recovery;
use Steps;
use Test::More;

start();
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;

# The next claim of each queue looks at so many entries, and none after it.
sub are_flat
{
	my ($entries, $name, @queues) = @_;
	my $full_scans = cache('full_scans');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is_flat($_, $entries, "$name, queue $_") for @queues;
	is(cache('full_scans') - $full_scans, @queues, "$name: one full scan of each queue");
	return;
}

sub complete
{
	my ($id, $token) = split(/\|/, $_[0]);

	return "SELECT outcome FROM queue_complete('$id', $token)";
}

# Keeps entries over a crash, which frees the horizon of sessions.
query("CREATE TABLE horizon (); BEGIN; INSERT INTO horizon DEFAULT VALUES; PREPARE TRANSACTION 'horizon';");

my ($dead, $leased, $idle, $claimed, $prepared, $expired) = map { queue() } 1 .. 6;
insert_dead($dead, 1, 2000);
query(insert($leased, 1, 2000, %leased));
query(insert($_, 2001, 2100)) for ($dead, $leased);
query(insert($_, 1, 20)) for ($claimed, $prepared);
query(insert($expired, 1, 1));
is_empty($idle, 'an idle queue');
are_flat(2000, 'at first', $dead, $leased);

# kill -9 of a backend that has claimed, beside a claim that is prepared
query("BEGIN; @{[claim($prepared, 20)]}; PREPARE TRANSACTION 'p'");
stop_at($other, 'claimed', claim($claimed, 20));
is_empty($claimed, 'all are claimed by a transaction');
kill('KILL', query("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"));
poll_through_crash($node, 'postgres', 'SELECT claims = 0 FROM queue_cache')
  or die 'the server did not start again';
begin_sessions();
is_claimed($claimed, '1', 'a claim that was killed');
is_empty($prepared, 'a claim that is prepared, after kill -9');
query("ROLLBACK PREPARED 'p'");
is_claimed($prepared, '1', 'a claim whose preparation was rolled back after kill -9');
are_flat(2000, 'after kill -9', $dead, $leased);
query(insert($dead, 20.5, 20.5));
is_claimed($dead, '20.5', 'a job that comes after that');

# a standby that is promoted
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $ENV{QS_FAULTS});
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $early = $standby->background_psql('postgres', on_error_stop => 0);
for my $sql (claim($idle), map { "CALL queue_wait('$_', '0')" } $idle, $dead, $leased)
{
	is($early->query("$sql;\n\\echo :SQLSTATE"), '25006', "refused on a standby: $sql");
	$early->{stderr} = '';
}
query(insert($idle, 1, 1));
query(insert($dead, 30.5, 30.5));
query('UPDATE jobs SET leased_until = now() ' . where($leased, 30));
$other->query_safe('BEGIN; ' . claim($claimed, 20));
query("BEGIN; @{[claim($prepared, 20)]}; PREPARE TRANSACTION 'p'");
my $lease = query("SELECT job_id, lease_token FROM queue_claim('$expired', lease => '1 us')");
# waits for its WAL, as the claim does not
query('CREATE TABLE written ()');
$node->wait_for_catchup($standby);
$standby->promote;
$_->quit for ($main, $other, $controller, $horizon);
$node->stop('immediate');

$main = $early;
is_claimed($idle, '1', 'promoted: a job of a queue that was idle');
is_claimed($dead, '30.5', 'promoted: a job in a range');
is_claimed($leased, '30', 'promoted: a job whose lease was ended');
is_claimed($claimed, '2', 'promoted: a claim that was not committed');
is_empty($prepared, 'promoted: a claim that is prepared');
query("ROLLBACK PREPARED 'p'");
is_claimed($prepared, '2', 'promoted: a claim whose preparation was rolled back');
my $late = query("SELECT job_id, lease_token FROM queue_claim('$expired')");
isnt($late, $lease, 'promoted: a job whose lease ran out is leased anew');
is(query(complete($lease)), 'lost', 'promoted: the token of its first lease');
is(query(complete($late)), 'done', 'promoted: the token of its second lease');
are_flat(1900, 'promoted', $dead, $leased);
query(insert($dead, 31.5, 31.5));
is_claimed($dead, '31.5', 'promoted: a job that comes after that');

$main->quit;
$standby->stop;

done_testing();
