# Claims for all tenants: each has its turns, none is forgotten, and those that
# have nothing cost the others nothing. src/ring.h has the rules.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Steps;
use Test::More;

start();
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET app.current_tenant');
$_->quit for ($main, $other, $controller, $horizon);
begin_sessions();

# Tenants are numbers; those from 1 to so many get a queue of the name.
sub tenants
{
	my ($name, $count, %columns) = @_;
	my $names = join '', map { ", $_" } sort keys %columns;
	my $values = join '', map { ", $columns{$_}" } sort keys %columns;

	return qq(INSERT INTO tenants (id) SELECT ('11111111-1111-4111-8111-' || lpad(i::text, 12, '0'))::uuid
			FROM generate_series(1, $count) i ON CONFLICT DO NOTHING;
		INSERT INTO queues (tenant_id, name, default_lease$names)
			SELECT ('11111111-1111-4111-8111-' || lpad(i::text, 12, '0'))::uuid, '$name', '1 day'$values
			FROM generate_series(1, $count) i;);
}

sub of
{
	my ($name, $number) = @_;

	return "name = '$name' AND right(tenant_id::text, 12)::int = $number";
}

# So many jobs of one tenant, or of each; their payload is the tenant's number.
sub jobs
{
	my ($name, $number, $count, %columns) = @_;
	my $names = join '', map { ", $_" } sort keys %columns;
	my $values = join '', map { ", $columns{$_}" } sort keys %columns;
	my $where = defined $number ? of($name, $number) : "name = '$name'";

	return qq(INSERT INTO jobs (tenant_id, queue_id, payload$names)
		SELECT tenant_id, id, to_jsonb(right(tenant_id::text, 12)::int)$values
		FROM queues, generate_series(1, $count) WHERE $where;);
}

