# No claim misses a job that the range cache hides: for each rule in
# range_cache.h and ready_direct.c the steps, one by one, that would lose a job
# without it. And how many index entries claims look at, in counts.

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
hold_horizon();

# Announce: what comes into a range that is known ...
$q = queue();
insert_dead($q, 1, 40);
is_empty($q, 'nothing there yet');
cmp_ok(cache('ranges'), '>', 0, 'a range is known');
query(insert($q, 20.5, 20.5));
is_claimed($q, '20.5', 'a job that comes into a known range');
query(insert($q, 41, 41));
is_claimed($q, '41', 'a job that comes behind a known range');
query(insert($q, 0, 0));
is_claimed($q, '0', 'a job that comes before a known range');

# ... or while a claimer has read the leaf page already ...
$q = queue();
insert_dead($q, 1, 40);
stop_at($other, 'leaf', claim($q));
query(insert($q, 20.5, 20.5));
is(go_on($other), '', 'a claim that read the leaf page before');
is_claimed($q, '20.5', 'a job that comes after the leaf page was read');

# ... or before it publishes ...
$q = queue();
insert_dead($q, 1, 40);
stop_at($other, 'publish', claim($q));
query(insert($q, 20.5, 20.5));
is(go_on($other), '', 'a claim that looked before');
is_claimed($q, '20.5', 'a job that comes between look and publication');

# ... and so many that the ring of announcements goes around.
$q = queue();
insert_dead($q, 1, 40);
stop_at($other, 'leaf', claim($q));
query(insert($q, 20.5, 20.5));
query(insert($q, 1001, 1600, priority => -1));
is(go_on($other), '', 'a claim that read the leaf page long before');
is_claimed($q, '20.5', 'a job whose announcement is forgotten');

# An entry that is not announced yet is in the index, and not committed.
$q = queue();
insert_dead($q, 1, 40);
stop_at($other, 'announce', insert($q, 20.5, 20.5));
is_empty($q, 'a claim between index entry and announcement');
go_on($other);
is_claimed($q, '20.5', 'a job that is announced after it was seen');

# Register first: what is published in the middle of a long scan registers it
# anew, and what came meanwhile must be seen then.
$q = queue();
insert_dead($q, 1, 600);
query(insert($q, 601, 601));
stop_at($other, 'publish', claim($q));
query(insert($q, 260.5, 260.5));
is(go_on($other), '260.5', 'a job that comes in the middle of a long scan');

# Chain: the first member of a HOT chain is dead, the last one is a job.
$q = queue();
insert_dead($q, 1, 20);
insert_dead($q, 22, 40);
query(insert($q, 21, 21));
query("UPDATE jobs SET headers = '{}' " . where($q, 21));
is_claimed($q, '21', 'a job that was updated in place');

# Earlier: what ends a lease before its time, in place.
$q = queue();
query(insert($q, 1, 40, %leased));
is_empty($q, 'all are leased');
is( query(
		"SELECT outcome FROM jobs j, queue_release(j.id, 1) " . where($q, 20)),
	'released',
	'one is released');
is_claimed($q, '20', 'a job that was released');
query("UPDATE jobs SET leased_until = now() " . where($q, 30));
is_claimed($q, '30', 'a job whose lease was ended by an UPDATE');
query("UPDATE jobs SET run_at = '2020-01-01 UTC' " . where($q, 35));
query("UPDATE jobs SET status = 'pending' " . where($q, 35));
is_claimed($q, '35', 'a job that was moved by an UPDATE');

# A user's trigger may shorten a lease.
query(
	q(CREATE FUNCTION shorten() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN NEW.leased_until := OLD.leased_until - interval '2 days'; RETURN NEW; END $$;
	CREATE TRIGGER shorten BEFORE UPDATE ON jobs FOR EACH ROW
		WHEN (NEW.leased_until > OLD.leased_until) EXECUTE FUNCTION shorten();));
query("SELECT h.held FROM jobs j, queue_heartbeat(j.id, 1, '2 days') h " . where($q, 25));
query('DROP TRIGGER shorten ON jobs');
is_claimed($q, '25', 'a job whose lease was shortened by a trigger');

