# pg_upgrade keeps the queue, with the extension's table of tenants and with
# one's own, and what watches over them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old');
my $new = PostgreSQL::Test::Cluster->new('new');
$_->init foreach $old, $new;
$old->start;

my $state = <<'END';
SELECT t::text FROM tenants t;
SELECT q::text FROM queues q;
SELECT l::text FROM rate_limiters l ORDER BY service_name;
SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE contype = 'f' AND conname LIKE '%_tenant_fkey' ORDER BY 1;
SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1;
SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1;
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' ORDER BY 1;
END
my %before;

foreach my $db (qw(own later))
{
	$old->safe_psql('postgres', "CREATE DATABASE $db");
	$old->safe_psql($db, 'CREATE EXTENSION queue_service');
	$old->safe_psql($db, 'CREATE TABLE tenants (name text UNIQUE, id uuid PRIMARY KEY)')
	  if $db eq 'later';
	$old->safe_psql($db, <<'END');
INSERT INTO tenants (id, name) VALUES (queue_new_id(), 'one');
INSERT INTO queues (tenant_id, name) SELECT id, 'mail' FROM tenants;
UPDATE rate_limiters SET max_tokens = 500 WHERE service_name = 'stripe';
END
	$before{$db} = $old->safe_psql($db, $state);
}
$old->stop;

# It writes its reports into the current folder.
chdir(PostgreSQL::Test::Utils::tempdir) or die $!;
command_ok(
	[
		'pg_upgrade', '--no-sync', '-b', $old->config_data('--bindir'), '-B', $new->config_data('--bindir'),
		'-d', $old->data_dir, '-D', $new->data_dir, '-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'pg_upgrade');
$new->start;
foreach my $db (qw(own later))
{
	is($new->safe_psql($db, $state), $before{$db}, "$db: everything is there");
	$new->safe_psql($db, 'DROP EXTENSION queue_service');
	is($new->safe_psql($db, "SELECT to_regclass('tenants') IS NOT NULL"),
		$db eq 'own' ? 'f' : 't', "$db: the extension takes along what is its own");
}
$new->stop;
done_testing();
