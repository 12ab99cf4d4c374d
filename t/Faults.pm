# What the tests of faults share: the stress test (stress/README.md) with a fault
# of theirs, and what doc/reliability.md shows of each. How often a fault is
# injected is set by variables of the environment; scripts/check-faults has the
# full counts, and without it there are few.
package Faults;

use strict;
use warnings;

use Exporter qw(import);
use File::Path qw(rmtree);
use FindBin;
use lib $FindBin::RealBin;
use POSIX qw(:sys_wait_h);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StressRun;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(times_of stress_server stress_pair follow stress checks_ok row kill_server is_gone);

my $program;

# How often, or how long: what the variable says, or few.
sub times_of
{
	my ($variable, $few) = @_;

	return $ENV{$variable} || $few;
}

# A server as the stress test needs it, with further settings; it is started.
sub stress_server
{
	my ($name, $settings, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%init);
	$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
deadlock_timeout = 100ms
max_prepared_transactions = 20
restart_after_crash = on
max_connections = 100
shared_buffers = 128MB
log_line_prefix = '%m [%p] %e %q%a '
$settings
END
	$node->start;
	return $node;
}

# The standby of a server that runs, with nothing of what it was before.
sub follow
{
	my ($node, $primary) = @_;

	rmtree($node->data_dir);
	$primary->backup('backup');
	$node->init_from_backup($primary, 'backup', has_streaming => 1);
	rmtree($primary->backup_dir . '/backup');
	$node->start;
	return;
}

# A primary and its synchronous standby, either of which may become the other; they
# share a log. doc/availability.md explains the setting.
sub stress_pair
{
	my $primary = stress_server('one', "queue_service.databases = 'postgres'", allows_streaming => 1);
	my $standby = PostgreSQL::Test::Cluster->new('two');

	$standby->{_logfile} = $primary->logfile;
	follow($standby, $primary);
	$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'ANY 1 (one, two)'");
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = 'ANY 1 (one, two)'");
	$_->reload for ($primary, $standby);
	$primary->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'quorum'")
	  or die 'the standby is not synchronous';
	return ($primary, $standby);
}

# Who receives WAL, and who waits for that, say so when the other side goes.
my $log_of_pairs = 'could not receive data from WAL stream|could not connect to the primary|terminating walreceiver'
  . '|wait for synchronous replication|streaming replication receiver|replication terminated by primary server|could not send end-of-streaming message|removing stale two-phase state file|canceling authentication due to timeout'
  . '|terminating background worker "queue_service';

# Runs the stress test on servers that share a log, with settings of its own
# ("CRASH" for STRESS_CRASH), and returns what it reports. A fault that is code
# runs whenever the program asks for one.
sub stress
{
	my ($nodes, %settings) = @_;
	$program //= stress_build('stress', '*.c');
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my $code = ref $settings{FAULT} ? delete $settings{FAULT} : undef;
	my ($asked, $output) = ("$folder/fault", "$folder/output");
	my $hangs = time + 600 + 60 * ($settings{FAULTS} // 0);
	local %ENV = %ENV;

	if ($code)
	{
		$settings{FAULT} = 'command';
		$settings{COMMAND} = "touch $asked; while test -e $asked; do sleep 0.02; done";
	}
	$settings{COUNTERS} //= 0;
	$settings{QUEUES} //= 100;
	@settings{qw(STANDBY LOG_EXPECT)} = (1, $log_of_pairs) if @$nodes > 1;
	$ENV{"STRESS_$_"} = $settings{$_} for keys %settings;
	$ENV{PGDATABASE} //= 'postgres';
	$ENV{PGHOST} = join ',', map { $_->host } @$nodes;
	$ENV{PGPORT} = join ',', map { $_->port } @$nodes;
	$ENV{PGTARGETSESSIONATTRS} = 'read-write' if @$nodes > 1;

	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open(STDOUT, '>', $output) or die "$output: $!";
		open(STDERR, '>&', \*STDOUT) or die "$output: $!";
		exec($program, $nodes->[0]->logfile) or die "$program: $!";
	}
	while (waitpid($pid, WNOHANG) == 0)
	{
		if (-e $asked)
		{
			$code->();
			unlink $asked;
		}
		if (time > $hangs)
		{
			kill 'KILL', $pid;
			diag('the stress test hangs');
		}
		sleep(0.02);
	}
	my %found = (status => $?, output => slurp_file($output));
	note($found{output});
	($found{statements}, $found{clients}, $found{seconds}) =
	  $found{output} =~ /^(\d+) statements of (\d+) clients in (\d+) s/m;
	$found{acknowledged}{$1} = $2 while $found{output} =~ /^(\w+) +(\d+) +\d+ +\d+$/mg;
	$found{errors}{$2} = $1 while $found{output} =~ /^ *(\d+) errors (\w{5})/mg;
	$found{failed}{$1} = $2 while $found{output} =~ /^(\S.*?) +FAILED \((\d+)\)$/mg;
	($found{away}) = $found{output} =~ /away for ([\d.]+) s/;
	return \%found;
}

# All that the stress test checks holds.
sub checks_ok
{
	my ($found, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	like($found->{output}, qr/^[1-9]\d* passed, 0 failed$/m, "$name: nothing is lost, nothing is doubled, and all other checks");
	is($found->{status}, 0, "$name: exit status")
	  or diag(join("\n", grep { /FAILED/ } split(/\n/, $found->{output})));
	return;
}

# A row of doc/reliability.md: what of a history the table shows, or other text.
sub row
{
	my ($number, $load, $faults, $result) = @_;

	if (ref $result)
	{
		my $failed = $result->{failed};
		my $doubled = 0;

		$doubled += $failed->{$_} // 0
		  for ('no job is claimed while another lease holds', 'no job is completed twice, or claimed after it',
			'one effect for each job completed with one');
		$load = "$result->{clients} clients, " . int($result->{statements} / ($result->{seconds} || 1)) . "/s" . ($load ? ", $load" : '');
		$result = sprintf '%d enqueues, %d completions | %d | %d',
		  @{ $result->{acknowledged} }{qw(enqueued completed)},
		  $failed->{'no acknowledged job is lost'} // 0, $doubled;
	}
	note("row: | $number | $load | $faults | $result |");
	return;
}

# The processes that a server has.
sub children
{
	my ($pid) = @_;

	my @pids = map { m{(\d+)$} } glob('/proc/[0-9]*');

	return grep { (eval { slurp_file("/proc/$_/stat") } // '') =~ /\) \S $pid / } @pids;
}

sub is_gone
{
	my @pids = @_;

	for (1 .. 1800)
	{
		@pids = grep { kill 0, $_ } @pids;
		return 1 unless @pids;
		sleep(0.1);
	}
	return 0;
}

# kill -9 of a server: the postmaster alone, whose processes then end by
# themselves, or all at once, as if its machine had gone.
sub kill_server
{
	my ($node, %how) = @_;
	my $postmaster = $node->{_pid};
	my @children = children($postmaster);

	$node->kill9;
	kill 'KILL', @children if $how{all};
	is_gone($postmaster, @children) or die 'processes of a server that was killed are left';
	return;
}

1;
