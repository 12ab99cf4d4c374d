# The arithmetic of histograms against a list of all durations, without a server:
# random programs of fixed seeds.

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $program = "$PostgreSQL::Test::Utils::tmp_check/histogram";

system_or_bail('cc', '-g', '-O1', '-Wall', '-Wextra', '-Werror', '-Isrc',
	'-o', $program, 'fuzz/histogram.c', 'src/histogram.c');
command_like([ $program, '300' ], qr/^300 programs$/, 'as the list says');

done_testing();
