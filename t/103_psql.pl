# What psql shows: lists that read as a table of contents, results that fit a
# screen of 120 columns.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $width = 120;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'");
$node->start;
$node->safe_psql(
	'postgres', q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';
));
$node->safe_psql(
	'postgres', q(
	SELECT queue_create('invoices of the month', max_attempts => 1);
	SELECT queue_enqueue('invoices of the month', '{"invoice": 123456}', 'invoice', group_key => 'customer 4711');
	SELECT queue_enqueue('invoices of the month', '{"invoice": 123457}', 'invoice', run_at => now() + interval '1 day');
	SELECT queue_claim('invoices of the month', 'worker-17:12345');
	SELECT queue_limiter_set('stripe', 100, 10);
));

# As psql prints it for a person, without its title and footer.
sub shown
{
	my ($sql) = @_;
	my ($out, $err);

	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-P', 'format=aligned', '-P', 'tuples_only=off' ]);
	is($err, '', "$sql: runs");
	return split /\n/, $out;
}

# The columns that the widest line of a result takes.
sub width
{
	my ($most) = sort { $b <=> $a } map { length } @_;

	return $most // 0;
}

my $job = '(SELECT id FROM jobs ORDER BY id LIMIT 1)';
my $wrapped = "\\pset columns $width\n\\pset format wrapped\n";
my @narrow = (
	'SELECT * FROM queue_progress',
	"SELECT * FROM queue_explain($job)",
	'SELECT * FROM queue_maintain()',
	"SELECT * FROM queue_enqueue('invoices of the month')",
	"SELECT * FROM queue_cancel($job)",
	"SELECT * FROM queue_complete('01890000-0000-7000-8000-000000000001', 1)",
	"SELECT * FROM queue_heartbeat('01890000-0000-7000-8000-000000000001', 1)",
	"SELECT * FROM queue_rate_acquire('stripe')",
	"SELECT * FROM queue_rate_peek('stripe')",
	"SELECT * FROM queue_schedule('s', 'invoices of the month', '0 7 * * *')",
	"SELECT * FROM queue_cron_next('0 7 * * *', n => 3)",
	"SELECT * FROM queue_create('q')",
	"SELECT * FROM queue_tenant_purge('01890000-0000-7000-8000-000000000002')");
foreach my $sql (@narrow)
{
	my @lines = shown($sql);

	cmp_ok(width(@lines), '<=', $width, "$sql: fits") or diag(join "\n", @lines);
}


# These are for programs, and read well only in psql's expanded form (\x).
foreach my $sql (
	'SELECT * FROM queue_stats',
	'SELECT * FROM queue_cache',
	"SELECT * FROM queue_job($job)",
	"SELECT * FROM queue_peek('invoices of the month')",
	"SELECT * FROM queue_claim('invoices of the month')",
	"SELECT * FROM queue_complete_and_claim('invoices of the month')")
{
	my @lines = shown("\\x\n$sql");

	cmp_ok(width(@lines), '<=', $width, "$sql: fits when expanded") or diag(join "\n", @lines);
}

# Its details are sentences, which psql breaks.
cmp_ok(width(shown("${wrapped}SELECT * FROM queue_health")), '<=', $width, 'queue_health fits when wrapped');

# \df queue_*, wrapped; \df+ has comments, whose first sentence is short enough
# for a line.
cmp_ok(width(shown("$wrapped\\df queue_*")), '<=', $width, '\df fits when wrapped');
my $routines = "FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass WHERE proname ~ '^queue_'";
cmp_ok($node->safe_psql('postgres', "SELECT count(*) $routines"), '>', 40, 'there are functions');
is( $node->safe_psql('postgres', "SELECT proname $routines AND coalesce(length(substring(obj_description(p.oid, 'pg_proc') FROM '^.*?[.:](?=\\s|\$)')), 1000) > 110 ORDER BY 1"),
	'', 'each has a comment that begins with a short sentence');

# What the planner believes: few rows of each, and that they are not as cheap as
# an operator, so that conditions beside them are looked at first.
is($node->safe_psql('postgres', "SELECT proname, prorows $routines AND proretset AND prorows > 100 AND proname <> 'queue_monitor'"), '', 'rows');
is($node->safe_psql('postgres', "SELECT string_agg(proname, ' ' ORDER BY proname) $routines AND procost < 100 AND prokind = 'f'"),
	'queue_cron_next queue_new_id queue_rate_acquire queue_rate_peek queue_rate_release queue_tenant queue_worker_start',
	'cost: those that look at no table, or at memory only');
$node->stop;
done_testing();
