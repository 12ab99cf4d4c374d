# What only newer versions of PostgreSQL have is honoured on our tables, or refused.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '01890000-0000-7000-8000-000000000001';
my $node = PostgreSQL::Test::Cluster->new('main');

plan skip_all => 'needs PostgreSQL 18' if $node->pg_version < 18;
$node->init;
$node->start;
$node->safe_psql('postgres', qq(
	CREATE EXTENSION queue_service;
	INSERT INTO tenants (id, name) VALUES ('$tenant', 'one');
	ALTER DATABASE postgres SET app.current_tenant = '$tenant';
	SET app.current_tenant = '$tenant';
	SELECT queue_create('q');
));

# The SQLSTATE that a statement fails with.
sub fails
{
	my ($sql, $sqlstate, $name) = @_;
	my $stderr;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", stderr => \$stderr);
	like($stderr, qr/ERROR:  $sqlstate\b/, $name);
	return;
}

# A virtual column is not in the row; a CHECK may read it all the same.
$node->safe_psql('postgres', q(ALTER TABLE jobs ADD size integer GENERATED ALWAYS AS (octet_length(payload::text)) VIRTUAL
	CONSTRAINT small CHECK (size < 20)));
is($node->safe_psql('postgres', q(SELECT created FROM queue_enqueue('q', '{}'))), 't', 'a CHECK of a virtual column is met');
fails(q(SELECT queue_enqueue('q', '"01234567890123456789"')), '23514', '... and is not');
is($node->safe_psql('postgres', q(SELECT size FROM jobs)), '2', 'a virtual column is read');
is($node->safe_psql('postgres', q(SELECT outcome FROM (SELECT * FROM queue_claim('q') OFFSET 0) c, queue_fail(c.job_id, c.lease_token))),
	'retry', 'a row with one is written again');

$node->safe_psql('postgres', 'ALTER TABLE jobs DROP size, ADD one integer GENERATED ALWAYS AS (1) VIRTUAL NOT NULL');
fails(q(SELECT queue_enqueue('q', '{}')), 'QS040', 'a virtual column that is NOT NULL is refused');

$node->safe_psql('postgres', q(ALTER TABLE jobs DROP one, ADD CONSTRAINT never CHECK (false) NOT ENFORCED));
is($node->safe_psql('postgres', q(SELECT created FROM queue_enqueue('q', '{}'))), 't', 'a CHECK that is not enforced is not');

$node->stop;
done_testing();
