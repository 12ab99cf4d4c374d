# What statistics cost who reads: look-ups of queues stay as they are when rows were
# flushed for three hours that a long transaction saw, and queue_stats reads no job.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '11111111-1111-4111-8111-111111111111';
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
SELECT queue_create('q' || n) FROM generate_series(1, 60) n;
VACUUM ANALYZE queues;
END
my $session = $node->background_psql('postgres');
my $horizon = $node->background_psql('postgres');

# Blocks of queues, and of its indexes, that some calls for each queue look at: in one
# transaction, whose first calls fill the session's caches.
sub blocks
{
	my $sql = "SELECT count(*) FROM generate_series(1, 60) n, queue_enqueue('q' || n, '1');\n"
	  . "SELECT count(*) FROM generate_series(1, 60) n, queue_claim('q' || n);\n";
	my $read = q((SELECT sum(pg_stat_get_xact_blocks_hit(i.indexrelid)) FROM pg_index i
		WHERE i.indrelid = 'queues'::regclass) + pg_stat_get_xact_blocks_hit('queues'::regclass));
	my $result = $session->query_safe("BEGIN;\n${sql}SELECT $read AS blocks \\gset\n$sql$sql${sql}SELECT $read - :blocks;\nCOMMIT;");

	return (split /\n/, $result)[-1];
}

sub versions
{
	return $node->safe_psql('postgres', q(
		SELECT n_tup_upd, n_tup_upd - n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'queues'));
}

sub flush
{
	my ($minute) = @_;

	$node->safe_psql('postgres', "SELECT * FROM _queue_task('flush', now() + interval '$minute minutes')");
	return;
}

my $before;
flush(0);
$session->query_safe('SELECT pg_stat_force_next_flush()');
$before = blocks();
$horizon->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queues');
$node->safe_psql('postgres', join '', map {
		($_ % 10 == 1 ? "SELECT count(*) FROM generate_series(1, 60) n, queue_enqueue('q' || n, '1');\n" : '')
		  . "SELECT * FROM _queue_task('flush', now() + interval '$_ minutes');\n"
	} 1 .. 180);
$node->safe_psql('postgres', "SELECT count(*) FROM generate_series(1, 60) n, queue_enqueue('q' || n, '1')");
is(blocks(), $before, 'look-ups hit as many blocks after 180 rounds under a held horizon');
$node->safe_psql('postgres', 'SELECT pg_stat_force_next_flush()');
like(versions(), qr/^\d+\|0$/, 'every flush was HOT');
note('updates, and those that were not HOT: ', versions());
cmp_ok((split /\|/, versions())[0], '>=', 60, 'rows were flushed');
$horizon->query_safe('COMMIT');
flush(2000);
flush(4000);
is($node->safe_psql('postgres',
		'SELECT count(*) FROM queues q JOIN queue_stats s ON s.queue_id = q.id WHERE q.depth = s.depth AND q.enqueued_total = s.enqueued'),
	'60', 'all are flushed once the horizon moves');

# queue_stats reads no job.
sub buffers
{
	my $sql = 'EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM queue_stats';
	my $plan = $session->query_safe("SELECT count(*) FROM queue_stats;\n$sql;");

	$plan =~ /shared hit=(\d+)/ or die "no buffers in $plan";
	return $1;
}

my $few = buffers();
$node->safe_psql('postgres',
	"SELECT count(*) FROM generate_series(1, 20) n, queue_enqueue_many('q1', array_fill('1'::jsonb, ARRAY[5000]))");
is(buffers(), $few, 'queue_stats hits as many buffers with 100,000 more jobs');
is($node->safe_psql('postgres', "SELECT depth - (SELECT count(*) FROM jobs j WHERE j.queue_id = s.queue_id AND status = 'pending') FROM queue_stats s WHERE queue = 'q1'"),
	'0', 'and knows them');

$session->quit;
$horizon->quit;
$node->stop;
done_testing();
