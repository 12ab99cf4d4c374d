# The same functions work with and without the library preloaded, and a queue
# survives the change between the two.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '01890000-0000-7000-8000-000000000001';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql(
	'postgres', qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	SET app.current_tenant = '$tenant';
	SELECT queue_create('q', backoff_base => '1 hour');
));

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres',
		"SET app.current_tenant = '$tenant'; $sql");
}

# One job completed, one failed, one left claimed, one left waiting.
sub work
{
	my ($how) = @_;

	query(
		q(SELECT queue_enqueue_many('q',
			ARRAY['1', '2', '3', '4']::jsonb[], priority => 1)));
	is( query(
			q(SELECT outcome
			FROM (SELECT * FROM queue_claim('q', 'w') OFFSET 0) AS c,
				queue_complete(c.job_id, c.lease_token))),
		'done',
		"$how: a job is completed");
	is( query(
			q(SELECT outcome
			FROM (SELECT * FROM queue_claim('q', 'w') OFFSET 0) AS c,
				queue_fail(c.job_id, c.lease_token, 'oops'))),
		'retry',
		"$how: a failed job is to be retried");
	is(query(q(SELECT payload FROM queue_claim('q', 'w', lease => '1 day'))),
		'3', "$how: the third is claimed next");
	return;
}

sub counts
{
	return query(
		q(SELECT string_agg(status || ' ' || n, ', ' ORDER BY status)
		FROM (SELECT status, count(*) AS n FROM jobs GROUP BY 1) AS s));
}

is($node->safe_psql('postgres', 'SHOW shared_preload_libraries'),
	'', 'not preloaded');
work('not preloaded');
is(counts(), 'completed 1, pending 2, processing 1', 'all jobs are there');

$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'queue_service'");
# What is compared across a crash must be on disk, claims too.
$node->append_conf('postgresql.conf', 'queue_service.async_claim = off');
$node->restart;
is(counts(), 'completed 1, pending 2, processing 1',
	'all jobs are there after a restart with the library preloaded');
is(query(q(SELECT payload FROM queue_claim('q', 'w', 10))),
	'4', 'preloaded: the waiting job is claimed, the others are not');
work('preloaded');

# An immediate stop: the server recovers with the library preloaded.
$node->stop('immediate');
$node->start;
is(counts(), 'completed 2, pending 3, processing 3',
	'all jobs are there after an immediate stop');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(counts(), 'completed 2, pending 3, processing 3',
	'all jobs are there without the library preloaded');
is(query(q(SELECT payload FROM queue_claim('q', 'w', 10))),
	'4', 'not preloaded: the waiting job is claimed, the others are not');

$node->safe_psql('postgres', 'DROP EXTENSION queue_service CASCADE');
$node->stop;

done_testing();
