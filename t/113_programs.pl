# The checks in fuzz/ of modules that need PostgreSQL's headers, but no server: random
# programs of fixed seeds.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
chomp(my ($server, $include, $lib, $pkglib) =
	map { `$pg_config --$_` } qw(includedir-server includedir libdir pkglibdir));

# runs(FOLDER, MODULE, NAME)
sub runs
{
	my ($dir, $module, $name) = @_;
	my $program = "$PostgreSQL::Test::Utils::tmp_check/$module";
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', "-I$dir", '-isystem', $server,
		'-isystem', $include, '-isystem', "$include/internal", '-o', $program,
		"fuzz/$module.c", "$dir/$module.c", "-L$pkglib", "-L$lib", qw(-lpq -lpgcommon -lpgport));
	command_like([ $program, '500' ], qr/^500 programs$/, $name);
	return;
}

runs('src', 'ageing', 'levels: all jobs, in their order');
runs('src', 'html', 'a name in HTML is a name');
runs('worker', 'text', 'what handlers write, as text and JSON');

done_testing();
