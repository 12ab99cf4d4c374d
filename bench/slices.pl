# The benchmark proper; see bench/run. Expects a private server with the
# extension and nothing else on it.
#
# A scenario runs all its variants in each round, in turn, each from a freshly
# filled table, and every round begins with another variant. Queues that keep
# finished jobs begin with some. The checkpoint comes before the jobs are
# enqueued, as is usual for jobs that are claimed soon after.
# All do the same number of jobs, since a claim walks over what was finished
# before it: as many as the first variant does in the length of a slice.
# Figures are compared within a round only, since the machine's speed drifts.
# CPU is the user and system time of all server processes, those that ended
# too. Both sides pass ids as pgbench variables, so both pay the same for it.
#
# BENCH_SECONDS (5) is the length of a slice, three times that if many clients
# take a while to begin, BENCH_ROUNDS (3) their number for each variant,
# BENCH_KEPT (200000) the finished jobs to begin with.
use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname($0);
use Bench;

my $seconds = $ENV{BENCH_SECONDS} || 5;
my $rounds  = $ENV{BENCH_ROUNDS}  || 3;
my $kept    = $ENV{BENCH_KEPT} // 200_000;
my %queue_id;

# What pgbench runs. All claim for the same lease under the same name.

sub minimal
{
	my ($n, $finish) = @_;
	my $claim = minimal_claim("'mail'", $n);
	return $n == 1 ? <<"END1" : <<"ENDN";
$claim RETURNING id, payload, attempts \\gset
$finish WHERE id = :id;
END1
WITH claimed AS ($claim RETURNING id, payload, attempts)
SELECT array_agg(id) AS ids, max(payload::text) AS payload FROM claimed \\gset
$finish WHERE id = ANY(:ids);
ENDN
}

# The client's own next n jobs.
my $next = <<'END';
\set i :i + 1
\set first (:i * :clients + :client_id) * :size + 1
\set last :first + :size - 1
END
my $numbered_claim = <<'END';
UPDATE numbered_jobs SET status = 'processing', attempts = attempts + 1, lease_token = n,
	leased_by = 'worker', leased_at = clock_timestamp(),
	leased_until = clock_timestamp() + interval '10 minutes'
	WHERE n BETWEEN :first AND :last RETURNING payload, attempts
END

# Claims them, asynchronously as ours do, and ends them.
sub numbered
{
	my ($finish) = @_;
	return <<"END";
${next}WITH claimed AS ($numbered_claim)
SELECT max(payload::text) AS payload, set_config('synchronous_commit', 'off', true) AS async
	FROM claimed \\gset
$finish WHERE n BETWEEN :first AND :last AND lease_token = n;
END
}

# Ends what it has and claims the next, in one statement.
sub numbered_turn
{
	my ($finish) = @_;
	return <<"END";
\\set from :first
\\set to :last
${next}WITH done AS ($finish WHERE n BETWEEN :from AND :to AND lease_token = n),
	claimed AS ($numbered_claim)
SELECT max(payload::text) AS payload FROM claimed \\gset
END
}

my %finish = (
	'' => "UPDATE numbered_jobs SET status = 'completed', finished_at = clock_timestamp()",
	', deletes' => 'DELETE FROM numbered_jobs',
);

my %scripts = (
	'SELECT 1' => sub { 'SELECT 1;' },
	'UPDATE by key' => sub { <<'END' },
\set n random(1, 10000)
UPDATE rows_to_update SET status = 'processing', attempts = attempts + 1,
	leased_by = 'worker', leased_at = clock_timestamp(),
	leased_until = clock_timestamp() + interval '10 minutes' WHERE n = :n;
END
	'minimal' => sub {
		minimal($_[0], "UPDATE minimal_jobs SET status = 'completed', finished_at = clock_timestamp()");
	},
	'minimal, deletes' => sub { minimal($_[0], 'DELETE FROM minimal_jobs') },
	'keep 0' => sub { service('keep0', $_[0]) },
	'keep 1 day' => sub { service('keep1', $_[0]) },
	'keep 0, complete_and_claim' => sub { service_turn('keep0', $_[0]) },
	'keep 1 day, complete_and_claim' => sub { service_turn('keep1', $_[0]) },
	(map { my $finish = $finish{$_}; (
		"numbered$_" => sub { numbered($finish) },
		"numbered$_, one transaction" => sub { numbered_turn($finish) }) } keys %finish),
	'INSERT, bare table' => sub { <<"END" },
INSERT INTO bare_jobs (tenant_id, queue_id, payload)
	VALUES ('$tenant', '$queue_id{keep1}', :payload) RETURNING id;
END
	'enqueue' => sub { "SELECT job_id FROM queue_enqueue('keep1', :payload);" },
	'COPY, bare table' =>
	  sub { "COPY bare_jobs (tenant_id, queue_id, payload) FROM '$temp/copy';" },
	'enqueue_many' =>
	  sub { "SELECT count(*) FROM queue_enqueue_many('keep1', :payloads);" },
);

