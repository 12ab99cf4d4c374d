# Permits: never more than max_concurrent, in both limits or in neither, until
# they are released or expire; and none over the limit because a server forgot
# what was out when it crashed, was stopped, or was another one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Recovery;
use Test::More;

my $tenant = '01890000-0000-7000-8000-000000000001';
my $node   = PostgreSQL::Test::Cluster->new('main');

$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<END);
shared_preload_libraries = 'queue_service'
autovacuum = off
restart_after_crash = on
END
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	SELECT queue_limiter_set('s', 1000, 1000, 2, '1 day');
	SELECT queue_limiter_set('short', 1000, 1000, 1, '3 seconds');
	SELECT queue_limiter_set('both', 1000, 1000, 3, '1 minute');
	SELECT queue_tenant_limit_set('$tenant', 'both', 1000, 1000, 1, '1 minute');");

my $now = $node;

sub query
{
	my ($sql) = @_;

	return $now->safe_psql('postgres', $sql);
}

# A permit, or what stands in its way.
sub permit
{
	my ($service, $hold) = @_;

	$hold = defined $hold ? "'$hold'" : 'NULL';
	return query("SELECT coalesce(permit::text, 'wait ' || ceil(extract(epoch FROM retry_after)))
		FROM queue_rate_acquire('$service', 1, $hold)");
}

sub release
{
	my ($service, $permit) = @_;

	return query("SELECT queue_rate_release('$service', $permit)");
}

# On a server of which it is known that none can be out, none is waited for.
my @permits = (permit('s', '1 hour'), permit('s', '2 hours'));
like($_, qr/^\d+$/, 'a permit') for @permits;
is(permit('s'), 'wait 3600', 'as many as are allowed are out');
is(query("SELECT permits_out, max_concurrent FROM queue_rate_peek('s')"), '2|2', 'they are counted');
is(release('s', $permits[0]), 't', 'one is released');
is(release('s', $permits[0]), 'f', 'once');
like($permits[0] = permit('s', '1 hour'), qr/^\d+$/, 'and given to another');
like(permit('s'), qr/^wait/, 'no more');

# Expiry, by the clock of limits; a client that is gone has it no longer.
my $session = $now->background_psql('postgres');
my $short = $session->query_safe("SELECT permit FROM queue_rate_acquire('short', 1, '2 seconds')");
$session->quit;
like(permit('short'), qr/^wait [12]$/, 'held by one who is gone');
ok($now->poll_query_until('postgres', "SELECT permit IS NOT NULL FROM queue_rate_acquire('short', 1, '1 hour') WHERE false UNION ALL SELECT next_permit_in = '0' FROM queue_rate_peek('short')"),
	'it expires');
like(permit('short'), qr/^\d+$/, 'and goes to another');
is(release('short', $short), 'f', 'the one who had it has it no more');
is(($now->psql('postgres', "SELECT queue_rate_acquire('short', 1, '4 seconds')"))[0], 3, 'not for longer than max_hold');

# In both or in neither.
query("ALTER DATABASE postgres SET app.current_tenant = '$tenant'");
my $own = permit('both');
like($own, qr/^\d+$/, 'a tenant has one of its own');
like(permit('both'), qr/^wait/, 'and no more');
is(query("SELECT string_agg(limited_by || ' ' || permits_out, ', ' ORDER BY limited_by) FROM queue_rate_peek('both')"),
	'service 1, tenant 1', 'a refusal takes nothing');
query('ALTER DATABASE postgres RESET app.current_tenant');
my @others = (permit('both'), permit('both'));
like($_, qr/^\d+$/, 'the platform has the rest') for @others;
query("ALTER DATABASE postgres SET app.current_tenant = '$tenant'");
is(release('both', $own), 't', 'the tenant gives it back');
is(query("SELECT string_agg(limited_by || ' ' || permits_out, ', ' ORDER BY limited_by) FROM queue_rate_peek('both')"),
	'service 2, tenant 0', 'in both');
query('ALTER DATABASE postgres RESET app.current_tenant');
like($own = permit('both'), qr/^\d+$/, 'the platform takes the last');
query("ALTER DATABASE postgres SET app.current_tenant = '$tenant'");
like(permit('both'), qr/^wait/, 'the service has none left');
is(query("SELECT string_agg(limited_by || ' ' || permits_out, ', ' ORDER BY limited_by) FROM queue_rate_peek('both')"),
	'service 3, tenant 0', 'the own one was given back');
query('ALTER DATABASE postgres RESET app.current_tenant');

# The clean stop of a server of which some are out, and a crash.
$node->restart;
like(permit('s'), qr/^wait 8\d{4}$/, 'after a stop with permits out');
like(permit('short'), qr/^wait [23]$/, 'as long as each could be held');
query("SELECT queue_limiter_set('s', max_hold => '1 second')");
ok($now->poll_query_until('postgres', "SELECT next_permit_in = '0' FROM queue_rate_peek('s')"), 'waited for');
like($permits[0] = permit('s'), qr/^\d+$/, 'and then given');
my $killed = $now->background_psql('postgres', on_error_stop => 0);
kill 'KILL', $killed->query_safe('SELECT pg_backend_pid()');
poll_through_crash($node, 'postgres', "SELECT permits_out = 0 FROM queue_rate_peek('s')")
  or die 'the server did not start again';
like(permit('s'), qr/^wait 1$/, 'after a crash');

# A server that was stopped cleanly with none out. Since it began with some out,
# that would be known after a day; a new one knows at once.
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(allows_streaming => 1);
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\nautovacuum = off\n");
$new->start;
$now = $new;
query("CREATE EXTENSION queue_service; SELECT queue_limiter_set('s', 1000, 1000, 2, '1 hour'), queue_limiter_set('fast', 50, 200)");
$permits[0] = permit('s');
is(release('s', $permits[0]), 't', 'none is out');
$new->restart;
like($permits[0] = permit('s'), qr/^\d+$/, 'after a clean stop with none out');
$new->stop('immediate');
$new->start;
like(permit('s'), qr/^wait/, 'after a crash');

# A standby is refused, and right after its promotion it does not know.
$new->stop;
unlink $new->data_dir . '/pg_stat/queue_service_permits';
$new->start;
like($permits[0] = permit('s'), qr/^\d+$/, 'on a server that never gave one');
is(release('s', $permits[0]), 't', 'none is out');
$new->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($new, 'backup', has_streaming => 1);
$standby->start;
$new->wait_for_catchup($standby);
unlink $standby->data_dir . '/pg_stat/queue_service_permits';
my ($code, undef, $error) = $standby->psql('postgres', "SELECT queue_rate_acquire('s')",
	extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($error, qr/25006/, 'refused on a standby');
$standby->restart;
$new->wait_for_catchup($standby);
# long enough for a bucket to fill that began empty with the standby
$standby->poll_query_until('postgres', "SELECT clock_timestamp() - pg_postmaster_start_time() > '0.5 s'");
$standby->promote;
$now = $standby;
is(query("SELECT granted FROM queue_rate_acquire('fast', 25)"), 'f', 'after a promotion a bucket is empty');
ok($now->poll_query_until('postgres', "SELECT granted FROM queue_rate_acquire('fast', 25)"), 'and fills');
like(permit('s'), qr/^wait/, 'after a promotion');

done_testing();
