# A short run of the stress test of limited queues, see stress/README.md.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use StressRun;

stress_run('limits', '',
	'there were leases', 'never more leases than slots',
	'never more normal ones than theirs', 'never more seen at once',
	'never more normal ones seen');
