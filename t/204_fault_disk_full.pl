# The disk of the tables is full, and the disk of the WAL, FAULT_FULL (1) times
# each under load: errors, or an end of the server, which is started once there
# is room; then nothing acknowledged is lost. QS_SMALL_DISKS names a folder with
# two small file systems, data and wal (scripts/check mounts them).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs two small file systems, which only root can mount' unless $ENV{QS_SMALL_DISKS};

my $times = times_of('FAULT_FULL', 1);
my $disks = $ENV{QS_SMALL_DISKS};

# Takes all that is left of a file system, also if it did before.
sub fill
{
	my ($disk) = @_;

	open(my $ballast, '>>', "$disk/ballast") or die "$disk/ballast: $!";
	for my $size (1 << 20, 4096, 1)
	{
		1 while syswrite($ballast, "\0" x $size);
	}
	close($ballast);
	return;
}

# Tables: whoever needs a new page gets an error.
my $node = stress_server('data', '');
mkdir "$disks/data/space" or die "$disks/data/space: $!";
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disks/data/space'");
$node->safe_psql('postgres', 'CREATE DATABASE small TABLESPACE small');
my $found;
{
	local $ENV{PGDATABASE} = 'small';
	my $filled = 0;

	$found = stress(
		[$node],
		FAULTS => $times,
		CRASH => 1,
		SECONDS => 4,
		EXPECT => '53100',
		FAULT => sub {
			fill("$disks/data");
			sleep(2);
			unlink "$disks/data/ballast";
		});
}
checks_ok($found, 'no room for tables');
cmp_ok($found->{errors}{53100}, '>', 0, "there were $found->{errors}{53100} errors");
row(4, 'tables on a full disk', "$times times, $found->{errors}{53100} errors 53100", $found);
$node->stop;
$node->clean_node;

# WAL: a commit cannot be written, so the server ends, and cannot start as long
# as there is no room for its WAL.
$node = stress_server('wal', "min_wal_size = 4MB\nmax_wal_size = 8MB\nwal_recycle = off", extra => [ '--wal-segsize=1', "--waldir=$disks/wal/segments" ]);
my ($panics, $started) = (0, 0);
$found = stress(
	[$node],
	FAULTS => $times,
	CRASH => 1,
	SECONDS => 4,
	EXPECT => '53100',
	LOG_EXPECT => 'No space left on device|could not write to file|could not extend file|was terminated by signal 6|was terminated by signal 9',
	FAULT => sub {
		my $panic = qr/PANIC: .*No space left/;
		my $before = () = slurp_file($node->logfile) =~ /$panic/g;
		my $end = time + 60;

		# segments that are deleted make room
		while (time < $end && (() = slurp_file($node->logfile) =~ /$panic/g) == $before)
		{
			fill("$disks/wal");
			sleep(0.05);
		}
		# whether it can start now
		sleep(1);
		unlink "$disks/wal/ballast";
		$panics++ if (() = slurp_file($node->logfile) =~ /$panic/g) > $before;
		if (system('pg_ctl', '-s', '-D', $node->data_dir, 'status') != 0)
		{
			is_gone($node->{_pid});
			$node->{_pid} = undef;
			$node->start;
			$started++;
		}
	});
checks_ok($found, 'no room for WAL');
is($panics, $times, 'each time the server ended');
row(4, 'WAL on a full disk', "$times times, each ended the server, which had to be started $started times; back in $found->{away} s at most", $found);
$node->stop;
$node->clean_node;

done_testing();
