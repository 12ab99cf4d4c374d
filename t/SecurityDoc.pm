# What doc/security.md has from elsewhere: who may do what, from the catalogs, and
# what was tried, from the lines "attack:" and "fails:" of the attacks.
# scripts/security-doc writes it, and t/041_security_doc.pl compares it.
package SecurityDoc;

use strict;
use warnings;

our @privileges = qw(producer worker observer admin);

# The extension's objects of a catalog, as c.
sub members
{
	my ($catalog) = @_;

	return "FROM $catalog c JOIN pg_depend d ON d.objid = c.oid AND d.classid = '$catalog'::regclass"
	  . " AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'";
}

# A role for each privilege, without and with all_tenants, and one that has none.
sub roles
{
	return join '', 'CREATE ROLE qs_none; ',
	  map { "CREATE ROLE qs_$_; SELECT queue_grant('qs_$_', '$_'); CREATE ROLE qs_${_}_all; SELECT queue_grant('qs_${_}_all', '$_', all_tenants => true); " } @privileges;
}

sub table
{
	my ($head, @rows) = @_;

	return join '', map { '| ' . join(' | ', @$_) . " |\n" } $head, [ map { '---' } @$head ], @rows;
}

sub functions
{
	my ($query) = @_;
	my $may = sub { "has_function_privilege('qs_$_[0]', c.oid, 'EXECUTE')" };
	my @columns = (map({ $may->($_) } 'none', @privileges),
		join(' AND ', map { $may->("${_}_all") . ' AND NOT ' . $may->($_) } @privileges),
		# with all_tenants nothing else may differ
		join(' AND ', map { '(' . $may->("${_}_all") . ' = ' . $may->($_) . " OR proname = '_queue_all_tenants')" } @privileges));
	my @rows = $query->('SELECT proname, ' . join(', ', @columns) . ' ' . members('pg_proc') . ' ORDER BY proname COLLATE "C"');

	return table(
		[ 'Function', 'PUBLIC', @privileges, 'also with all_tenants' ],
		map {
			my ($name, @may) = @$_;
			my $same = pop @may;

			[ "`$name`", (map { $_ eq 't' ? 'x' : '' } @may[ 0 .. $#may - 1 ]), $same eq 'f' ? 'DIFFERS' : $may[-1] eq 't' ? 'x' : '' ]
		} @rows);
}

# Columns as a list, or as what is missing where that is shorter.
sub list
{
	my ($all, $some) = @_;
	my %some = map { $_ => 1 } @$some;
	my @missing = grep { !$some{$_} } @$all;

	return 'none' if !@$some;
	return 'all' if !@missing;
	return 'all but ' . join ', ', @missing if @missing < @$some;
	return join ', ', @$some;
}

sub columns
{
	my ($query) = @_;
	my @rows = $query->(
		"SELECT relname, r.name, p.name, string_agg(a.attname, ' ' ORDER BY a.attnum),"
		  . " coalesce(string_agg(a.attname, ' ' ORDER BY a.attnum) FILTER (WHERE has_column_privilege(r.name, c.oid, a.attnum, p.name)), ''),"
		  . " has_table_privilege(r.name, c.oid, p.name) AND relkind = 'r' "
		  . members('pg_class')
		  . " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,"
		  . ' unnest(ARRAY[' . join(', ', map { "'qs_$_', 'qs_${_}_all'" } @privileges) . "]) r (name),"
		  . " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p (name)"
		  . " WHERE relkind IN ('r', 'v') GROUP BY c.oid, relname, relkind, r.name, p.name"
		  . ' ORDER BY relkind, relname COLLATE "C", p.name DESC');
	my (%cell, @lines);

	foreach (@rows)
	{
		my ($table, $role, $right, $all, $some, $whole) = @$_;
		my $list = list([ split / /, $all ], [ split / /, $some ]);

		push @lines, "$table|$right" unless exists $cell{"$table|$right"};
		$cell{"$table|$right"}{$role} = $whole eq 't' ? "$list, and the whole table" : $list;
	}
	return table(
		[ 'Table or view', 'Right', @privileges ],
		map {
			my $cell = $cell{$_};
			my ($table, $right) = split /\|/;

			[ "`$table`", $right, map { $cell->{"qs_$_"} eq $cell->{"qs_${_}_all"} ? $cell->{"qs_$_"} : 'DIFFERS' } @privileges ]
		} grep { my $line = $_; grep { $_ ne 'none' } values %{ $cell{$line} } or $line =~ /SELECT/ } @lines);
}

# All attempts: file, what, why.
sub attempts
{
	my ($root) = @_;
	my @attempts;

	foreach my $file (sort(glob "$root/sql/attack_*.sql"), sort(glob "$root/t/*.pl"))
	{
		my $attack;

		open my $fh, '<', $file or die "$file: $!";
		while (<$fh>)
		{
			if (/^(?:--|#) attack: (.*)/)
			{
				die "$file: \"$attack\" does not say why it fails\n" if defined $attack;
				$attack = $1;
			}
			elsif (/^(?:--|#) fails: (.*)/)
			{
				my $why = $1;

				die "$file: \"$why\" comes without an attack\n" unless defined $attack;
				push @attempts, [ $file =~ s/^\Q$root\E\///r, $attack, $why ];
				$attack = undef;
			}
		}
		close $fh;
	}
	return @attempts;
}

sub attacks
{
	my ($root) = @_;
	my %files;

	push @{ $files{ $_->[0] } }, [ $_->[1], $_->[2] ] foreach attempts($root);
	return join "\n", map { "[$_](../$_):\n\n" . table([ 'Tried', 'What happens, and why' ], @{ $files{$_} }) } sort keys %files;
}

# Each block by its name.
sub generated
{
	my ($root, $query) = @_;

	return (functions => functions($query), columns => columns($query), attacks => attacks($root));
}

sub block
{
	my ($text, $name) = @_;

	return $text =~ /^<!-- $name: generated -->\n\n(.*?)\n<!-- end of $name -->$/ms ? $1 : undef;
}

sub rewrite
{
	my ($root) = @_;
	my $file = "$root/doc/security.md";
	my $psql = sub {
		my ($sql) = @_;
		open my $fh, '-|', 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', $sql or die $!;
		my @lines = <$fh>;
		close $fh or die "psql failed\n";
		chomp @lines;
		return map { [ split /\|/, $_, -1 ] } @lines;
	};

	$psql->(roles());
	my %generated = generated($root, $psql);
	local $/;
	open my $in, '<', $file or die "$file: $!";
	my $text = <$in>;
	close $in;
	foreach my $name (keys %generated)
	{
		$text =~ s/^(<!-- $name: generated -->\n\n).*?(\n<!-- end of $name -->)$/$1$generated{$name}$2/ms
		  or die "$file has no block $name\n";
	}
	open my $out, '>', $file or die "$file: $!";
	print $out $text;
	close $out;
	return;
}

1;
