# ALTER EXTENSION UPDATE, rehearsed with a version 1.1 that only this test has: its
# library serves the SQL of 1.0 until the update, which comes while clients work
# and is known to sessions that are older. What goes wrong without a restart fails,
# and changes nothing.

use strict;
use warnings;

use File::Basename;
use File::Path qw(make_path);
use FindBin;
use lib $FindBin::RealBin;
use Load;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/../src";
my $tmp = PostgreSQL::Test::Utils::tempdir;

# An installation of PostgreSQL that may be changed, with its folders as they are.
my %dir = map { chomp(my $dir = `pg_config --$_`); $_ => $dir } qw(bindir pkglibdir sharedir);
my $top = dirname($dir{bindir});
$top = dirname($top) until 2 == grep { index($_, "$top/") == 0 } @dir{qw(pkglibdir sharedir)};
foreach my $dir (values %dir)
{
	my $copy = $dir =~ s/^\Q$top\E/$tmp/r;

	make_path($copy);
	system('cp', '-a', "$dir/.", $copy) == 0 or die "cp: $dir";
	$dir = $copy;
}

# Replaces a file as "make install" does: who has the old one open keeps it.
sub install
{
	my ($folder, $file, $content) = @_;

	unlink "$folder/$file.new";
	append_to_file("$folder/$file.new", $content);
	rename("$folder/$file.new", "$folder/$file") or die "$file: $!";
	return;
}

# Version 1.1: a function that is replaced where it stands, one of the same name
# with an argument more, and one whose result changes, so that it has to be dropped.
my $script = <<'END';
ALTER TABLE @extschema@.jobs ADD note text;
CREATE OR REPLACE FUNCTION @extschema@.queue_complete(job_id uuid, lease_token bigint, result jsonb DEFAULT NULL,
	strict boolean DEFAULT false, OUT job_id uuid, OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'queue_complete_1_1';
CREATE FUNCTION @extschema@.queue_complete(job_id uuid, lease_token bigint, result jsonb, strict boolean, note text,
	OUT job_id uuid, OUT outcome text)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'queue_complete_noted';
REVOKE ALL ON FUNCTION @extschema@.queue_complete(uuid, bigint, jsonb, boolean, text) FROM PUBLIC;
DROP FUNCTION @extschema@.queue_pause(text);
CREATE FUNCTION @extschema@.queue_pause(queue text, reason text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'queue_pause_1_1';
REVOKE ALL ON FUNCTION @extschema@.queue_pause(text, text) FROM PUBLIC;
END
my $code = <<'END';
#include "postgres.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
extern Datum queue_complete(PG_FUNCTION_ARGS);
extern Datum queue_pause(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(queue_complete_1_1);
PG_FUNCTION_INFO_V1(queue_complete_noted);
PG_FUNCTION_INFO_V1(queue_pause_1_1);
static Datum
complete(FunctionCallInfo fcinfo, const char *note)
{
	SetConfigOption("update.note", note, PGC_USERSET, PGC_S_SESSION);
	return queue_complete(fcinfo);
}
Datum queue_complete_1_1(PG_FUNCTION_ARGS) { return complete(fcinfo, "as of 1.1"); }
Datum queue_complete_noted(PG_FUNCTION_ARGS) { return complete(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(4))); }
Datum
queue_pause_1_1(PG_FUNCTION_ARGS)
{
	(void) queue_pause(fcinfo);
	return CStringGetTextDatum(PG_ARGISNULL(1) ? "paused" : text_to_cstring(PG_GETARG_TEXT_PP(1)));
}
END
my @objects = glob("$source/*.o");
my $old_library = slurp_file("$dir{pkglibdir}/queue_service.so");
my $old_control = slurp_file("$dir{sharedir}/extension/queue_service.control");

append_to_file("$tmp/added.c", $code);
chomp(my $include = `$ENV{PG_CONFIG} --includedir-server`);
my @flags = split ' ', $ENV{COPT} // '';    # as the objects were compiled
is(system('cc', '-shared', '-fPIC', @flags, "-I$include", "$tmp/added.c", @objects, '-o', "$tmp/new.so"),
	0, 'the library of 1.1 is linked');
my $new_library = slurp_file("$tmp/new.so");

sub install_new
{
	install($dir{pkglibdir}, 'queue_service.so', $new_library);
	install("$dir{sharedir}/extension", 'queue_service--1.0--1.1.sql', $script);
	install("$dir{sharedir}/extension", 'queue_service.control', $old_control =~ s/^default_version = .*$/default_version = '1.1'/mr);
	return;
}

my $node = PostgreSQL::Test::Cluster->new('main', install_path => dirname($dir{bindir}));
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'queue_service'
queue_service.databases = 'shop'
));
$node->start;
$node->safe_psql('postgres', "$Load::role; CREATE DATABASE shop; CREATE DATABASE late");
prepare($node, 'shop');

# The SQLSTATE that a statement fails with.
sub sqlstate
{
	my ($database, $sql) = @_;
	my $stderr;

	$node->psql($database, "\\set VERBOSITY sqlstate\n$sql", stderr => \$stderr);
	return $stderr =~ /ERROR:  (\w{5})/ ? $1 : "no error: $stderr";
}

sub version
{
	return $node->safe_psql($_[0], "SELECT extversion FROM pg_extension WHERE extname = 'queue_service'");
}

my $acl = q(SELECT proname, pronargs, a.grantee::regrole, a.privilege_type FROM pg_proc, aclexplode(proacl) a
	WHERE a.grantee = 'shop'::regrole ORDER BY 1, 2);
my $granted = $node->safe_psql('shop', $acl);

