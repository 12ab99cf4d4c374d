# Dumps and restores the queue: every row comes back, the keys to tenants are
# there and valid, an edited seed is kept, and the queue works at once - with
# whatever table of tenants, by whatever way of restoring.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Rows;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;

# Runs a client program; it must succeed and say nothing at all.
sub silent_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, @command) = @_;
	my $output = '';

	my $ok = IPC::Run::run([@command], '<', \undef, '>&', \$output);
	ok($ok && $output eq '', $name) or diag("@command\n$output");
}

sub psql_file
{
	return ('psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d',
		$node->connstr($_[0]), @_[1 .. $#_]);
}

sub pg_restore
{
	my ($db, @arguments) = @_;

	return ('pg_restore', '--exit-on-error', '-d', $node->connstr($db), @arguments);
}

my $extension = 'CREATE EXTENSION queue_service';
my $columns = 'name text NOT NULL UNIQUE, plan text';
# a table of the user's own that refers to tenants, and is restored beside it
my $orders = 'CREATE TABLE orders (tenant_id uuid REFERENCES tenants);';
# The dumps of most differ in little, so not every way is tried with each.
my @sources = (
	{ name => 'own', schema => 'public', sql => "$extension;" },
	{
		name => 'before',
		schema => 'public',
		sql => "CREATE TABLE tenants (id uuid PRIMARY KEY, $columns); $extension; $orders"
	},
	{
		name => 'after',
		schema => 'public',
		ways => [qw(sections single_transaction)],
		sql => "$extension; CREATE TABLE public.tenants (id uuid PRIMARY KEY, $columns); $orders"
	},
	{
		name => 'after_in_transaction',
		schema => 'public',
		ways => [qw(sections)],
		sql => "$extension;\nBEGIN;\nCREATE TABLE tenants (name text NOT NULL, id uuid NOT NULL);\n"
		  . "ALTER TABLE tenants ADD UNIQUE (id);\nCOMMIT;"
	},
	{
		name => 'taken_over',
		schema => 'public',
		ways => [qw(plain)],
		sql => "$extension; ALTER EXTENSION queue_service DROP TABLE tenants; ALTER TABLE tenants ADD plan text;"
	},
	{
		name => 'partitioned',
		schema => 'public',
		ways => [qw(sections)],
		sql => "$extension; CREATE TABLE tenants (id uuid PRIMARY KEY, name text) PARTITION BY HASH (id);"
		  . join('',
			map { "CREATE TABLE tenants_$_ PARTITION OF tenants FOR VALUES WITH (MODULUS 2, REMAINDER $_);" } 0 .. 1)
	},
	{
		name => 'schema_own',
		schema => 'q',
		ways => [qw(parallel)],
		sql => "CREATE SCHEMA q; $extension SCHEMA q;"
	},
	{
		name => 'schema_after',
		schema => 'q',
		ways => [qw(single_transaction custom disable_triggers)],
		sql => "CREATE SCHEMA q; $extension SCHEMA q;"
		  . "SET search_path = q, public; CREATE TABLE tenants (id uuid PRIMARY KEY, $columns);"
	});

foreach my $source (@sources)
{
	my ($name, $schema) = ($source->{name}, $source->{schema});
	my ($archive, $plain) = ("$dir/$name.dump", "$dir/$name.sql");

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->psql($name, $source->{sql}, on_error_die => 1, stderr => \my $stderr);
	is($stderr, '', "$name: created without a warning");
	fill($node, $name, $schema);
	my $state = state($node, $name, $schema);
	like($state, qr/jobs_tenant_fkey\|t\|.*tenants\(id\) ON DELETE RESTRICT/, "$name: has its keys");

	silent_ok("$name: dump", 'pg_dump', '-Fc', '-f', $archive, $node->connstr($name));
	silent_ok("$name: plain dump", 'pg_dump', '-f', $plain, $node->connstr($name));

	# what a data-only restore expects to be there
	my $objects = $source->{sql};
	my %ways = (
		plain => [ sub { psql_file($_[0], '-f', $plain) } ],
		single_transaction => [ sub { psql_file($_[0], '-1', '-f', $plain) } ],
		custom => [ sub { pg_restore($_[0], $archive) } ],
		# Parallel jobs of pg_restore take the tables in any order, whatever
		# refers to what; see doc/backup.md.
		parallel => [
			sub {
				('env', 'PGOPTIONS=-c session_replication_role=replica',
					pg_restore($_[0], '-j2', $archive));
			}
		],
		sections => [
			map {
				my $section = $_;
				sub { pg_restore($_[0], "--section=$section", $archive) }
			} qw(pre-data data post-data)
		],
		# keys to a table that is dropped and is no part of the extension
		clean => [
			sub { pg_restore($_[0], $archive) },
			$name eq 'own'
			? ()
			: sub { psql_file($_[0], '-c', 'DROP EXTENSION queue_service') },
			sub { pg_restore($_[0], '--clean', '--if-exists', $archive) }
		],
		disable_triggers => [
			sub { psql_file($_[0], '-c', $objects) },
			sub { pg_restore($_[0], '--data-only', '--disable-triggers', $archive) }
		],
		# pg_dump does not know that the ten tables refer to a table that is no
		# part of the extension: that has to come first by hand.
		data_only => [
			sub { psql_file($_[0], '-c', $objects) },
			sub { pg_restore($_[0], '--data-only', '-L', "$dir/$name.first", $archive) },
			sub { pg_restore($_[0], '--data-only', '-L', "$dir/$name.rest", $archive) }
		],);
	my @toc = split /^/, (run_command([ 'pg_restore', '-l', $archive ]))[0];
	append_to_file("$dir/$name.first", join('', grep { /TABLE DATA \S+ tenants/ } @toc));
	append_to_file("$dir/$name.rest", join('', grep { !/TABLE DATA \S+ tenants/ } @toc));

	foreach my $way ($source->{ways} ? @{ $source->{ways} } : sort keys %ways)
	{
		my $db = "${name}_$way";

		$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
		silent_ok("$db: restored", $_->($db)) foreach @{ $ways{$way} };
		is(state($node, $db, $schema), $state, "$db: everything is back");
		is( $node->safe_psql(
				$db,
				"SET app.current_tenant = '$tenant';"
				  . "SELECT count(*), bool_and(critical) FROM $schema.queue_claim('mail', max_jobs => 3)"),
			'3|t',
			"$db: jobs can be claimed");
		$node->safe_psql('postgres', "DROP DATABASE $db");
	}
}

$node->stop;
done_testing();
