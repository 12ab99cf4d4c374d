# pg_upgrade keeps the queue, with the extension's table of tenants and with one's
# own: every row, what watches over them, and who may do what; then it works. From
# the same version of PostgreSQL, or, with make check-upgrade, from an older one,
# whose installation QS_OLDER names.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Rows;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old', $ENV{QS_OLDER} ? (install_path => $ENV{QS_OLDER}) : ());
my $new = PostgreSQL::Test::Cluster->new('new');
note('from ' . $old->pg_version . ' to ' . $new->pg_version);
$old->init;
# newer ones have checksums unless told otherwise, and both must agree
$new->init($new->pg_version >= 18 && $old->pg_version < 18 ? (extra => ['--no-data-checksums']) : ());
$_->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'") foreach $old, $new;
$old->start;
$old->safe_psql('postgres', 'CREATE ROLE shop LOGIN');

# Beside Rows::state: triggers and event triggers, and what was granted.
my $state = <<'END';
SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2;
SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(proacl) a WHERE grantee = 'shop'::regrole ORDER BY p.oid::regprocedure::text;
SELECT attrelid::regclass, attname FROM pg_attribute, aclexplode(attacl) a WHERE grantee = 'shop'::regrole ORDER BY 1, 2;
END
my %before;

sub all_of
{
	my ($node, $db) = @_;

	return state($node, $db, 'public') . "\n" . $node->safe_psql($db, $state);
}

foreach my $db (qw(own later))
{
	$old->safe_psql('postgres', "CREATE DATABASE $db");
	$old->safe_psql($db, 'CREATE EXTENSION queue_service');
	$old->safe_psql($db, 'CREATE TABLE tenants (name text UNIQUE, id uuid PRIMARY KEY, plan text)')
	  if $db eq 'later';
	fill($old, $db, 'public');
	$old->safe_psql($db, "SELECT queue_grant('shop', 'producer'), queue_grant('shop', 'worker')");
}
# A worker has maintained the old databases. It writes statistics and alerts, so it
# has gone when both sides are compared.
foreach my $db (qw(own later))
{
	$old->safe_psql($db, 'SELECT queue_worker_start()');
	$old->poll_query_until($db, "SELECT bool_and(counted = 'exact') FROM queue_stats") or die 'the worker does not count';
}
$old->restart;
$before{$_} = all_of($old, $_) foreach qw(own later);
$old->stop;

# It writes its reports into the current folder.
chdir(PostgreSQL::Test::Utils::tempdir) or die $!;
command_ok(
	[
		'pg_upgrade', '--no-sync', '-b', $old->config_data('--bindir'), '-B', $new->config_data('--bindir'),
		'-d', $old->data_dir, '-D', $new->data_dir, '-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade');
$new->start;
foreach my $db (qw(own later))
{
	is(all_of($new, $db), $before{$db}, "$db: everything is there");
	is( $new->safe_psql($db, "SET app.current_tenant = '$tenant'; SELECT count(*), bool_and(critical) FROM queue_claim('mail', max_jobs => 3)",
			extra_params => [ '-U', 'shop' ]),
		'3|t', "$db: jobs can be claimed");
	like($new->safe_psql($db, 'SELECT queue_worker_start()'), qr/^\d+$/, "$db: a worker starts");
	ok($new->poll_query_until($db, "SELECT bool_and(counted = 'exact') FROM queue_stats"), "$db: ... and counts");
	$new->safe_psql($db, 'DROP EXTENSION queue_service');
	is($new->safe_psql($db, "SELECT to_regclass('tenants') IS NOT NULL"),
		$db eq 'own' ? 'f' : 't', "$db: the extension takes along what is its own");
}
$new->stop;
done_testing();
