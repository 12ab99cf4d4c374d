package StressRun;

# Builds the stress tests, and runs one of those in stress/FOLDER for ten seconds
# on a server of its own; see stress/README.md.

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(stress_build stress_run);

# The program that the sources make that match patterns in stress/.
sub stress_build
{
	my ($name, @patterns) = @_;
	my $source = "$FindBin::RealBin/../stress";
	my $program = PostgreSQL::Test::Utils::tempdir . "/$name";
	my $pg_config = $ENV{PG_CONFIG} || 'pg_config';

	plan skip_all => 'the sources of the stress test are not here' unless () = glob("$source/$patterns[0]");
	chomp(my $include = `$pg_config --includedir`);
	chomp(my $lib = `$pg_config --libdir`);
	is(system('cc', '-O1', "-I$include", map({ glob("$source/$_") } @patterns), '-o', $program, "-L$lib", '-lpq', '-lpthread'),
		0, 'compiles');
	return $program;
}

# Each check is a line that the program has to print as passed.
sub stress_run
{
	my ($folder, $conf, @checks) = @_;
	my $program = stress_build($folder, "$folder/*.c", 'lib/*.c');
	my $node = PostgreSQL::Test::Cluster->new($folder);
	$node->init;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'
		restart_after_crash = on
		$conf");
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION queue_service');
	$ENV{PGDATABASE} = 'postgres';
	$ENV{PGHOST} = $node->host;
	$ENV{PGPORT} = $node->port;
	my $output = `timeout 150 $program 10`;
	my $status = $?;
	note($output);
	like($output, qr/^$_ +ok /m, $_) foreach @checks;
	diag($output) if $status != 0;
	$node->stop;
	done_testing();
}

1;
