# With queue_service.bind_tenant nobody but superusers, and roles that were
# granted it, changes app.current_tenant, whatever way he tries.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $own = '00000000-0000-7000-8000-00000000000a';
my $other = '00000000-0000-7000-8000-00000000000b';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'");
$node->start;

# The first word of what comes: a value, or a SQLSTATE.
sub outcome
{
	my ($role, $sql, %how) = @_;
	my ($stdout, $stderr);

	local $ENV{PGOPTIONS} = $how{options} // '';
	$node->psql($how{db} // 'postgres',
		$sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ],
		on_error_stop => 0,
		stdout => \$stdout,
		stderr => \$stderr);
	return join ' ', grep { $_ ne '' } $stdout, map { /(?:ERROR|FATAL): +(.*)/ ? $1 : () } split /\n/, $stderr;
}

my $who = q{SELECT current_setting('app.current_tenant', true)};
my $seen = q{SELECT string_agg(name, ' ') FROM queues};

$node->safe_psql(
	'postgres', qq{
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$own', 'own'), ('$other', 'other');
	SET app.current_tenant = '$own';
	SELECT queue_create('own'), queue_enqueue('own', '"own"');
	SET app.current_tenant = '$other';
	SELECT queue_create('other'), queue_enqueue('other', '"other"');
	CREATE ROLE tenant LOGIN;
	CREATE ROLE tenant2 LOGIN;
	CREATE ROLE pooler LOGIN;
	CREATE ROLE creator LOGIN CREATEROLE;
	CREATE ROLE fleet LOGIN;
	SELECT queue_grant(r, 'admin') FROM unnest('{tenant, tenant2, pooler}'::name[]) r;
	SELECT queue_grant('fleet', 'worker', all_tenants => true);
	GRANT tenant TO pooler;
	GRANT tenant2 TO tenant;
	CREATE SCHEMA own AUTHORIZATION tenant;
	ALTER ROLE tenant SET app.current_tenant = '$own';
	ALTER ROLE tenant2 SET app.current_tenant = '$other';
});

# Unbound, the setting is anybody's; what a tenant may not do even then is to
# leave something that is still there when it is bound.
is(outcome('tenant', $who), $own, 'unbound: a role has its tenant');
is(outcome('tenant', "SET app.current_tenant = '$other'; $seen"), 'other', 'unbound: it may act for another');
is(outcome('tenant', "ALTER ROLE tenant SET app.current_tenant = '$other'"), '42501', 'unbound: not for ever');
is( outcome('tenant', "CREATE FUNCTION own.f() RETURNS int LANGUAGE sql SET app.current_tenant = '$other' AS 'SELECT 1'"),
	'42501', 'unbound: not by a function');
is( $node->safe_psql('postgres', q{SELECT ok, detail LIKE 'not bound:%' FROM queue_health WHERE item = 'tenants'}),
	't|t', 'unbound: queue_health says so');

$node->append_conf('postgresql.conf', "app.current_tenant = 'from a file'\nqueue_service.bind_tenant = on");
$node->restart;
is( $node->safe_psql('postgres', q{SELECT ok, detail LIKE 'bound:%' FROM queue_health WHERE item = 'tenants'}),
	't|t', 'bound: queue_health says so');
is(outcome('pooler', $who), 'from a file', 'a value from before the library was loaded');
$node->append_conf('postgresql.conf', "app.current_tenant = ''");
$node->restart;
is(outcome('pooler', $who), '', 'unset');
is(outcome('pooler', 'SELECT queue_peek(\'own\')'), 'QS001', 'unset, no tenant');
is(outcome('tenant', $who), $own, 'a role has its tenant');
is(outcome('tenant', $seen), 'own', 'and sees what is its own');
is(outcome('tenant', q{SELECT payload FROM queue_peek('own')}), '"own"', 'its functions work');
is(outcome('tenant', q{SELECT queue_peek('other')}), 'QS010', 'for itself');

