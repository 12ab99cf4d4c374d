# The tokens of a bucket over time: see bench/run. Expects a private server with
# the extension and nothing else on it.
#
# One caller asks for a token again and again, at the pace of the phase, and notes
# what it was told; a look at the bucket in between says how many there were. Draws
# that as SVG into the file BENCH_PLOT (default: standard output).
use strict;
use warnings;
use File::Basename qw(dirname);
use List::Util qw(max);
use Time::HiRes qw(sleep time);
use lib dirname($0);
use Bench;
use Plot;
use Session;

my ($capacity, $rate) = (20, 5);
my @phases = (
	{ name => 'nobody asks', seconds => 4, asks => 0 },
	{ name => 'a burst, 20 calls/s', seconds => 6, asks => 20 },
	{ name => 'nobody asks', seconds => 6, asks => 0 },
	{ name => '4 calls/s', seconds => 8, asks => 4 },
	{ name => '8 calls/s', seconds => 10, asks => 8 },
);
my ($left, $right, $top, $bottom) = (50, 830, 40, 300);
my $total = 0;
$total += $_->{seconds} foreach @phases;

sub x_of { return $left + ($right - $left) * $_[0] / $total }
sub y_of { return $bottom - ($bottom - $top) * $_[0] / $capacity }

setup(dirname($0) . '/setup.sql');
sql("SELECT queue_limiter_set('service', $capacity, $rate)");
my $session = connect_to($ENV{PGDATABASE});
my $acquire = $session->prepare("SELECT granted FROM queue_rate_acquire('service')");
my $peek = $session->prepare("SELECT tokens FROM queue_rate_peek('service')");
my (@levels, @calls);
my $start = time;
my $phase_ends = 0;

sub look
{
	my (undef, $tokens) = timed($peek);
	push @levels, [time - $start, $tokens];
}

foreach my $phase (@phases)
{
	my $next = $phase_ends;
	$phase_ends += $phase->{seconds};
	while ((my $now = time - $start) < $phase_ends)
	{
		look();
		if ($phase->{asks} && $now >= $next)
		{
			my (undef, $granted) = timed($acquire);
			push @calls, [time - $start, $granted];
			$next += 1 / $phase->{asks};
			look();
		}
		sleep(0.025);
	}
}

my $granted = grep { $_->[1] } @calls;
my $refused = @calls - $granted;
my $file = $ENV{BENCH_PLOT} // '/dev/stdout';
open(my $svg, '>', $file) or die "$file: $!\n";
print $svg svg_begin("Tokens of a bucket over time: capacity $capacity, $rate a second",
	"The bucket holds $capacity until a burst takes them all, and then as many calls are granted as it refills. In all $granted were granted, $refused refused.",
	$right + 110, $bottom + 70, <<'END');
    .level { fill: none; stroke-width: 2; stroke-linejoin: round; }
    .call { stroke-width: 1.5; }
END
for (my $tokens = 0; $tokens <= $capacity; $tokens += 5)
{
	printf $svg qq(  <path class="grid" d="M%d %.1fH%d"/><text class="end" x="%d" y="%.1f">%d</text>\n),
	  $left, y_of($tokens), $right, $left - 8, y_of($tokens) + 4, $tokens;
}
my $x = 0;
foreach my $phase (@phases)
{
	printf $svg qq(  <path class="grid" d="M%.1f %dV%d"/><text class="mid" x="%.1f" y="%d">%s</text>\n),
	  x_of($x), $top - 20, $bottom + 40, x_of($x + $phase->{seconds} / 2), $top - 10, $phase->{name};
	$x += $phase->{seconds};
}
printf $svg qq(  <path class="level side0" d="M%s"/>\n),
  join('L', map { sprintf '%.1f %.1f', x_of($_->[0]), y_of($_->[1]) } @levels);
foreach my $outcome (1, 0)
{
	printf $svg qq(  <path class="call side%d" d="%s"/><text x="%d" y="%d">%s</text>\n), 1 - $outcome,
	  join('', map { sprintf 'M%.1f %dv10', x_of($_->[0]), $bottom + ($outcome ? 12 : 28) }
		  grep { !!$_->[1] == $outcome } @calls),
	  $right + 10, $bottom + ($outcome ? 22 : 38), $outcome ? "$granted granted" : "$refused refused";
}
printf $svg qq(  <text x="%d" y="%.1f">tokens</text><text class="mid" x="%d" y="%d">%d seconds</text>\n),
  $right + 10, y_of($levels[-1][1]) + 4, ($left + $right) / 2, $bottom + 62, $total;
print $svg "</svg>\n";
close($svg) or die "$file: $!\n";
