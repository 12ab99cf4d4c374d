# kill -9 of backends that are claiming, FAULT_KILLS (3) times: the server is back
# within FAULT_BACK seconds, no job is lost, and none is stuck for longer than
# its lease.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Recovery;
use Test::More;

my $kills = times_of('FAULT_KILLS', 3);
my $back = times_of('FAULT_BACK', 30);
my $node = stress_server('main', '');

my $found = stress([$node], FAULT => 'claim', FAULTS => $kills, CRASH => 1, SECONDS => 4);
checks_ok($found, 'killed in claims');
my ($killed) = $found->{output} =~ /(\d+) crashes by kill -9/;
cmp_ok($killed, '>=', $kills, "$killed backends were killed");
cmp_ok($found->{away}, '<=', $back, "away for $found->{away} s at most");
row(1, '', "$killed kill -9, back in $found->{away} s at most", $found);

# A lease that its worker took to the grave: not claimable before it ends, and
# claimable once it has. (One that was not flushed yet a crash undoes, and its job is
# claimable at once.)
$node->safe_psql('postgres', q(
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';
	ALTER DATABASE postgres SET queue_service.async_claim = off;));
$node->safe_psql('postgres', q(SELECT queue_create('stuck', max_attempts => 1000), queue_enqueue('stuck')));
my $claim = q(SELECT us(clock_timestamp()), us(leased_until), pg_backend_pid() FROM queue_claim('stuck', lease => '1 second'));
my $until = 0;
foreach my $n (1 .. ($kills < 10 ? $kills : 10))
{
	my $worker = $node->background_psql('postgres', on_error_stop => 0);
	my ($lease, $at, $pid) = ('', 0, 0);

	# asks again and again, until it has the job
	for (1 .. 1800)
	{
		$lease = $worker->query($claim) and last;
		select undef, undef, undef, 0.01;
	}
	($at, my $ends, $pid) = split /\|/, $lease;
	cmp_ok($at, '>=', $until, "lease $n: not before the one before ended");
	cmp_ok($at, '<', $until + 1_000_000 * $back, "lease $n: and soon after") if $n > 1;
	$until = $ends;
	kill 'KILL', $pid;
	poll_through_crash($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die 'the server did not start again';
	$worker->{run}->kill_kill;
}
$node->stop;

done_testing();