# attack: Bound: SET, SET LOCAL, RESET, set_config(), pg_settings, DO, a default, a condition, beside a claim
# fails: 42501: app.current_tenant is a setting for superusers and for who was granted SET on it
# attack: Bound: the SET of a function or procedure, SET in one, SECURITY DEFINER of one's own
# fails: 42501, when it is defined or when it is called; a function of one's own runs as oneself
# attack: Bound: ALTER ROLE of one's own, or as CREATEROLE; ALTER ROLE ALL, ALTER DATABASE, ALTER SYSTEM, GRANT SET
# fails: 42501: what is stored is checked when it is stored; also before tenants are bound, as nobody but a superuser stores a setting that no library defines
# attack: Bound: SET ROLE, SET ROLE NONE and SET SESSION AUTHORIZATION, to come by another tenant
# fails: the tenant is that of the session; a role that is taken on brings none. Only superusers change the session's role
# Every way to change it. What follows in the session is its own tenant.
my $set = "app.current_tenant = '$other'";
my $config = "set_config('app.current_tenant', '$other'";
my @refused = (
	[ 'SET', "SET $set" ],
	[ 'SET SESSION', "SET SESSION $set" ],
	[ 'SET LOCAL', "BEGIN; SET LOCAL $set; ROLLBACK" ],
	[ 'SET in other letters', "SET App.CURRENT_tenant TO '$other'" ],
	[ 'SET to its default', 'SET app.current_tenant TO DEFAULT' ],
	[ 'SET to nothing', q{SET app.current_tenant = ''} ],
	[ 'SET to its own', "SET app.current_tenant = '$own'" ],
	[ 'RESET', 'RESET app.current_tenant' ],
	[ 'SET FROM CURRENT in a function', q{CREATE FUNCTION own.f() RETURNS int LANGUAGE sql SET app.current_tenant FROM CURRENT AS 'SELECT 1'} ],
	[ 'set_config()', "SELECT $config, false)" ],
	[ 'set_config() for the transaction', "SELECT $config, true)" ],
	[ 'set_config() of null', q{SELECT set_config('app.current_tenant', NULL, false)} ],
	[ 'set_config() beside a claim', "SELECT $config, true), queue_claim('own')" ],
	[ 'set_config() before a claim', "WITH s AS MATERIALIZED (SELECT $config, true)) SELECT c.* FROM s, queue_claim('other') c" ],
	[ 'set_config() in a condition', "SELECT name FROM queues WHERE $config, false) = name" ],
	[ 'set_config() in a default', "CREATE TEMP TABLE t (a text DEFAULT $config, false)); INSERT INTO t DEFAULT VALUES" ],
	[ 'set_config() in DO', "DO \$\$ BEGIN PERFORM $config, false); END \$\$" ],
	[ 'pg_settings', "UPDATE pg_settings SET setting = '$other' WHERE name = 'app.current_tenant'" ],
	[ 'SET of a function', "CREATE FUNCTION own.f() RETURNS int LANGUAGE sql SET $set AS 'SELECT 1'" ],
	[ 'SET of a function, later', "CREATE FUNCTION own.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION own.f SET $set" ],
	[ 'SET of a procedure', "CREATE PROCEDURE own.p() LANGUAGE sql SET $set AS 'SELECT 1'" ],
	[ 'SET in a function', "CREATE FUNCTION own.f() RETURNS void LANGUAGE plpgsql AS 'BEGIN SET $set; END'; SELECT own.f()" =~ s/'$other'/''$other''/r ],
	[ 'SET in a SECURITY DEFINER', "CREATE FUNCTION own.f() RETURNS text LANGUAGE sql SECURITY DEFINER AS \$\$SELECT $config, false)\$\$; SELECT own.f()" ],
	[ 'ALTER ROLE of its own', "ALTER ROLE tenant SET $set" ],
	[ 'ALTER ROLE RESET', 'ALTER ROLE tenant RESET app.current_tenant' ],
	[ 'ALTER ROLE in a database', "ALTER ROLE tenant IN DATABASE postgres SET $set" ],
	[ 'ALTER ROLE ALL', "ALTER ROLE ALL SET $set" ],
	[ 'ALTER DATABASE', "ALTER DATABASE postgres SET $set" ],
	[ 'ALTER SYSTEM', "ALTER SYSTEM SET $set" ],
	[ 'GRANT SET', 'GRANT SET ON PARAMETER app.current_tenant TO tenant' ],
	[ 'session_replication_role', 'SET session_replication_role = replica' ],
	[ 'SET after SET ROLE', "SET ROLE tenant2; SET $set" ],
	[ 'SET after SET ROLE NONE', "SET ROLE NONE; SET $set" ],
	[ 'SET ROLE of the pooler', "SET ROLE pooler; SET $set" ],
	[ 'SET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION tenant2' ]);
