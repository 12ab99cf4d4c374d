# The arithmetic of token buckets against a model in exact numbers, without a
# server: random programs of fixed seeds, a year, and a century.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $program = "$PostgreSQL::Test::Utils::tmp_check/bucket";

system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-Isrc',
	'-o', $program, 'fuzz/bucket.c', 'src/bucket.c', '-lm');
command_like([ $program, '1000' ], qr/^1000 programs$/, 'as the model says');

done_testing();
