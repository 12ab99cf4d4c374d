# With ageing, claims go by run_at - priority x ageing, also beside other claims
# and new jobs, and look at few index entries: one for each level in use, and
# some.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Steps;
use Test::More;

start();

my $levels = 16;
my $q;

sub ageing_queue
{
	my $name = queue();

	query("SELECT queue_set('$name', ageing => '10 seconds')");
	return $name;
}

# Each of so many runs looks at so many entries at most.
sub is_bounded
{
	my ($runs, $most, $sql, $name) = @_;
	my @visited = sort { $a <=> $b } map { visited(1, $sql) } 1 .. $runs;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	note("$name: entries looked at: @visited");
	cmp_ok($visited[-1], '<=', $most, $name);
	return;
}

# No job that waits comes before one that was claimed.
sub is_in_order
{
	my ($queue) = @_;
	my $effective = "run_at - priority * interval '10 s'";
	my $rest = "WHERE queue_id = (SELECT id FROM queues WHERE name = '$queue') AND status";
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is( query("SELECT count(*) > 0 FROM jobs $rest = 'pending' AND $effective < (SELECT max($effective) FROM jobs $rest = 'processing')"),
		'f',
		'none was passed over');
	return;
}

# Jobs of all levels behind many dead ones, while the horizon is held.
hold_horizon();
$q = ageing_queue();
query(insert($q, 1, 8000, priority => "i::int % $levels"));
query("DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q')");
query(insert($q, 9001, 12000, priority => "i::int % $levels"));
my $turn = "SELECT FROM queue_claim('$q', 'w') c, queue_complete(c.job_id, c.lease_token)";
cmp_ok(visited(1, $turn), '>=', 8000, 'the first claim looks at all that is dead');
visited(1, $turn);
is_bounded(60, $levels + 5, $turn, '8000 dead rows, and one more with each claim');

# Long leases in front, delayed jobs behind, and levels that have only those.
$q = ageing_queue();
query(
	insert($q, 1, 4000, %leased,
		priority => "i::int % $levels",
		leased_at => "now() - interval '1 day'"));
query(insert($q, 4001, 4400, priority => "i::int % 8"));
query(insert($q, 1, 4000, priority => "i::int % $levels")
	  =~ s/timestamptz '2020-01-01 UTC' \+/now() + interval '1 day' +/r);
$turn = "SELECT FROM queue_claim('$q', 'w') c, queue_complete(c.job_id, c.lease_token)";
visited(2, $turn);
is_bounded(40, $levels + 5, $turn, 'leases and delayed jobs');

# New leases are looked at again a few times.
$q = ageing_queue();
query(insert($q, 1, 4000, priority => "i::int % $levels"));
cmp_ok(visited(100, "SELECT FROM queue_claim('$q', 'w')"),
	'<=', 100 * ($levels + 5), 'new leases, in the mean');
is_in_order($q);

# A queue without work is idle, and a new job of any level ends that.
$q = ageing_queue();
query(insert($q, 1, 160, priority => "i::int % $levels"));
query("DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q')");
is_empty($q, 'nothing there');
cmp_ok(visited(3, "SELECT FROM queue_claim('$q')"), '==', 0, 'no entry is looked at');
for my $priority (0, 7, 15, 3, -4, 99)
{
	query(insert($q, 80.5, 80.5, priority => $priority));
	is_claimed($q, '80.5', "a job of priority $priority among dead ones");
	is_empty($q, 'no other');
}

# Jobs that come while a claim is between levels, before and behind it.
for my $priority (0 .. 3)
{
	$q = ageing_queue();
	query(insert($q, $_ * 100, $_ * 100 + 40, priority => $_)) for 1, 2;
	query("DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q')");
	query(insert($q, 120, 120, priority => 1));
	stop_at($other, 'take', claim($q));
	query(insert($q, 50 + $priority, 50 + $priority, priority => $priority));
	is(go_on($other), '120', 'a claim that is about to take a job');
	is_claimed($q, 50 + $priority, "a job of priority $priority that came then");
	is_empty($q, 'no other');
}

# ... or that is about to publish what it found there
for my $priority (0 .. 3)
{
	$q = ageing_queue();
	query(insert($q, $_ * 100, $_ * 100 + 40, priority => $_)) for 1, 2;
	query("DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q')");
	stop_at($other, 'publish', claim($q));
	query(insert($q, $_, $_, priority => $priority)) for 110.5, 210.5;
	is(go_on($other), '', 'a claim that is about to publish');
	is_claimed($q, '110.5', "a job of priority $priority that came then");
	is_claimed($q, '210.5', 'another one');
	is_empty($q, 'no other');
}

# A job that moves to another level while a claim is on its way.
$q = ageing_queue();
query(insert($q, 1, 1, priority => 1));
query(insert($q, 2, 2, priority => 9));
$other->query_safe('BEGIN; SELECT FROM jobs ' . where($q, 2) . ' FOR UPDATE');
is_claimed($q, '1', 'one is locked');
$other->query_safe('ROLLBACK');
stop_at($other, 'take', claim($q));
query('UPDATE jobs SET priority = 20 ' . where($q, 2));
is(go_on($other), '2', 'a job that moves up meanwhile');
free_horizon();

# Four clients, each in its own order; nothing is lost or claimed twice.
$q = ageing_queue();
query(insert($q, 1, 6000, priority => '(random() * 12)::int'));
query('CREATE TABLE claimed (n bigserial, client integer, job_id uuid)');
$node->pgbench(
	'--client=4 --transactions=200 --no-vacuum',
	0,
	[qr/processed: 800/],
	[qr/^$/],
	'four clients',
	{
		'067_ageing' => qq(\\set n random(1, 8)
			INSERT INTO claimed (client, job_id) SELECT :client_id, job_id FROM queue_claim('$q', 'w', :n, '1 day') WITH ORDINALITY c
				(job_id, lease_token, tenant_id, queue, job_type, payload, headers, attempt, max_attempts, priority, critical, enqueued_at, leased_until, n) ORDER BY c.n;)
	});
cmp_ok(query('SELECT count(*) FROM claimed'), '>', 3000, 'many were claimed');
is(query('SELECT count(*) - count(DISTINCT job_id) FROM claimed'), '0', 'none twice');
is( query(
		q(SELECT count(*) FROM (SELECT (e, run_at) < lag((e, run_at)) OVER (PARTITION BY client ORDER BY n) AS back
			FROM (SELECT c.n, client, run_at, run_at - priority * interval '10 s' AS e FROM claimed c JOIN jobs j ON j.id = job_id) c) b WHERE back)
	),
	'0',
	'each client got them in order');
is_in_order($q);

$_->quit for ($main, $other, $horizon, $controller);
$node->stop;

done_testing();