# Leases that run out, in place.
for my $seconds (5, 20, 80)
{
	my $queue = queue();
	my $early;

	query(insert($queue, 1, 40, %leased,
			leased_until => "now() + interval '$seconds s'"));
	$early = query(claim($queue));
	next if $early ne '' && $seconds < 80;
	is($early, '', 'all leases last');
	query("SELECT pg_sleep(extract(epoch FROM max(leased_until) - clock_timestamp()) + 0.01) FROM jobs "
		  . "WHERE queue_id = (SELECT id FROM queues WHERE name = '$queue')");
	is_claimed($queue, '1', 'a job whose lease ran out');
	last;
}

# Leases among dead rows are not for ever what those are.
$q = queue();
insert_dead($q, 1, 20);
query(insert($q, 21, 30, %leased));
insert_dead($q, 31, 100);
is_empty($q, 'leases among dead rows');
query("UPDATE jobs SET status = 'pending' " . where($q, 25));
is_claimed($q, '25', 'one of them given back');

# Own claims: gone with the transaction, or a part of it.
$q = queue();
query(insert($q, 1, 20));
$other->query_safe('BEGIN; ' . claim($q, 20) . ';');
is_empty($q, 'all are claimed by a transaction');
$other->query_safe('ROLLBACK');
is_claimed($q, '1', 'a claim that was rolled back');
$other->query_safe('BEGIN; SAVEPOINT s; ' . claim($q, 20) . ';');
is_empty($q, 'the rest is claimed by a subtransaction');
$other->query_safe('ROLLBACK TO s');
is_claimed($q, '2', 'a claim that was rolled back to a savepoint');
$other->query_safe('SAVEPOINT t; ' . claim($q, 20) . '; RELEASE t;');
is_empty($q, 'the rest is claimed by a released subtransaction');
$other->query_safe('ROLLBACK TO s');
is_claimed($q, '3', 'a claim whose released subtransaction was rolled back');
$other->query_safe("ROLLBACK; BEGIN; " . claim($q, 20) . "; PREPARE TRANSACTION 'p';");
is_empty($q, 'the rest is claimed by a prepared transaction');
query("ROLLBACK PREPARED 'p'");
is_claimed($q, '4', 'a claim whose prepared transaction was rolled back');
$other->query_safe('BEGIN; ' . claim($q, 20, "lease => '1 day'") . '; COMMIT;');
is_empty($q, 'a claim that was committed');

# ... also if the transaction itself looked at them since.
$q = queue();
query(insert($q, 1, 40));
$other->query_safe('BEGIN; ' . claim($q, 20) . '; ' . claim($q) . '; ROLLBACK');
is_claimed($q, '1', 'a claim that another one of its transaction looked at');
$other->query_safe('BEGIN; SAVEPOINT s; ' . claim($q, 20) . '; ' . claim($q) . '; ROLLBACK TO s; COMMIT');
is_claimed($q, '2', '... or of its subtransaction');

# Others' new jobs: there with the commit; before that to who inserted them.
$q = queue();
$other->query_safe('BEGIN; ' . insert($q, 1, 20));
is_empty($q, 'jobs of an open transaction');
is($other->query_safe(claim($q)), '1', 'a claim of the transaction that inserted them');
is_empty($q, 'still jobs of an open transaction');
$other->query_safe('SAVEPOINT s; ' . insert($q, 1.5, 1.5) . 'ROLLBACK TO s;');
$other->query_safe(insert($q, 10.5, 10.5) . 'COMMIT;');
is_claimed($q, '2', 'a job whose transaction was committed');
is(query("SELECT count(*) FROM queue_claim('$q', 'w', 100)"),
	19, 'all that are left');

