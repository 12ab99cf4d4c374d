# A server that ends without notice under load, FAULT_CRASHES (2) times, by an
# immediate stop and by kill -9 of the postmaster in turn: every acknowledged
# enqueue is there, what was completed stays so, and the rest can be claimed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $crashes = times_of('FAULT_CRASHES', 2);
my $node = stress_server('main', q(queue_service.databases = 'postgres'));

my $killed = 0;
my $found = stress(
	[$node],
	FAULTS => $crashes,
	CRASH => 2,
	SECONDS => 4,
	FAULT => sub {
		if ($killed++ % 2)
		{
			kill_server($node);
		}
		else
		{
			$node->stop('immediate');
		}
		$node->start;
	});
checks_ok($found, 'crashed');
is($killed, $crashes, "the server crashed $killed times");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'queue_service worker'"),
	'and its worker is there');
row(2, '', "$killed (half immediate stop, half kill -9), back in $found->{away} s at most", $found);
$node->stop;

done_testing();
