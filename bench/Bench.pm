# What the benchmarks share: SQL, pgbench, the server's CPU time, figures.
package Bench;

use strict;
use warnings;
use Exporter qw(import);
use File::Temp qw(tempdir);
use POSIX qw(sysconf _SC_CLK_TCK);

our @EXPORT = qw($tenant $payload $temp sql write_file setup minimal_claim
  service service_turn pgbench median percentile spread with_commas chosen);

our $tenant  = '018f0000-0000-7000-8000-000000000001';
our $payload = '{"to": "someone@example.com", "template": "welcome"}';
our $temp    = tempdir(CLEANUP => 1);
my $postmaster;

$| = 1;
$SIG{INT} = $SIG{TERM} = sub { exit 1 };
# the server reads files here
chmod 0755, $temp;

sub sql
{
	my ($query) = @_;
	open(my $psql, '-|', 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-c', $query)
	  or die "psql: $!\n";
	my $result = do { local $/; <$psql> };
	close($psql) or die "failed: $query\n";
	chomp($result //= '');
	return $result;
}

sub write_file
{
	my ($name, $text) = @_;
	open(my $file, '>', "$temp/$name") or die "$temp/$name: $!\n";
	print $file $text;
	close($file) or die "$temp/$name: $!\n";
	return "$temp/$name";
}

# Runs the SQL scripts that make the opponents.
sub setup
{
	system('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null',
		map { ('-f', $_) } @_) == 0
	  or die "setup failed\n";
	($postmaster) = split /\n/, sql("SELECT pg_read_file('postmaster.pid')");
}

# A claim of n jobs from the minimal queue, of a name given as SQL.
sub minimal_claim
{
	my ($queue, $n) = @_;
	return <<"END";
UPDATE minimal_jobs SET status = 'processing', attempts = attempts + 1,
	leased_by = 'worker', leased_at = clock_timestamp(),
	leased_until = clock_timestamp() + interval '10 minutes'
	WHERE id = ANY(ARRAY(SELECT id FROM minimal_jobs
		WHERE queue = $queue AND status = 'pending' AND run_at <= clock_timestamp()
		ORDER BY priority DESC, run_at LIMIT $n FOR UPDATE SKIP LOCKED))
END
}

# For pgbench: claims n jobs of ours, and completes them.
sub service
{
	my ($queue, $n) = @_;
	return $n == 1 ? <<"END1" : <<"ENDN";
SELECT job_id, lease_token, payload, attempt FROM queue_claim('$queue', 'worker') \\gset
SELECT * FROM queue_complete(:job_id, :lease_token);
END1
SELECT array_agg(job_id) AS ids, array_agg(lease_token) AS tokens, max(payload::text) AS payload
	FROM queue_claim('$queue', 'worker', $n) \\gset
SELECT count(*) FROM queue_complete_many(:ids, :tokens);
ENDN
}

# For pgbench: completes what its last run claimed, and claims the next n.
sub service_turn
{
	my ($queue, $n) = @_;
	return <<"END";
SELECT array_agg(job_id) AS ids, array_agg(lease_token) AS tokens, max(payload::text) AS payload
	FROM queue_complete_and_claim('$queue', :ids, :tokens, worker => 'worker', max_jobs => $n)
	WHERE kind = 'claimed' \\gset
END
}

# Ticks of CPU used so far by the server, the processes that ended included.
sub cpu_ticks
{
	my $ticks = 0;
	foreach my $stat (glob('/proc/[0-9]*/stat'))
	{
		open(my $file, '<', $stat) or next;
		my $line = <$file> // next;
		my ($pid) = $line =~ /^(\d+)/;
		my @field = split ' ', substr($line, rindex($line, ')') + 2);
		# counted from the state: 1 the parent, 11 to 14 own and children's time
		$ticks += $field[11] + $field[12] if $pid == $postmaster || $field[1] == $postmaster;
		$ticks += $field[13] + $field[14] if $pid == $postmaster;
	}
	return $ticks;
}

sub wal_position
{
	return sql("SELECT pg_current_wal_insert_lsn() - '0/0'");
}

# One slice of pgbench: options are script, clients, variables, tenant (empty for
# all of them), async (commit without a flush), rate (a second, in all) and either transactions (in all) or
# seconds. Returns the transactions done, their rate, and CPU us and bytes of WAL
# of all together.
sub pgbench
{
	my (%o) = @_;
	my $clients = $o{clients};
	local $ENV{PGOPTIONS} = '-c app.current_tenant=' . ($o{tenant} // $tenant) .
	  ($o{async} ? ' -c synchronous_commit=off' : '');
	my @command = ('pgbench', '-n', '-M', 'prepared', '-c', $clients,
		'-j', $clients > 1 ? 2 : 1, '-f', write_file('script.sql', $o{script}),
		$o{transactions} ? ('-t', $o{transactions} / $clients) : ('-T', $o{seconds}),
		$o{rate} ? ('-R', $o{rate}) : (),
		map { ('-D', "$_=$o{variables}{$_}") } keys %{ $o{variables} });

	my $wal = wal_position();
	my $cpu = cpu_ticks();
	open(my $save, '>&', \*STDERR) or die;
	open(STDERR, '>', "$temp/errors") or die;
	open(my $pgbench, '-|', @command) or die "pgbench: $!\n";
	my $out = do { local $/; <$pgbench> };
	my $ok = close($pgbench);
	open(STDERR, '>&', $save) or die;
	$cpu = cpu_ticks() - $cpu;
	$wal = wal_position() - $wal;

	die "pgbench failed:\n", do { local (@ARGV, $/) = ("$temp/errors"); <> } if !$ok;
	my ($done) = $out =~ /^number of transactions actually processed: (\d+)/m;
	my ($tps) = $out =~ /^tps = ([\d.]+)/m;
	return {
		transactions => $done,
		rate => $tps,
		cpu => $cpu * 1e6 / sysconf(_SC_CLK_TCK),
		wal => $wal,
	};
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return ($sorted[$#sorted / 2] + $sorted[@sorted / 2]) / 2;
}

# The value that so much of 1 stays within.
sub percentile
{
	my ($part, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;
	return $sorted[$part * $#sorted];
}

sub spread
{
	my ($format, @values) = @_;
	my ($low, $high) = (sort { $a <=> $b } @values)[0, -1];
	return sprintf("$format [$format-$format]", median(@values), $low, $high);
}

sub with_commas
{
	my $number = sprintf('%.0f', $_[0]);
	1 while $number =~ s/^(\d+)(\d{3})/$1,$2/;
	return $number;
}

# Those of the scenarios that BENCH_SCENARIOS names, or all.
sub chosen
{
	my @scenarios = @_;
	my %wanted = map { $_ => 1 } split ' ', $ENV{BENCH_SCENARIOS} // '';
	my @chosen = %wanted ? grep { delete $wanted{ $_->{name} } } @scenarios : @scenarios;
	die 'no such scenario: ', join(' ', keys %wanted), '; there are: ',
	  join(' ', map { $_->{name} } @scenarios), "\n" if %wanted;
	return @chosen;
}

1;
