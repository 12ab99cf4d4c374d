# The clients of examples/clients, all at once, each for a tenant of its own:
# directly and through PgBouncer in transaction mode, with a restart of the
# server, a job that fails, and a lease that is lost in the midst of a job.

use strict;
use warnings;

use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $examples = dirname(dirname(__FILE__)) . '/examples/clients';
my $folder = PostgreSQL::Test::Utils::tempdir_short();
my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
my ($python) = grep { -x && system("$_ -c 'import psycopg' 2>/dev/null") == 0 } '/usr/bin/python3', '/usr/local/bin/python3';
my $node_js = $ENV{QS_NODE_MODULES};

foreach (glob "$examples/*.*")
{
	my @lines = split /\n/, slurp_file($_);

	cmp_ok(scalar @lines, '<', 80, basename($_) . ' is short');
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION queue_service');

# How to run each: the worker, and the producer for some numbers.
my %clients = (psql => [ [ 'bash', "$examples/worker.sh" ] ]);
$clients{python} = [ map { [ $python, "$examples/$_.py" ] } 'worker', 'producer' ] if $python;
if ($node_js)
{
	# modules are looked for where the script is
	symlink $node_js, "$folder/node_modules" or die;
	foreach (qw(worker producer))
	{
		append_to_file("$folder/$_.mjs", slurp_file("$examples/$_.mjs"));
		push @{ $clients{node} }, [ 'node', "$folder/$_.mjs" ];
	}
}
chomp(my $include = `@{[ $ENV{PG_CONFIG} || 'pg_config' ]} --includedir`);
foreach (qw(worker producer))
{
	system_or_bail('cc', '-Wall', '-Wextra', '-Werror', '-o', "$folder/$_", "-I$include", "$examples/$_.c", '-lpq');
	push @{ $clients{c} }, ["$folder/$_"];
}

my %ways = (direct => [ $node->host, $node->port ]);
my $bouncer;
if ($pgbouncer)
{
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	append_to_file("$folder/users", qq("shop" ""\n));
	append_to_file(
		"$folder/pgbouncer.ini", qq(
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]}
[pgbouncer]
unix_socket_dir = $folder
listen_port = $port
auth_type = trust
auth_file = $folder/users
pool_mode = transaction
default_pool_size = 10
server_login_retry = 1
logfile = $folder/log
));
	$bouncer = IPC::Run::start([ $pgbouncer, '-q', "$folder/pgbouncer.ini" ]);
	$ways{pooled} = [ $folder, $port ];
}