foreach (@refused)
{
	my ($name, $sql) = @$_;
	my $outcome = outcome('tenant', "$sql; $who; $seen");

	like($outcome, qr/^(?:''\n)?$own\nown (42501 ?)+$/, "refused: $name");
	$node->safe_psql('postgres', 'DROP SCHEMA own CASCADE; CREATE SCHEMA own AUTHORIZATION tenant');
}
is(outcome('tenant', $who), $own, 'none of it stays');
is(outcome('creator', "ALTER ROLE tenant SET $set"), '42501', 'refused: ALTER ROLE by who may create roles');
# attack: Bound: PGOPTIONS
# fails: the connection is refused
# (psql may be gone before it reads anything)
like(outcome('tenant', '', options => "-c app.current_tenant=$other"), qr/^(42501|permission denied)/, 'refused: PGOPTIONS');
like(outcome('tenant', '', options => "--app.current_tenant=$other"), qr/^(42501|permission denied)/, 'refused: PGOPTIONS, the long way');
is(outcome('tenant', "SET search_path = pg_catalog; $who"), $own, 'other settings are free');

# attack: Bound: RESET ALL and DISCARD ALL
# fails: they give back what the session began with: the tenant of the role that logged in
# What clears a session gives it back the tenant that it began with.
is(outcome('tenant', "$_; $who; $seen"), "$own\nown", $_)
  foreach 'RESET ALL', 'DISCARD ALL', 'SET ROLE tenant2; RESET ALL; RESET ROLE', 'SET ROLE NONE; DISCARD ALL',
  'SET SESSION AUTHORIZATION DEFAULT', 'BEGIN; RESET ALL; ROLLBACK';

# A role that is taken on brings no tenant.
is(outcome('tenant', "SET ROLE tenant2; $who; $seen"), "$own\nown", 'SET ROLE takes over no tenant');
is(outcome('pooler', "SET ROLE tenant; $who"), '', 'nor from the role of the session');
is(outcome($node->safe_psql('postgres', 'SELECT current_user'), "SET SESSION AUTHORIZATION tenant; $who; SET $set"),
	'42501', 'SET SESSION AUTHORIZATION takes over no tenant, but the rights');

# Who was granted it.
is(outcome('pooler', "SET $set; $who"), '42501', 'a pooler needs the right');
$node->safe_psql('postgres', 'GRANT SET ON PARAMETER app.current_tenant TO pooler');
is(outcome('pooler', "SET $set; $who; $seen"), "$other\nother", 'and then sets it');
is(outcome('pooler', "BEGIN; SET LOCAL app.current_tenant = '$own'; $seen; COMMIT; $who"), "own\n", 'for a transaction');
is(outcome('pooler', $who, options => "-c app.current_tenant=$other"), $other, 'in PGOPTIONS');
is(outcome('pooler', "SET $set; $_; $who"), '', "$_ leaves a pooler's session without a tenant")
  foreach 'RESET ALL', 'DISCARD ALL';
