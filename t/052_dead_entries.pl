# An index entry may only be marked dead when a crash cannot bring its row back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# nothing writes WAL but who waits for it
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
autovacuum = off
wal_writer_delay = 10s
END
$node->start;

my $tenant = "SET app.current_tenant = '11111111-1111-4111-8111-111111111111';";
$node->safe_psql('postgres', <<END);
CREATE EXTENSION queue_service;
CREATE EXTENSION pageinspect;
INSERT INTO tenants (id) VALUES ('11111111-1111-4111-8111-111111111111');
$tenant
SELECT queue_create('q');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[10]));
END

sub dead_after_claim
{
	$node->safe_psql('postgres', "$tenant BEGIN; SELECT job_id FROM queue_claim('q'); ROLLBACK");
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM bt_page_items('jobs_ready_idx', 1) WHERE dead");
}

# The first entry is dead for every claim from now on, and is looked at by each.
$node->safe_psql('postgres', <<END);
$tenant
SET synchronous_commit = off;
BEGIN;
SELECT job_id, lease_token FROM queue_claim('q') \\gset
SELECT queue_snooze(:'job_id', :lease_token, '1 hour');
COMMIT;
END
is(dead_after_claim(), 0, 'not dead while its end may be lost');
is($node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()'),
	't', 'as its end is not on disk');
$node->safe_psql('postgres', 'CREATE TABLE written ()');
is(dead_after_claim(), 1, 'dead once its end is on disk');

$node->stop;
done_testing();
