# What versions of PostgreSQL do differently on our tables: the role of deferred
# triggers; and what only newer ones have is honoured, or refused.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '01890000-0000-7000-8000-000000000001';
my $node = PostgreSQL::Test::Cluster->new('main');

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

# A user's trigger on jobs runs as their owner when a function of ours writes. One
# that is deferred runs at COMMIT: as the owner, too, or, before PostgreSQL 18, as
# the role that commits.
my $late = $node->pg_version < 18 ? 'committer' : 'postgres';
$node->safe_psql('postgres', q(
	CREATE TABLE seen (trigger text, role name);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (TG_NAME, current_user);
		RETURN NULL;
	END $$;
	CREATE TRIGGER now AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION note();
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
	CREATE ROLE caller;
	CREATE ROLE committer;
	SELECT queue_grant('caller', 'producer');
	GRANT INSERT ON seen TO caller, committer;
));
my $seen = q(SELECT string_agg(trigger || ' ' || role, ', ' ORDER BY trigger DESC) FROM seen);

# What is seen of a transaction that inserts a job as one role and commits as another.
sub roles_of
{
	my ($sql) = @_;

	$node->safe_psql('postgres', "TRUNCATE seen; BEGIN; SET LOCAL ROLE caller; $sql; SET LOCAL ROLE committer; COMMIT");
	return $node->safe_psql('postgres', $seen);
}

is(roles_of(q(SELECT queue_enqueue('q'))), "now postgres, late $late", 'a deferred trigger, of a function of ours');
is(roles_of(q(INSERT INTO jobs (queue_id) SELECT id FROM queues)), 'now caller, late ' . ($late eq 'postgres' ? 'caller' : $late), '... and of INSERT');
is(roles_of(q(SET CONSTRAINTS late IMMEDIATE; SELECT queue_enqueue('q'))), 'now postgres, late postgres', '... that is made immediate');
$node->safe_psql('postgres', 'DROP FUNCTION note CASCADE; DELETE FROM jobs');

if ($node->pg_version < 18)
{
	$node->stop;
	done_testing();
	exit;
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
