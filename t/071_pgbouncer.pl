# Two tenants on one connection to the server: PgBouncer in transaction mode,
# with a pool of one. The attacks are listed in doc/security.md.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($pgbouncer) = grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
plan skip_all => 'PgBouncer is not installed (Debian: apt-get install pgbouncer)' unless $pgbouncer;

my $own = '00000000-0000-7000-8000-00000000000a';
my $other = '00000000-0000-7000-8000-00000000000b';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'");
$node->start;
$node->safe_psql(
	'postgres', qq{
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$own', 'alpha'), ('$other', 'bravo');
	SET app.current_tenant = '$own';
	SELECT queue_create('common'), queue_create('alpha'), queue_enqueue('common', '"alpha"');
	SET app.current_tenant = '$other';
	SELECT queue_create('common'), queue_create('bravo'), queue_enqueue_many('common', ARRAY['"bravo"', '"bravo"']::jsonb[]);
	SELECT queue_limiter_set('service', 1000, 1e9, 1);
	CREATE ROLE pooler LOGIN;
	SELECT queue_grant('pooler', p) FROM unnest('{producer, worker, admin}'::text[]) p;
	CREATE SCHEMA own AUTHORIZATION pooler;
});

my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/users", qq{"pooler" ""\n});
append_to_file(
	"$dir/pgbouncer.ini", qq{
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]}
[pgbouncer]
unix_socket_dir = $dir
listen_port = $port
auth_type = trust
auth_file = $dir/users
pool_mode = transaction
default_pool_size = 1
max_client_conn = 20
logfile = $dir/log
});
my $bouncer = IPC::Run::start([ $pgbouncer, '-q', "$dir/pgbouncer.ini" ], '>', \my $out, '2>', \my $err);
# The same server by another way.
my $pooled = bless { %$node, _host => $dir, _port => $port }, ref $node;

sub connects
{
	my ($stdout, $stderr);

	# (psql may be gone before it reads anything)
	return $pooled->psql('postgres', '', extra_params => [ '-U', 'pooler', '-c', 'SELECT 1' ], stdout => \$stdout, stderr => \$stderr) == 0;
}

foreach (1 .. $PostgreSQL::Test::Utils::timeout_default * 10)
{
	last if connects();
	$bouncer->pump_nb;
	select undef, undef, undef, 0.1;
}
ok(connects(), 'PgBouncer is there') or BAIL_OUT("it says: $err");

my ($alpha, $bravo) = map {
	$pooled->background_psql('postgres', on_error_stop => 0,
		extra_params => [ '-U', 'pooler', '-v', 'VERBOSITY=sqlstate', '-v', 'ON_ERROR_ROLLBACK=off' ])
} 1 .. 2;

# What a client gets: its rows, and the SQLSTATEs of errors.
sub query
{
	my ($client, $sql) = @_;
	my $rows = $client->query($sql) // '';
	my @errors = $client->{stderr} =~ /ERROR: +(\S+)/g;

	$client->{stderr} = '';
	return join ' ', grep { $_ ne '' } $rows, @errors;
}

sub as
{
	my ($client, $tenant, $sql) = @_;

	return query($client, "BEGIN; SET LOCAL app.current_tenant = '$tenant'; $sql; COMMIT;");
}

my $queues = q{SELECT string_agg(name, ' ' ORDER BY name) FROM queues};
my $pid = 'SELECT pg_backend_pid()';

is(query($alpha, "$pid;"), query($bravo, "$pid;"), 'both have one connection to the server');
is(as($alpha, $own, $queues), 'alpha common', 'one sees its own');
is(as($bravo, $other, $queues), 'bravo common', 'and the other');

# attack: PgBouncer, transaction mode: act in the transaction after another tenant's, without a tenant of one's own
# fails: SET LOCAL ends with its transaction, however that ends
foreach my $end ('COMMIT', 'ROLLBACK', 'SELECT 1 / 0; COMMIT', 'SAVEPOINT s; SELECT 1 / 0; ROLLBACK TO s; COMMIT')
{
	query($bravo, "BEGIN; SET LOCAL app.current_tenant = '$other'; SELECT count(*) FROM queues; $end;");
	is(query($alpha, "$queues;"), '', "no rows after $end");
	is(query($alpha, q{SELECT queue_claim('common');}), 'QS001', "no tenant after $end");
}

