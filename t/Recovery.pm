# A server that starts anew because one of its processes was killed.
package Recovery;

use strict;
use warnings;
use Exporter qw(import);
use IPC::Run qw(run);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

our @EXPORT = qw(poll_through_crash);

# Like poll_query_until(), of a server that refuses connections meanwhile. A psql
# that is refused may be gone before it reads its standard input, and writing to that
# would end the test; so the query is an argument.
sub poll_through_crash
{
	my ($node, $database, $query) = @_;
	my ($out, $error);

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		run([ 'psql', '-XAtq', '-d', $node->connstr($database), '-c', $query ], '<', \undef, '>', \$out, '2>', \$error);
		return 1 if $out eq "t\n";
		sleep(0.1);
	}
	diag("timed out: $query\n$out$error");
	return 0;
}

1;
