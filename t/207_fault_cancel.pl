# Claims that are cancelled, or run into statement_timeout, at any point,
# FAULT_CANCELS (30) times: nothing is lost or doubled, counters and slots are
# right, and nothing leaks: the log has no warning.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cancels = times_of('FAULT_CANCELS', 30);
my $node = stress_server('main', '');

my $found = stress([$node], FAULT => 'cancel', FAULTS => $cancels, CRASH => 0.005, SECONDS => 4);
checks_ok($found, 'cancelled');
my ($cancelled) = $found->{output} =~ /(\d+) claims cancelled/;
cmp_ok($cancelled, '>=', $cancels, "$cancelled claims were cancelled");
unlike(slurp_file($node->logfile), qr/WARNING: .*(leak|still active|still referenced|non-empty SPI stack|own a lock|problem in alloc|write past chunk)/,
	'nothing leaks');
row(7, '', "$cancelled cancels and timeouts in claims, $found->{errors}{57014} in all", $found);
$node->stop;

done_testing();
