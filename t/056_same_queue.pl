# What is known of a queue counts for one database, and for the tables that the
# extension has there now, whatever has the same names, ids and files.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Steps;
use Test::More;

start();

my $q = queue();
my $idle = queue();
my $ids = q(SELECT string_agg(concat_ws(' ', name, id), ', ' ORDER BY name) FROM queues);
my $files = q(SELECT pg_relation_filenode('jobs_ready_idx'), xmin, cmin FROM pg_trigger
	WHERE tgname = 'queue_announce' AND tgrelid = 'jobs'::regclass);

# A database that is a copy: everything in it looks the same.
insert_dead($q, 1, 40);
$_->quit for ($main, $other, $controller, $horizon);
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
$node->safe_psql('template1', "ALTER DATABASE copy SET app.current_tenant = '$tenant'");
begin_sessions();
my $copy = session('copy');
is($copy->query_safe($_), query($_), 'as the original') for ($ids, $files);
$copy->query_safe(insert($q, 20.5, 20.5) . insert($idle, 1, 1));
is_empty($q, 'a range in the original');
is_empty($idle, 'idle in the original');
is($copy->query_safe(claim($q)), '20.5', 'a job of the copy, in the range');
is($copy->query_safe(claim($idle)), '1', 'a job of the copy, of the queue that is idle');
$copy->quit;

# Another database has the extension in another schema.
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$node->safe_psql('postgres', "ALTER DATABASE elsewhere SET app.current_tenant = '$tenant'");
my $elsewhere = session('elsewhere');
my $id = query("SELECT id FROM queues WHERE name = '$q'");
my $same_queue = "INSERT INTO tenants VALUES ('$tenant', 'one');"
  . "INSERT INTO queues (id, tenant_id, name) VALUES ('$id', '$tenant', '$q');";
$elsewhere->query_safe(
	"CREATE SCHEMA s; CREATE EXTENSION queue_service SCHEMA s; SET search_path = s; $same_queue");
$elsewhere->query_safe(insert($q, 20.5, 20.5));
is_empty($q, 'a range in one schema');
is($elsewhere->query_safe(claim($q)), '20.5', 'a job in the other schema');
$elsewhere->quit;

# The extension is dropped, and created anew, and that is rolled back. What was
# learned in between was of other tables.
my $anew = "DROP EXTENSION queue_service; CREATE EXTENSION queue_service; $same_queue";
query(insert($q, 20, 20));
query("BEGIN; $anew SAVEPOINT s; @{[insert($q, 1, 40)]} ROLLBACK TO s; @{[claim($q)]}; ROLLBACK");
is_claimed($q, '20', 'a job that was there before, rolled back');
is_empty($q, 'an idle queue');
$other->query_safe(insert($q, 30, 30) . "BEGIN; $anew @{[claim($q)]}; ROLLBACK");
is_claimed($q, '30', 'a job that was there before, rolled back by another session');

# ... and that is committed: by this session, and by another one.
insert_dead($q, 1, 40);
is_empty($q, 'a range');
query($anew);
query(insert($q, 20.5, 20.5));
is_claimed($q, '20.5', 'a job of the new extension');
is_empty($q, 'an idle queue of the new extension');
$other->query_safe($anew . insert($q, 21.5, 21.5));
is_claimed($q, '21.5', 'a job of the extension that another session created');

# ... with another id of the queue, and in another schema.
$other->query_safe($anew . "UPDATE queues SET id = '$tenant'; @{[insert($q, 22.5, 22.5)]}");
is_claimed($q, '22.5', 'a job of a new queue of the same name');
$other->query_safe("$anew CREATE SCHEMA s; DROP EXTENSION queue_service; "
	  . "CREATE EXTENSION queue_service SCHEMA s; SET search_path = s; $same_queue"
	  . insert($q, 23.5, 23.5));
query('SET search_path = s');
is_claimed($q, '23.5', 'a job of the extension in another schema');

$_->quit for ($main, $other, $controller, $horizon);
$node->stop;

done_testing();
