# queue_monitor(), what the exporter, the dashboard and the alert rules make of it,
# and queue_top.

use strict;
use warnings;

use File::Basename;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(dirname(__FILE__));
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\nfsync = off\ntimezone = 'UTC'\nautovacuum = off");
$node->start;

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

my ($own, $other) = map { "00000000-0000-4000-8000-00000000000$_" } 1, 2;
my $act = "SET app.current_tenant = '$own'";
query('CREATE EXTENSION queue_service');
query("INSERT INTO tenants (id) VALUES ('$own'), ('$other'); $act;
	SELECT queue_create('full', alert_depth => 2, alert_age => '1 hour', alert_dead => 1), queue_create('small'), queue_create('paused', alert_age => '1 hour');
	SELECT queue_pause('paused');
	SELECT FROM queue_enqueue_many('full', array_fill('1'::jsonb, ARRAY[5]));
	SELECT queue_enqueue('small');
	SELECT queue_complete(job_id, lease_token) FROM queue_claim('full');
	SELECT queue_fail(job_id, lease_token, 'x', dead => true) FROM queue_claim('full');
	SELECT count(*) FROM queue_claim('full', E'w\\x1b[2Jorker');
	SELECT queue_tenant_limit_set('$own', 'own', 10, 0.000001, 5);
	SELECT FROM queue_rate_acquire('own', 4);
	SET app.current_tenant = '$other'; SELECT queue_create('foreign', alert_depth => 1); SELECT queue_enqueue('foreign'), queue_enqueue('foreign');
	SELECT queue_claim('foreign', 'foreign worker'); SELECT queue_tenant_limit_set('$other', 'foreign limit', 10, 1)");
query('SELECT FROM queue_maintain()');
query("CREATE ROLE watcher; SELECT queue_grant('watcher', 'observer');
	CREATE ROLE platform LOGIN; SELECT queue_grant('platform', 'observer', all_tenants => true)");

# What the metrics say.
sub metrics
{
	my ($before, $arguments) = @_;

	return { map { /^(.*)=(\S+)$/ ? ($1 => $2) : () } split /\n/,
		query("$before; SELECT name || coalesce(nullif(labels, '{}')::text, '') || '=' || value FROM queue_monitor($arguments)") };
}
my $full = qq({"queue": "full", "tenant": "$own"});
my $mine = metrics("SET ROLE watcher; $act", '');
my %expected = (
	"queue_service_queue_depth$full" => 2, "queue_service_queue_processing$full" => 1, "queue_service_queue_enqueued_total$full" => 5,
	"queue_service_queue_claimed_total$full" => 3, "queue_service_queue_completed_total$full" => 1, "queue_service_queue_dead_total$full" => 1,
	"queue_service_queue_depth_threshold$full" => 2, "queue_service_queue_age_threshold_seconds$full" => 3600, "queue_service_queue_dead_threshold$full" => 1,
	'queue_service_depth' => 3, 'queue_service_processing' => 1, 'queue_service_queues' => 3, 'queue_service_queues_omitted' => 0,
	'queue_service_limiter_tokens{"service": "own", "limited_by": "tenant"}' => 6, 'queue_service_limiter_permits{"service": "own", "limited_by": "tenant"}' => 1,
	'queue_service_alerts_open{"alert": "depth", "severity": "warning"}' => 1, 'queue_service_alerts_open{"alert": "dead", "severity": "warning"}' => 1,
	'queue_service_worker_running' => 0, 'queue_service_tasks_failing' => 0, 'queue_service_preloaded' => 1);
is(int($mine->{$_} // -1), $expected{$_}, $_) foreach sort keys %expected;
ok(!exists $mine->{qq(queue_service_queue_age_threshold_seconds{"queue": "paused", "tenant": "$own"})}, 'a paused queue has no threshold of age');
is(join(' ', grep { /foreign|$other|horizon/ } keys %$mine), '', 'nothing of another tenant, nor what is for the platform');
my $all = metrics('SET ROLE platform', '');
is($all->{queue_service_depth}, 4, 'all tenants');
ok(exists $all->{"queue_service_horizon_$_"}, "horizon_$_ for the platform") foreach 'held_seconds', 'threshold_seconds';
is($all->{'queue_service_alerts_open{"alert": "depth", "severity": "warning"}'}, 2, 'alerts of all tenants');

# Bounded.
my $few = metrics('SET ROLE platform', 'max_queues => 1');
is(scalar(grep { /^queue_service_queue_depth\{/ } keys %$few), 1, 'metrics of one queue');
ok(exists $few->{"queue_service_queue_depth$full"}, 'the one with the most jobs');
is("$few->{queue_service_queues_omitted} $few->{queue_service_depth}", '3 4', 'others are omitted, and counted');
is(scalar(grep { !/alerts_open/ } keys %{ metrics('SET ROLE platform', "'alerts'") }), 0, 'one part');
my ($stdout, $stderr);
$node->psql('postgres', "\\set VERBOSITY sqlstate\n$act; SELECT queue_monitor('x')", stderr => \$stderr);
like($stderr, qr/QS021/, 'no such part');

# Counters do not go back by what a crash loses of totals.
$node->stop('immediate');
$node->start;
query("$act; SELECT queue_enqueue('full')");
is(metrics($act, "'queues'")->{"queue_service_queue_enqueued_total$full"}, 1, 'counters begin anew with the server');

# The files: names, types and descriptions are those of the function.
my %known = map { my ($name, @rest) = split /\|/; $name => \@rest }
  split /\n/, query("SELECT DISTINCT name, type, help FROM queue_monitor()");
my $source = slurp_file("$root/src/monitor.c");
my %names = map { ("queue_service_$_" => 1) } $source =~ /"([a-z0-9_]+)",\s*"[A-Z9][^"]*\."/g;
is(join(' ', grep { !$names{$_} } keys %known), '', 'all names are found in the source');
my $queries = slurp_file("$root/examples/monitoring/postgres_exporter.yml");
my (%exported, @labels);
while ($queries =~ /^(\w+):\n(.*?)(?=^\w|\z)/msg)
{
	my ($family, $text) = ($1, $2);

	while ($text =~ /^    - (\w+):\n        usage: (\w+)\n        description: "(.*)"$/mg)
	{
		my ($column, $usage, $help) = ($1, $2, $3);

		push(@labels, $column), next if $usage eq 'LABEL';
		$exported{"${family}_$column"} = [ lc $usage, $help ];
		like($text, qr/'${family}_$column'\) AS $column\b/, "${family}_$column is asked for");
	}
}
is(join(' ', sort keys %exported), join(' ', sort keys %names), 'the exporter has all metrics');
is_deeply({ map { $_ => $exported{$_} } keys %known }, \%known, 'as they are');
my $dashboard = slurp_file("$root/examples/monitoring/grafana.json");
my $rules = slurp_file("$root/examples/monitoring/alerts.yml");
my @panels = @{ decode_json($dashboard)->{panels} };
cmp_ok(scalar(grep { @{ $_->{targets} } } @panels), '==', scalar @panels, 'the dashboard is JSON, and its panels show something');
is(join(' ', grep { !$names{$_} && $_ ne 'queue_service' } $dashboard =~ /\b(queue_service_\w+)/g), '', 'the dashboard has no other names');
is(join(' ', grep { !$names{$_} } $rules =~ /\b(queue_service_\w+)/g), '', 'nor have the alert rules');
my %label = map { $_ => 1 } @labels, 'instance';
is(join(' ', grep { !$label{$_} } map { /(\w+)[=!]~?"/g } map { $_->{expr} } map { @{ $_->{targets} } } @panels), '', 'nor other labels');
is(join(' ', grep { !$label{$_} } map { split /, / } $rules =~ /(?:on|by) \((.*?)\)/g), '', 'nor the alert rules');
my ($kinds) = slurp_file("$root/doc/operations.md") =~ /^\| Alert \| Raised when(.*?)\n\n/ms;
is(join(' ', grep { !/^(horizon|worker|depth|age|dead)$/ || $rules !~ /# alert_history: $_\n/ } $kinds =~ /^\| `(\w+)` /mg), '', 'every alert has a rule');
my %documented = map { /^\| `(queue_service_\w+)` \| (\w+) \| (?:.*?) \| (?:.*?) \| (.*?) \|$/ ? ($1 => "$2 $3.") : () } split /\n/, slurp_file("$root/doc/monitoring.md");
is_deeply(\%documented, { map { $_ => join ' ', @{ $exported{$_} } } keys %exported }, 'and a line of the documentation');

# What Prometheus reads.
SKIP:
{
	my ($exporter) = grep { -x $_ } map { "$_/prometheus-postgres-exporter" } split(/:/, $ENV{PATH}), '/usr/bin';

	skip 'prometheus-postgres-exporter is not installed', 3 unless $exporter;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	local $ENV{DATA_SOURCE_NAME} =
	  'postgresql:///postgres?host=' . $node->host . '&port=' . $node->port . '&user=platform&sslmode=disable';
	my $run = IPC::Run::start(
		[ $exporter, "--web.listen-address=127.0.0.1:$port", '--disable-default-metrics', '--disable-settings-metrics',
			"--extend.query-path=$root/examples/monitoring/postgres_exporter.yml" ],
		'>', \my $out, '2>', \my $err);
	my $page = '';
	foreach (1 .. 600)
	{
		my $got = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");

		$page = $got->{content};
		last if $got->{success} && $page =~ /^queue_service_depth/m;
		select undef, undef, undef, 0.1;
	}
	$run->kill_kill;
	my %read = map { $_ => 1 } $page =~ /^(queue_service_\w+)\{/mg;
	is(join(' ', grep { !$read{$_} } grep { !/limiter_permits|alerts_open/ } keys %known), '', 'all metrics are read')
	  or diag($err);
	is_deeply([ $page =~ /^queue_service_queue_(\w+)_total\{queue="full",.*tenant="$own"\} (\d+)$/mg ],
		[qw(cancelled 0 claimed 0 completed 0 dead 0 enqueued 1 failed 0)], 'counters, with labels');
	is(join(' ', map { /^# TYPE (queue_service_\w+) (\w+)$/ && $exported{$1} && $exported{$1}[0] ne $2 ? $1 : () } split /\n/, $page), '', 'types');
}

# queue_top fits its terminal, and is a tenant's own.
my $wide = "wide " . "\xe6\xbc\xa2" x 40;
query("$act; SELECT queue_create('$wide'), queue_create(E'a\\tb\\x1b[1mc'); SELECT queue_enqueue(name) FROM unnest(ARRAY['$wide', E'a\\tb\\x1b[1mc']) name, generate_series(1, 3);
	SELECT queue_create('q' || i), queue_enqueue('q' || i) FROM generate_series(1, 20) i;
	SELECT queue_tenant_limit_set('$own', 'some limit ' || i, 10, 1) FROM generate_series(1, 20) i;
	INSERT INTO alert_history (queue_id, alert, message) SELECT id, 'age', repeat('long ', 100) FROM queues WHERE tenant_id = '$own'");
my $top = query("SET ROLE watcher; $act; SELECT * FROM queue_top");
cmp_ok(scalar(split /\n/, $top), '<=', 34, 'few lines');
is(query("SET ROLE watcher; $act; SELECT count(*) FROM queue_top WHERE length(line) > 118"), 0, 'short ones');
unlike($top, qr/[^\n\x20-\xff]/, 'nothing that moves the cursor');
unlike($top, qr/foreign/, 'nothing of another tenant');
like($top, qr/^full +\d/m, 'a queue');
like($top, qr/^a\?b\?\[1mc /m, 'what would move the cursor is shown');
like($top, qr/^w\?\[2Jorker +1 +0 .*own +6 +10 +0\/5$/m, 'a worker and a limit');
like($top, qr/^ALERTS \(2\d open\)$/m, 'alerts');
like(query('SET ROLE platform; SELECT * FROM queue_top'), qr/foreign/, 'all tenants');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
like(query("SET ROLE watcher; $act; SELECT * FROM queue_top"), qr/^QUEUE/m, 'without shared memory');
is(metrics($act, '')->{queue_service_preloaded}, 0, 'which a metric says');
$node->stop;

done_testing();
