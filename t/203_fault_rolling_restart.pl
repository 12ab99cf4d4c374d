# Rolling restarts under load, FAULT_RESTARTS (1) rounds: the standby is restarted,
# then takes over from the primary, which is stopped, started again as its
# standby, and is ready to take over in the next round. Nothing is lost.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $restarts = times_of('FAULT_RESTARTS', 1);
my ($primary, $standby) = stress_pair();
my $done = 0;

sub change_over
{
	$standby->restart;
	$primary->wait_for_catchup($standby);
	# A fast stop waits until the standby has all.
	$primary->stop('fast');
	$standby->promote;
	$primary->enable_streaming($standby);
	$primary->start;
	($primary, $standby) = ($standby, $primary);
	$done++;
	return;
}

my $found = stress(
	[ $primary, $standby ],
	FAULTS => $restarts,
	CRASH => 2,
	SECONDS => 4,
	FAULT => \&change_over);
checks_ok($found, 'restarted');
is($done, $restarts, "there were $done rounds");
row('3, planned', 'synchronous standby', "$done rolling restarts of both, commits again after $found->{away} s at most", $found);
$_->stop('immediate') for ($standby, $primary);

done_testing();