# The files are there, but the server has the old library.
start_clients($node, 'shop');
let_work(20);
install_new();
is(sqlstate('shop', 'ALTER EXTENSION queue_service UPDATE'), '42883', 'no update before the new library is loaded');
is(version('shop'), '1.0', '... and nothing has changed');
let_work(20);
is(stop_clients(), 0, 'clients notice nothing of it') or diag(client_errors());

# The new library serves the old SQL, then the update comes, under load.
$node->restart;
start_clients($node, 'shop');
my $old = $node->background_psql('shop', extra_params => [ '-U', 'shop' ], on_error_stop => 0);
$old->query_safe(q(PREPARE claim AS SELECT job_id, lease_token FROM queue_claim('own', 'w');
	PREPARE complete (uuid, bigint) AS SELECT outcome FROM queue_complete($1, $2)));
$node->safe_psql('shop', "SET app.current_tenant = '$tenant'; SELECT queue_create(q) FROM unnest('{own,other}'::text[]) q; SELECT queue_enqueue('own', to_jsonb(i)) FROM generate_series(1, 9) i");

# A job is done in the session that is older than the update.
sub done_by_old
{
	my ($job, $token) = split /\|/, $old->query_safe('EXECUTE claim');

	return $old->query_safe("EXECUTE complete('$job', $token)") . $old->query_safe(q(SELECT ', ' || coalesce(current_setting('update.note', true), '')));
}

is(done_by_old(), 'done, ', 'the new library with the old SQL');
let_work(50);

# A statement that runs while the update drops its function.
my $running = $node->background_psql('shop');
my $locker = $node->background_psql('shop');
$locker->query_safe('SELECT pg_advisory_lock(42)');
$running->query_safe("SET app.current_tenant = '$tenant'");
$running->query_until(qr/started/, "\\echo started\n"
	  . "SELECT queue_pause(l.queue) FROM (SELECT 'other' AS queue, pg_advisory_lock_shared(42) FROM generate_series(1, 2) OFFSET 0) l;\n");
$node->poll_query_until('shop', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") or die;

$node->safe_psql('shop', 'ALTER EXTENSION queue_service UPDATE');
is(version('shop'), '1.1', 'ALTER EXTENSION UPDATE, under load');
$locker->query_safe('SELECT pg_advisory_unlock(42)');
is($running->query_safe('SELECT 1'), "t\nf\n1", 'a statement whose function was dropped meanwhile ends as it began');
$_->quit foreach $running, $locker;
let_work(50);
is(done_by_old(), 'done, as of 1.1', 'a session and its plans that are older than the update go on, by the new function');
is(stop_clients(), 0, 'no client has an error') or diag(client_errors());
is(client_errors(), '', '... or a warning');

# What is new.
is($node->safe_psql('shop', qq(SET app.current_tenant = '$tenant';
	SELECT outcome, current_setting('update.note') FROM (SELECT * FROM queue_claim('own') OFFSET 0) c,
		LATERAL (SELECT * FROM queue_complete(c.job_id, c.lease_token, NULL, true, 'by hand') OFFSET 0) o)),
	'done|by hand', 'the new signature');
is($node->safe_psql('shop', qq(SET app.current_tenant = '$tenant'; SELECT queue_pause('other', 'night'))), 'night', 'the new result');
is($node->safe_psql('shop', $acl), $granted, 'roles have what they had');
ok($node->poll_query_until('shop', "SELECT ok FROM queue_health WHERE item = 'worker'"), 'the worker runs');
drain($node, 'shop', 'updated');

# Dump and restore, which brings 1.1 at once.
$node->safe_psql('shop', "UPDATE jobs SET note = 'kept'");
my $rows = 'SELECT count(*), md5(string_agg(j::text, chr(10) ORDER BY id)) FROM jobs j';
my $before = $node->safe_psql('shop', $rows);
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$tmp/dump", $node->connstr('shop') ], 'pg_dump');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('late'), "$tmp/dump" ], 'pg_restore');
is(version('late'), '1.1', 'a restore has the new version');
is($node->safe_psql('late', $rows), $before, '... and all jobs');
is($node->safe_psql('late', $acl), $granted, '... and what roles have');
like($node->safe_psql('late', q(SELECT created FROM queue_enqueue('own')), extra_params => [ '-U', 'shop' ]), qr/^t$/, '... and works');
$old->quit;

# Without preloading each session has the library that it began with.
install($dir{pkglibdir}, 'queue_service.so', $old_library);
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->safe_psql('plain', "CREATE EXTENSION queue_service VERSION '1.0'; INSERT INTO tenants (id) VALUES ('$tenant'); SET app.current_tenant = '$tenant'; SELECT queue_create('own')");
$old = $node->background_psql('plain', on_error_stop => 0);
$old->query_safe("SET app.current_tenant = '$tenant'; SELECT queue_enqueue('own')");
install_new();
$node->safe_psql('plain', 'ALTER EXTENSION queue_service UPDATE');
$old->query(q(SELECT outcome FROM (SELECT * FROM queue_claim('own') OFFSET 0) c, queue_complete(c.job_id, c.lease_token)));
like($old->{stderr}, qr/could not find function "queue_complete_1_1"/, 'not preloaded, a session from before the files were replaced has to connect again');
$old->{stderr} = '';
is($node->safe_psql('plain', qq(SET app.current_tenant = '$tenant'; SELECT outcome FROM (SELECT * FROM queue_claim('own') OFFSET 0) c, queue_complete(c.job_id, c.lease_token))), 'done', 'a new one works');
$old->quit;
$node->stop;
done_testing();
