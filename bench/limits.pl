# What it costs to ask a limit; see bench/run. Expects a private server with the
# extension and nothing else on it, and redis-server and redis-benchmark.
#
# Each round runs all variants in turn and begins with another one: SELECT 1;
# queue_rate_acquire() on one bucket that never refuses and one that always
# does; an UPDATE of one row that does the same arithmetic in SQL; and a script in
# Redis, asked by redis-benchmark over a socket. All but the last are asked by
# pgbench, prepared, as durable as PostgreSQL is by default; Redis writes nothing to
# disk. Figures are compared within a round.
#
# BENCH_SECONDS (3) is the length of a slice, three times that where many clients
# take a while to begin, BENCH_ROUNDS (3) their number,
# BENCH_CLIENTS ("1 4 16 64") the numbers of clients, BENCH_BUCKETS (100000) how
# many buckets the scenario "buckets" has. Whether they fit is up to the server:
# QS_CONF='queue_service.max_buckets = 100000'.
use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname($0);
use Bench;

my $seconds = $ENV{BENCH_SECONDS} || 3;
my $rounds  = $ENV{BENCH_ROUNDS}  || 3;
my @clients = split ' ', $ENV{BENCH_CLIENTS} || '1 4 16 64';
my $buckets = $ENV{BENCH_BUCKETS} || 100_000;

my %scripts = (
	'SELECT 1' => 'SELECT 1;',
	'acquire, granted' => q{SELECT (queue_rate_acquire('always')).granted;},
	'acquire, refused' => q{SELECT (queue_rate_acquire('never', 1000000000)).granted;},
	'acquire, in FROM' => q{SELECT * FROM queue_rate_acquire('always');},
	'UPDATE of a row' => <<'END',
UPDATE sql_buckets SET tokens = least(capacity, tokens + rate * extract(epoch FROM clock_timestamp() - refilled_at)::float8) - 1,
	refilled_at = clock_timestamp()
	WHERE name = 'always' AND least(capacity, tokens + rate * extract(epoch FROM clock_timestamp() - refilled_at)::float8) >= 1 RETURNING tokens;
END
);

# A token bucket as is usual in Redis: the time is the server's.
my $redis_script = <<'END';
local b = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens = math.min(capacity, (tonumber(b[1]) or capacity) + rate * (now - (tonumber(b[2]) or now)))
local granted = tokens >= 1
if granted then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
return granted and 1 or 0
END

my $redis_pid;
my $redis_socket = "$temp/redis";

sub start_redis
{
	$redis_pid = fork() // die "fork: $!\n";
	if ($redis_pid == 0)
	{
		open STDOUT, '>', '/dev/null';
		exec 'redis-server', '--port', '0', '--unixsocket', $redis_socket, '--save', '', '--appendonly', 'no', '--dir', $temp
		  or exit 1;
	}
	for (1 .. 100)
	{
		return 1 if -S $redis_socket;
		select undef, undef, undef, 0.05;
	}
	die "redis-server did not start\n";
}
END { kill 'TERM', $redis_pid if $redis_pid }

sub redis
{
	my ($n) = @_;
	my $requests = 1000 * $seconds * ($n > 1 ? 30 : 10);

	open(my $out, '-|', 'redis-benchmark', '-s', $redis_socket, '-c', $n, '-n', $requests, '--csv',
		'EVAL', $redis_script, '1', 'always', '1000000000', '1000000000')
	  or die "redis-benchmark: $!\n";
	my ($rate) = map { /^"(?:[^"]|\n)*","([\d.]+)"/s ? $1 : () } join '', grep { !/^"test"/ } <$out>;
	close $out or die "redis-benchmark failed\n";
	return $rate // die "redis-benchmark said nothing\n";
}

sub rate
{
	my ($variant, $n) = @_;

	return redis($n) if $variant eq 'Redis';
	return pgbench(script => $scripts{$variant}, clients => $n,
		seconds => $n > 4 ? 3 * $seconds : $seconds)->{rate};
}

