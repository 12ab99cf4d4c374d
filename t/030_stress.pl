# Short runs of the stress test, on a server that preloads the library and on one
# that does not: nothing is lost, nothing is claimed twice, whatever its clients
# do and however they are killed. See stress/README.md.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

foreach my $preload ('queue_service', '')
{
	my $name = $preload ? 'preloaded' : 'plain';
	my $node = stress_server($name, "shared_preload_libraries = '$preload'\nautovacuum_naptime = 3s");

	checks_ok(stress([$node], SECONDS => $ENV{STRESS_SECONDS} || 10, CRASH => $ENV{STRESS_CRASH} || 4, COUNTERS => 4, QUEUES => 1000), $name);
	$node->stop;
}

done_testing();