# attack: PgBouncer: end the lease that another tenant took in the same session
# fails: the tenant of the row is compared with the call's, wherever the row was found
my ($job, $token) = split /\|/, as($bravo, $other, q{SELECT job_id, lease_token FROM queue_claim('common')});
is(as($alpha, $own, "SELECT outcome FROM queue_complete('$job', $token)"), 'lost', 'a foreign lease');
is(as($alpha, $own, "SELECT queue_complete('$job', $token, strict => true)"), 'QS030', 'a foreign lease, strictly');
is(as($alpha, $own, "SELECT count(*) FROM queue_job('$job')"), '0', 'a foreign job');

# attack: PgBouncer: a queue of the same name, whose definition the session has for another tenant
# fails: definitions are kept by tenant and name
is(as($alpha, $own, q{SELECT payload FROM queue_claim('common', max_jobs => 10)}), '"alpha"', 'a queue of the same name');
is(as($alpha, $own, q{SELECT queue_peek('bravo')}), 'QS010', 'a queue of the other tenant');

# attack: PgBouncer: run the statement that another tenant prepared
# fails: a plan is for the tenant of when it runs
as($bravo, $other, "PREPARE queues AS $queues; EXECUTE queues");
is(as($alpha, $own, 'EXECUTE queues'), 'alpha common', 'a prepared statement');
is(query($alpha, 'EXECUTE queues;'), '', 'a prepared statement, without a tenant');
query($bravo, 'DEALLOCATE queues;');

# attack: PgBouncer: leave temporary tables, a search_path and operators to the next tenant
# fails: functions find their tables and operators without them. His own SQL would not: see doc/security.md
query($alpha, "CREATE TEMP TABLE jobs (id uuid); CREATE TEMP TABLE queues (id uuid, tenant_id uuid, name text);");
query($alpha, "INSERT INTO pg_temp.queues VALUES (gen_random_uuid(), '$other', 'stolen');");
query($alpha, "CREATE FUNCTION own.never(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT false';");
query($alpha, 'CREATE OPERATOR own.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = own.never);');
query($alpha, 'SET search_path = own, pg_temp, public, pg_catalog;');
is(as($bravo, $other, q{SELECT created FROM public.queue_enqueue('common', '"bravo"')}), 't', 'enqueued all the same');
is(as($bravo, $other, q{SELECT count(*) FROM public.queue_claim('common', max_jobs => 10)}), '2', 'claimed all the same');
is(as($bravo, $other, q{SELECT public.queue_peek('stolen')}), 'QS010', 'and nothing is there that is not');
query($alpha, 'DROP TABLE pg_temp.jobs, pg_temp.queues; DROP OPERATOR own.= (uuid, uuid); RESET search_path;');

# attack: PgBouncer: release the permit that another tenant holds of a service that both use
# fails: its number is random, and only its holder is told
my $permit = as($bravo, $other, q{SELECT permit FROM queue_rate_acquire('service')});
like($permit, qr/^\d{9,}$/, 'a permit is out');
is(as($alpha, $own, "SELECT queue_rate_release('service', $permit + $_)"), 'f', "not released by a guess ($_)") foreach -1, 1;
is(as($alpha, $own, q{SELECT granted FROM queue_rate_acquire('service')}), 'f', 'it is still held');
is(as($bravo, $other, "SELECT queue_rate_release('service', $permit)"), 't', 'its holder releases it');

# What is said of a plain SET: it stays for the next, whose SET LOCAL overrides it.
query($alpha, "SET app.current_tenant = '$own';");
is(query($bravo, "$queues;"), 'alpha common', 'a plain SET stays behind');
is(as($bravo, $other, $queues), 'bravo common', 'not for who uses SET LOCAL');
query($alpha, 'DISCARD ALL;');
is(query($bravo, "$queues;"), '', 'DISCARD ALL takes it away');

$_->quit foreach $alpha, $bravo;
$bouncer->signal('INT');
$bouncer->finish;
$node->stop;
done_testing();
