# Looks at reports in Chromium, and measures how long they and a scrape take: see
# run. Takes the folder for what it makes, and expects libpq's environment.
use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use File::Basename;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use Time::HiRes qw(time sleep);

my $root = dirname(dirname(abs_path(__FILE__)));
require "$root/t/Html.pm";

my ($out) = @ARGV;
my ($passed, $failed) = (0, 0);
my $tenants = $ENV{REPORT_TENANTS} || 10000;
my $jobs = $ENV{REPORT_JOBS} // 5000000;

sub ok
{
	my ($good, $what) = @_;

	print $good ? 'ok      ' : 'FAILED  ', $what, "\n";
	$good ? $passed++ : $failed++;
	return $good;
}

sub sql
{
	my (@arguments) = @_;

	open(my $psql, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', @arguments) or die "psql: $!\n";
	my $result = do { local $/; <$psql> } // '';
	close $psql or die "psql @arguments failed\n";
	chomp $result;
	return $result;
}

sub database
{
	my ($name, @files) = @_;

	sql('-d', 'postgres', '-c', "CREATE DATABASE report_$name");
	$ENV{PGDATABASE} = "report_$name";
	sql('-c', 'CREATE EXTENSION queue_service');
	sql('-v', "tenants=$tenants", '-v', "jobs=$jobs", '-o', '/dev/null', '-f', "$root/report/$_.sql") foreach @files;
	return;
}

sub save
{
	my ($file, $text) = @_;

	open(my $handle, '>', $file) or die "$file: $!\n";
	print $handle $text;
	close $handle;
	return;
}

# Makes a report, the fastest of three, and looks whether it is well-formed and small.
sub report
{
	my ($name, $tenant) = @_;
	my ($page, $best);

	foreach (1 .. 3)
	{
		my $start = time;

		$page = sql('-c', "SET app.current_tenant = '" . ($tenant // '') . "'", '-c', 'SELECT queue_report()') . "\n";
		$best = time - $start if !defined $best || time - $start < $best;
	}
	save("$out/$name.html", $page);
	ok(eval { Html::parse($page) }, "$name: well-formed" . ($@ ? ": $@" : ''));
	ok($best < 2, sprintf('%s: made in %.0f ms', $name, $best * 1000));
	ok(length $page < 1_000_000, sprintf('%s: %d kB', $name, length($page) / 1000));
	return $page;
}

# Shows a page in frames of these widths, one below the other, since windows may
# not be so narrow. What the pages tell, or a picture of them.
sub chromium
{
	my ($page, $widths, $height, $dark, @what) = @_;
	my $frame = "$out/frame.html";
	my $window = (sort { $b <=> $a } @$widths, 600)[0];

	save($frame, '<!DOCTYPE html><html style="color-scheme:' . ($dark ? 'dark' : 'light')
		. qq{"><body style="margin:0"><pre id="found" style="display:none"></pre>}
		. qq{<script>addEventListener("message", (e) => document.getElementById("found").append(e.data + "\\n"));</script>}
		. join('', map { qq{<iframe src="file://$page" style="border:0;display:block;width:${_}px;height:${height}px"></iframe>} } @$widths)
		. '</body></html>');
	my ($stdout, $stderr);
	IPC::Run::run(
		[ 'chromium', '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files', "--user-data-dir=$out/profile",
			"--window-size=$window," . $height * @$widths, '--blink-settings=preferredColorScheme=' . ($dark ? 0 : 1), '--virtual-time-budget=3000', @what, "file://$frame" ],
		'<', '/dev/null', '>', \$stdout, '2>', \$stderr) or die "chromium: $stderr\n";
	return $stdout;
}

# Looks at a page, with its policy and without: then nothing keeps a script from
# running but that there is none.
sub look
{
	my ($name, $html, $title) = @_;
	my @widths = (1280, 768, 390, 360);
	my $script = do { local $/; open(my $file, '<', "$root/report/look.js") or die; <$file> };

	(my $open = $html) =~ s/<meta http-equiv[^>]*>//;
	$open =~ s{</body>}{<script data-look="">$script</script></body>};
	save("$out/open.html", $open);
	foreach my $dark (0, 1)
	{
		my $scheme = $dark ? 'dark' : 'light';
		my ($found) = chromium("$out/open.html", \@widths, 1000, $dark, '--dump-dom') =~ m{<pre id="found"[^>]*>(.*?)</pre>}s;
		my %seen;

		foreach (split /\n/, ($found // '') =~ s/&lt;/</gr =~ s/&gt;/>/gr =~ s/&amp;/&/gr)
		{
			my $found = decode_json(s/[^\x00-\x7f]/?/gr);
			my $which = "$name at $found->{width} px, $scheme";

			$seen{ $found->{width} } = 1;
			ok(!@{ $found->{wrong} }, join "\n\t", "$which: nothing overlaps, leaves its place, is too small or too pale", @{ $found->{wrong} });
			ok(!!$found->{dark} == !!$dark && ($found->{ground} =~ /\(\d\d?,/ ? 1 : 0) == $dark, "$which: as asked for");
			ok($found->{title} =~ $title && $found->{frames} == 0, "$which: no script ran");
		}
		ok("@widths" eq join(' ', sort { $b <=> $a } keys %seen), "$name, $scheme: shown");
		chromium("$out/$name.html", [$_], $_ < 600 ? 3600 : 2600, $dark, "--screenshot=$out/$name-$_-$scheme.png") foreach 1280, 360;
	}
	return;
}

# How long the exporter takes for a scrape: the fastest of ten.
sub scrape
{
	my ($what) = @_;
	my $port = 20000 + $$ % 20000;
	my $best;

	local $ENV{DATA_SOURCE_NAME} = "postgresql:///$ENV{PGDATABASE}?host=$ENV{PGHOST}&port=$ENV{PGPORT}&user=$ENV{PGUSER}&sslmode=disable";
	my $exporter = IPC::Run::start(
		[ 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port", '--disable-default-metrics', '--disable-settings-metrics',
			"--extend.query-path=$root/examples/monitoring/postgres_exporter.yml" ], '>', '/dev/null', '2>', \my $errors);
	my $page = '';
	foreach (1 .. 300)
	{
		my $start = time;
		my $got = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");
		my $took = time - $start;

		sleep(0.1), next unless $got->{success} && $got->{content} =~ /^queue_service_depth/m;
		$page = $got->{content};
		$best = $took if !defined $best || $took < $best;
		last if $_ >= 10;
	}
	$exporter->kill_kill;
	my $series = () = $page =~ /^queue_service/mg;
	ok(defined $best && $best < 0.2, sprintf('%s: %d series scraped in %.0f ms', $what, $series, ($best // 0) * 1000));
	save("$out/metrics.txt", $page);
	return;
}

database('empty');
report('empty');
database('some', 'some');
look('some', report('some'), qr/^Queues of all tenants/);
report('tenant', '00000000-0000-4000-8000-000000000001');
scrape('18 tenants');
database('hostile', 'hostile');
look('hostile', report('hostile'), qr/^Queues of all tenants/);
report('hostile-tenant', '00000000-0000-4000-8000-00000000000a');
if ($jobs > 0)
{
	database('many', 'many');
	my $what = "$tenants tenants, $jobs jobs";

	report('many');
	report('many-tenant', '00000000-0000-4000-8000-000000000001');
	scrape($what);
	my $best;
	foreach (1 .. 3)
	{
		my $start = time;

		sql('-c', 'SELECT * FROM queue_top');
		$best = time - $start if !defined $best || time - $start < $best;
	}
	ok($best < 1, sprintf('%s: queue_top in %.0f ms', $what, $best * 1000));
}
print "Pages and pictures are in $out.\n$passed passed, $failed failed\n";
exit($failed > 0);
