# doc/security.md is true: who may do what is what the catalogs say, and what was
# tried is what the attacks say. And some things hold whatever it says.

use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib dirname(__FILE__);
use SecurityDoc;

my $root = dirname(dirname(__FILE__));
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION queue_service; ' . SecurityDoc::roles());

sub query
{
	return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $_[0]);
}

my $doc = slurp_file("$root/doc/security.md");
my %generated = SecurityDoc::generated($root, \&query);
is(SecurityDoc::block($doc, $_), $generated{$_}, "$_ (scripts/security-doc writes it)") foreach sort keys %generated;

cmp_ok(scalar SecurityDoc::attempts($root), '>=', 60, 'attacks');

# An observer sees statistics, never what a job carries or came to.
my $carried = "'payload', 'headers', 'result', 'last_error', 'errors', 'lease_token'";
is( join(' ', map { "$_->[0].$_->[1]" } query(
			'SELECT relname, attname ' . SecurityDoc::members('pg_class')
			  . " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
			  . " CROSS JOIN (VALUES ('qs_observer'), ('qs_observer_all'), ('qs_producer'), ('qs_worker')) r (name)"
			  . " WHERE relkind IN ('r', 'v', 'm') AND attname IN ($carried) AND has_column_privilege(r.name, c.oid, a.attnum, 'SELECT')")),
	'', 'no column that carries it for observers, producers and workers');
is( join(' ', map { $_->[0] } query(
			'SELECT proname ' . SecurityDoc::members('pg_proc')
			  . " WHERE has_function_privilege('qs_observer', c.oid, 'EXECUTE') AND NOT has_function_privilege('qs_none', c.oid, 'EXECUTE')"
			  . " AND (proargnames && ARRAY[$carried] OR prorettype = 'jsonb'::regtype)")),
	'', 'no function that returns it');
# Nobody writes but by INSERT, and no right is to a whole table, or to be passed on.
is( join(' ', map { "@$_" } query(
			"SELECT relname, r.rolname, p " . SecurityDoc::members('pg_class')
			  . " CROSS JOIN pg_roles r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p"
			  . " WHERE relkind = 'r' AND r.rolname LIKE 'qs\\_%' AND has_table_privilege(r.oid, c.oid, p)")),
	'', 'no right to a whole table');
is( join(' ', map { "@$_" } query(
			"SELECT relname, attname, a.attacl " . SecurityDoc::members('pg_class')
			  . " JOIN pg_attribute a ON a.attrelid = c.oid CROSS JOIN LATERAL aclexplode(a.attacl) x"
			  . " WHERE x.is_grantable OR x.privilege_type NOT IN ('SELECT', 'INSERT')")),
	'', 'no right to write but INSERT, none to pass on');

$node->stop;
done_testing();
