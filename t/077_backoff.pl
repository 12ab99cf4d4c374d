# The arithmetic of backoff against multiplication step by step, without a server:
# random programs of fixed seeds.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $program = "$PostgreSQL::Test::Utils::tmp_check/backoff";

system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-Isrc',
	'-o', $program, 'fuzz/backoff.c', 'src/backoff.c', '-lm');
command_like([ $program, '300' ], qr/^300 programs$/, 'as the steps say');

done_testing();
