# Reads HTML as queue_report() writes it: well-formed XML in plain ASCII, which
# browsers take for HTML. Anything else is an error.
package Html;

use strict;
use warnings;

my $name = qr/[a-z][a-z0-9-]*/;

# What a text was before it was escaped.
sub decode
{
	my ($text) = @_;

	die "a lone & in: $text\n" if $text =~ /&(?!#\d+;)/;
	die "a character that should be escaped: $text\n" if $text =~ /[<>]/;
	$text =~ s/&#(\d+);/chr $1/ge;
	return $text;
}

# Returns the root: { name, attributes, children }, where children are elements
# or texts. Dies of what is not well-formed.
sub parse
{
	my ($html) = @_;
	my $root = { name => 'page', attributes => {}, children => [] };
	my @open = ($root);

	die "not ASCII\n" if $html =~ /[^\x20-\x7e\n]/;
	$html =~ s/\A<!DOCTYPE html>\n// or die "no DOCTYPE\n";
	while ($html =~ m{\G(?:<(/?)($name)((?:\s+[a-zA-Z][a-zA-Z-]*="[^"<>]*")*)(/?)>|([^<]+)|(.))}gcs)
	{
		my ($end, $tag, $attributes, $empty, $text, $wrong) = ($1, $2, $3, $4, $5, $6);

		die 'not a tag: ' . substr($html, pos($html) - 1, 60) . "\n" if defined $wrong;
		if (defined $text)
		{
			push @{ $open[-1]{children} }, $open[-1]{name} eq 'style' ? $text : decode($text);
		}
		elsif ($end)
		{
			die "</$tag> closes <$open[-1]{name}>\n" if $tag ne $open[-1]{name} || $attributes || $empty;
			pop @open;
		}
		else
		{
			my $element = { name => $tag, attributes => {}, children => [] };

			while ($attributes =~ /([a-zA-Z-]+)="([^"]*)"/g)
			{
				die "<$tag> has $1 twice\n" if exists $element->{attributes}{$1};
				$element->{attributes}{$1} = decode($2);
			}
			push @{ $open[-1]{children} }, $element;
			push @open, $element unless $empty;
		}
	}
	die "<$open[-1]{name}> is not closed\n" if @open > 1;
	return $root;
}

# All elements below one, in the order of the page; of a name, if one is given.
sub elements
{
	my ($element, $name) = @_;

	return map {
		ref $_ ? ((!defined $name || $_->{name} eq $name ? $_ : ()), elements($_, $name)) : ()
	} @{ $element->{children} };
}

# All text below an element.
sub text
{
	my ($element) = @_;

	return join '', map { ref $_ ? text($_) : $_ } @{ $element->{children} };
}

# The rows of a table, each as its cells' texts.
sub rows
{
	my ($table) = @_;

	return map {
		[ map { ref $_ ? text($_) : () } @{ $_->{children} } ]
	} map { elements($_, 'tr') } elements($table, 'tbody');
}

# The section that an id heads.
sub section
{
	my ($root, $id) = @_;

	return (grep { ($_->{attributes}{'aria-labelledby'} // '') eq $id } elements($root, 'section'))[0];
}

1;