is(outcome('pooler', "BEGIN; SET LOCAL $set; SET LOCAL ROLE tenant; $seen; SET LOCAL app.current_tenant = '$own'; ROLLBACK"),
	'other 42501', 'below it, a tenant changes nothing');
is(outcome('pooler', "SET $set; SET ROLE tenant; RESET ROLE; SET app.current_tenant = '$own'; $seen"),
	'own', 'unless it goes back to the role of the session');
is(outcome('tenant', "SET $set; $who"), "$own 42501", 'to others it gives nothing');
$node->safe_psql('postgres', "ALTER ROLE pooler SET app.current_tenant = 'bad'");
is(outcome('pooler', "$seen; SELECT queue_peek('own')"), 'QS002', 'a bad value of a role is an error, and not no tenant');
is(outcome('fleet', 'SELECT count(*) FROM (SELECT queue_claim(q) FROM unnest(ARRAY[\'own\', \'other\']) q) c'),
	'2', 'all tenants are served as ever');

# A function of a superuser may act for a tenant; that is what it is made for.
$node->safe_psql('postgres', qq{
	CREATE FUNCTION queues_of_other() RETURNS text LANGUAGE sql SECURITY DEFINER SET $set
		SET search_path = pg_catalog, pg_temp AS 'SELECT current_setting(''app.current_tenant'')';
	CREATE FUNCTION invoked() RETURNS text LANGUAGE sql SET $set AS 'SELECT current_setting(''app.current_tenant'')'});
is(outcome('tenant', "SELECT queues_of_other(); $who"), "$other\n$own", 'SET of a SECURITY DEFINER of a superuser');
is(outcome('tenant', "SELECT invoked(); $who"), "$own 42501", 'refused: SET of a function of a superuser that is invoked');

# attack: Bound: parallel workers, whose settings are put in place anew
# fails: they have the tenant of their leader
# Parallel workers, and what is prepared before.
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;'
  . ' SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;';
$node->safe_psql('postgres',
	"SET app.current_tenant = '$own'; SELECT count(*) FROM queue_enqueue_many('own', array_fill('{}'::jsonb, ARRAY[5000]));"
	  . ' ALTER TABLE jobs SET (parallel_workers = 2); VACUUM ANALYZE jobs');
like(outcome('tenant', "$parallel EXPLAIN (COSTS off) SELECT count(*) FROM jobs"), qr/Parallel Seq Scan/, 'a parallel plan');
is(outcome('tenant', "$parallel SELECT count(*), min(tenant_id::text) FROM jobs"), "5001|$own", 'parallel workers have the tenant');
is(outcome('pooler', "SET $set; $parallel SELECT count(*), min(tenant_id::text) FROM jobs"), "1|$other",
	'also that of a role with the right to set it');

# Dump and restore.
my $dump = $node->basedir . '/dump.sql';
my @dump = ('pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump);
command_ok([ @dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-f', $dump, 'restored' ], 'restore');
is( $node->safe_psql('restored', 'SELECT count(*), count(DISTINCT tenant_id) FROM jobs'),
	$node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT tenant_id) FROM jobs'),
	'every row is back');
is(outcome('tenant', $seen, db => 'restored'), 'own', 'and the tenant sees its own');
command_ok([ 'pg_dumpall', '-g', '-h', $node->host, '-p', $node->port, '-f', $dump ], 'pg_dumpall');
like(slurp_file($dump), qr/^ALTER ROLE tenant SET "app.current_tenant" TO '$own';$/m, 'dumps whose a role is');

# attack: Bound: have the library loaded late, or not at all, so that nothing is bound
# fails: then nobody is served: QS041
# Not preloaded, the library serves nobody, rather than tenants that are not bound.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(outcome('tenant', "$seen; SELECT queue_peek('own')"), 'QS041 QS041', 'not preloaded: nobody is served');
$node->append_conf('postgresql.conf', 'queue_service.bind_tenant = off');
$node->restart;
is(outcome('tenant', $seen), 'own', 'not preloaded and not bound: all are served');

$node->stop;
done_testing();
