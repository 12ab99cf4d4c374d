# Moves a database to another server by logical replication, as doc/upgrade.md
# says: the other one copies while clients work, and does nothing by itself until
# the cut-over; then it goes on where the first one was stopped.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Load;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Rows ();
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old');
my $new = PostgreSQL::Test::Cluster->new('new');
$old->init(allows_streaming => 'logical');
$new->init;
$_->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'") foreach $old, $new;
$old->append_conf('postgresql.conf', "queue_service.databases = 'shop'");
$_->start foreach $old, $new;
$_->safe_psql('postgres', "$Load::role; CREATE DATABASE shop") foreach $old, $new;
prepare($old, 'shop');

# What would be done twice if both servers did it, or on the wrong one.
$old->safe_psql('shop', qq(
	SET app.current_tenant = '$tenant';
	SELECT queue_create('other', max_attempts => 1, default_lease => '1 hour');
	SELECT queue_schedule('tick', 'other', '* * * * *', catch_up => 'all', enabled => false);
	SELECT queue_enqueue_many('other', ARRAY['"leased"', '"lost"']::jsonb[]);
	UPDATE rate_limiters SET max_tokens = 500 WHERE service_name = 'stripe';
));

# The other server: roles by hand, the schema by a dump, rows by a subscription.
# It lets nobody in, and no worker runs there.
my $schema = PostgreSQL::Test::Utils::tempdir . '/schema.sql';
$old->command_ok([ 'pg_dump', '--schema-only', '-f', $schema, $old->connstr('shop') ], 'the schema is dumped');
$new->command_ok([ 'psql', '-Xq', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-f', $schema, $new->connstr('shop') ], '... and restored');
$new->safe_psql('postgres', 'ALTER DATABASE shop CONNECTION LIMIT 0');

start_clients($old, 'shop');
let_work(20);
$old->safe_psql('shop', 'CREATE PUBLICATION move FOR ALL TABLES');
my $connection = $old->connstr('shop') =~ s/'/''/gr;
$new->safe_psql('shop', "CREATE SUBSCRIPTION move CONNECTION '$connection' PUBLICATION move");
$new->wait_for_subscription_sync($old, 'move', 'shop');
let_work(50);

# A session of the other server that knows a queue is told of its change.
my $session = $new->background_psql('shop', on_error_stop => 0);
my $enqueue = q(BEGIN; SELECT created FROM queue_enqueue('other', to_jsonb(repeat('x', 200))); ROLLBACK);
$session->query_safe("SET app.current_tenant = '$tenant'");
is($session->query_safe($enqueue), 't', 'a session that knows a queue');
$old->safe_psql('shop', "SET app.current_tenant = '$tenant'; SELECT queue_set('other', max_payload => 100)");
ok($new->poll_query_until('shop', q(SELECT max_payload = 100 FROM queues WHERE name = 'other')), '... whose change is replicated');
$session->query($enqueue);
like($session->{stderr}, qr/larger than 100 bytes/, '... goes by the new definition');
$session->{stderr} = '';
$session->quit;

# A worker has a job, with which it goes on after the move.
my $claim = "SET app.current_tenant = '$tenant'; SELECT job_id, lease_token FROM queue_claim('other', 'w'";
my ($job, $token) = split /\|/, $old->safe_psql('shop', "$claim)");

# The cut-over. First the old server does no more: neither its worker nor clients.
$old->safe_psql('postgres', q(
	ALTER DATABASE shop SET default_transaction_read_only = on;
	SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'shop' AND backend_type <> 'walsender';
));
is(stop_clients(), 4, 'the clients are gone');
is($old->psql('shop', q(SELECT queue_enqueue('load')), extra_params => [ '-U', 'shop' ]), 3, '... and cannot enqueue');
unlike(slurp_file($new->logfile), qr/^(?!.*larger than 100).*ERROR/m, 'the other server copies without an error');
# (psql may be gone before it reads anything)
is($new->psql('shop', '', extra_params => [ '-U', 'shop' ]), 2, '... and lets nobody in');

# From here on something is due on either server: a schedule, and the end of a job
# whose lease runs out on its last attempt.
my $write = 'SET default_transaction_read_only = off;';
$old->safe_psql('shop', "$write $claim, lease => '1 millisecond')");
$old->safe_psql('shop', "$write UPDATE schedules SET enabled = true, next_run_at = date_trunc('minute', now()) - interval '10 minutes'");

my $lsn = $old->safe_psql('shop', 'SELECT pg_current_wal_insert_lsn()');
ok($old->poll_query_until('shop', "SELECT replay_lsn >= '$lsn' FROM pg_stat_replication WHERE application_name = 'move'"), 'all has arrived');
my $state = Rows::state($old, 'shop', 'public');
is(Rows::state($new, 'shop', 'public'), $state, 'both servers have the same');
is($new->safe_psql('shop', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'queue_service%'"), 0, '... as the other one does nothing by itself');

# Then the other one serves.
$new->safe_psql('shop', 'DROP SUBSCRIPTION move');
$new->safe_psql('shop', 'ALTER DATABASE shop CONNECTION LIMIT -1');
like($new->safe_psql('shop', 'SELECT queue_worker_start()'), qr/^\d+$/, 'its worker starts');
start_clients($new, 'shop');
let_work(50);
is($new->safe_psql('shop', qq(SET app.current_tenant = '$tenant'; SELECT outcome FROM queue_complete('$job', $token))), 'done', 'a lease that was taken on the old server');
ok($new->poll_query_until('shop', q(SELECT count(*) = 1 FROM dead_letter_jobs WHERE payload = '"lost"')), 'a last attempt is over, once');
my $fired = "FROM jobs WHERE schedule_id IS NOT NULL";
ok($new->poll_query_until('shop', "SELECT count(*) >= 10 $fired"), 'what was due is fired');
is($new->safe_psql('shop', "SELECT count(*) = count(DISTINCT run_at) $fired"), 't', '... each time once');
is(stop_clients(), 0, 'no client has an error') or diag(client_errors());
is(client_errors(), '', '... or a warning');
drain($new, 'shop', 'moved');

# Statistics are counted anew, ids are unlike any that came from the old server.
ok($new->poll_query_until('shop', q(SELECT bool_and(counted = 'exact') FROM queue_stats)), 'statistics become exact');
is($new->safe_psql('shop', q(SELECT queue, depth, processing FROM queue_stats ORDER BY queue)),
	$new->safe_psql('shop', q(SELECT name, count(j.id) FILTER (WHERE status = 'pending'), count(j.id) FILTER (WHERE status = 'processing')
		FROM queues q LEFT JOIN jobs j ON j.queue_id = q.id GROUP BY name ORDER BY name)), '... and are true');
is(Rows::state($old, 'shop', 'public'), $state, 'nothing happened on the old server meanwhile');
$_->stop foreach $new, $old;
done_testing();