# Trigger: off, and on again; off and on by one transaction; on, but for
# origins only, as pg_restore --disable-triggers leaves it.
$q = queue();
insert_dead($q, 1, 40);
is_empty($q, 'a range, while the trigger is in order');
query('ALTER TABLE jobs DISABLE TRIGGER queue_announce');
query(insert($q, 10.5, 10.5));
is_claimed($q, '10.5', 'a job that comes while the trigger is off');
is_empty($q, 'a claim while the trigger is off');
query(insert($q, 11.5, 11.5));
is_claimed($q, '11.5', 'a job that comes after a claim while the trigger is off');
query(insert($q, 20.5, 20.5));
query('ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_announce');
is_claimed($q, '20.5', 'a job that came while the trigger was off');
is_empty($q, 'a range, as the trigger is in order again');
query('BEGIN; ALTER TABLE jobs DISABLE TRIGGER queue_announce;'
	  . insert($q, 30.5, 30.5)
	  . 'ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_announce; COMMIT;');
is_claimed($q, '30.5', 'a job that a transaction inserted with the trigger off');
query('BEGIN; ALTER TABLE jobs DISABLE TRIGGER queue_announce;'
	  . 'ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_announce;'
	  . claim($q) . '; ALTER TABLE jobs DISABLE TRIGGER queue_announce;'
	  . insert($q, 31.5, 31.5)
	  . 'ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_announce; COMMIT;');
is_claimed($q, '31.5', '... that claimed before, and twice had it off');
query('ALTER TABLE jobs DISABLE TRIGGER ALL; ALTER TABLE jobs ENABLE TRIGGER ALL');
is_empty($q, 'a claim while the trigger is for origins');
query('BEGIN; SET LOCAL session_replication_role = replica;'
	  . insert($q, 32.5, 32.5) . 'COMMIT;');
is_claimed($q, '32.5', 'a replica\'s job while the trigger is for origins');
query('ALTER TABLE jobs ENABLE ALWAYS TRIGGER queue_announce');
is_empty($q, 'a range, as the trigger is ALWAYS again');
query('BEGIN; SET LOCAL session_replication_role = replica;'
	  . insert($q, 33.5, 33.5) . 'COMMIT;');
is_claimed($q, '33.5', 'a replica\'s job');

# Source: what was learned of an index that was rolled back. The entries there
# are dead, as those of an aborted subtransaction.
$q = queue();
query(insert($q, 20, 20));
query('BEGIN; TRUNCATE jobs; SAVEPOINT s;'
	  . insert($q, 1, 40)
	  . 'ROLLBACK TO s;'
	  . claim($q)
	  . '; ROLLBACK;');
is_claimed($q, '20', 'a job that was there before a TRUNCATE rolled back');

# ... nor that a queue is idle, in the eyes of another session.
$q = queue();
is_empty($q, 'an idle queue');
$other->query_safe(insert($q, 20, 20) . "BEGIN; TRUNCATE jobs; @{[claim($q)]}; ROLLBACK");
is_claimed($q, '20', 'a job that another session truncated for a while');

# Indexes that are made anew
$q = queue();
insert_dead($q, 1, 40);
is_empty($q, 'a range of the index');
query('REINDEX TABLE jobs');
query(insert($q, 20.5, 20.5));
is_claimed($q, '20.5', 'a job after REINDEX');
free_horizon();
query('REINDEX TABLE CONCURRENTLY jobs');
query(insert($q, 21.5, 21.5));
is_claimed($q, '21.5', 'a job after REINDEX CONCURRENTLY');

# Another queue's job becomes this one's.
my $p = queue();
$q = queue();
hold_horizon();
insert_dead($q, 1, 40);
is_empty($q, 'a range');
query(insert($p, 20.5, 20.5));
query("UPDATE jobs SET queue_id = (SELECT id FROM queues WHERE name = '$q') "
	  . where($p, 20.5));
is_claimed($q, '20.5', 'a job that came from another queue');

# Equal keys. A locked job is passed over, and no range has its key ...
$q = queue();
insert_dead($q, 1, 40);
query(insert($q, 41, 41));
$other->query_safe('BEGIN; SELECT id FROM jobs ' . where($q, 41) . 'FOR UPDATE;');
is_empty($q, 'one is locked');
$other->query_safe('ROLLBACK');
is_claimed($q, '41', 'a job that was locked');