my @claims = ('minimal', 'minimal, deletes', 'keep 0', 'keep 1 day');
my @turns = ('keep 0, complete_and_claim', 'keep 1 day, complete_and_claim');
my @floors = ('SELECT 1', 'UPDATE by key');
my @numbered = ('numbered, deletes', 'numbered', 'numbered, deletes, one transaction',
	'numbered, one transaction');

# n jobs a transaction; claims: the variants take jobs, rather than make them
my @scenarios = (
	{ name => 'cpu', title => 'One job at a time, 1 client, synchronous_commit = off',
		clients => 1, n => 1, claims => 1, async => 1, variants => [@floors, @claims, @turns, @numbered] },
	{ name => 'single', title => 'One job at a time, 1 client',
		clients => 1, n => 1, claims => 1, variants => [@floors, @claims, @turns, @numbered] },
	{ name => 'single16', title => 'One job at a time, 16 clients',
		clients => 16, n => 1, claims => 1, variants => [@floors, @claims, @turns, @numbered] },
	{ name => 'single64', title => 'One job at a time, 64 clients',
		clients => 64, n => 1, claims => 1, variants => [@floors, @claims, @turns, @numbered] },
	{ name => 'batch10', title => 'Batches of 10, 1 client',
		clients => 1, n => 10, claims => 1, variants => [@claims, @turns, @numbered] },
	{ name => 'batch10x16', title => 'Batches of 10, 16 clients',
		clients => 16, n => 10, claims => 1, variants => [@claims, @turns, @numbered] },
	{ name => 'batch100', title => 'Batches of 100, 1 client',
		clients => 1, n => 100, claims => 1, variants => [@claims, @turns, @numbered] },
	{ name => 'batch100x16', title => 'Batches of 100, 16 clients',
		clients => 16, n => 100, claims => 1, variants => [@claims, @turns, @numbered] },
	{ name => 'enqueue', title => 'Enqueue, one job a transaction, 1 client',
		clients => 1, n => 1, claims => 0, variants => ['INSERT, bare table', 'enqueue'] },
	{ name => 'enqueue_cpu', title => 'Enqueue, one job a transaction, 1 client, synchronous_commit = off',
		clients => 1, n => 1, claims => 0, async => 1, variants => ['INSERT, bare table', 'enqueue'] },
	{ name => 'enqueue_many', title => 'Enqueue, 1,000 jobs a transaction, 1 client',
		clients => 1, n => 1000, claims => 0, variants => ['COPY, bare table', 'enqueue_many'] },
);

