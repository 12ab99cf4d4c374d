# A short run of the stress test of groups, see stress/README.md.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use StressRun;

stress_run('groups', 'deadlock_timeout = 100ms',
	'the checks find what is wrong', 'there were leases',
	'never two of a group at once', 'never more of a group than its three',
	'never out of order', 'none is stuck', 'none is lost', 'no other errors');
