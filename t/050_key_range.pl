# The arithmetic of key ranges against a model, without a server: random
# programs of fixed seeds.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $program = "$PostgreSQL::Test::Utils::tmp_check/key_range";

system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-Isrc',
	'-o', $program, 'fuzz/key_range.c', 'src/key_range.c');
command_like([ $program, '300' ], qr/^300 programs$/, 'as the model says');

done_testing();
