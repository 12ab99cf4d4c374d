# What ends the idleness of a queue: sql/idle.sql on a server that knows it.
#
# `make check` runs all of sql/ so; this is for those who run one test alone,
# such as the mutants, whose server has the library not preloaded.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('idle');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'");
$node->start;

my $outputdir = $PostgreSQL::Test::Utils::tmp_check;
command_ok(
	[
		$ENV{PG_REGRESS}, '--bindir=', '--inputdir=.', "--outputdir=$outputdir",
		'--host=' . $node->host, '--port=' . $node->port, 'idle'
	],
	'sql/idle.sql');
# What a session found in the index of a TRUNCATE that is rolled back is not
# true of the index that another one reads.
my $tenant = "SET app.current_tenant = '11111111-1111-4111-8111-111111111111';";
my $claim = "SELECT count(*) FROM queue_claim('q');";
$node->safe_psql('postgres', <<END);
CREATE EXTENSION queue_service;
INSERT INTO tenants (id) VALUES ('11111111-1111-4111-8111-111111111111');
$tenant
SELECT queue_create('q');
END
my $other = $node->background_psql('postgres');
is($other->query_safe("$tenant $claim"), '0', 'an empty queue');
$node->safe_psql('postgres', "$tenant SELECT queue_enqueue('q', '{}');
	BEGIN; TRUNCATE jobs; $claim ROLLBACK;");
is($other->query_safe($claim), '1', 'a job that another session truncated for a while');
$other->quit;

$node->stop;
done_testing();
