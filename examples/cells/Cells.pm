# The servers of the demonstration: connections, what it asks them for, and its
# counts. CELLS_PG_CTL is pg_ctl, run as the servers' owner; CELLS_DIR has their
# data, and CELLS_NODES says how many there are.
package Cells;

use strict;
use warnings;
use DBI;
use Exporter qw(import);
use File::Basename;
use Time::HiRes qw(sleep time);

our @EXPORT = qw($nodes @nodes $dir connect_router connect_node row column ok is
  eventually fails move recover pg_ctl summary time sleep);

our $nodes = $ENV{CELLS_NODES};
our @nodes = (0 .. $nodes - 1);
our $dir = $ENV{CELLS_DIR};
my ($passed, $failed) = (0, 0);

sub connect_to
{
	my ($where) = @_;
	return DBI->connect("dbi:Pg:$where", undef, undef,
		{ RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1, AutoInactiveDestroy => 1 });
}

sub connect_router
{
	my $session = connect_to('dbname=router');
	$session->do('SET client_min_messages = error');
	return $session;
}

# As whoever works for all tenants; or as the superuser.
sub connect_node
{
	my ($node, $user) = @_;
	return connect_to('dbname=cell;port=' . ($ENV{PGPORT} + 1 + $node) . ';user=' . ($user // 'postgres'));
}

sub row
{
	my ($session, $sql, @arguments) = @_;
	return $session->selectrow_array($sql, undef, @arguments);
}

sub column
{
	my ($session, $sql, @arguments) = @_;
	return @{ $session->selectcol_arrayref($sql, undef, @arguments) };
}

sub ok
{
	my ($true, $name, $why) = @_;

	$true ? $passed++ : $failed++;
	print $true ? 'ok      ' : 'FAILED  ', $name, $true || !defined $why ? '' : ": $why", "\n";
	return $true;
}

sub is
{
	my ($got, $expected, $name) = @_;
	return ok(($got // 'nothing') eq $expected, $name, 'got ' . ($got // 'nothing') . ", expected $expected");
}

# Whether it is so within a minute.
sub eventually
{
	my ($check, $name) = @_;
	my $end = time + 60;
	my $so;

	sleep 0.05 until ($so = eval { $check->() }) || time > $end;
	return ok($so, $name, $@);
}

# The SQLSTATE that it fails with.
sub fails
{
	my ($session, $sql, @arguments) = @_;

	eval { row($session, $sql, @arguments) };
	return $@ ? $session->state : 'nothing';
}

# move(TENANT, NODE, STEP): with STEP, it dies there.
sub move
{
	my ($tenant, $node, $crash) = @_;
	local $ENV{MOVE_CRASH} = $crash // '';

	return system(dirname(__FILE__) . '/move', $tenant, $node, 'orders', 'effects');
}

sub recover
{
	return system(dirname(__FILE__) . '/move', '--recover');
}

sub pg_ctl
{
	my ($node, $action, @options) = @_;

	system(split(/ /, $ENV{CELLS_PG_CTL}), '-s', '-w', '-D', "$dir/node$node", '-l', "$dir/log/node$node.log", @options, $action) == 0
	  or die "node $node: pg_ctl $action failed\n";
}

sub summary
{
	print "$passed passed, $failed failed\n";
	return $failed == 0 && $passed > 0;
}

1;
