# Claims of a queue with a rate limiter, whose bucket is in shared memory.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $tenant = '01890000-0000-7000-8000-000000000001';
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q(
shared_preload_libraries = 'queue_service'
autovacuum = off
));
$node->start;
$node->safe_psql(
	'postgres', qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '$tenant';
));

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

my $n = 0;
my ($began, $rate);

# A queue with so many waiting jobs, and a bucket that holds so many tokens. It
# begins empty, so it is filled at once, and then refills in a minute.
sub limited
{
	my ($jobs, $tokens) = @_;
	my $q = 'q' . ++$n;

	query(
		"SELECT queue_limiter_set('$q', $tokens, 1000000);
		SELECT queue_create('$q', rate_limiter => '$q');
		INSERT INTO jobs (queue_id) SELECT id FROM queues, generate_series(1, $jobs) WHERE name = '$q';
		SELECT queue_rate_peek('$q')");
	$node->poll_query_until('postgres', "SELECT tokens = $tokens FROM queue_rate_peek('$q')")
	  or die "the bucket did not fill";
	$rate = $tokens / 59;
	$began = time;
	query("SELECT queue_limiter_set('$q', refill_per_second => $rate)");
	return $q;
}

sub tokens
{
	return query("SELECT floor(tokens) FROM queue_rate_peek('$_[0]')");
}

# What refilled meanwhile may be there as well.
sub about
{
	my ($found, $expected, $what) = @_;

	ok($found >= $expected && $found <= $expected + 1 + $rate * (time - $began), $what)
	  or diag("$found, not $expected");
	return;
}

my $claim = sub { "SELECT count(*) FROM queue_claim('$_[0]', max_jobs => $_[1])" };

# as many tokens as jobs, as many jobs as tokens
my $q = limited(100, 20);
is(query($claim->($q, 4)), 4, 'enough tokens');
about(tokens($q), 16, 'a token for each job');
is(query('BEGIN; ' . $claim->($q, 6) . '; ROLLBACK'), 6, 'claimed, and rolled back');
about(tokens($q), 16, 'a rollback gives back its tokens');
is(query('BEGIN; ' . $claim->($q, 6) . '; SAVEPOINT s; ' . $claim->($q, 8) . '; ROLLBACK TO s; COMMIT'), "6\n8", 'a savepoint');
about(tokens($q), 10, 'which keeps what came before');
is(query('BEGIN; SAVEPOINT s; ' . $claim->($q, 8) . '; RELEASE s; ROLLBACK'), 8, 'a savepoint that was released');
about(tokens($q), 10, '... gives back with its transaction');
about(query($claim->($q, 100)), 10, 'as many jobs as there are tokens');

# an empty claim looks at nothing
$q = limited(100, 1);
is(query($claim->($q, 100)), 1, 'the one token of a minute');
my $visited = query('SELECT round(visited_mean * claims) FROM queue_cache');
is(query(join ';', map { $claim->($q, 1) } 1 .. 10), join("\n", (0) x 10), 'no tokens');
is(query('SELECT round(visited_mean * claims) FROM queue_cache'), $visited, 'and no entry was looked at');

# fewer jobs than tokens
$q = limited(3, 10);
is(query($claim->($q, 100)), 3, 'fewer jobs than tokens');
about(tokens($q), 7, 'a token for each of them');
is(query($claim->($q, 100)), 0, 'no job');
about(tokens($q), 7, 'and no token');

# what was given back by the claim is not given back by its rollback
$q = limited(3, 59);
is(query("SELECT granted FROM queue_rate_acquire('$q', 40)"), 't', 'most tokens taken');
is(query('BEGIN; ' . $claim->($q, 100) . '; ROLLBACK'), 3, 'a few jobs');
about(tokens($q), 19, 'as many tokens as before');

# an enqueue takes tokens as well
my $enqueue = sub { "SELECT count(*) FROM queue_enqueue_many('$_[0]', array_fill('1'::jsonb, ARRAY[$_[1]]))" };
$q = limited(0, 20);
query("SELECT queue_set('$q', enqueue_limiter => '$q')");
is(query($enqueue->($q, 4)), 4, 'enough tokens for new jobs');
about(tokens($q), 16, 'a token for each of them');
is(query('BEGIN; ' . $enqueue->($q, 6) . '; ROLLBACK'), 6, 'enqueued, and rolled back');
about(tokens($q), 16, 'a rollback gives back its tokens');
is(query('BEGIN; ' . $enqueue->($q, 6) . '; SAVEPOINT s; ' . $enqueue->($q, 8) . '; ROLLBACK TO s; COMMIT'), "6\n8", 'a savepoint of enqueues');
about(tokens($q), 10, 'which keeps what came before');

# who is ended gives back
$q = limited(10, 10);
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe('BEGIN');
is($session->query_safe($claim->($q, 5)), 5, 'claimed by a session');
about(tokens($q), 5, 'with tokens');
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'");
$node->poll_query_until('postgres', "SELECT tokens > 9 FROM queue_rate_peek('$q')")
  or die 'tokens did not come back';
pass('its end gives them back');
$session->{run}->kill_kill;

# a waiter wakes when tokens come back, by time or by a rollback
$q = limited(10, 59);
is(query("SELECT granted FROM queue_rate_acquire('$q', 59)"), 't', 'all tokens taken');
my $start = time;
query("CALL queue_wait('$q', '1 minute')");
my $waited = time - $start;
cmp_ok($waited, '<', 10, 'woken by a token');
cmp_ok($waited, '>', 0.3, 'when there is one');
about(query($claim->($q, 10)), 1, 'for a job');

# (a waiter looks again after a second by itself)
my $woken = 10;
foreach my $try (1 .. 3)
{
	$q = limited(100, 5);
	$session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe('BEGIN');
	is($session->query_safe($claim->($q, 100)), 5, 'all tokens by a claim');
	my $waiter = $node->background_psql('postgres', on_error_stop => 0);
	$waiter->{stdin} .= "CALL queue_wait('$q', '1 minute');\n\\echo woken\n";
	$waiter->{run}->pump_nb;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL queue_wait%' AND wait_event = 'Extension'")
	  or die 'does not wait';
	$start = time;
	$session->query_safe('ROLLBACK');
	$waiter->{run}->pump until $waiter->{stdout} =~ /woken/;
	$woken = time - $start;
	is(query($claim->($q, 5)), 5, 'a rollback gives back all');
	$_->quit foreach $session, $waiter;
	last if $woken < 0.4;
}
cmp_ok($woken, '<', 0.4, 'and wakes who waits');

done_testing();
