# Shared memory that is full: FAULT_TENANTS (100) tenants with ten queues each,
# and the least that the settings allow. Each job is claimed once, no queue has
# more in flight than it may, no tenant has more tokens and no service more
# permits; where there is no room, that is an error that says so.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $tenants = times_of('FAULT_TENANTS', 100);
my $queues = 10 * $tenants;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'queue_service'
queue_service.cache_size = '1MB'
queue_service.max_buckets = 64
queue_service.max_holders = 64
queue_service.max_statistics = 16
queue_service.ring_size = '64kB'
shared_buffers = 256MB
max_wal_size = 4GB
));
$node->start;

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

# Of each tenant: a queue of which two jobs may run, one that takes tokens of the
# tenant, eight others, and so many jobs in each.
my ($slots, $tokens) = (2, 3);
query(qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (name) SELECT 'tenant ' || n FROM generate_series(1, $tenants) n;
	INSERT INTO rate_limits (tenant_id, name, tokens_available, max_tokens, refill_per_second)
		SELECT id, 'service', $tokens, $tokens, $tokens / 60.0 FROM tenants;
	SELECT queue_limiter_set('service', 1e9, 1e9);
	SELECT count(*) FROM generate_series(1, 60) n, queue_limiter_set('permits ' || n, 1e6, 1e6, 2, '1 hour');
	INSERT INTO queues (tenant_id, name, max_concurrency, rate_limiter, keep_completed)
		SELECT id, 'q' || n, CASE n WHEN 0 THEN $slots END, CASE n WHEN 1 THEN 'service' END, '0'
		FROM tenants, generate_series(0, 9) n;
	CREATE TABLE claimed (id uuid PRIMARY KEY, token bigint, tenant uuid, queue text, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE made AS SELECT clock_timestamp() AS since;
));
query(q(INSERT INTO jobs (tenant_id, queue_id) SELECT tenant_id, id FROM queues, generate_series(1, CASE WHEN name < 'q2' THEN 4 ELSE 1 END)));
my $jobs = query('SELECT count(*) FROM jobs');
is($jobs, 16 * $tenants, "$jobs jobs in $queues queues");

# More leases than there are places, and all queues known to be full: when the leases
# end, the others follow, also if nobody was told.
query(q(INSERT INTO queues (tenant_id, name, max_concurrency, keep_completed) SELECT id, 'few', 1, '0' FROM tenants LIMIT 100));
query(q(INSERT INTO jobs (tenant_id, queue_id) SELECT tenant_id, id FROM queues, generate_series(1, 2) WHERE name = 'few'));
my $few = q(SELECT job_id, lease_token FROM queue_claim('few', max_jobs => 1000));
my $done = q(SELECT outcome, count(*) FROM few, queue_complete(job_id, lease_token) GROUP BY 1);
is(query("CREATE TEMP TABLE few AS $few; SELECT count(*) FROM ($few) f; $done; TRUNCATE few; INSERT INTO few $few; $done"),
	"0\ndone|100\ndone|100", 'as many as have ended follow at once');

# Workers for all tenants, until none finds anything. A job that is claimed
# twice violates the key.
my $claims = 16 * $tenants / 1000 / 4 + 20;
my $start = time;
$node->pgbench(
	"--no-vacuum --client=4 --transactions=" . int($claims), 0, [qr/processed: [1-9]/], [qr/^$/], 'claims of each name',
	{ map {
			("205_q$_" => qq(INSERT INTO claimed (id, token, tenant, queue)
				SELECT job_id, lease_token, tenant_id, queue FROM queue_claim('q$_', 'w', max_jobs => 1000, lease => '1 hour');))
		} 0 .. 9 });
# what the clients left, as they choose names at random
foreach my $name (map { "q$_" } 0 .. 9)
{
	1 while query(qq(WITH c AS (INSERT INTO claimed (id, token, tenant, queue)
		SELECT job_id, lease_token, tenant_id, queue FROM queue_claim('$name', 'w', max_jobs => 10000, lease => '1 hour') RETURNING 1)
		SELECT count(*) FROM c)) > ($name eq 'q1' ? $tenants / 10 : 0);
}
my $seconds = time - $start;
is(query("SELECT count(*) FROM claimed WHERE queue >= 'q2'"), 8 * $tenants, 'each job of a queue without limits is claimed');
is(query("SELECT min(n), max(n), count(*) FROM (SELECT count(*) n FROM claimed WHERE queue = 'q0' GROUP BY tenant) c"), "$slots|$slots|$tenants",
	'of each limited queue as many as may be');
is(query(qq(SELECT count(*) FROM (SELECT tenant, count(*) n, max(at) last FROM claimed WHERE queue = 'q1' GROUP BY tenant) c, made
	WHERE n > $tokens + $tokens / 60.0 * extract(epoch FROM last - since))), 0, 'no tenant had more tokens than there were');

# Slots that are given back are there for others.
is(query("SELECT outcome, count(*) FROM claimed, queue_complete(id, token) WHERE queue = 'q0' GROUP BY 1"), 'done|' . $slots * $tenants, 'they are completed');
my ($again, $n) = (0, 0);
$again += $n while $n = query("SELECT count(*) FROM queue_claim('q0', max_jobs => 10000)");
is($again, $slots * $tenants, 'and the others follow');
is(query("SELECT max(n) FROM (SELECT count(*) n FROM jobs JOIN queues q ON q.id = queue_id AND q.name = 'q0' WHERE leased_until > now() GROUP BY queue_id) c"), $slots,
	'of each limited queue as many as may be, again');

# Permits: two of each service, or an error that says what is full.
my ($stdout, $stderr, %of);
$node->psql('postgres', join('', map { "SELECT '$_' FROM queue_rate_acquire('$_') WHERE granted;\n" } map { 'permits ' . (1 + $_ % 60) } 0 .. 179),
	on_error_stop => 0, stdout => \$stdout, stderr => \$stderr);
$of{$_}++ for split /\n/, $stdout;
my $granted = () = $stdout =~ /permits/g;
my $errors = () = $stderr =~ /ERROR: +there is no room for another permit\nHINT: +Raise queue_service\.max_holders/g;
is($errors, scalar(my @all = $stderr =~ /ERROR/g), 'no room is the only error');
is(scalar(grep { $_ > 2 } values %of), 0, "$granted permits were given, never three of a service");
cmp_ok($errors, '>', 0, "$errors had no room");
note(query('SELECT item, ok, detail FROM queue_health'));

# What is waiting is completed by who has it.
is(query("SELECT outcome, count(*) FROM claimed, queue_complete(id, token) WHERE queue <> 'q0' GROUP BY 1"),
	'done|' . query("SELECT count(*) FROM claimed WHERE queue <> 'q0'"), 'what was claimed is completed');
is(query("SELECT count(*) FROM jobs WHERE status = 'pending' AND id IN (SELECT id FROM claimed)"), 0, 'and not there any more');
row(5, "$tenants tenants, $queues queues, settings at their least", sprintf('all tables full for %.0f s', $seconds),
	"$jobs enqueues, " . query('SELECT count(*) FROM claimed') . ' claims | 0 | 0 over 2 slots, tokens or 2 permits');
$node->stop;

done_testing();
