# Pictures, as SVG: what they have in common, and claim latency over dead rows,
# both logarithmic.
package Plot;

use strict;
use warnings;
use Exporter qw(import);
use List::Util qw(max min);
use Bench;

our @EXPORT = qw(plot svg_begin);

# The head of a picture, with the colours that all have in common.
sub svg_begin
{
	my ($title, $description, $width, $height, $styles) = @_;
	return <<"END";
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $width $height" width="$width" height="$height" role="img" aria-labelledby="title desc">
  <title id="title">$title</title>
  <desc id="desc">$description</desc>
  <style>
    text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
    .mid { text-anchor: middle; }
    .end { text-anchor: end; }
    .grid { stroke: #d1d9e0; }
$styles    .side0 { stroke: #0969da; }
    .side1 { stroke: #bc4c00; }
    \@media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .grid { stroke: #3d444d; }
      .side0 { stroke: #4493f8; }
      .side1 { stroke: #db6d28; }
    }
  </style>
END
}

my ($left, $right, $top, $bottom) = (70, 690, 24, 380);

# 0 rows stand where 300 would.
sub x_of
{
	my ($rows, $most) = @_;
	return $left + ($right - $left) * log(max($rows, 300) / 300) / log($most / 300);
}

sub y_of
{
	my ($ms, $low, $high) = @_;
	return $bottom - ($bottom - $top) * log($ms / $low) / log($high / $low);
}

# The text alternative: each side's latency at both ends.
sub description
{
	my ($points, @sides) = @_;
	return join ' ', map {
		sprintf '%s: median %.2g ms with %s dead rows, %.2g ms with %s.', $_,
		  map { ($_->{p50}, with_commas($_->{rows})) } @{ $points->{$_} }[0, -1]
	} @sides;
}

# points: for each side its figures by number of rows, with p50 and p99.
sub plot
{
	my ($file, $points, @sides) = @_;
	my @all = map { @{ $points->{$_} } } @sides;
	my $most = max(map { $_->{rows} } @all);
	my $low = 10**int(log(min(map { $_->{p50} } @all)) / log(10) - 1);
	my $high = 10 * $low;
	$high *= 10 while $high < max(map { $_->{p99} } @all);
	my $description = description($points, @sides);

	open(my $svg, '>', $file) or die "$file: $!\n";
	print $svg svg_begin('Claim latency over dead rows, horizon held', $description,
		$right + 150, $bottom + 60, <<'END');
    .p50, .p99 { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
    .p99 { stroke-width: 1.5; stroke-dasharray: 5 4; }
END
	for (my $ms = $low; $ms <= $high * 1.01; $ms *= 10)
	{
		printf $svg qq(  <path class="grid" d="M%d %.1fH%d"/><text class="end" x="%d" y="%.1f">%g ms</text>\n),
		  $left, y_of($ms, $low, $high), $right, $left - 8, y_of($ms, $low, $high) + 4, $ms;
	}
	printf $svg qq(  <text class="mid" x="%.1f" y="%d">%s</text>\n),
	  x_of($_, $most), $bottom + 20, with_commas($_)
	  foreach map { $_->{rows} } @{ $points->{ $sides[0] } };
	printf $svg qq(  <text class="mid" x="%d" y="%d">dead rows in front; solid: median, dashed: 99th percentile</text>\n),
	  ($left + $right) / 2, $bottom + 46;
	foreach my $i (0 .. $#sides)
	{
		my @points = @{ $points->{ $sides[$i] } };
		foreach my $figure ('p50', 'p99')
		{
			printf $svg qq(  <path class="%s side%d" d="M%s"/>\n), $figure, $i,
			  join('L', map { sprintf '%.1f %.1f', x_of($_->{rows}, $most), y_of($_->{$figure}, $low, $high) } @points);
		}
		printf $svg qq(  <text x="%d" y="%.1f">%s</text>\n), $right + 10,
		  y_of($points[-1]{p50}, $low, $high) + 4, $sides[$i];
	}
	print $svg "</svg>\n";
	close($svg) or die "$file: $!\n";
}

1;