# ... also if its entry stands before the dead one of its older version, which
# has the same key: the newer version is at the place of a row that is gone.
free_horizon();
query('CREATE INDEX not_hot ON jobs (leased_until)');
$q = queue();
query(insert($q, 100, 100));
query(insert($q, 1, 1));
query('DELETE FROM jobs ' . where($q, 100));
query('VACUUM (INDEX_CLEANUP ON) jobs');
hold_horizon();
my $before = query('SELECT ctid FROM jobs ' . where($q, 1));
query('UPDATE jobs SET leased_until = now() ' . where($q, 1));
is(query("SELECT ctid < '$before' FROM jobs " . where($q, 1)),
	't', 'the newer version stands before the older one');
insert_dead($q, 2, 41);
$other->query_safe('BEGIN; SELECT id FROM jobs ' . where($q, 1) . 'FOR UPDATE;');
is_empty($q, 'it is locked');
$other->query_safe('ROLLBACK');
is_claimed($q, '1', 'a job whose older version has the same key');

# Updates that are not HOT leave a new entry with the same key. A claimer that
# read the leaf page before sees it only if it begins anew.
for my $verb (qw(claim heartbeat release update))
{
	my %sql = (
		claim => claim($q = queue(), "lease => '1 us'"),
		heartbeat => "SELECT h.held FROM jobs j, queue_heartbeat(j.id, 1, '1 us') h ",
		release => "SELECT outcome FROM jobs j, queue_release(j.id, 1) ",
		update => "UPDATE jobs SET leased_until = now() ");

	# all keys must be on one leaf page, for them to be read before
	query('TRUNCATE jobs');
	insert_dead($q, 1, 20);
	insert_dead($q, 22, 40);
	query(
		insert($q, 21, 21,
			$verb eq 'claim' ? () :
			  (%leased,
				$verb eq 'heartbeat' ? (leased_until => 'now()') : ())));
	stop_at($other, 'leaf', claim($q));
	query($sql{$verb} . ($verb eq 'claim' ? '' : where($q, 21)));
	is(go_on($other) || query(claim($q)),
		'21', "$verb, not HOT: the job is there");
}
query('DROP INDEX not_hot');

# Bounded: more queues than there is room for. A head may go while its claimer
# is between look and publication.
$q = queue();
insert_dead($q, 1, 40);
stop_at($other, 'publish', claim($q));
query(
	q(DO $$ BEGIN FOR i IN 1 .. 2500 LOOP
		PERFORM queue_create('many' || i, keep_completed => '0'); END LOOP; END $$;));
query(
	q(INSERT INTO jobs (queue_id)
		SELECT q.id FROM queues q, generate_series(1, 10) WHERE name LIKE 'many%';));
query(q(DELETE FROM jobs WHERE queue_id IN (SELECT id FROM queues WHERE name LIKE 'many%')));
query(
	q(DO $$ BEGIN FOR i IN 1 .. 2500 LOOP
		PERFORM queue_claim('many' || i); END LOOP; END $$));
cmp_ok(cache('evicted'), '>', 0, 'queues were evicted');
query(insert($q, 20.5, 20.5));
is(go_on($other), '', 'a claim that began before that');
is_claimed($q, '20.5', 'a job of an evicted queue');
query(insert($q, 21.5, 21.5));
is_claimed($q, '21.5', 'another one');
free_horizon();

# Index entries that claims look at: at all in front of the first job once, and
# hardly at any from then on: at some leases that are too few for a range.

hold_horizon();
my $big = queue();
insert_dead($big, 1, 20000);
query(insert($big, 20001, 20060));
is_flat($big, 20000, '20000 dead rows');

$q = queue();
query(insert($q, 1, 20000,
		run_at => "now() + interval '1 day'", priority => 1)
	=~ s/run_at, payload/enqueued_at, payload/r);
query(insert($q, 20001, 20060));
is_flat($q, 0, '20000 delayed jobs of higher priority');

