# The arithmetic of turns in a ring of members that always have work, without a
# server: random programs of fixed seeds.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $program = "$PostgreSQL::Test::Utils::tmp_check/turns";

system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-Isrc',
	'-o', $program, 'fuzz/turns.c', 'src/turns.c');
command_like([ $program, '1000' ], qr/^1000 programs$/, 'nobody is ahead by more than a round');

done_testing();
