# A short run of the stress test of limited queues, see stress/README.md.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/../stress/limits";
plan skip_all => 'the sources of the stress test are not here' unless -f "$source/slots.c";

my $program = PostgreSQL::Test::Utils::tempdir . '/slots';
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
chomp(my $include = `$pg_config --includedir`);
chomp(my $lib = `$pg_config --libdir`);
is(system('cc', '-O1', "-I$include", glob("$source/*.c"), '-o', $program, "-L$lib", '-lpq', '-lpthread'),
	0, 'compiles');

my $node = PostgreSQL::Test::Cluster->new('slots');
$node->init;
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
restart_after_crash = on
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION queue_service');
$ENV{PGDATABASE} = 'postgres';
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
my $output = `timeout 120 $program 10`;
my $status = $?;
note($output);
foreach my $check (
	'never more leases than slots', 'never more normal ones than theirs',
	'never more seen at once', 'never more normal ones seen')
{
	like($output, qr/^$check +ok /m, $check);
}
like($output, qr/^there were leases +ok /m, 'there were leases');
diag($output) if $status != 0;

$node->stop;
done_testing();
