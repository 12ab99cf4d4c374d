# The version stands in queue_service.control; a release of the same SQL has a
# third number. All else that must name it agrees, and META.json is what
# https://pgxn.org/spec/ asks for.

use strict;
use warnings;

use File::Basename;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(dirname(__FILE__));
my $text = qr/\S/;
my $semantic = qr/^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-?[A-Za-z][\w-]*)?$/;
my $term = qr/^[^\s\/\\\0-\x1f]{2,}$/;
# The licences that may be named by one word.
my $license = qr/^(?:agpl_3|apache_[12]_[01]|artistic_[12]|bsd|freebsd|gfdl_1_[23]|gpl_[123]|lgpl_[23]_[01]|mit|mozilla_1_[01]|openssl|perl_5|postgresql|qpl_1_0|ssleay|sun|zlib|open_source|restricted|unrestricted|unknown)$/;

sub first
{
	my ($file, $pattern) = @_;
	my ($match) = slurp_file("$root/$file") =~ $pattern;

	return $match // "none in $file";
}

my $version = first('queue_service.control', qr/^default_version = '(.*)'$/m);
my $meta = decode_json(slurp_file("$root/META.json"));
my $release = $meta->{version};

like($version, qr/^\d+\.\d+$/, 'queue_service.control');
like($release, qr/^\Q$version\E\.\d+$/, 'META.json: the release');
ok(-f "$root/queue_service--$version.sql", 'the SQL script');
is(first("queue_service--$version.sql", qr/^\/\* (\S+)$/m), "queue_service--$version.sql", 'what the SQL script calls itself');
is(first('CHANGELOG.md', qr/^## \[(.*?)\]/m), $release, 'CHANGELOG.md: the newest');

# Not in a release, which is packaged by others.
SKIP:
{
	skip 'no debian/', 1 unless -d "$root/debian";
	is(first('debian/changelog', qr/^queue-service \((.*)-\d+\)/), $release, 'debian/changelog: the newest');
}

# META.json: what is required, and what is there of the rest.
is_deeply([ grep { !defined $meta->{$_} } qw(name version abstract maintainer license provides meta-spec) ], [], 'META.json: all that is required');
like($meta->{name}, $term, '... name');
like($release, $semantic, '... version');
like($meta->{$_}, $text, "... $_") foreach qw(abstract description generated_by);
like($_, $text, '... maintainer') foreach ref $meta->{maintainer} ? @{ $meta->{maintainer} } : $meta->{maintainer};
like($_, $license, '... license') foreach ref $meta->{license} ? @{ $meta->{license} } : $meta->{license};
is($meta->{'meta-spec'}{version}, '1.0.0', '... meta-spec');
like($meta->{release_status}, qr/^(?:stable|testing|unstable)$/, '... release_status');
is_deeply([ keys %{ $meta->{provides} } ], ['queue_service'], '... provides');
my $extension = $meta->{provides}{queue_service};
is($extension->{version}, $release, '... its version');
is($extension->{file}, "queue_service--$version.sql", '... its file');
ok(-f "$root/$extension->{docfile}", '... its docfile');
like($extension->{abstract}, $text, '... its abstract');
foreach my $phase (sort keys %{ $meta->{prereqs} })
{
	like($phase, qr/^(?:configure|runtime|build|test|develop)$/, "... prereqs: $phase");
	foreach my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		my $needs = $meta->{prereqs}{$phase}{$relation};

		like($relation, qr/^(?:requires|recommends|suggests|conflicts)$/, "... $relation");
		like($needs->{$_}, $semantic, "... $_") foreach sort keys %$needs;
	}
}
my %tags = map { $_ => 1 } @{ $meta->{tags} };
is(scalar(keys %tags), scalar(@{ $meta->{tags} }), '... tags, each once');
# a tag may have spaces
unlike($_, qr/[\/\\\0-\x1f]|^.{0,1}$|^.{256}/, "... tag $_") foreach sort keys %tags;
is(join(' ', sort grep { !/^(?:name|version|abstract|description|maintainer|license|provides|meta-spec|prereqs|generated_by|release_status|tags|no_index|resources|x_\w+)$/i } keys %$meta),
	'', '... and nothing else');

done_testing();
