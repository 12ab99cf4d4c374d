# Dumps and restores the queue: every row comes back, the keys to tenants are
# there and valid, an edited seed is kept, and the queue works at once - with
# whatever table of tenants, by whatever way of restoring.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tenant = '11111111-1111-7111-8111-111111111111';
my $other = '22222222-2222-7222-8222-222222222222';
my $queue = '33333333-3333-7333-8333-333333333333';
my $other_queue = '44444444-4444-7444-8444-444444444444';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;

# Runs a client program; it must succeed and say nothing at all.
sub silent_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, @command) = @_;
	my $output = '';

	my $ok = IPC::Run::run([@command], '<', \undef, '>&', \$output);
	ok($ok && $output eq '', $name) or diag("@command\n$output");
}

sub psql_file
{
	return ('psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d',
		$node->connstr($_[0]), @_[1 .. $#_]);
}

sub pg_restore
{
	my ($db, @arguments) = @_;

	return ('pg_restore', '--exit-on-error', '-d', $node->connstr($db), @arguments);
}

# A row or more in each of the ten tables, seeds edited and added.
sub fill
{
	my ($db, $schema) = @_;

	$node->safe_psql($db, <<"END");
SET search_path = $schema;
INSERT INTO tenants (id, name) VALUES ('$tenant', 'one'), ('$other', 'two');
INSERT INTO queues (id, tenant_id, name, config) VALUES
	('$queue', '$tenant', 'mail', '{"a": [1, 2]}'), ('$other_queue', '$other', 'mail', '{}');
INSERT INTO jobs (tenant_id, queue_id, payload, priority, max_attempts)
	SELECT '$tenant', '$queue', jsonb_build_object('n', n, 't', E'tab\\tline\\n\\\\'), n % 3, 1 + n % 2
	FROM generate_series(1, 50) n;
INSERT INTO jobs (tenant_id, queue_id, run_at) VALUES ('$other', '$other_queue', now() + interval '1 day');
INSERT INTO jobs (tenant_id, queue_id, status, attempts, max_attempts, lease_token, leased_by, leased_at, leased_until)
	SELECT '$other', '$other_queue', 'processing', n, 3, n, 'w', now(), now() + interval '1 hour'
	FROM generate_series(1, 3) n;
INSERT INTO jobs (tenant_id, queue_id, status, attempts, finish_reason, finished_at, result) VALUES
	('$tenant', '$queue', 'completed', 1, 'completed', now(), '{"ok": true}'),
	('$tenant', '$queue', 'failed', 3, 'exhausted', now(), NULL);
INSERT INTO critical_jobs (tenant_id, queue_id, idempotency_key)
	SELECT '$tenant', '$queue', 'key ' || n FROM generate_series(1, 3) n;
INSERT INTO dead_letter_jobs (id, tenant_id, queue_id, source_table, reason, run_at, enqueued_at, attempts,
	max_attempts, priority, job_type, payload, errors)
	VALUES (queue_new_id(), '$tenant', '$queue', 'jobs', 'dead', now(), now(), 3, 3, 0, 'x', '{}', '[{"attempt": 1}]');
INSERT INTO idempotency_keys (tenant_id, queue_id, key, job_id, expires_at)
	SELECT tenant_id, queue_id, 'k', id, now() + interval '1 day' FROM jobs WHERE status = 'completed';
INSERT INTO schedules (tenant_id, name, queue_id, cron) VALUES ('$other', 'nightly', '$other_queue', '0 3 * * *');
UPDATE rate_limiters SET max_tokens = 500, refill_per_second = 500 WHERE service_name = 'stripe';
INSERT INTO rate_limiters (service_name, tenant_id, tokens_available, max_tokens, refill_per_second) VALUES
	('twilio', NULL, 3, 3, 1), ('own', '$tenant', 5, 5, 5);
INSERT INTO rate_limits (tenant_id, name, tokens_available, max_tokens, refill_per_second)
	VALUES ('$tenant', 'stripe', 50, 50, 50);
INSERT INTO queue_metrics (tenant_id, queue_id, depth, wait_p50) VALUES ('$other', '$other_queue', 7, '3 seconds');
INSERT INTO alert_history (tenant_id, queue_id, alert, message) VALUES
	('$tenant', '$queue', 'depth', 'too deep'), (NULL, NULL, 'worker', 'not running');
END
}

# All that a restore has to bring back, as text: rows of all tables, keys to
# tenants and to queues, row-level security, and what belongs to the extension.
sub state
{
	my ($db, $schema) = @_;
	my @tables = qw(queues jobs schedules rate_limits critical_jobs queue_metrics
	  idempotency_keys alert_history dead_letter_jobs tenants);

	return $node->safe_psql(
		$db,
		"SET search_path = $schema;"
		  . join('',
			map { "SELECT '$_', count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM $_ t;" } @tables)
		  . <<"END");
SELECT to_jsonb(l) - CASE WHEN seeded THEN 'last_refill_at' ELSE '' END FROM rate_limiters l ORDER BY service_name;
SELECT conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE contype = 'f' AND conparentid = 0 AND connamespace = '$schema'::regnamespace ORDER BY conrelid::regclass::text, conname;
SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
	WHERE relnamespace = '$schema'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1;
SELECT tablename, policyname, permissive, qual FROM pg_policies WHERE schemaname = '$schema' ORDER BY 1, 2;
SELECT tgenabled FROM pg_trigger WHERE tgname = 'queue_seed';
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' ORDER BY 1;
SELECT c::regclass FROM pg_extension, unnest(extconfig) c WHERE extname = 'queue_service' ORDER BY c::regclass::text;
END
}

my $extension = 'CREATE EXTENSION queue_service';
my $columns = 'name text NOT NULL UNIQUE, plan text';
# a table of the user's own that refers to tenants, and is restored beside it
my $orders = 'CREATE TABLE orders (tenant_id uuid REFERENCES tenants);';
# The dumps of most differ in little, so not every way is tried with each.
my @sources = (
	{ name => 'own', schema => 'public', sql => "$extension;" },
	{
		name => 'before',
		schema => 'public',
		sql => "CREATE TABLE tenants (id uuid PRIMARY KEY, $columns); $extension; $orders"
	},
	{
		name => 'after',
		schema => 'public',
		ways => [qw(sections single_transaction)],
		sql => "$extension; CREATE TABLE public.tenants (id uuid PRIMARY KEY, $columns); $orders"
	},
	{
		name => 'after_in_transaction',
		schema => 'public',
		ways => [qw(sections)],
		sql => "$extension;\nBEGIN;\nCREATE TABLE tenants (name text NOT NULL, id uuid NOT NULL);\n"
		  . "ALTER TABLE tenants ADD UNIQUE (id);\nCOMMIT;"
	},
	{
		name => 'taken_over',
		schema => 'public',
		ways => [qw(plain)],
		sql => "$extension; ALTER EXTENSION queue_service DROP TABLE tenants; ALTER TABLE tenants ADD plan text;"
	},
	{
		name => 'partitioned',
		schema => 'public',
		ways => [qw(sections)],
		sql => "$extension; CREATE TABLE tenants (id uuid PRIMARY KEY, name text) PARTITION BY HASH (id);"
		  . join('',
			map { "CREATE TABLE tenants_$_ PARTITION OF tenants FOR VALUES WITH (MODULUS 2, REMAINDER $_);" } 0 .. 1)
	},
	{
		name => 'schema_own',
		schema => 'q',
		ways => [qw(parallel)],
		sql => "CREATE SCHEMA q; $extension SCHEMA q;"
	},
	{
		name => 'schema_after',
		schema => 'q',
		ways => [qw(single_transaction custom disable_triggers)],
		sql => "CREATE SCHEMA q; $extension SCHEMA q;"
		  . "SET search_path = q, public; CREATE TABLE tenants (id uuid PRIMARY KEY, $columns);"
	});

foreach my $source (@sources)
{
	my ($name, $schema) = ($source->{name}, $source->{schema});
	my ($archive, $plain) = ("$dir/$name.dump", "$dir/$name.sql");

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->psql($name, $source->{sql}, on_error_die => 1, stderr => \my $stderr);
	is($stderr, '', "$name: created without a warning");
	fill($name, $schema);
	my $state = state($name, $schema);
	like($state, qr/jobs_tenant_fkey\|t\|.*tenants\(id\) ON DELETE RESTRICT/, "$name: has its keys");

	silent_ok("$name: dump", 'pg_dump', '-Fc', '-f', $archive, $node->connstr($name));
	silent_ok("$name: plain dump", 'pg_dump', '-f', $plain, $node->connstr($name));

	# what a data-only restore expects to be there
	my $objects = $source->{sql};
	my %ways = (
		plain => [ sub { psql_file($_[0], '-f', $plain) } ],
		single_transaction => [ sub { psql_file($_[0], '-1', '-f', $plain) } ],
		custom => [ sub { pg_restore($_[0], $archive) } ],
		# Parallel jobs of pg_restore take the tables in any order, whatever
		# refers to what; see doc/backup.md.
		parallel => [
			sub {
				('env', 'PGOPTIONS=-c session_replication_role=replica',
					pg_restore($_[0], '-j2', $archive));
			}
		],
		sections => [
			map {
				my $section = $_;
				sub { pg_restore($_[0], "--section=$section", $archive) }
			} qw(pre-data data post-data)
		],
		# keys to a table that is dropped and is no part of the extension
		clean => [
			sub { pg_restore($_[0], $archive) },
			$name eq 'own'
			? ()
			: sub { psql_file($_[0], '-c', 'DROP EXTENSION queue_service') },
			sub { pg_restore($_[0], '--clean', '--if-exists', $archive) }
		],
		disable_triggers => [
			sub { psql_file($_[0], '-c', $objects) },
			sub { pg_restore($_[0], '--data-only', '--disable-triggers', $archive) }
		],
		# pg_dump does not know that the ten tables refer to a table that is no
		# part of the extension: that has to come first by hand.
		data_only => [
			sub { psql_file($_[0], '-c', $objects) },
			sub { pg_restore($_[0], '--data-only', '-L', "$dir/$name.first", $archive) },
			sub { pg_restore($_[0], '--data-only', '-L', "$dir/$name.rest", $archive) }
		],);
	my @toc = split /^/, (run_command([ 'pg_restore', '-l', $archive ]))[0];
	append_to_file("$dir/$name.first", join('', grep { /TABLE DATA \S+ tenants/ } @toc));
	append_to_file("$dir/$name.rest", join('', grep { !/TABLE DATA \S+ tenants/ } @toc));

	foreach my $way ($source->{ways} ? @{ $source->{ways} } : sort keys %ways)
	{
		my $db = "${name}_$way";

		$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
		silent_ok("$db: restored", $_->($db)) foreach @{ $ways{$way} };
		is(state($db, $schema), $state, "$db: everything is back");
		is( $node->safe_psql(
				$db,
				"SET app.current_tenant = '$tenant';"
				  . "SELECT count(*), bool_and(critical) FROM $schema.queue_claim('mail', max_jobs => 3)"),
			'3|t',
			"$db: jobs can be claimed");
		$node->safe_psql('postgres', "DROP DATABASE $db");
	}
}

$node->stop;
done_testing();
