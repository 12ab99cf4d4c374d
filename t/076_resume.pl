# Whoever runs maintenance goes on where the last one ended: a new session, as cron's is,
# does not walk over what others have deleted while a long transaction keeps the
# entries of that in the index.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '11111111-1111-4111-8111-111111111111';
my $rows = 20_000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
autovacuum = off
END
$node->start;
$node->safe_psql('postgres', <<END);
CREATE EXTENSION queue_service;
INSERT INTO tenants (id) VALUES ('$tenant');
ALTER DATABASE postgres SET app.current_tenant = '$tenant';
SET app.current_tenant = '$tenant';
SELECT queue_create('q');
INSERT INTO jobs (queue_id, status, finish_reason, finished_at)
	SELECT q.id, 'completed', 'completed', now() - interval '2 days' + n * interval '1 ms'
	FROM queues q, generate_series(1, $rows) n;
INSERT INTO idempotency_keys (queue_id, key, job_id, expires_at)
	SELECT q.id, n, j.id, now() - interval '1 day' + n * interval '1 ms'
	FROM queues q, generate_series(1, 5000) n, LATERAL (SELECT queue_new_id() AS id) j;
END
my $horizon = $node->background_psql('postgres');
$horizon->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues');

# What a session did, and index blocks that it looked at for that.
sub run
{
	my ($task, $index, $more) = @_;
	my @result = split /\|/,
	  $node->safe_psql('postgres', "BEGIN; SELECT done, more, pg_stat_get_xact_blocks_hit('$index'::regclass) FROM _queue_task('$task'); COMMIT");

	is($result[1], $more, "$task: more") if defined $more;
	return @result;
}

sub empties
{
	my ($task, $index, $runs) = @_;
	my (@result, $first, $last);

	for my $n (1 .. $runs)
	{
		@result = run($task, $index);
		$first //= $result[2];
		$last = $result[2];
		is($result[0], 1000, "$task: batch $n is deleted");
	}
	cmp_ok($last, '<=', $first + 10, "$task: batch $runs costs what the first one does");
	@result = run($task, $index);
	@result = run($task, $index, 'f');
	is($result[0], 0, "$task: nothing is left");
	cmp_ok($result[2], '<=', 10, "$task: to find that out costs little");
	note("$task: $first blocks of the index for the first batch, $last for the last, $result[2] for none");
	return;
}

empties('finished', 'jobs_tenant_idx', $rows / 1000);
empties('keys', 'idempotency_keys_expires_idx', 5);
$horizon->quit;
$node->stop;
done_testing();
