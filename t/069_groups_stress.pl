# A short run of the stress test of groups, see stress/README.md.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/../stress/groups";
plan skip_all => 'the sources of the stress test are not here' unless -f "$source/groups.c";

my $program = PostgreSQL::Test::Utils::tempdir . '/groups';
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
chomp(my $include = `$pg_config --includedir`);
chomp(my $lib = `$pg_config --libdir`);
is(system('cc', '-O1', "-I$include", glob("$source/*.c"), '-o', $program, "-L$lib", '-lpq', '-lpthread'),
	0, 'compiles');

my $node = PostgreSQL::Test::Cluster->new('groups');
$node->init;
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
restart_after_crash = on
deadlock_timeout = 100ms
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION queue_service');
$ENV{PGDATABASE} = 'postgres';
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
my $output = `timeout 150 $program 10`;
my $status = $?;
note($output);
foreach my $check (
	'the checks find what is wrong', 'there were leases',
	'never two of a group at once', 'never more of a group than its three',
	'never out of order', 'none is stuck', 'none is lost', 'no other errors')
{
	like($output, qr/^$check +ok /m, $check);
}
diag($output) if $status != 0;

$node->stop;
done_testing();
