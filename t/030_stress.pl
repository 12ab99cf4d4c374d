# Short runs of the stress test, on a server that preloads the library and on one
# that does not: nothing is lost, nothing is claimed twice, whatever its clients
# do and however they are killed. See stress/README.md.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/../stress";
plan skip_all => 'the sources of the stress test are not here' unless -f "$source/main.c";

my $program = PostgreSQL::Test::Utils::tempdir . '/stress';
my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
chomp(my $include = `$pg_config --includedir`);
chomp(my $lib = `$pg_config --libdir`);
is(system('cc', '-O1', "-I$include", glob("$source/*.c"), '-o', $program, "-L$lib", '-lpq', '-lpthread'),
	0, 'compiles');

$ENV{PGDATABASE} = 'postgres';
$ENV{STRESS_SECONDS} ||= 10;
$ENV{STRESS_CRASH} ||= 4;

sub stress
{
	my ($name, $preload) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = '$preload'
deadlock_timeout = 100ms
autovacuum_naptime = 3s
max_prepared_transactions = 20
restart_after_crash = on
log_line_prefix = '%m [%p] %e %q%a '
END
	$node->start;

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	# far longer than it takes, should it ever hang
	my $limit = $ENV{STRESS_SECONDS} * 5 + 240;
	my $output = `timeout $limit $program @{[$node->logfile]}`;
	my $status = $?;
	note($output);

	for my $check (
		'no acknowledged job is lost',
		'no job is claimed while another lease holds',
		'no job is completed twice, or claimed after it')
	{
		like($output, qr/^$check +ok$/m, "$name: $check");
	}
	like($output, qr/^[1-9]\d* passed, 0 failed$/m, "$name: all checks");
	is($status, 0, "$name: exit status")
	  or diag(join("\n", grep { /FAILED/ } split(/\n/, $output)));
	$node->stop;
	return;
}

stress('preloaded', 'queue_service');
stress('plain', '');

done_testing();
