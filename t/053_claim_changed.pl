# A claim takes a job as it is then, not as it was when the claim looked at it.
# And a claim that is ended before its commit leaves nothing behind.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Steps;
use Test::More;

start();

my $q;

# A queue of two jobs, and a claim that is about to take the first.
sub begin_claim
{
	my (%arguments) = @_;

	$q = queue();
	query(insert($q, 1, 1, %{ $arguments{columns} // {} }));
	query(insert($q, 2, 2));
	query($arguments{before}->()) if $arguments{before};
	stop_at($other, 'take', $arguments{sql} ? $arguments{sql}->() : claim($q));
	return;
}

# What it gives if this happens meanwhile.
sub claims_after
{
	my ($sql, $result, $name, %arguments) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	begin_claim(%arguments);
	query($sql->());
	is(go_on($other), $result, $name);
	return;
}

# Not claimable any more ...
claims_after(sub { 'SELECT queue_cancel(id) FROM jobs ' . where($q, 1) },
	2, 'a job that was cancelled');
claims_after(sub { 'DELETE FROM jobs ' . where($q, 1) },
	2, 'a job that was deleted');
claims_after(sub { 'UPDATE jobs SET held = true ' . where($q, 1) },
	2, 'a job that was held back');
claims_after(
	sub { "UPDATE jobs SET run_at = now() + interval '1 day' " . where($q, 1) },
	2, 'a job that was postponed');
claims_after(
	sub { "SELECT queue_complete(job_id, lease_token) FROM queue_claim('$q')" },
	2, 'a job that was claimed and completed');
claims_after(
	sub { "SELECT queue_fail(job_id, lease_token, 'why', '1 day') FROM queue_claim('$q')" },
	2, 'a job that was claimed and failed');
claims_after(
	sub { "SELECT queue_heartbeat(id, 1, '1 day') FROM jobs " . where($q, 1) },
	2, 'a job whose expired lease was extended',
	columns => { %leased, leased_until => 'now()' });

# ... as another claim has it, whose lease is still good then ...
begin_claim();
query("SELECT job_id AS id, lease_token AS token FROM queue_claim('$q') \\gset");
is(go_on($other), 2, 'a job that was claimed');
is(query('SELECT outcome FROM queue_complete(:\'id\', :token)'),
	'done', '... and is completed by who claimed it first');

# ... still, or again, claimable ...
claims_after(sub { 'BEGIN; DELETE FROM jobs ' . where($q, 1) . '; ROLLBACK' },
	1, 'a job whose end was rolled back');
claims_after(
	sub { "SELECT queue_release(job_id, lease_token) FROM queue_claim('$q')" },
	1, 'a job that was claimed and released');

# ... and with what has become of it meanwhile.
my $as_it_is = sub { "SELECT payload, job_type, priority FROM queue_claim('$q', 'w', 2)" };
claims_after(sub { "UPDATE jobs SET job_type = 'other' " . where($q, 1) },
	"1|other|0\n2|default|0", 'a job that was updated in place', sql => $as_it_is);
claims_after(
	sub { "UPDATE jobs SET job_type = 'other', priority = 1 " . where($q, 1) },
	"2|default|0\n1|other|1", 'a job that was moved to the front', sql => $as_it_is);
claims_after(
	sub { "UPDATE jobs SET job_type = 'other', priority = -1 " . where($q, 1) },
	"2|default|0\n1|other|-1", 'a job that was moved behind the next one', sql => $as_it_is);

# At REPEATABLE READ what changed since the snapshot is passed over, and what
# changes between look and taking is a serialization failure.
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	my $sql = sub {
		"BEGIN ISOLATION LEVEL $level;\n@{[claim($q)]};\n\\echo :SQLSTATE\nROLLBACK";
	};
	my $update = sub { "UPDATE jobs SET job_type = 'other' " . where($q, 1) };

	claims_after(sub { 'SELECT 1' }, "1\n00000", "$level: a job as it was",
		sql => $sql);
	claims_after($update, '40001', "$level: a job that was updated", sql => $sql);
	claims_after(sub { 'DELETE FROM jobs ' . where($q, 1) },
		'40001', "$level: a job that was deleted", sql => $sql);
	claims_after(sub { claim($q) }, '40001', "$level: a job that was claimed",
		sql => $sql);
	claims_after(
		sub { 'SELECT 1' },
		"2\n00000",
		"$level: a job that was updated after the snapshot",
		before => sub { $other->query_safe("BEGIN ISOLATION LEVEL $level; SELECT 1;"); $update->() },
		sql => sub { $sql->() =~ s/^.*?\n//r });
}

# A claim that is ended when it has all written: others passed over it, and may
# know a range of what it claimed.
$q = queue();
query(insert($q, 1, 20));
stop_at($other, 'claimed', claim($q, 20));
my $ranges = cache('ranges');
is_empty($q, 'all are claimed by a statement that is not committed');
cmp_ok(cache('ranges'), '>', $ranges, '... which ranges say');
query("SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
is_claimed($q, '1', 'a claim that was ended before its commit');
$controller->query_safe('SELECT pg_advisory_unlock(42)');

$_->quit for ($main, $controller, $horizon);
$node->stop;

done_testing();