sub hot
{
	my @variants = ('SELECT 1', 'acquire, granted', 'acquire, refused', 'acquire, in FROM', 'UPDATE of a row', 'Redis');

	start_redis();
	print "| clients | @{[join ' | ', map { \"$_, a second\" } @variants]} | granted, times SELECT 1 | refused, times SELECT 1 | in FROM, times SELECT 1 | granted, times UPDATE | granted, times Redis |\n";
	print '|--:' x (@variants + 6), "|\n";
	foreach my $n (@clients)
	{
		my %rates;
		foreach my $round (0 .. $rounds - 1)
		{
			foreach my $i (0 .. $#variants)
			{
				my $variant = $variants[($i + $round) % @variants];
				push @{ $rates{$variant} }, rate($variant, $n);
			}
		}
		my $times = sub {
			my ($a, $b) = @_;
			return spread('%.2f', map { $rates{$a}[$_] / $rates{$b}[$_] } 0 .. $rounds - 1);
		};
		print "| $n | ", join(' | ', map { with_commas(median(@{ $rates{$_} })) } @variants), ' | ',
		  join(' | ', $times->('acquire, granted', 'SELECT 1'), $times->('acquire, refused', 'SELECT 1'), $times->('acquire, in FROM', 'SELECT 1'),
			$times->('acquire, granted', 'UPDATE of a row'), $times->('acquire, granted', 'Redis')), " |\n";
	}
	return;
}

# Time and pages of an acquire, over so many buckets at random, in one session that
# has asked each of them once.
sub many
{
	print "| buckets | us an acquire, p50 | pages an acquire | shared memory, MB |\n|--:|--:|--:|--:|\n";
	foreach my $n (1, 100, 1000, 10_000, $buckets)
	{
		sql("INSERT INTO rate_limiters (service_name, tokens_available, max_tokens, refill_per_second)
			SELECT 'many ' || i, 1e9, 1e9, 1e9 FROM generate_series(1, $n) i ON CONFLICT DO NOTHING");
		sql('VACUUM ANALYZE rate_limiters');
		my ($last) = sql("SELECT count(*) FROM generate_series(1, $n) i, queue_rate_acquire('many ' || i);
			CREATE TEMP TABLE timing (us float8);
			CREATE TEMP TABLE pages AS SELECT pg_stat_get_xact_blocks_fetched('rate_limiters'::regclass) + pg_stat_get_xact_blocks_fetched('rate_limiters_pkey'::regclass) AS n;
			DO \$\$
			DECLARE
				started timestamptz;
				before bigint;
				name text;
			BEGIN
				before := pg_stat_get_xact_blocks_fetched('rate_limiters'::regclass) + pg_stat_get_xact_blocks_fetched('rate_limiters_pkey'::regclass);
				FOR i IN 1 .. 20000 LOOP
					name := 'many ' || 1 + floor(random() * $n)::int;
					started := clock_timestamp();
					PERFORM queue_rate_acquire(name);
					INSERT INTO timing VALUES (extract(epoch FROM clock_timestamp() - started) * 1e6);
				END LOOP;
				UPDATE pages SET n = pg_stat_get_xact_blocks_fetched('rate_limiters'::regclass) + pg_stat_get_xact_blocks_fetched('rate_limiters_pkey'::regclass) - before;
			END \$\$;
			SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY us), min(pages.n) / 20000.0 FROM timing, pages") =~ /([^\n]*)$/;
		my ($us, $pages) = split /\|/, $last;
		my $mb = sql("SELECT round(allocated_size / 1e6, 1) FROM pg_shmem_allocations WHERE name = 'queue_service_buckets'");
		printf "| %s | %.1f | %.2f | %s |\n", with_commas($n), $us, $pages, $mb;
	}
	return;
}

setup(dirname($0) . '/setup.sql');
sql("CREATE TABLE sql_buckets (name text PRIMARY KEY, tokens float8, capacity float8, rate float8, refilled_at timestamptz) WITH (fillfactor = 10);
	INSERT INTO sql_buckets VALUES ('always', 1e9, 1e9, 1e9, now());
	SELECT queue_limiter_set('always', 1e9, 1e9), queue_limiter_set('never', 1e9, 2e7);
	SELECT granted FROM queue_rate_acquire('never', 1000000000)");
foreach my $scenario (chosen({ name => 'hot', run => \&hot }, { name => 'buckets', run => \&many }))
{
	print "\n";
	$scenario->{run}->();
}
