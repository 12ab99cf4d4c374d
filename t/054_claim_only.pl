# Which commits wait for their WAL: all but those of transactions that did
# nothing but claim; and those that enqueued a critical job, whatever was set.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# nothing writes WAL but who waits for it
$node->append_conf('postgresql.conf', <<END);
autovacuum = off
wal_writer_delay = 10s
END
$node->start;

my $tenant = '11111111-1111-4111-8111-111111111111';
$node->safe_psql('postgres', <<END);
CREATE EXTENSION queue_service;
CREATE TABLE notes (note text);
INSERT INTO tenants (id) VALUES ('$tenant');
ALTER DATABASE postgres SET app.current_tenant = '$tenant';
SET app.current_tenant = '$tenant';
SELECT queue_create('q');
SELECT count(*) FROM queue_enqueue_many('q', array_fill('1'::jsonb, ARRAY[100]));
END
my $session = $node->background_psql('postgres');

# Whether all WAL is on disk after these statements.
sub waits
{
	my ($sql) = @_;

	$session->query_safe($sql);
	return $session->query_safe(
		'SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()');
}

my $claim = q(SELECT job_id, lease_token FROM queue_claim('q'));
my $note = q(INSERT INTO notes VALUES ('done'));

# once for what reading the catalogs for the first time may write
waits("$note; $claim");
is(waits($note), 't', 'a write waits');
is(waits($claim), 'f', 'a claim does not');
is(waits("BEGIN; $claim; $claim; COMMIT"), 'f', 'two claims in a block do not');
is(waits("BEGIN; SELECT count(*) FROM jobs; $claim; COMMIT"), 'f',
	'a claim after a read does not');
is(waits("BEGIN; SAVEPOINT s; $claim; ROLLBACK TO s; $claim; COMMIT"), 't',
	'a claim after one that was undone waits, as undoing writes');
is(waits("BEGIN; $note; $claim; COMMIT"), 't', 'a claim after a write waits');
is(waits("BEGIN; $claim; $note; COMMIT"), 't', 'a claim before a write waits');
is(waits("BEGIN; $claim; $note; $claim; COMMIT"), 't',
	'a write between two claims waits');
is(waits("WITH c AS ($claim), i AS (INSERT INTO notes SELECT 'claimed' FROM c) SELECT 1"),
	't', 'a claim whose statement writes waits');
is( waits(
		qq(DO \$\$ BEGIN PERFORM queue_complete(c.job_id, c.lease_token) FROM ($claim) c; END \$\$)
	),
	't', 'a claim with its completion waits');
is(waits(q(SELECT queue_complete_and_claim('q'))), 't',
	'complete_and_claim waits');
is( waits(
		"BEGIN; SET LOCAL queue_service.async_claim = off; $claim; COMMIT"),
	't', 'a claim waits if it is to');

$node->safe_psql('postgres', <<'END');
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER note BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION note();
END
is(waits($claim), 't', 'a claim that ran a user\'s trigger waits');

$session->query_safe('SET synchronous_commit = off');
my $critical = q(SELECT created FROM queue_enqueue_critical('q', '{}', gen_random_uuid()::text));
is(waits($note), 'f', 'a write does not wait if it is not to');
is(waits($critical), 't', 'a critical job waits');
is(waits($note), 'f', 'what follows does not');
$node->safe_psql('postgres', "CREATE FUNCTION critical() RETURNS boolean LANGUAGE sql SET synchronous_commit = off SET search_path = public
	AS \$\$ $critical \$\$; CREATE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql
	AS \$\$ BEGIN PERFORM public.critical(); RETURN NEW; END \$\$; DROP TRIGGER note ON jobs;
	CREATE TRIGGER critical BEFORE UPDATE ON critical_jobs FOR EACH ROW EXECUTE FUNCTION writes()");
is(waits('SELECT critical()'), 't', 'nor does it help to set it in a function');
is(waits("BEGIN; $critical; SET LOCAL synchronous_commit = off; $note; COMMIT"), 't', 'or afterwards');
is(waits("BEGIN; $critical; ROLLBACK; $note"), 'f', 'what was rolled back need not wait');
is(waits($claim), 't', 'a claim waits if a trigger enqueued a critical job');

$session->quit;
$node->stop;
done_testing();
