# A role that owns nothing and is bound by row-level security claims n jobs of a
# table that was never analysed, FAULT_CLAIMS (200) times, preloaded and not: it
# never gets more than n, nor a job twice.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $claims = times_of('FAULT_CLAIMS', 200);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('01890000-0000-7000-8000-000000000001', 'one'), ('01890000-0000-7000-8000-000000000002', 'two');
	ALTER DATABASE postgres SET app.current_tenant = '01890000-0000-7000-8000-000000000001';
	CREATE ROLE shop LOGIN;
	SELECT queue_grant('shop', 'worker');
	CREATE TABLE asked (n integer, got bigint);
	CREATE TABLE got (id uuid PRIMARY KEY);
	GRANT INSERT ON asked, got TO shop;));
$node->safe_psql('postgres', q(SELECT queue_create('q' || n) FROM generate_series(1, 3) n));

my $all = 0;
for my $preload ('queue_service', '')
{
	my $name = $preload ? 'preloaded' : 'plain';

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'");
	$node->restart;
	$node->safe_psql('postgres', "INSERT INTO jobs (queue_id) SELECT id FROM queues, generate_series(1, $claims * 3)");
	$node->pgbench(
		'--no-vacuum --client=4 --username=shop --transactions=' . int($claims / 4), 0, [qr/processed: [1-9]/], [qr/^$/], "$name: claims",
		{ "215_$name" => q(
			\set n random(1, 10)
			\set q random(1, 3)
			WITH c AS MATERIALIZED (SELECT job_id FROM queue_claim('q' || :q, 'w', max_jobs => :n, lease => '1 day')),
				g AS (INSERT INTO got SELECT job_id FROM c)
			INSERT INTO asked SELECT :n, count(*) FROM c;) });
	is($node->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE got > n), count(*) > 0 FROM asked'), '0|t', "$name: never more than was asked for");
	is($node->safe_psql('postgres', q(SELECT (SELECT sum(got) FROM asked) = (SELECT count(*) FROM got), (SELECT count(*) FROM got) = (SELECT count(*) FROM jobs WHERE status = 'processing'))),
		't|t', "$name: and nothing else is claimed");
	is($node->safe_psql('postgres', q(SELECT sum(reltuples) < 1 FROM pg_class WHERE relname IN ('jobs', 'critical_jobs'))), 't', "$name: the tables were not analysed");
	$all = $node->safe_psql('postgres', 'SELECT count(*) FROM asked');
}
row(15, '4 clients of a role bound by row-level security', "$all claims of 1 to 10, tables never analysed", $node->safe_psql('postgres', 'SELECT count(*) FROM got') . ' claims, never more than asked for | 0 | 0');
$node->stop;

done_testing();