my @all;
foreach my $client (sort keys %clients)
{
	foreach my $way (sort keys %ways)
	{
		push @all, {
			name => "$client, $way",
			tenant => sprintf('01890000-0000-7000-8000-%012d', @all + 1),
			worker => $clients{$client}[0],
			producer => $clients{$client}[1],
			way => $ways{$way},
			log => "$folder/" . ($client . $way)
		};
	}
}
$node->run_log([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-v', "tenant=$_->{tenant}", '-v', 'ON_ERROR_STOP=1', '-f', "$examples/shop.sql" ])
  or BAIL_OUT('shop.sql fails')
  foreach @all;
# An invoice of order 7 waits in its transaction while somebody holds the lock.
$node->safe_psql(
	'postgres', q(
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(7);
		RETURN NEW;
	END $$;
	CREATE TRIGGER hold BEFORE INSERT ON invoices FOR EACH ROW WHEN (NEW.order_number = 7) EXECUTE FUNCTION hold();
));

sub environment
{
	my ($client) = @_;

	return (
		PGHOST => $client->{way}[0],
		PGPORT => $client->{way}[1],
		PGUSER => 'shop',
		PGDATABASE => 'postgres',
		TENANT => $client->{tenant});
}

# All take orders at the same time. Says who could not.
sub produce
{
	my (@numbers) = @_;
	my @runs;

	foreach my $client (@all)
	{
		local %ENV = (%ENV, environment($client));
		my @psql = map { ([ 'psql', '-X', '-q', '-v', "tenant=$client->{tenant}", '-v', "order=$_", '-f', "$examples/producer.sql" ], '>>', "$client->{log}.out", '2>&1', '&') } @numbers;

		push @runs, IPC::Run::start($client->{producer} ? ([ @{ $client->{producer} }, @numbers ], '>>', "$client->{log}.out", '2>&1') : @psql[ 0 .. $#psql - 1 ]);
	}
	return join ', ', map { $runs[$_]->finish ? () : $all[$_]{name} } 0 .. $#all;
}

sub start_worker
{
	my ($client) = @_;
	local %ENV = (%ENV, environment($client));

	$client->{run} = IPC::Run::start($client->{worker}, '<', '/dev/null', '>', $client->{log}, '2>', "$client->{log}.err");
	return;
}

# Waits until a query is true for each tenant.
sub await
{
	my ($what, $query) = @_;
	my $list = join ', ', map { "('$_->{tenant}'::uuid)" } @all;

	return ok($node->poll_query_until('postgres', "SELECT bool_and(($query)) FROM (VALUES $list) t (tenant)"), $what)
	  || diag(map { "$_->{name}: " . slurp_file("$_->{log}.err") } @all);
}

# How many invoices each tenant has, in whole.
sub invoices
{
	my ($what, $count) = @_;

	await($what, "SELECT count(*) >= $count FROM invoices WHERE tenant_id = tenant");
	return is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (tenant_id, order_number)) FROM invoices'),
		join('|', ($count * @all) x 2), "$what: none twice");
}

start_worker($_) foreach @all;
is(produce(1, 2, 2, 3), '', 'all take orders, one of them twice');
is(produce(0), join(', ', map { $_->{name} } @all), 'but not one that cannot be');
invoices('an invoice for each order', 3);
is($node->safe_psql('postgres', 'SELECT count(*) FROM jobs'), 3 * @all, 'and a job for each');

# What fails is told, tried again, and given up.
$node->safe_psql('postgres', "SET app.current_tenant = '$_->{tenant}'; SELECT queue_enqueue('invoices', '{\"order\": 666}')")
  foreach @all;
await('a job that fails is a dead letter',
	q(SELECT count(*) = 1 FROM dead_letter_jobs WHERE tenant_id = tenant AND reason = 'exhausted' AND last_error ~ 'foreign key'));

# The lease is taken away while the invoice is being written, which then counts for nothing.
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(7)');
is(produce(7), '', 'all take order 7');
ok($node->poll_query_until('postgres', "SELECT count(*) = @{[ scalar @all ]} FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
	'all write the invoice of order 7');
$node->safe_psql('postgres', q(SELECT queue_retry(id) FROM jobs WHERE status = 'processing'));
$holder->query_safe('SELECT pg_advisory_unlock(7)');
$holder->quit;
invoices('who has lost the lease writes no invoice', 4);

$node->stop('immediate');
$node->start;
is(produce(8), '', 'all take an order after a restart');
invoices('workers connect again', 5);

my $begun = time;
kill 'TERM', $_->{run}{KIDS}[0]{PID} foreach @all;
ok($_->{run}->finish, "$_->{name}: stops when told to") foreach @all;
cmp_ok(time - $begun, '<', 30, 'soon');
is($node->safe_psql('postgres', 'SELECT count(*) FROM jobs WHERE finished_at IS NULL'), '0', 'nothing is left');

if ($bouncer)
{
	# queue_worker, too, needs nothing of a session: its connections are those of the pool
	my $tenant = $all[0]{tenant};
	my @command = (
		'queue_worker', '-d', "host=$folder port=$ways{pooled}[1] user=shop dbname=postgres",
		'-t', $tenant, '-q', 'commands', '-c', 4, '--lease', 1, '--json', '--', 'sh', '-c', 'sleep 1.5; cat');
	$node->safe_psql('postgres', "SET app.current_tenant = '$tenant'; SELECT queue_create('commands')");
	my @workers = map { IPC::Run::start(\@command, '<', '/dev/null', '>>', "$folder/commands$_") } 1 .. 3;
	$node->safe_psql('postgres', "SET app.current_tenant = '$tenant'; SELECT count(*) FROM generate_series(1, 20) i, queue_enqueue('commands', to_jsonb(i))");
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 20 FROM jobs j JOIN queues q ON q.id = queue_id WHERE name = 'commands' AND j.status = 'completed')),
		'queue_worker through PgBouncer: all are done');
	is($node->safe_psql('postgres', q(SELECT count(*) FROM jobs j JOIN queues q ON q.id = queue_id WHERE name = 'commands' AND (attempts > 1 OR result #>> '{}' <> payload::text))),
		'0', 'each once, with heartbeats, and its own result');
	kill 'TERM', $_->{KIDS}[0]{PID} foreach @workers;
	ok($_->finish, 'it stops when told to') foreach @workers;
	$bouncer->signal('INT');
	$bouncer->finish;
}
$node->stop;
done_testing();
