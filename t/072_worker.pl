# The background worker: who has one, who is not in whose way, and what it
# survives.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Recovery;
use Test::More;
use Time::HiRes qw(time);

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'queue_service worker'";
my $launchers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'queue_service launcher'";
# a key that has expired, which a worker deletes when it begins
my $extension = q(BEGIN; CREATE EXTENSION queue_service;
	INSERT INTO tenants (id) VALUES ('00000000-0000-4000-8000-000000000001');
	INSERT INTO queues (tenant_id, name) SELECT id, 'q' FROM tenants;
	INSERT INTO idempotency_keys (tenant_id, queue_id, key, job_id, expires_at)
	SELECT tenant_id, id, 'old', id, now() FROM queues; COMMIT;);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'queue_service'
queue_service.databases = 'one, "Two", absent, bare, one'
max_worker_processes = 12
restart_after_crash = on
autovacuum = off
));
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") for ('one', '"Two"', 'bare', 'three', 'one_template');

sub pid
{
	my ($database, $server) = @_;

	return ($server // $node)->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue_service worker' AND datname = '$database'");
}

sub has_worker
{
	my ($database, $name, $server) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(($server // $node)->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service worker' AND datname = '$database'"), $name);
	return;
}

# The worker has run its tasks since the key was inserted.
sub has_run
{
	my ($database, $name, $server) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(($server // $node)->poll_query_until($database, 'SELECT count(*) = 0 FROM idempotency_keys'), $name);
	return;
}

# Done at once, though a worker is connected.
sub is_done
{
	my ($sql, $name) = @_;
	my ($stdout, $stderr) = ('', '');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($node->psql('postgres', $sql, stdout => \$stdout, stderr => \$stderr), 0, $name) or diag($stderr);
	return;
}

has_worker($_, "database $_ has a worker") for ('one', 'Two', 'bare');
is($node->safe_psql('postgres', $launchers), 1, 'and one launcher keeps them');
is($node->safe_psql('postgres', $workers), 3, 'each once');

# CREATE EXTENSION, DROP EXTENSION
$node->safe_psql($_, $extension) for ('one', 'Two');
has_run($_, "$_: the worker runs its tasks") for ('one', 'Two');
like($node->safe_psql('one', "SELECT ok, detail FROM queue_health WHERE item = 'worker'"), qr/^t\|process \d+$/, 'queue_health knows of it');
my $pid = pid('one');
is($node->safe_psql('one', 'SELECT queue_worker_start()'), $pid, 'a second one is refused');
is($node->safe_psql('postgres', $workers), 3, 'and none comes');
$node->safe_psql('one', "SET lock_timeout = '5s'; DROP EXTENSION queue_service CASCADE");
$node->safe_psql('one', "CREATE SCHEMA elsewhere; SET search_path = elsewhere; $extension");
$node->poll_query_until('one', 'SELECT count(*) = 0 FROM elsewhere.idempotency_keys') or die;
is(pid('one'), $pid, 'the same worker goes on with an extension that is created anew');

# settings of the database are for clients
$node->safe_psql('postgres', q(ALTER DATABASE one SET app.current_tenant = 'malformed';
	ALTER DATABASE one SET default_transaction_isolation = 'serializable';));
$node->safe_psql('one', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('one', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service worker' AND datname = 'one' AND pid <> $pid"), 'another one comes for one that was terminated');
$node->safe_psql('one', q(SET app.current_tenant = '00000000-0000-4000-8000-000000000001';
	INSERT INTO elsewhere.idempotency_keys (queue_id, key, job_id, expires_at) SELECT id, 'old', id, now() FROM elsewhere.queues));
$pid = pid('one');
$node->safe_psql('one', "SELECT pg_terminate_backend($pid)");
$node->poll_query_until('one', 'SELECT count(*) = 0 FROM elsewhere.idempotency_keys') or die;
pass('and runs');
$node->safe_psql('postgres', 'ALTER DATABASE one RESET ALL');

# a task that fails
$node->safe_psql('one', 'ALTER TABLE elsewhere.idempotency_keys RENAME COLUMN expires_at TO secret');
$pid = pid('one');
$node->safe_psql('one', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('one', q(SELECT count(*) = 1 FROM elsewhere.queue_health WHERE item = 'task keys' AND detail ~ '^failed 1 times, last at .*: column k.expires_at does not exist$')), 'a task that fails is shown');
is($node->safe_psql('one', q(CREATE ROLE observer; SELECT elsewhere.queue_grant('observer', 'observer'); SET ROLE observer;
	SELECT detail ~ 'failed 1 times' AND detail !~ 'column' FROM elsewhere.queue_health WHERE item = 'task keys')), "\nt", 'its error only to the platform');
$pid = pid('one');
ok(-e $node->logfile && slurp_file($node->logfile) =~ /CONTEXT:.*task "keys" of queue_service/s, 'and logged');
# which leaves out a task that the worker is just at
ok($node->poll_query_until('one', "SELECT count(*) = 1 FROM elsewhere.queue_maintain() WHERE error ~ 'expires_at'"), 'beside it queue_maintain() runs');
is(pid('one'), $pid, 'the worker goes on');
$node->safe_psql('one', 'ALTER TABLE elsewhere.idempotency_keys RENAME COLUMN secret TO expires_at');
$node->safe_psql('one', 'SELECT elsewhere.queue_maintain()');
is($node->safe_psql('one', "SELECT count(*) FROM elsewhere.queue_health WHERE item LIKE 'task%'"), 0, 'a task that ends well is not shown');

# who wants the database to himself
is_done('DROP DATABASE "Two"', 'DROP DATABASE');
is_done('ALTER DATABASE bare RENAME TO renamed', 'ALTER DATABASE RENAME');
is_done('CREATE DATABASE copy TEMPLATE one', 'a database as a template');
has_worker('one', 'which has a worker again');
is_done('ALTER DATABASE renamed RENAME TO bare', 'renamed back');
has_worker('bare', 'a database of that name has a worker');
is_done('DROP DATABASE bare WITH (FORCE)', 'DROP DATABASE WITH (FORCE)');
is_done('CREATE DATABASE "Two"', 'CREATE DATABASE');
has_worker('Two', 'a new database of that name has a worker');

# without the setting
$node->safe_psql('three', $extension);
unlike($node->safe_psql('three', "SELECT ok, detail FROM queue_health WHERE item = 'worker'"), qr/^t/, 'a database that is not listed has none');
is($node->safe_psql('three', "SELECT count(*) > 0 FROM queue_maintain()"), 't', 'queue_maintain() does without');
like($node->safe_psql('three', "SELECT ok, detail FROM queue_health WHERE item = 'worker'"), qr/^t\|none, but/, 'which queue_health accepts');
$pid = $node->safe_psql('three', 'SELECT queue_worker_start()');
is($pid, pid('three'), 'queue_worker_start() starts one');
is($node->safe_psql('three', 'SELECT queue_worker_start()'), $pid, 'once');
is($node->safe_psql('postgres', $launchers), 2, 'with a launcher');
$node->safe_psql('three', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('three', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service worker' AND datname = 'three' AND pid <> $pid"), 'and comes again');

# and is stopped, as doc/operations.md says
my $stop = q(SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
	WHERE l.locktype = 'userlock' AND l.classid = 1903389696 AND d.datname = current_database());
is($node->safe_psql('three', $stop), 't', 'its launcher is ended');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'queue_service worker' AND datname = 'three'"), 'with the worker');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service launcher'"), 'and is gone');
my $other = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'queue_service launcher'");
is($node->safe_psql('one', $stop), 't', 'the launcher of the setting is ended, too');
ok($node->poll_query_until('one', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'userlock' AND classid = 1903389696 AND pid <> $other AND database = (SELECT oid FROM pg_database WHERE datname = 'one')"), 'and comes again');
is($node->safe_psql('postgres', $launchers), 1, 'the one that was ended before it does not');
is($node->safe_psql('three', $stop), '', 'there is nothing left to stop');
isnt($node->safe_psql('three', 'SELECT queue_worker_start()'), '', 'it can be started again');

# a crash
kill('KILL', pid('three'));
ok(poll_through_crash($node, 'postgres', "SELECT count(*) = 3 FROM pg_stat_activity WHERE backend_type = 'queue_service worker'"), 'all come again after kill -9');
is_done('DROP DATABASE three WITH (FORCE)', 'DROP DATABASE WITH (FORCE) of one that was not listed');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service launcher'"), 'whose launcher goes');
unlike(slurp_file($node->logfile), qr/FATAL: .*database .* does not exist/, 'nobody connects to what is not there');

# a standby, and its promotion
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $workers), 0, 'a standby has no worker');
my ($stdout, $stderr);
$standby->psql('one', "\\set VERBOSITY sqlstate\nSELECT elsewhere.queue_worker_start()", stderr => \$stderr);
like($stderr, qr/25006/, 'nor can it start one');
$node->safe_psql('one', q(SET app.current_tenant = '00000000-0000-4000-8000-000000000001'; CREATE TABLE promoted ();
	INSERT INTO elsewhere.idempotency_keys (queue_id, key, job_id, expires_at) SELECT id, 'old', id, now() FROM elsewhere.queues));
$node->wait_for_catchup($standby);

# a fast shutdown
my $begun = time;
$node->stop('fast');
cmp_ok(time - $begun, '<', 10, 'a fast shutdown waits for no worker');

$standby->promote;
has_worker('one', 'a promoted standby has one', $standby);
ok($standby->poll_query_until('one', 'SELECT count(*) = 0 FROM elsewhere.idempotency_keys'), 'which runs');
$standby->stop;

# a binary upgrade, and a server that is not preloaded
$node->start(fail_ok => 0);
$node->stop;
system_or_bail('pg_ctl', '-w', '-s', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', 'start');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'queue_service%'"), 0, 'nothing runs in a binary upgrade');
system_or_bail('pg_ctl', '-w', '-s', '-D', $node->data_dir, 'stop');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
is($node->safe_psql('postgres', $launchers), 0, 'not preloaded, there is no launcher');
$pid = $node->safe_psql('one', 'SELECT elsewhere.queue_worker_start()');
is($pid, pid('one'), 'until one is started');
like($node->safe_psql('one', "SELECT ok, detail FROM elsewhere.queue_health WHERE item = 'worker'"), qr/^t\|process $pid$/, 'which queue_health knows');
is_done('DROP DATABASE one', 'DROP DATABASE of one that was started');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'queue_service%'"), 'after which nothing is left');
$node->stop;

done_testing();