# Whose jobs a claim gives, in order.
sub claims
{
	my ($name, $jobs, $session) = @_;

	return ($session // $main)
	  ->query_safe("SELECT string_agg(payload::text, ' ') FROM queue_claim('$name', 'w', max_jobs => @{[$jobs // 1]})");
}

# So many claims of a job: whose, in order.
sub single_claims
{
	my ($name, $claims) = @_;

	return query("SELECT string_agg(c.payload::text, ' ' ORDER BY i)
		FROM generate_series(1, $claims) i, LATERAL (SELECT * FROM queue_claim('$name', 'w' || i)) c");
}

# How many turns a piece of work takes, and how many of them in vain.
sub turns
{
	my ($work) = @_;
	my $sql = 'SELECT turns, turns_in_vain FROM queue_cache';
	my @before = split /\|/, query($sql);

	$work->();
	my @after = split /\|/, query($sql);
	return ($after[0] - $before[0]) . ' ' . ($after[1] - $before[1]);
}

# Shares.

query(tenants('large', 200) . jobs('large', 1, 5000) . jobs('large', undef, 1));
my $order = single_claims('large', 600);
my %first;
my $n = 0;
$first{$_} //= ++$n for split ' ', $order;
is(scalar keys %first, 200, 'all tenants had a turn');
($n) = $order =~ /^((?:\S+ ){200})/;
is(scalar(keys %{ { map { $_ => 1 } split ' ', $n } }), 200, 'all in the first round');

query(tenants('weights', 2, weight => 'CASE i WHEN 1 THEN 3 ELSE 1 END') . jobs('weights', undef, 3000));
is(single_claims('weights', 12) =~ tr/1//, 9, 'three of four are of who has the weight 3, one by one');
is(join(' ', map { claims('weights', 8) =~ tr/1// } 1 .. 20), join(' ', (6) x 20), 'and in batches');
is(join('', map { claims('weights', 3) } 1 .. 20) =~ tr/1//, 45, 'that share rounds, too');
query("UPDATE queues SET weight = 1 WHERE name = 'weights'");
single_claims('weights', 8);
is(claims('weights', 10) =~ tr/1//, 5, 'a weight that was changed');

# What costs nothing.

query(tenants('idle', 100) . jobs('idle', 7, 100));
is(single_claims('idle', 3), '7 7 7', 'one of a hundred');
is(turns(sub { single_claims('idle', 20) }), '20 0', 'the others take no turns');
is(turns(sub { claims('idle', 50) }), '1 0', 'and one gives a lone tenant a whole batch');

my %away = (
	paused => "UPDATE queues SET paused = true WHERE @{[of('idle', 1)]}",
	delayed => "UPDATE jobs SET run_at = now() + interval '1 hour' FROM queues q WHERE q.id = queue_id AND @{[map { s/^name/q.name/r =~ s/tenant_id/q.tenant_id/r } of('idle', 2)]}",
	limited => "UPDATE queues SET max_concurrency = 1 WHERE @{[of('idle', 3)]}",
	tokens => "UPDATE queues SET rate_limiter = 'none left' WHERE @{[of('idle', 4)]}");
query("SELECT queue_limiter_set('none left', 1, 0.02); SELECT queue_rate_acquire('none left')");
query(jobs('idle', $_, 2)) for 1 .. 5;
query($away{$_}) for sort keys %away;
# 3 has a slot for one job, 5 no limit
like(claims('idle', 6), qr/^[357 ]+$/, 'those who have something');
query("SELECT count(*) FROM queue_claim('idle', max_jobs => 2) WHERE payload <> '7'");
my ($turns, $in_vain) = split ' ', turns(sub { claims('idle') for 1 .. 20 });
cmp_ok($in_vain, '<=', 4, 'paused, delayed, limited and leased ones take no turns');

# ... and how they come back.
sub comes_back
{
	my ($name, $number, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	query($sql);
	like(claims('idle', 8), qr/\b$number\b/, $name);
	return;
}
comes_back('resumed', 1, "UPDATE queues SET paused = false WHERE name = 'idle'");
comes_back('an earlier time', 2, "UPDATE jobs SET run_at = now() WHERE payload = '2' AND run_at > now()");
comes_back('another limit', 3, "UPDATE queues SET max_concurrency = NULL WHERE name = 'idle'");
comes_back('no limit', 4, "UPDATE queues SET rate_limiter = NULL WHERE name = 'idle'");
query("UPDATE queues SET max_concurrency = 1 WHERE @{[of('idle', 6)]}; " . jobs('idle', 6, 3));
query("SELECT job_id, lease_token FROM queue_claim('idle', max_jobs => 2) WHERE payload = '6' \\gset\n");
unlike(claims('idle', 4), qr/6/, 'no slot');
comes_back('a slot that is free', 6, "SELECT queue_complete(:'job_id', :lease_token)");

# A lone one is looked at again when its time has come, whatever that is.
query(tenants('time', 2) . jobs('time', 1, 1, run_at => "clock_timestamp() + interval '1 second'"));
is(claims('time'), '', 'delayed');
is(turns(sub { is(claims('time'), '', 'not due yet') }), '0 0', 'which takes no turn');
$node->poll_query_until('postgres', "SELECT payload = '1' FROM queue_claim('time', lease => '1 second')", 't')
  or die 'not when it was due';
pass('when it is due');
is(claims('time'), '', 'leased');
$node->poll_query_until('postgres', "SELECT payload = '1' FROM queue_claim('time')", 't')
  or die 'not when the lease ran out';
pass('when the lease ran out');

# Nobody is forgotten.

# A queue that seems to have nothing, while a job comes.
query(tenants('register', 2) . jobs('register', 1, 1));
is(claims('register'), '1', 'a lease in front');
stop_at($main, 'leaf', "SELECT payload FROM queue_claim('register')");
$other->query_safe(jobs('register', 1, 1));
go_on($main);
is(claims('register'), '1', 'a job that came while a claim looked');
# ... a queue that is resumed before sessions hear of it
query(tenants('stale', 1, paused => 'true') . jobs('stale', 1, 1));
stop_at($main, 'served', "SELECT payload FROM queue_claim('stale')");
$other->query_safe("UPDATE queues SET paused = false WHERE name = 'stale'");
is(go_on($main), '1', 'resumed while a claim was about to park it');

# What is held by somebody, and let go without a word.
query(tenants('busy', 2));
$other->query_safe('BEGIN; ' . jobs('busy', 1, 1));
is(claims('busy'), '', 'not committed');
$other->query_safe('COMMIT');
is(claims('busy'), '1', 'committed');
query(jobs('busy', 1, 1));
$other->query_safe('BEGIN');
is(claims('busy', 1, $other), '1', 'claimed by another');
is(claims('busy'), '', 'not ours');
$other->query_safe('ROLLBACK');
is(claims('busy'), '1', 'who rolled back');
query(jobs('busy', 1, 1));
$other->query_safe("BEGIN; SELECT FROM jobs WHERE payload = '1' AND status = 'pending' FOR UPDATE");
is(claims('busy'), '', 'locked by another');
$other->query_safe('COMMIT');
is(claims('busy'), '1', 'who let go of it');
query('BEGIN; ' . jobs('busy', 2, 1) . "PREPARE TRANSACTION 'job'");
is(claims('busy'), '', 'prepared');
query("COMMIT PREPARED 'job'");
is(claims('busy'), '2', 'and committed');
# ... while others have work all the time
query(jobs('busy', 1, 1000));
$other->query_safe('BEGIN; ' . jobs('busy', 2, 1));
is(claims('busy', 5), '1 1 1 1 1', 'not committed, beside one who has work');
$other->query_safe('COMMIT');
$node->poll_query_until('postgres', "SELECT payload = '2' FROM queue_claim('busy')", 't')
  or die 'not found';
pass('committed, beside one who has work');

# Queues come and go.
query(tenants('old', 3) . jobs('old', undef, 50));
is(claims('old', 3), '1 2 3', 'three queues');
query("UPDATE queues SET name = 'new' WHERE @{[of('old', 2)]}");
is(claims('old', 4), '1 3 1 3', 'one was renamed');
is(claims('new', 2), '2 2', 'and has another ring');
query("UPDATE queues SET name = 'old' WHERE name = 'new'");
is(claims('new'), '', 'it was renamed back');
like(claims('old', 6), qr/2/, 'and is there');
query("BEGIN; SAVEPOINT s; DELETE FROM jobs WHERE payload = '3'; DELETE FROM queues WHERE @{[of('old', 3)]}");
unlike(claims('old', 6), qr/3/, 'one was dropped, for the transaction');
query('ROLLBACK TO s');
like(claims('old', 6), qr/3/, 'but not if that is rolled back');
query('COMMIT');
like(claims('old', 6), qr/3/, 'nor after that');
query("BEGIN; DELETE FROM jobs WHERE payload = '3'; DELETE FROM queues WHERE @{[of('old', 3)]}; ROLLBACK");
like(claims('old', 6), qr/3/, 'nor if all is rolled back');
query("BEGIN; INSERT INTO queues (tenant_id, name) SELECT tenant_id, 'own' FROM queues WHERE @{[of('old', 1)]}; " . jobs('own', 1, 1));
is(claims('own'), '1', 'a queue of the transaction itself');
query('ROLLBACK');
$other->query_safe("DELETE FROM jobs WHERE payload = '1' AND queue_id = (SELECT id FROM queues WHERE @{[of('old', 1)]}); DELETE FROM queues WHERE @{[of('old', 1)]}");
unlike(claims('old', 6), qr/1/, 'one was dropped');
query("BEGIN; INSERT INTO queues (tenant_id, name) SELECT tenant_id, 'old' FROM queues WHERE @{[of('large', 1)]}; " . jobs('old', 1, 1) . "PREPARE TRANSACTION 'queue'");
unlike(claims('old', 6), qr/1/, 'a queue that is prepared');
query("COMMIT PREPARED 'queue'");
like(claims('old', 6), qr/1/, 'and committed');
query("DELETE FROM jobs WHERE queue_id IN (SELECT id FROM queues WHERE name = 'old'); DELETE FROM queues WHERE name = 'old'");
is(claims('old'), '', 'all were dropped');

# A queue that comes while a ring is filled.
query(tenants('fill', 2));
stop_at($main, 'members', "SELECT payload FROM queue_claim('fill')");
$other->query_safe("INSERT INTO queues (tenant_id, name) SELECT tenant_id, 'fill' FROM queues WHERE @{[of('idle', 3)]};" . jobs('fill', 3, 1));
is(go_on($main) || claims('fill'), '3', 'a queue that came while the ring was filled');

# Triggers that are off, files that are others.
foreach my $table ('queues', 'jobs')
{
	is(claims('fill'), '', 'nothing');
	query("ALTER TABLE $table DISABLE TRIGGER ALL; INSERT INTO queues (tenant_id, name)
		SELECT tenant_id, 'fill' FROM queues WHERE @{[of('idle', $table eq 'jobs' ? 5 : 4)]};"
	  . jobs('fill', $table eq 'jobs' ? 5 : 4, 1)
	  . "ALTER TABLE $table ENABLE TRIGGER ALL");
	like(claims('fill'), qr/4|5/, "$table: triggers are off");
	query(jobs('fill', 1, 1)
	  . "ALTER TABLE $table ENABLE ALWAYS TRIGGER "
	  . ($table eq 'jobs' ? 'queue_announce' : 'queue_changed'));
	is(claims('fill'), '1', "$table: and on again");
}
query(jobs('fill', 1, 1) . 'BEGIN; TRUNCATE jobs');
is(claims('fill'), '', 'a table is empty for a transaction');
query('ROLLBACK');
is(claims('fill'), '1', 'and then is not');

# A job that cannot be claimed is its tenant's trouble.
query(tenants('fails', 2) . jobs('fails', undef, 2) . <<'END');
CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER fails BEFORE UPDATE ON jobs FOR EACH ROW
	WHEN (NEW.payload = '1' AND NEW.status = 'processing') EXECUTE FUNCTION fails();
END
my $claimed = '';
for my $claim (1 .. 4)
{
	$claimed .= $main->query("SELECT payload FROM queue_claim('fails')") // '';
	$main->{stderr} = '';
}
is($claimed =~ tr/2//, 2, 'the others go on');
query('DROP TRIGGER fails ON jobs; DROP FUNCTION fails');

# Who is bound to a tenant has no part in it.
query("BEGIN; SET LOCAL app.current_tenant = '11111111-1111-4111-8111-000000000002'");
query(jobs('fails', 2, 2));
is(turns(sub { is(claims('fails'), '2', 'his own job') }), '0 0', 'and no turn');
query('ROLLBACK');

# Another database whose queues have the same ids, and what comes after the extension.
query(tenants('twice', 1));
is(claims('twice'), '', 'nothing');
$_->quit for ($main, $other, $controller, $horizon);
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
begin_sessions();
my $copy = session('copy');
is(claims('twice', 1, $copy), '', 'nothing in the copy');
$copy->query_safe(jobs('twice', 1, 1));
is(claims('twice'), '', 'nothing in the original');
is(claims('twice', 1, $copy), '1', 'a job of the copy');
$copy->quit;
query('DROP EXTENSION queue_service CASCADE; CREATE EXTENSION queue_service; ' . tenants('twice', 2) . jobs('twice', 2, 2));
is(claims('twice'), '2', 'a job of the new extension');

# After a crash, and on a server that was a standby.
query(tenants('again', 10) . jobs('again', undef, 3));
is(claims('again', 3), '1 2 3', 'before');
query('CREATE TABLE flushed ()');    # claims alone do not wait for their WAL
$_->quit for ($main, $other, $controller, $horizon);
$node->stop('immediate');
$node->start;
begin_sessions();
is(claims('again', 12), '1 2 3 4 5 6 7 8 9 10 1 2', 'after a crash');
$node->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $ENV{QS_FAULTS});
$standby->init_from_backup($node, 'standby', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
$standby->promote;
$standby->safe_psql('postgres', 'CREATE TABLE writable ()');
is($standby->safe_psql('postgres', "SELECT count(*) FROM queue_claim('again', max_jobs => 100)"), 15, 'after a promotion');
$standby->stop;

# Too many queues: each session goes round by itself.
$_->quit for ($main, $other, $controller, $horizon);
$node->append_conf('postgresql.conf', "queue_service.ring_size = '64kB'");
$node->restart;
begin_sessions();
cmp_ok(query('SELECT ring_queues_max FROM queue_cache'), '<', 500, 'a small ring');
query(tenants('many', 600, weight => 'CASE i WHEN 1 THEN 3 ELSE 1 END') . jobs('many', undef, 1) . jobs('many', 1, 4) . jobs('many', 2, 4));
is(turns(sub { $order = single_claims('many', 602) }), '0 0', 'no turns');
is(scalar(keys %{ { map { $_ => 1 } split ' ', $order } }), 600, 'but all have one in the first round');
is(scalar(grep { $_ == 1 } split ' ', $order), 3, 'and three by weight');
is(claims('again', 3) =~ tr/0-9//, 3, 'another name');
is(turns(sub { claims('again', 3) }), '3 0', 'has its ring');

$_->quit for ($main, $other, $controller, $horizon);
$node->stop;

done_testing();