$q = queue();
# for so long that they are believed to go on
my %long = (%leased, leased_at => "now() - interval '1 day'");
query(insert($q, 1, 2000, %long));
query(insert($q, 2001, 2100));
is_flat($q, 2000, '2000 leased jobs');
query("SELECT count(*) FROM (SELECT queue_heartbeat(id, 1, '2 days') FROM jobs "
	  . "WHERE queue_id = (SELECT id FROM queues WHERE name = '$q') AND payload::int <= 2000) h"
);
is_flat($q, 0, '... after heartbeats');

$q = queue();
query(insert($q, 1, 2000, %long,
		leased_until => "now() + (1 + i::int % 7 * 3) * interval '1 hour'"));
query(insert($q, 2001, 2100));
is_flat($q, 2000, '2000 jobs leased for times of many lengths');

$q = queue();
query(insert($q, 20001, 20060));
$other->query_safe('BEGIN; ' . insert($q, 1, 20000));
is_flat($q, 20000, '20000 jobs of an open transaction');
$other->query_safe('COMMIT');
is_claimed($q, '1', 'the first of them, when they are committed');

# Short ranges are stepped over, up to what is right behind them.
$q = queue();
insert_dead($q, 1, 10);
is_empty($q, 'a few dead rows');
query(insert($q, 0, 0));
is_claimed($q, '0', 'a job in front of them');
query(insert($q, 5.5, 5.5));
is_claimed($q, '5.5', 'a job between them');
query(insert($q, 11, 11));
is_claimed($q, '11', 'a job right behind them');

# A lease is not believed to last, but some time, and then a longer one.
$q = queue();
my $claim = "SELECT FROM queue_claim('$q', 'w')";
# of no age yet, however slow the machine is
query(insert($q, 1, 40, %leased, leased_at => "now() + interval '1 minute'"));
query(insert($q, 41, 41));
is(visited(1, $claim), 41, 'new leases');
query("DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q'); SELECT pg_sleep(0.3)");
query(insert($q, 42, 43));
is(visited(1, $claim), 42, 'they ended, of which nobody told');
cmp_ok(visited(1, $claim), '<=', 2, 'that is known from then on');
$q = queue();
$claim = "SELECT FROM queue_claim('$q', 'w')";
query(insert($q, 1, 40, %leased, leased_at => "now() - interval '1 minute'"));
query(insert($q, 41, 42));
is(visited(1, $claim), 41, 'older leases');
query('SELECT pg_sleep(0.3)');
cmp_ok(visited(1, $claim), '<=', 2, 'they are believed to go on for longer');

# Known ranges grow together, though the index has forgotten what was between
# them, as it does when somebody else reads it.
$q = queue();
insert_dead($q, 1, 20);
insert_dead($q, 22, 40);
query(insert($q, 21, 21));
$other->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM jobs ' . where($q, 21) . ' FOR UPDATE) j');
is_empty($q, 'a locked job among dead rows');
$other->query_safe('ROLLBACK');
query('DELETE FROM jobs ' . where($q, 21));
free_horizon();
query(qq(SET enable_seqscan = off;
	SELECT FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = '$q') AND priority = 0
		AND run_at = timestamptz '2020-01-01 00:00:21 UTC' AND finished_at IS NULL AND NOT held;
	RESET enable_seqscan));
query(insert($q, 41, 42));
is_claimed($q, '41', 'a job behind both');
my $jumps = cache('jumps');
is_claimed($q, '42', 'another one');
is(cache('jumps') - $jumps, 1, 'one jump over both ranges');

# Without preload there is no cache.
$_->quit for ($main, $other, $horizon, $controller);
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$main = session();
$q = queue();
insert_dead($q, 1, 40);
is_empty($q, 'nothing there, not preloaded');
query(insert($q, 20.5, 20.5));
is_claimed($q, '20.5', 'a job, not preloaded');
query(insert($q, 1, 3, %leased, leased_until => 'now()'));
is_claimed($q, '1', 'a job whose lease ran out, not preloaded');
is(cache('claims'), '0', 'nothing is counted, not preloaded');

$main->quit;
$node->stop;

done_testing();
