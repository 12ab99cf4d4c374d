# Token buckets in shared memory: both or neither, exact times to wait, changes
# that add no token wherever the bucket is kept, an empty start, eviction.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '01890000-0000-7000-8000-000000000001';
my $node   = PostgreSQL::Test::Cluster->new('main');

$node->init;
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
queue_service.max_buckets = 64
autovacuum = off
END
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');");

my ($main, $other);

sub begin_sessions
{
	($main, $other) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
	return;
}

sub query
{
	my ($sql) = @_;

	return $main->query_safe($sql);
}

# Whether it was granted; the tokens left, rounded down; the wait in seconds.
sub acquire
{
	my ($service, $tokens) = @_;

	return split /\|/, query("SELECT granted, floor(remaining), extract(epoch FROM retry_after)
		FROM queue_rate_acquire('$service', @{[$tokens // 1]})");
}

sub tokens
{
	my ($service) = @_;

	return query("SELECT tokens FROM queue_rate_peek('$service') ORDER BY limited_by LIMIT 1");
}

sub is_refused
{
	my ($service, $tokens, $name) = @_;
	my ($granted) = acquire($service, $tokens);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($granted, 'f', $name);
	return;
}

sub is_granted
{
	my ($service, $tokens, $name) = @_;
	my ($granted) = acquire($service, $tokens);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($granted, 't', $name);
	return;
}

begin_sessions();

# A bucket of 50 that takes 50 seconds to fill; what refills meanwhile is less
# than what a test asks for.
query("SELECT queue_limiter_set('slowly', 50, 1)");
is_granted('slowly', 50, 'a new limit is full');
is_refused('slowly', 25, 'and then empty');
query('BEGIN; SELECT granted FROM queue_rate_acquire(\'slowly\'); ROLLBACK');
cmp_ok(tokens('slowly'), '<', 25, 'a rollback gives nothing back');

# Exact: refused a microsecond before, granted at the time. Nobody else asks, so
# that the one who sleeps as long is granted.
query("SELECT queue_limiter_set('quick', 10, 20)");
my $tries = 0;
for (1 .. 20)
{
	my ($granted, undef, $wait) = acquire('quick', 3);

	next if $granted eq 't';
	query("SELECT pg_sleep($wait)");
	$tries++;
	is_granted('quick', 3, "granted after a wait of $wait");
}
cmp_ok($tries, '>', 5, 'and there were waits');

# Own share and service: both or neither.
query("SELECT queue_limiter_set('both', 50, 1), queue_tenant_limit_set('$tenant', 'both', 40, 1)");
query("SET app.current_tenant = '$tenant'");
is_granted('both', 30, 'taken from both');
is_refused('both', 30, 'the own share has too little');
query('RESET app.current_tenant');
my ($granted, $left) = acquire('both', 15);
is($granted, 't', 'the service has what was not taken');
query("SET app.current_tenant = '$tenant'");
query("SELECT queue_tenant_limit_set('$tenant', 'both2', 40, 1)");
query("SELECT queue_limiter_set('both2', 40, 1)");
query('RESET app.current_tenant');
is_granted('both2', 40, 'the service is emptied');
query("SET app.current_tenant = '$tenant'");
for (1 .. 5)
{
	my ($refused, undef, $wait) = acquire('both2', 30);

	is($refused, 'f', 'the service has too little');
	cmp_ok($wait, '>', 15, 'and the wait is the longer one');
}
my $share = query("SELECT tokens FROM queue_rate_peek('both2') WHERE limited_by = 'tenant'");
cmp_ok($share, '>', 39.9, 'the own share was given back');
query('RESET app.current_tenant');

# Changes, by whoever makes them, hold at once and add no token.
sub change
{
	my ($name, $capacity, $rate, $new_capacity, $new_rate, $least, $most) = @_;

	query("SELECT queue_limiter_set('$name', $capacity, $rate)");
	is_granted($name, $capacity, "$name: emptied");
	$other->query_safe("UPDATE rate_limiters SET max_tokens = $new_capacity, refill_per_second = $new_rate WHERE service_name = '$name'");
	my $tokens = tokens($name);
	cmp_ok($tokens, '>=', $least, "$name: no fewer tokens");
	cmp_ok($tokens, '<=', $most, "$name: no more tokens");
	is(query("SELECT max_tokens || ' ' || refill_per_second FROM queue_rate_peek('$name')"),
		"$new_capacity $new_rate", "$name: as it is now");
	is_refused($name, 20, "$name: no more can be taken");
	return;
}
change('raised', 30, 1, 40, 1, 0, 10);
change('to its row', 30, 1, 30, 0.001, 0, 10);
change('from its row', 30, 0.001, 30, 1, 0, 10);
change('lowered', 40, 1, 30, 1, 0, 10);
query("UPDATE rate_limiters SET refill_per_second = 0.001 WHERE service_name = 'from its row'");
query("UPDATE rate_limiters SET refill_per_second = 1 WHERE service_name = 'from its row'");
is_refused('from its row', 20, 'there and back again');
query("SELECT queue_limiter_set('kept', 40, 1)");
is_granted('kept', 10, 'ten of forty');
$other->query_safe("UPDATE rate_limiters SET max_tokens = 60 WHERE service_name = 'kept'");
is_refused('kept', 45, 'a larger bucket has no more tokens');
is_granted('kept', 30, 'and no fewer');
query("DELETE FROM rate_limiters WHERE service_name = 'kept'");
query("INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second) VALUES ('kept', 0, 60, 1)");
is_refused('kept', 30, 'deleted and made again');

# What is taken before a change commits.
query("SELECT queue_limiter_set('late', 50, 1)");
is_granted('late', 1, 'in shared memory');
$other->query_safe("BEGIN; SELECT queue_limiter_set('late', 50, 0.001)");
is_granted('late', 45, 'taken while it changes');
$other->query_safe('COMMIT');
is_refused('late', 20, 'is taken from its row');
query("SELECT queue_limiter_set('late', 50, 1)");
is_refused('late', 20, 'and from shared memory again');
query("SELECT queue_limiter_set('later', 50, 1)");
is_granted('later', 1, 'in shared memory');
$other->query_safe("BEGIN; SELECT queue_limiter_set('later', 55, 1)");
is_granted('later', 45, 'taken while it changes');
$other->query_safe('COMMIT');
is_refused('later', 20, 'is taken from what it is then');

# A change that is rolled back.
$other->query_safe("BEGIN; SELECT queue_limiter_set('raised', 10, 1)");
is_refused('raised', 25, 'before the commit the old definition holds');
$other->query_safe('ROLLBACK');
is_refused('raised', 25, 'as it does after a rollback');

# Eviction: more buckets than there is room for begin empty, never full.
query("INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second, last_refill_at)
	SELECT 'many ' || i, 50, 50, 1, now() - interval '1 day' FROM generate_series(1, 4000) i");
query("SELECT count(*) FROM generate_series(1, 4000) i, queue_rate_acquire('many ' || i)");
is_refused('slowly', 49, 'a bucket that was evicted did not fill up');
is(query("SELECT count(*) FROM generate_series(1, 4000) i, queue_rate_acquire('many ' || i, 40) WHERE granted"),
	'0', 'buckets that were evicted begin empty');

like(query("SELECT detail FROM queue_health WHERE item = 'buckets' AND NOT ok"), qr/ [1-9]\d* evicted: raise/,
	'and queue_health says so');

# A session knows as many limits as there may be buckets, and of more those that
# it used last.
query("CREATE FUNCTION pages() RETURNS bigint LANGUAGE sql AS
		\$\$ SELECT sum(pg_stat_get_xact_blocks_fetched(t))::bigint FROM unnest('{rate_limiters, rate_limiters_pkey}'::regclass[]) t \$\$;
	CREATE FUNCTION pages_read(first int, last int) RETURNS bigint LANGUAGE plpgsql AS \$\$
	DECLARE before bigint := pages();
	BEGIN
		PERFORM queue_rate_acquire('many ' || i) FROM generate_series(first, last) i;
		RETURN pages() - before;
	END \$\$");
is(query('SELECT pages_read(1, 60) > 0, pages_read(1, 60)'), 't|0', 'known limits cost no page');
is(query('SELECT sum(pages_read(1, 20)), sum(pages_read(100 * i, 100 * i + 29)) > 0 FROM generate_series(2, 20) i'),
	'0|t', 'nor do those that are used again and again, among many others');

# Many at once: each token is granted once.
query("CREATE TABLE granted AS SELECT clock_timestamp() AS began, 0 AS tokens;
	SELECT queue_limiter_set('race', 1000, 20)");
$node->pgbench('--no-vacuum --client=8 --transactions=300', 0, [qr/processed: 2400/], [qr/^/], 'eight clients',
	{ '061_race' => "INSERT INTO granted (tokens) SELECT 1 FROM queue_rate_acquire('race') WHERE granted" });
is(query("SELECT sum(tokens) BETWEEN 1000 AND 1000 + 20 * extract(epoch FROM clock_timestamp() - min(began)) FROM granted"),
	't', 'are granted what there was, and all of it');

# A start: empty, whatever the row says.
$_->quit for ($main, $other);
$node->safe_psql('postgres', "UPDATE rate_limiters SET tokens_available = 50, last_refill_at = now() WHERE service_name = 'slowly'");
$node->restart;
begin_sessions();
is_refused('slowly', 40, 'empty at the start');
is_granted('quick', 1, 'and refilled since') if $node->poll_query_until('postgres',
	"SELECT tokens >= 1 FROM queue_rate_peek('quick')");
$_->quit for ($main, $other);

# Without shared memory the same rules hold, in rows.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
begin_sessions();
is_refused('slowly', 40, 'not preloaded: empty at the start');
query("UPDATE rate_limiters SET tokens_available = 50, last_refill_at = clock_timestamp() WHERE service_name = 'slowly'");
is_granted('slowly', 50, 'not preloaded: as the row says');
is_refused('slowly', 25, 'not preloaded: and then empty');
my ($code, undef, $error) = $node->psql('postgres', "SELECT queue_rate_acquire('stripe')",
	extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($error, qr/QS041/, 'not preloaded: no permits');
$_->quit for ($main, $other);

done_testing();