# Puts jobs into the table that a variant takes them from.
sub fill_minimal
{
	my ($count, $status, $finished_at) = @_;
	sql("INSERT INTO minimal_jobs (queue, payload, status, finished_at)
		SELECT 'mail', '$payload', '$status', $finished_at FROM generate_series(1, $count)");
	sql('VACUUM (ANALYZE) minimal_jobs');
}

sub fill_service
{
	my ($queue, $count, $status, $reason, $finished_at) = @_;
	# without the triggers of the foreign keys, for speed
	sql("SET session_replication_role = replica;
		INSERT INTO jobs (tenant_id, queue_id, payload, status, finish_reason, finished_at)
		SELECT '$tenant', '$queue_id{$queue}', '$payload', '$status', $reason, $finished_at
		FROM generate_series(1, $count)");
	sql('VACUUM (ANALYZE) jobs');
}

sub fill_numbered
{
	my ($from, $count, $status) = @_;
	sql("INSERT INTO numbered_jobs (n, payload, status)
		SELECT n, '$payload', '$status' FROM generate_series($from, $from + $count - 1) n");
	sql('VACUUM (ANALYZE) numbered_jobs');
}

# Fills the table of a variant; every other is left empty.
sub fill
{
	my ($variant, $count) = @_;
	sql('TRUNCATE minimal_jobs, numbered_jobs, jobs, bare_jobs');
	fill_minimal($kept, 'completed', 'now()') if $variant eq 'minimal';
	fill_service('keep1', $kept, 'completed', "'completed'", 'now()') if $variant =~ /^keep 1/;
	fill_numbered(-$kept, $kept, 'completed') if $variant =~ /^numbered/ && $variant !~ /deletes/;
	sql('CHECKPOINT');
	fill_minimal($count, 'pending', 'NULL') if $variant =~ /^minimal/;
	fill_numbered(1, $count, 'pending') if $variant =~ /^numbered/;
	fill_service("keep$1", $count, 'pending', 'NULL', 'NULL') if $variant =~ /^keep (\d)/;
}

# Dies unless the slice did what it says.
sub check
{
	my ($scenario, $variant, $transactions) = @_;
	my ($n, $clients) = @$scenario{qw(n clients)};
	my $jobs = $transactions * $n;

	return if grep { $_ eq $variant } @floors;
	if (!$scenario->{claims})
	{
		my $table = $variant =~ /bare/ ? 'bare_jobs' : 'jobs';
		my $found = sql("SELECT count(*) FROM $table WHERE status = 'pending'");
		die "$variant: $found jobs enqueued, not $jobs\n" if $found != $jobs;
		return;
	}

	my $table  = $variant =~ /^(minimal|numbered)/ ? "$1_jobs" : 'jobs';
	my $flight = $variant =~ /complete_and_claim|one transaction/ ? $clients * $n : 0;
	my $before = $variant =~ /deletes|keep 0/ ? 0 : $kept;
	my ($all, $processing, $completed) = split /\|/, sql(
		"SELECT count(*), count(*) FILTER (WHERE status = 'processing'),
			count(*) FILTER (WHERE status = 'completed') FROM $table");
	$completed = $before ? $completed - $before : $scenario->{fill} - $all;
	die "$variant: $completed completed, $processing in flight after $jobs jobs\n"
	  if $completed != $jobs - $flight || $processing != $flight;
}

# One slice of so many transactions, or seconds if that is 0; its figures.
sub slice
{
	my ($scenario, $variant, $transactions) = @_;
	my ($n, $clients) = @$scenario{qw(n clients)};

	# sixteen clients take a while to begin
	my $length = $clients > 1 ? 3 * $seconds : $seconds;
	$scenario->{fill} = ($transactions || 10000 * $length) * $n + $clients * $n;
	fill($variant, $scenario->{fill});
	my $figures = eval { pgbench(
		script => $scripts{$variant}->($n), clients => $clients,
		async => $scenario->{async}, transactions => $transactions, seconds => $length,
		variables => {
			i => -1, first => 0, last => 0, clients => $clients, size => $n,
			ids => '{}', tokens => '{}', payload => $payload,
			payloads => '{' . join(',', ('"' . $payload =~ s/"/\\"/gr . '"') x $n) . '}' }) }
	  or die "$variant: $@";
	check($scenario, $variant, $figures->{transactions});

	my $jobs = $figures->{transactions} * $n;
	return {
		transactions => $figures->{transactions},
		rate => $figures->{rate} * $n,
		cpu => $figures->{cpu} / $jobs,
		wal => $figures->{wal} / $jobs,
	};
}

sub run_scenario
{
	my ($scenario) = @_;
	my @variants = @{ $scenario->{variants} };
	my ($base) = grep { !/^(SELECT|UPDATE)/ } @variants;
	my %found;

	# whole tens for each client
	my $measured = slice($scenario, $base, 0)->{transactions};
	my $step = 10 * $scenario->{clients};
	my $transactions = int($measured / $step + 1) * $step;
	foreach my $round (0 .. $rounds - 1)
	{
		foreach my $i (0 .. $#variants)
		{
			my $variant = $variants[($i + $round) % @variants];
			my $figures = slice($scenario, $variant, $transactions);
			push @{ $found{$variant} }, $figures;
			printf STDERR "%s, round %d: %-30s %9s jobs/s %7.1f us %6.0f bytes\n",
			  $scenario->{name}, $round + 1, $variant,
			  with_commas($figures->{rate}), @$figures{qw(cpu wal)};
		}
	}

	printf "### %s; %s jobs a slice\n\n", $scenario->{title},
	  with_commas($transactions * $scenario->{n});
	print	  "| | jobs/s | times $base | CPU us/job | times $base | WAL bytes/job |\n",
	  "|---|--:|--:|--:|--:|--:|\n";
	foreach my $variant (@variants)
	{
		my @slices = @{ $found{$variant} };
		my @ratios;
		foreach my $key ('rate', 'cpu')
		{
			my @each = map { $slices[$_]{$key} / ($found{$base}[$_]{$key} || 1) } 0 .. $#slices;
			push @ratios, $variant eq $base ? '1' : spread('%.2f', @each);
		}
		printf "| %s | %s | %s | %.0f | %s | %.0f |\n", $variant,
		  with_commas(median(map { $_->{rate} } @slices)), $ratios[0],
		  median(map { $_->{cpu} } @slices), $ratios[1],
		  median(map { $_->{wal} } @slices);
	}
	print "\n";
}

my @chosen = chosen(@scenarios);
setup(dirname($0) . '/setup.sql');
%queue_id = map { split /\|/ } split /\n/, sql('SELECT name, id FROM queues');
my $line = join("\t", $tenant, $queue_id{keep1}, $payload) . "\n";
write_file('copy', $line x 1000);
run_scenario($_) foreach @chosen;
