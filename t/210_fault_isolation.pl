# Four clients that are at REPEATABLE READ or SERIALIZABLE in each of their
# transactions, for FAULT_ISOLATION seconds (4): nothing is doubled, and all that
# they are refused with because of it is 40001.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = times_of('FAULT_ISOLATION', 4);
my $node = stress_server('main', '');

my $found = stress([$node], SECONDS => $seconds, CLIENTS => 4, CRASH => 0, READ_COMMITTED => 0);
checks_ok($found, 'REPEATABLE READ and SERIALIZABLE');
cmp_ok($found->{errors}{40001}, '>', 0, "$found->{errors}{40001} serialization failures");
# what the stress test itself causes, and answers to what it asks for
is(join(' ', grep { !/^(40001|40P01|57014|57P01|23503|23505|55P03|55000|QS011|QS030|QS031)$/ } sort keys %{ $found->{errors} }), '', 'no other error');
row(10, 'REPEATABLE READ and SERIALIZABLE', "$found->{errors}{40001} errors 40001", $found);
$node->stop;

done_testing();
