# Cron expressions against a model that looks at every minute, without a server:
# random programs of fixed seeds.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $program = "$PostgreSQL::Test::Utils::tmp_check/cron";

system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-Isrc',
	'-o', $program, 'fuzz/cron.c', 'src/cron.c');
command_like([ $program, '10000' ], qr/^10000 programs$/, 'as the model says');

done_testing();
