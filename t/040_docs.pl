# The documentation is true: its SQL runs, with the results that it shows, and
# doc/reference.md is the catalog's and the source's, no more and no less.
#
# The blocks marked "sql" of a file run in their order, in one session of psql,
# in a database with the extension (unless a block creates it). In such a block
#	-- => text			is a row of the result, as psql -At prints it
# and a block marked "sql fails=SQLSTATE" must fail with just that. What a document
# finds in its database is made by the script of its name in t/docs.

use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(dirname(__FILE__));
# The blocks of these are alternatives: each has a database of its own.
my %alternatives = ('doc/backup.md' => 1);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\nshared_preload_libraries = 'queue_service'");
$node->start;

sub contents
{
	return slurp_file("$root/$_[0]");
}

# The fenced blocks of a file: where each begins, its mark, its text.
sub blocks
{
	my ($file) = @_;
	my (@blocks, $open);
	my $line = 0;

	foreach (split /^/, contents($file))
	{
		$line++;
		if (!/^\s*```\s*(.*?)\s*$/)
		{
			$open->{text} .= $_ if $open;
		}
		elsif ($open)
		{
			push @blocks, $open;
			$open = undef;
		}
		else
		{
			$open = { line => $line, mark => $1, text => '' };
		}
	}
	ok(!$open, "$file: every block ends");
	return @blocks;
}

# A file's blocks as one script, which says where it is as it goes.
sub script
{
	my (@blocks) = @_;
	my $script = '';

	foreach my $block (@blocks)
	{
		my $fails = $block->{mark} =~ /\bfails=(\w{5})/ ? $1 : undef;

		$script .= "\\echo \@line $block->{line}\n";
		# LAST_ERROR_SQLSTATE keeps what failed before; this replaces it.
		$script .= "\\set ON_ERROR_STOP 0\nDO \$\$ BEGIN RAISE SQLSTATE 'ZZ000'; END \$\$;\n" if $fails;
		$script .= "$block->{text}\n";
		$script .= "\\echo \@failed :LAST_ERROR_SQLSTATE\n\\set ON_ERROR_STOP 1\n" if $fails;
	}
	return "$script\\echo \@end\n";
}

sub run_blocks
{
	my ($file, $db, @blocks) = @_;
	my ($stdout, $stderr, %output, @wrong);
	my $line = 0;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	my $first = grep({ $_->{text} =~ /^CREATE EXTENSION queue_service/m } @blocks) ? '' :
	  "CREATE EXTENSION queue_service;\n";
	my $before = "$root/t/docs/" . basename($file, '.md') . '.sql';
	$first .= slurp_file($before) if -e $before;
	$node->psql($db, $first . script(@blocks), stdout => \$stdout, stderr => \$stderr);
	foreach (split /\n/, $stdout)
	{
		$line = $1, next if /^\@line (\d+)/;
		$line = 'end', next if $_ eq '@end';
		push @{ $output{$line} }, $_;
	}
	ok($line eq 'end', "$file: all SQL runs ($db)")
	  or diag("the block at line $line of $file:\n$stderr");

	foreach my $block (@blocks)
	{
		my @rows = @{ $output{ $block->{line} } || [] };

		push @wrong, "line $block->{line}: does not fail with $1"
		  if $block->{mark} =~ /\bfails=(\w{5})/ && !grep { $_ eq "\@failed $1" } @rows;
		foreach my $expected ($block->{text} =~ /-- => (.*?)\s*$/mg)
		{
			shift @rows while @rows && $rows[0] ne $expected;
			@rows ? shift @rows : push @wrong, "line $block->{line}: no row $expected";
		}
	}
	is(join("\n", @wrong), '', "$file: the results are those shown ($db)");

	$node->safe_psql(
		'postgres', "DROP DATABASE $db" . q{;
		DO $$
		DECLARE
			r name;
		BEGIN
			FOR r IN SELECT rolname FROM pg_roles WHERE oid >= 16384 LOOP
				EXECUTE format('DROP OWNED BY %I; DROP ROLE %1$I', r);
			END LOOP;
		END $$});
}

my $n = 0;
foreach my $file ('README.md', map { "doc/" . basename($_) } sort glob("$root/doc/*.md"))
{
	my @sql = grep { $_->{mark} =~ /^sql\b/ } blocks($file);

	run_blocks($file, 'docs' . ++$n, @$_)
	  foreach $alternatives{$file} ? map { [$_] } @sql : @sql ? [@sql] : ();
}

# Links within the documentation lead somewhere.
my @broken;
foreach my $file ('README.md', map { "doc/" . basename($_) } glob("$root/doc/*.md"))
{
	my $text = contents($file);

	while ($text =~ /\]\(([^)\s]+)\)|src="([^"]+)"/g)
	{
		my ($path, $anchor) = split /#/, $1 // $2;

		next if $path =~ /^\w+:/;
		$path = $path eq '' ? $file : dirname($file) . "/$path";
		push(@broken, "$file: $path"), next unless -e "$root/$path";
		next unless defined $anchor;
		push @broken, "$file: $path#$anchor"
		  unless grep { $_ eq $anchor } map { lc } map { s/[^\w\- ]//gr =~ s/ /-/gr } contents($path) =~ /^#+ (.*?)\s*$/mg;
	}
}
is(join("\n", @broken), '', 'no link is broken');

# doc/reference.md: sections by heading, with all that is below it.
my $db = 'catalog';
my $reference = contents('doc/reference.md');
my %section;
while ($reference =~ /^### `(\w+)`$(.*?)(?=^##|\z)/msg)
{
	ok(!exists $section{$1}, "one section $1");
	$section{$1} = $2;
}
$node->safe_psql('postgres', "CREATE DATABASE $db");
$node->safe_psql($db, 'CREATE EXTENSION queue_service');

sub rows
{
	return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql($db, $_[0]);
}

# What belongs to the extension.
sub members
{
	my ($catalog) = @_;

	return "FROM $catalog c JOIN pg_depend d ON d.objid = c.oid AND d.classid = '$catalog'::regclass"
	  . " AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'queue_service'";
}

my @functions = rows(
	'SELECT c.oid, proname, proretset, prorettype::regtype, EXISTS'
	  . ' (SELECT FROM aclexplode(proacl) WHERE grantee = 0) '
	  . members('pg_proc')
	  . " WHERE proname ~ '^queue_' ORDER BY proname");
my @tables =
  rows('SELECT c.oid, relname ' . members('pg_class') . " WHERE relkind = 'r' AND relname <> 'tenants' ORDER BY 2");
is(scalar @tables, 10, 'ten tables');
is( join(' ', sort keys %section),
	join(' ', sort map { $_->[1] } @functions, @tables),
	'a section for each function and table, and for nothing else');

# Signatures: what is given and what comes back, by function.
my (%in, %out);
foreach (
	rows(
		'SELECT p.oid, a.name, format_type(a.type, NULL), pg_get_function_arg_default(p.oid, a.n::int), a.mode'
		  . ' FROM pg_proc p, unnest(coalesce(proallargtypes, proargtypes::oid[]), proargnames, proargmodes)'
		  . ' WITH ORDINALITY AS a (type, name, mode, n) WHERE p.oid IN ('
		  . join(', ', map { $_->[0] } @functions)
		  . ') ORDER BY p.oid, a.n'))
{
	my ($oid, $name, $type, $default, $mode) = @$_;

	push @{ ($mode =~ /[ot]/ ? \%out : \%in)->{$oid} }, [ $name, $type, $default ];
}

my @defaults;
foreach my $function (@functions)
{
	my ($oid, $name, $set, $type) = @$function;
	my @in = @{ $in{$oid} || [] };
	my @out = @{ $out{$oid} || [] };
	my ($signature) = ($section{$name} // '') =~ /^```text\n(.*?)```/ms;

	$signature = ($signature // '') =~ s/\s+/ /gr =~ s/\( /(/gr =~ s/timestamptz/timestamp with time zone/gr;
	# a procedure returns nothing, which the catalog calls void
	my ($documented, $result) = $signature =~ /^(?:CALL )?\Q$name\E\((.*?)\)(?: -> (.*?))? $/;
	fail("$name: has a signature"), next unless defined $documented;
	$result //= 'void';

	is( $result,
		($set eq 't' ? 'setof ' : '') . (@out ? join(', ', map { "$_->[0] $_->[1]" } @out) : $type),
		"$name: its result");
	my @documented = map { [/^(\w+) (.*?)(?: DEFAULT (.*))?$/] } split /, (?=\w+ )/, $documented;
	is( join(', ', map { "$_->[0] $_->[1]" } @documented),
		join(', ', map { "$_->[0] $_->[1]" } @in),
		"$name: its arguments");
	foreach my $i (0 .. $#in)
	{
		my ($argument, $type, $default) = @{ $in[$i] };
		my $shown = $documented[$i][2];

		# As values: 24 hours is 24:00:00.
		if ($default ne '' && defined $shown)
		{
			push @defaults, "('$name $argument', ($shown)::$type IS NOT DISTINCT FROM ($default)::$type)";
		}
		else
		{
			is($shown // '', $default, "$name: default of $argument") if $default ne '' || defined $shown;
		}
	}
}
is( @defaults ? join(' ', map { $_->[0] } rows('SELECT * FROM (VALUES ' . join(', ', @defaults) . ') v (name, same) WHERE NOT same')) : 'none',
	'', 'defaults');

# Who may execute what.
my @privileges = qw(producer worker observer admin);
$node->safe_psql($db, join '', map { "CREATE ROLE r_$_; SELECT queue_grant('r_$_', '$_');" } @privileges);
my %may;
push @{ $may{ $_->[0] } }, $_->[1]
  foreach rows("SELECT p.oid, substr(rolname, 3) FROM pg_proc p, pg_roles r"
	  . " WHERE p.oid IN ("
	  . join(', ', map { $_->[0] } @functions)
	  . ") AND rolname LIKE 'r\\_%' AND has_function_privilege(r.oid, p.oid, 'EXECUTE')");
foreach my $function (@functions)
{
	my ($oid, $name, undef, undef, $public) = @$function;
	my ($granted) = ($section{$name} // '') =~ /^Granted to (\w+(?:, \w+)*)\./m;
	my %role = map { $_ => 1 } @{ $may{$oid} || [] };

	is( $granted // '',
		$public eq 't' ? 'PUBLIC' : join(', ', grep { $role{$_} } @privileges) || 'nobody',
		"$name: who may execute it");
}
my ($matrix) = $reference =~ /^## Privileges$(.*?)^## /ms;
foreach my $privilege (@privileges)
{
	my ($list) = $matrix =~ /^\| `$privilege` \| (.*?) \|/m;
	my @granted = grep {
		my $oid = $_->[0];
		$_->[4] eq 'f' && grep { $_ eq $privilege } @{ $may{$oid} || [] }
	} @functions;
	my %listed = map { $_ => 1 } ($list // '') =~ /`(queue_\w+)`/g;

	$listed{$_} = 1
	  foreach map { ($matrix =~ /^\| `$_` \| (.*?) \|/m)[0] =~ /`(queue_\w+)`/g } ($list // '') =~ /all of `(\w+)`/g;
	is(join(' ', sort keys %listed), join(' ', sort map { $_->[1] } @granted), "$privilege: what it gives");
}

# Rights on columns, as jobs: INSERT (a, b).
foreach my $privilege (@privileges)
{
	my ($row) = $matrix =~ /^\| `$privilege` \| .*? \| (.*?) \|$/m;

	while ($row =~ /`(\w+)`: (INSERT|SELECT) \((.*?)\)/g)
	{
		is( join(' ', sort split /, /, $3),
			join(' ',
				map { $_->[0] }
				  rows("SELECT attname FROM pg_attribute WHERE attrelid = '$1'::regclass AND attnum > 0"
					  . " AND has_column_privilege('r_$privilege', attrelid, attnum, '$2') ORDER BY attname")),
			"$privilege: $2 on $1");
	}
}

# Columns, with types.
my %columns;
push @{ $columns{ $_->[0] } }, "$_->[1] $_->[2]"
  foreach rows("SELECT attrelid, attname, replace(format_type(atttypid, NULL), 'timestamp with time zone', 'timestamptz')"
	  . ' FROM pg_attribute WHERE attrelid IN ('
	  . join(', ', map { $_->[0] } @tables)
	  . ') AND attnum > 0 AND NOT attisdropped');
foreach my $table (@tables)
{
	my ($oid, $name) = @$table;
	my $text = $section{$name} // '';
	my $rows = $text =~ /^All columns of `(\w+)`/m ? $section{$1} : $text;
	my @documented;

	push @documented, "$1 $2" while $rows =~ /^\| `(\w+)` \| ([\w \[\]]+?) \|/mg;
	is(join(', ', sort @documented), join(', ', sort @{ $columns{$oid} }), "$name: its columns");
}

# Outcomes.
my ($outcomes) = contents('src/lifecycle.c') =~ /qs_outcome_name\(.*?\{(.*?)\};/s;
my ($shown) = $reference =~ /^\| Outcome \| Meaning \|$(.*?)^## /ms;
is( join(' ', sort $shown =~ /^\| `(\w+)` \|/mg),
	join(' ', sort $outcomes =~ /"(\w+)"/g),
	'the outcomes of lifecycle.c');

# SQLSTATEs of our own.
my (%defined, %listed);
my $errors = contents('src/errors.h');
$defined{"$3$4$5$6$7"} = $1
  while $errors =~ /^#define (QS_(\w+))\s+MAKE_SQLSTATE\('(.)', '(.)', '(.)', '(.)', '(.)'\)/mg;
$listed{$1} = $2 while $reference =~ /^\| `(QS\w{3})` \| `(\w+)` \|/mg;
is_deeply(\%listed, \%defined, 'the SQLSTATEs of errors.h');

# Limits, as the source has them.
my ($limits) = $reference =~ /^## Limits$(.*)/ms;
my $source = join '', map { slurp_file($_) } glob("$root/src/*.[ch]");
foreach (qw(QS_MAX_BATCH QS_JOB_TYPE_BYTES QS_NAME_BYTES QS_WORKER_BYTES QS_KEY_BYTES QS_MAX_ATTEMPTS QS_ERROR_BYTES
	QS_MAX_FAILURES MAX_BURIED MAX_CACHED TOKEN_BITS))
{
	my ($value) = $source =~ /^#define $_ (\d+)\b/m;

	like($limits =~ s/(\d),(\d)/$1$2/gr, qr/\b$value\b/, "the limits have $_");
}

# Settings.
my %settings = map { $_ => 1 } $reference =~ /^\| `(queue_service\.\w+)` \|/mg;
is( join(' ', sort keys %settings),
	$node->safe_psql($db,
		"LOAD 'queue_service'; SELECT string_agg(name, ' ' ORDER BY name) FROM pg_settings WHERE name LIKE 'queue\\_service.%'"),
	'the settings');

$node->stop;
done_testing();
