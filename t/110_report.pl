# queue_report(): a page that is well-formed, whole by itself and can be read by
# everybody; that shows what there is, and nothing that the caller may not see;
# in which no name and no error is anything but text.

use strict;
use warnings;
use utf8;

use File::Basename;
use lib dirname(__FILE__);
use Html;
use List::Util qw(sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'queue_service'\nfsync = off\ntimezone = 'UTC'\nautovacuum = off");
$node->start;
$ENV{PGCLIENTENCODING} = 'UTF8';

sub query
{
	my ($sql) = @_;

	utf8::encode($sql);
	my $result = $node->safe_psql('postgres', $sql);
	utf8::decode($result);
	return $result;
}

my ($own, $other) = map { "00000000-0000-4000-8000-00000000000$_" } 1, 2;

# The page that a role gets, and as it is read. The tenant may be ''.
sub report
{
	my ($role, $tenant, $arguments) = @_;
	my $page = query("SET ROLE $role; SET app.current_tenant = '$tenant'; SELECT queue_report(" . ($arguments // '') . ')') . "\n";

	return wantarray ? ($page, Html::parse($page)) : Html::parse($page);
}

sub rows_of
{
	my ($page, $id) = @_;

	return map { Html::rows($_) } Html::elements(Html::section($page, $id), 'table');
}

query('CREATE EXTENSION queue_service');

# Nothing at all.
{
	my ($page, $html) = report('postgres', '');
	my $text = Html::text($html);

	like($text, qr/Queues of all tenants/, 'an empty database');
	like($text, qr/$_/, $_) foreach 'No samples yet', 'There are none', 'No job failed for good', 'None was raised';
}

# What might become more than text, wherever one of a tenant's own can stand.
my @hostile = (
	'</script><script>document.title = 1</script>', '"><img src=x onerror=alert(1)>', q(' onmouseover='alert(1)),
	'&lt;b&gt; &#60;i&#62; &amp;', ']]><!-- --> <![CDATA[ <?php ?>', '</title></style><style>*{display:none}', '%s%n%d %%', '${7*7}{{7*7}}',
	'javascript:alert(1)', 'עברית العربية', 'naïve 🎉 𝕏', 'x' x 128, '漢' x 42);
# And with characters that are not shown, or turn the direction: as what stands for them.
my %hidden = (
	"a\x01b\x1b[2Jc\td" => "a\x{2401}b\x{241b}[2Jc\x{2409}d",
	"\x{202e}gpj.exe" => "\x{fffd}gpj.exe",
	"\x{2066}\x{200f}\x{200b}\x{feff}\x{7f}\x{85}\x{ad}" => "\x{fffd}" x 7,
	"\x{fffe}\x{10ffff}" => "\x{fffd}\x{fffd}");
my %shown = (%hidden, map { $_ => $_ } @hostile);

sub quote
{
	return "'" . ($_[0] =~ s/'/''/gr) . "'";
}

query("INSERT INTO tenants (id, name) VALUES ('$own', " . quote($hostile[0]) . "), ('$other', 'foreign company')");
query("SET app.current_tenant = '$own';" . join '', map {
	my $quoted = quote($_);

	"SELECT queue_create($quoted, alert_depth => 1, keep_completed => '0');
	SELECT queue_enqueue($quoted, '\"a payload\"', job_type => $quoted), queue_enqueue($quoted, '\"a payload\"');
	SELECT queue_fail(job_id, lease_token, $quoted, dead => true) FROM queue_claim($quoted, $quoted);
	SELECT queue_tenant_limit_set('$own', $quoted, 10, 0.000001, 5);
	SELECT FROM queue_rate_acquire($quoted, 4);"
} sort keys %shown);
query("SET app.current_tenant = '$other'; SELECT queue_create('foreign queue', alert_depth => 1, max_attempts => 1);
	SELECT queue_enqueue('foreign queue', job_type => 'foreign type'), queue_enqueue('foreign queue');
	SELECT queue_fail(job_id, lease_token, 'foreign error') FROM queue_claim('foreign queue', 'foreign worker');
	SELECT queue_tenant_limit_set('$other', 'foreign limit', 10, 1)");
query("CREATE ROLE $_; SELECT queue_grant('$_', 'observer')") foreach 'watcher', 'platform';
query("CREATE ROLE boss; SELECT queue_grant('boss', 'admin'); GRANT SELECT ON tenants TO boss; SELECT queue_grant('platform', 'observer', all_tenants => true); CREATE ROLE nobody");
query('SELECT FROM queue_maintain()');

# Two hours ago: five minutes of samples, of two queues of the tenant and one of
# the other.
query("INSERT INTO queue_metrics (id, tenant_id, queue_id, sampled_at, depth, processing, completed_per_second, claimed_per_second, wait_p50, wait_p95, wait_p99)
	SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '70008000' || right(queue_new_id()::text, 12))::uuid,
		tenant_id, q.id, t, d.depth, 1, 2, d.rate, d.wait, 2 * d.wait, 4 * d.wait
	FROM queues q JOIN (VALUES (" . quote($hostile[0]) . ", 700, 9, interval '1 s'), (" . quote($hostile[1]) . ", 77, 1, interval '10 s'),
			('foreign queue', 8000, 90, interval '100 s')) d (queue, depth, rate, wait) ON d.queue = q.name,
		generate_series(date_trunc('hour', now()) - interval '120 minutes', date_trunc('hour', now()) - interval '116 minutes', '1 minute') t");

my ($page, $html) = report('boss', $own);
my @elements = Html::elements($html);
my $text = Html::text($html);

# Only such elements and attributes, none of which can do or load anything.
my %elements = map { $_ => 1 } qw(html head meta title style body header h1 h2 h3 p nav ul li a main section div dl dt dd small b
  figure figcaption span svg desc path text rect details summary table thead tbody tr th td bdi footer);
my %attributes = map { $_ => 1 } qw(lang charset http-equiv content name id class href role tabindex scope width height viewBox preserveAspectRatio
  d x y text-anchor);
is(join(' ', grep { !$elements{$_} } map { $_->{name} } @elements), '', 'no other elements');
is(join(' ', grep { !$attributes{$_} && !/^aria-(label|labelledby|hidden)$/ } map { keys %{ $_->{attributes} } } @elements), '', 'no other attributes');
is(join(' ', grep { !/^#\w+$/ } map { $_->{attributes}{href} // () } @elements), '', 'links go nowhere else');
is(scalar(grep { $_->{name} eq 'style' } @elements), 1, 'one style sheet');
unlike(Html::text((Html::elements($html, 'style'))[0]), qr/url|\@import|http|expression/, 'which loads nothing');
is_deeply(
	[ map { $_->{attributes}{content} } grep { ($_->{attributes}{'http-equiv'} // '') eq 'Content-Security-Policy' } @elements ],
	["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"],
	'the browser is told to load nothing, and to run nothing');

# No attribute has a tenant's text; if one had, no quote would end it.
like($page, qr/&#34;&#62;&#60;img src&#61;x onerror/, 'double quotes are escaped');
like($page, qr/&#39; onmouseover&#61;&#39;alert/, 'single quotes are');
# All hostile text is there, as text.
foreach my $text (sort keys %shown)
{
	my $shown = $shown{$text};

	is(scalar(grep { $_->[0] eq $shown } rows_of($html, 'queues')), 1, 'the queue ' . ($shown =~ s/[^ -~]/?/gr =~ s/^(.{30}).*/$1/r));
	ok((grep { $_->[0] eq $shown =~ s/\d+/#/gr } rows_of($html, 'dead')), 'the error');
	ok((grep { $_->[5] eq $shown } rows_of($html, 'dead')), 'the type');
	is(scalar(grep { $_->[0] eq $shown && $_->[1] eq 'the tenant' && $_->[2] eq '6' && $_->[5] eq '1 of 5' } rows_of($html, 'limits')), 1, 'the limit');
	ok((grep { index($_->[2], "\"$shown\"") >= 0 } rows_of($html, 'alerts')), 'the alert');
}
is(Html::text((Html::elements($html, 'h1'))[0]), "Queues of $hostile[0]", 'the tenant');

# It can be read by who does not see it.
my %ids;
$ids{$_}++ foreach map { $_->{attributes}{id} // () } @elements;
is(join(' ', grep { $ids{$_} > 1 } keys %ids), '', 'ids are unique');
is(join(' ', grep { !$ids{$_} } map { split / /, $_->{attributes}{'aria-labelledby'} // '' } @elements), '', 'and those that are referred to exist');
is(join(' ', grep { !$ids{ substr $_, 1 } } map { $_->{attributes}{href} // () } @elements), '', 'as do the aims of links');
foreach my $svg (Html::elements($html, 'svg'))
{
	next if ($svg->{attributes}{'aria-hidden'} // '') eq 'true';
	is(join(' ', map { ref $_ ? $_->{name} : '' } @{ $svg->{children} }[ 0, 1 ]), 'title desc', 'a chart is described');
}
is(scalar(Html::elements($html, 'svg')), scalar(grep { $_->{attributes}{role} || $_->{attributes}{'aria-hidden'} } Html::elements($html, 'svg')),
	'other drawings are ornaments');
is(scalar(grep { Html::elements($_, 'table') } Html::elements($html, 'figure')), 5, 'charts with samples have a table');
is(join(' ', map { $_->{name} } grep { $_->{name} =~ /^(header|nav|main|footer|h1)$/ } @elements), 'header h1 nav main footer', 'landmarks');
my $level = 0;
foreach my $heading (grep { $_->{name} =~ /^h\d$/ } @elements)
{
	my ($this) = $heading->{name} =~ /(\d)/;

	cmp_ok($this, '<=', $level + 1, 'no level of headings is left out');
	$level = $this;
}
is(scalar(grep { !$_->{attributes}{scope} } Html::elements($html, 'th')), 0, 'heads of tables say of what');

# What it shows is what there is.
sub chart
{
	my ($page, $title) = @_;
	my ($figure) = grep { Html::text((Html::elements($_, 'h3'))[0]) eq $title } Html::elements($page, 'figure');

	return { map { $_->[0] => join ' ', @$_[ 1 .. $#$_ ] } map { Html::rows($_) } Html::elements($figure, 'table') };
}
my $hour = query("SELECT to_char(date_trunc('hour', now()) - interval '2 hours', 'YYYY-MM-DD HH24:MI')");
is(chart($html, 'Jobs')->{$hour}, '777 2 0', 'samples of two queues together');
is(chart($html, 'Throughput')->{$hour}, '4 0 10', 'rates');
is(chart($html, 'Wait')->{$hour}, '2 s 10 s 20 s', 'percentiles of both, by how many jobs they are');
is(chart(scalar(report('platform', '')), 'Jobs')->{$hour}, '8.8k 3 0', 'samples of all tenants');
ok(!exists chart(scalar(report('boss', $own, "'1 hour'")), 'Jobs')->{$hour}, 'not in a report of one hour');
my ($first) = grep { $_->[0] eq 'x' x 128 } rows_of($html, 'queues');
is("@$first[1 .. 3]", '1 0 0', 'a queue');
like($text, qr/Waiting${\ scalar keys %shown}0 of them delayed/, 'all that wait');

# A tenant's page has nothing of another's.
unlike($page, qr/foreign|$other/, 'nothing of another tenant');
foreach my $role ('watcher', 'boss', 'postgres')
{
	my $page = report($role, $own);

	unlike(Html::text($page), qr/foreign|$other/, "nothing of another tenant for $role");
	is(Html::section($page, 'tenants'), undef, 'nor how many there are');
	like(Html::text($page), $role eq 'postgres' ? qr/held back vacuum/ : qr/^((?!held back vacuum).)*$/s, 'who holds back vacuum is for the platform');
}
like(Html::text(scalar report('watcher', $other)), qr/foreign queue/, 'a tenant sees its own');
{
	my $page = report('platform', '');

	like(Html::text($page), qr/foreign queue/, 'who serves all tenants sees all');
	is(join(' ', map { $_->[0] } rows_of($page, 'tenants')), "$own $other", 'by tenant');
	unlike(Html::text($page), qr/foreign company/, 'without their names');
	query('GRANT SELECT (id, name) ON tenants TO platform');
	like(Html::text(scalar report('platform', '')), qr/foreign company/, 'with names, if he may read them');
}
like(Html::text(scalar report('boss', $other)), qr/foreign error/, 'errors for who may read them');
unlike(Html::text(scalar report('watcher', $other)), qr/foreign error/, 'and not for others');
unlike(Html::text(scalar report('postgres', '')), qr/a payload/, 'payloads for nobody');
foreach ([ 'watcher', '', 'QS001' ], [ 'watcher', 'x', 'QS002' ], [ 'nobody', $own, '42501' ])
{
	my ($role, $tenant, $state) = @$_;
	my ($stdout, $stderr);

	$node->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE $role; SET app.current_tenant = '$tenant'; SELECT queue_report()", stderr => \$stderr);
	like($stderr, qr/ERROR:  $state/, "$role for '$tenant'");
}

# It is as small for many, whom it shows together.
query("INSERT INTO tenants (id) SELECT ('00000000-0000-4000-8000-0001' || lpad(to_hex(i), 8, '0'))::uuid FROM generate_series(1, 1000) i;
	INSERT INTO queues (tenant_id, name, depth) SELECT id, 'many', 10 FROM tenants WHERE id > '00000000-0000-4000-8000-000100000000'");
($page, $html) = report('postgres', '');
cmp_ok(length $page, '<', 200_000, 'few bytes for 1,000 tenants');
is((rows_of($html, 'tenants'))[-1][0], '987 other tenants', 'the rest of them in a row');
is(sum(map { $_->[1] =~ tr/,//dr } rows_of($html, 'tenants')), 10_000 + 1 + keys %shown, 'and all that waits, in one row or another');

# It works without shared memory, and in other encodings.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
like(Html::text(scalar report('watcher', $own)), qr/only if the library is preloaded/, 'without shared memory');
foreach my $encoding ('LATIN1', 'SQL_ASCII')
{
	query("CREATE DATABASE \L$encoding\E TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	my $page = $node->safe_psql(lc $encoding, "SET client_encoding = '$encoding';
		SET client_min_messages = warning; CREATE EXTENSION queue_service;
		INSERT INTO tenants (id) VALUES ('$own'); INSERT INTO queues (tenant_id, name) VALUES ('$own', 'caf\xe9'); SELECT queue_report()");
	like(Html::text(Html::parse("$page\n")), $encoding eq 'LATIN1' ? qr/café/ : qr/caf\x{fffd}/, $encoding);
}
$node->stop;

done_testing();
