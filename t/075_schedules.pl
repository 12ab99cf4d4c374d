# Schedules and crashes: whatever dies between firing and its commit, no due time
# is lost, and none fires twice. And ten thousand schedules of one minute.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Recovery;
use Steps;
use Test::More;
use Time::HiRes qw(time);

start();
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;

# The task at a minute of a day, by its number; on how many jobs it made.
sub fire
{
	return "SELECT done FROM _queue_task('fire', timestamptz '2026-05-05 00:00Z' + $_[0] * interval '1 minute')";
}

# What the jobs are for, if they are not just what was due.
sub wrong
{
	my ($minutes) = @_;

	return $node->safe_psql('postgres', qq(
		SELECT s.id::text, m, count(j.id)
		FROM schedules s CROSS JOIN generate_series(1, $minutes) m
		LEFT JOIN jobs j ON j.schedule_id = s.id
		AND (j.headers->>'due_at')::timestamptz = timestamptz '2026-05-05 00:00Z' + m * interval '1 minute'
		GROUP BY 1, 2 HAVING count(j.id) <> 1
		UNION ALL SELECT 'jobs', count(*), count(DISTINCT (schedule_id, headers->>'due_at')) FROM jobs
		HAVING count(*) <> (SELECT count(*) FROM schedules) * $minutes));
}

# kill -9 of the session that waits, which takes all others with it
sub kill_session
{
	my $pid = query("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");

	kill('KILL', $pid);
	poll_through_crash($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die 'the server did not start again';
	begin_sessions();
	return;
}

# kill -9 of the postmaster; its sessions find out, and end.
sub kill_postmaster
{
	kill_server($node);
	$node->start;
	begin_sessions();
	return;
}

my $q = queue();
query("SELECT FROM generate_series(1, 5) n, queue_schedule('s' || n, '$q', '* * * * *', catch_up => 'all')");
query("UPDATE schedules SET next_run_at = '2026-05-05 00:01Z'");

my $minute = 0;
foreach my $round (1 .. 10)
{
	# the one who fires
	$minute++;
	stop_at($other, 'fired', fire($minute));
	is(query('SELECT count(*) FROM jobs'), 5 * ($minute - 1), "round $round: nothing is committed");
	kill_session();
	is(query(fire($minute)), 5, "round $round: fires after kill -9 of who fired");
	is(query(fire($minute)), 0, "round $round: once");

	# the postmaster; half the time when it has just committed
	$minute++;
	$round % 2 ? stop_at($other, 'fired', fire($minute)) : query(fire($minute));
	kill_postmaster();
	is(query(fire($minute)), $round % 2 ? 5 : 0, "round $round: fires after kill -9 of the postmaster");
	is(query(fire($minute)), 0, "round $round: once");
}
is(wrong($minute), '', "each due time of $minute minutes fired once");

# Ten thousand in one minute, beside clients that enqueue, claim and complete.
my ($tenants, $each) = (10, 1000);
query('DELETE FROM jobs; DELETE FROM schedules');
query("INSERT INTO tenants SELECT format('01890000-0000-7000-8000-0000000001%s', lpad(n::text, 2, '0'))::uuid, 'n' || n FROM generate_series(1, $tenants) n");
query(qq(SELECT set_config('app.current_tenant', t.id::text, false), (queue_create('many')).created FROM tenants t WHERE t.name LIKE 'n%'));
query("INSERT INTO schedules (tenant_id, name, queue_id, cron, next_run_at)
	SELECT q.tenant_id, 'm' || n, q.id, '* * * * *', '2026-05-05 00:01Z' FROM queues q, generate_series(1, $each) n WHERE q.name = 'many'");
query("SET app.current_tenant = '$tenant'");
my $load = "$PostgreSQL::Test::Utils::tmp_check/load.sql";
append_to_file($load, "SELECT FROM queue_enqueue('$q');\nSELECT FROM queue_enqueue('$q');\n"
	. "SELECT FROM queue_claim('$q', 'w') j, queue_complete(j.job_id, j.lease_token);\n");
my $clients = IPC::Run::start(
	[ $node->installed_command('pgbench'), '-n', '-c', '2', '-T', '600', '-f', $load, $node->connstr('postgres') ],
	'>', '/dev/null', '2>', '/dev/null');
$node->poll_query_until('postgres', "SELECT count(*) > 20 FROM jobs WHERE finished_at IS NULL")
  or die 'there is no load';
my $began = time;
my $made = 0;
my $runs = 0;
while ((my $done = query(fire(1))) > 0)
{
	$made += $done;
	$runs++;
}
my $took = time - $began;
$clients->kill_kill;
is($made, $tenants * $each, 'ten thousand schedules fire');
is(wrong(1) =~ s/^jobs.*\n?//mr, '', 'each once');
is(query("SELECT count(*) FROM jobs j JOIN schedules s ON s.id = j.schedule_id WHERE s.tenant_id <> j.tenant_id OR s.queue_id <> j.queue_id"),
	0, 'each into its own queue');
note(sprintf('%d schedules in %.2f s, by %d transactions', $made, $took, $runs));
cmp_ok($took, '<', 60, 'not in a minute, on whatever machine this is');

done_testing();
