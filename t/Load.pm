# What the tests of upgrades share: clients at work on a queue, who tell what was
# acknowledged to them. Each job has a name, and one effect: a row, written in the
# transaction that completes it.
package Load;

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw($tenant prepare start_clients stop_clients let_work acknowledged client_errors drain);

our $tenant = '01890000-0000-7000-8000-000000000001';
my ($folder, @clients, $runs);
my $F_SETPIPE_SZ = 1031;

# The role of the clients, which is no superuser. A server has it once.
our $role = "CREATE ROLE shop LOGIN; ALTER ROLE shop SET app.current_tenant = '$tenant';";

# A database with the extension, a queue, and what clients write beside.
sub prepare
{
	my ($node, $database) = @_;

	$node->safe_psql($database, qq(
		CREATE EXTENSION queue_service;
		INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
		SELECT queue_grant('shop', 'producer'), queue_grant('shop', 'worker');
		SET app.current_tenant = '$tenant';
		SELECT queue_create('load');
		CREATE TABLE sent (name text PRIMARY KEY);
		CREATE TABLE effects (name text PRIMARY KEY);
		GRANT SELECT, INSERT ON sent, effects TO shop;
	));
	return;
}

# By simple queries.
sub produce
{
	my ($name) = @_;

	return <<END;
BEGIN;
INSERT INTO sent VALUES ('$name');
SELECT queue_enqueue('load', '"$name"') \\gset
COMMIT;
\\echo enqueued $name
SELECT FROM pg_sleep(0.005);
END
}

# By plans that the session keeps.
my $plans = <<'END';
PREPARE claim AS SELECT count(*) = 1 AS got, max(job_id::text) AS job, max(lease_token) AS token, max(payload #>> '{}') AS name
	FROM queue_claim('load', 'w', lease => '1 minute');
PREPARE heartbeat (uuid, bigint) AS SELECT held FROM queue_heartbeat($1, $2);
PREPARE complete (uuid, bigint) AS SELECT outcome FROM queue_complete($1, $2, strict => true);
END
my $work = <<'END';
EXECUTE claim \gset
\if :got
EXECUTE heartbeat(:'job', :token) \gset
BEGIN;
INSERT INTO effects VALUES (:'name');
EXECUTE complete(:'job', :token) \gset
COMMIT;
\echo completed :name
\else
SELECT FROM pg_sleep(0.01);
\endif
END

sub client
{
	my ($name, $connstr, $produces) = @_;
	my $n = 0;

	$SIG{PIPE} = 'IGNORE';
	$ENV{QS_CONNECTION} = "$connstr user=shop";
	open(my $psql, '|-', qq(exec psql -XqAt -v ON_ERROR_STOP=1 -d "\$QS_CONNECTION" >$folder/$name.out 2>$folder/$name.err))
	  or die "psql: $!";
	$psql->autoflush;
	# what is in a pipe is still to be done when clients are to stop
	fcntl($psql, $F_SETPIPE_SZ, 4096) or die "pipe: $!";
	print $psql $plans unless $produces;
	until (-e "$folder/stop")
	{
		print $psql $produces ? produce("$name-" . ++$n) : $work or last;
	}
	close $psql;
	POSIX::_exit($? == 0 ? 0 : 1);
}

# Starts two who enqueue and two who work.
sub start_clients
{
	my ($node, $database) = @_;

	$folder //= PostgreSQL::Test::Utils::tempdir;
	unlink "$folder/stop";
	$runs++;
	foreach my $i (1 .. 4)
	{
		my $pid = fork // die "fork: $!";

		client("run$runs-$i", $node->connstr($database), $i % 2) if $pid == 0;
		push @clients, $pid;
	}
	return;
}

sub slurp_all
{
	my ($pattern) = @_;

	return join '', map { slurp_file($_) } glob("$folder/$pattern");
}

# Until so many more jobs have been completed.
sub let_work
{
	my ($jobs) = @_;
	my $until = time + 60;
	my $enough = $jobs + (() = slurp_all("run$runs-*.out") =~ /^completed/mg);

	while ((() = slurp_all("run$runs-*.out") =~ /^completed/mg) < $enough)
	{
		die 'clients do not get on: ' . slurp_all("run$runs-*.err") if time > $until;
		sleep(0.05);
	}
	return;
}

# Lets them end, or see that they have; returns how many ended with an error.
sub stop_clients
{
	my $failed = 0;

	append_to_file("$folder/stop", '');
	foreach my $pid (@clients)
	{
		waitpid($pid, 0);
		$failed++ if $? != 0;
	}
	@clients = ();
	return $failed;
}

# What was "enqueued", or "completed".
sub acknowledged
{
	my ($what) = @_;

	return map { /^$what (\S+)$/mg } slurp_all('run*.out');
}

# What clients of the last run were told on standard error.
sub client_errors
{
	return slurp_all("run$runs-*.err");
}

# Ends the jobs that wait, and checks that each has had its effect: what was
# enqueued is there, once, and what was completed stayed.
sub drain
{
	my ($node, $database, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# A client that was terminated has left its lease.
	$node->safe_psql($database, "SET app.current_tenant = '$tenant';\n" . <<'END');
UPDATE jobs SET leased_until = clock_timestamp() WHERE status = 'processing';
DO $$
DECLARE
	c record;
BEGIN
	LOOP
		SELECT * INTO c FROM queue_claim('load', 'w');
		EXIT WHEN NOT FOUND;
		INSERT INTO effects VALUES (c.payload #>> '{}');
		PERFORM queue_complete(c.job_id, c.lease_token, strict => true);
	END LOOP;
END;
$$
END
	my ($sent, $done);
	$sent->{$_} = 1 foreach split /\n/, $node->safe_psql($database, 'SELECT name FROM sent');
	$done->{$_} = 1 foreach split /\n/, $node->safe_psql($database, 'SELECT name FROM effects');
	my @enqueued = acknowledged('enqueued');
	my @completed = acknowledged('completed');

	cmp_ok(scalar(@completed), '>', 50, "$name: jobs were done");
	is(join(' ', grep { !$sent->{$_} || !$done->{$_} } @enqueued), '', "$name: no enqueue is lost");
	is(join(' ', grep { !$done->{$_} } @completed), '', "$name: no completion is lost");
	is(join(' ', sort keys %$done), join(' ', sort keys %$sent), "$name: all that was enqueued is done, and nothing else");
	is($node->safe_psql($database, "SELECT count(*), count(DISTINCT payload) FROM jobs j JOIN queues q ON q.id = j.queue_id WHERE q.name = 'load'"), join('|', (scalar keys %$sent) x 2),
		"$name: one job each");
	note(sprintf '%s: %d enqueued, %d completed', $name, scalar @enqueued, scalar @completed);
	return;
}

1;
