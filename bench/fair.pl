# What claims for all tenants cost, and whom they serve: see bench/run. Expects a
# private server with the extension and nothing else on it.
#
# large:	one tenant with very many jobs, others with one each. At which claim has
#			the last of them had his turn?
# many:		very many tenants, one in a hundred of whom has jobs. Entries and buffers
#			of a claim, against a name that one tenant has.
# lone:		a tenant alone. Buffers of a claim for all tenants against his own; jobs a
#			second, claimed and completed one by one, in interleaved pairs.
# weights:	two tenants of weights 3 and 1.
# memory:	very many queues, and what does not fit.
#
# BENCH_JOBS (1000000) is how many jobs the large tenant has, BENCH_TENANTS (10000)
# and BENCH_QUEUES (100000) how many there are; BENCH_PAIRS (10) of so many
# BENCH_SECONDS (5) each.
use strict;
use warnings;
use File::Basename qw(dirname);
use lib dirname($0);
use Bench;
use Session;

my $jobs    = $ENV{BENCH_JOBS}    || 1_000_000;
my $tenants = $ENV{BENCH_TENANTS} || 10_000;
my $queues  = $ENV{BENCH_QUEUES}  || 100_000;
my $pairs   = $ENV{BENCH_PAIRS}   || 10;
my $seconds = $ENV{BENCH_SECONDS} || 5;

my $id = "('11111111-1111-4111-8111-' || lpad(i::text, 12, '0'))::uuid";

# The first so many tenants get a queue of the name.
sub tenants
{
	my ($name, $count, $weight) = @_;
	$weight //= 1;
	sql("INSERT INTO tenants (id) SELECT $id FROM generate_series(1, $count) i ON CONFLICT DO NOTHING");
	sql("INSERT INTO queues (tenant_id, name, default_lease, keep_completed, weight)
		SELECT $id, '$name', '10 minutes', '0', $weight FROM generate_series(1, $count) i");
	return;
}

# So many jobs for each tenant of the name, of those that the condition takes.
sub fill
{
	my ($name, $count, $condition) = @_;
	sql("SET session_replication_role = replica;
		INSERT INTO jobs (tenant_id, queue_id, payload)
		SELECT tenant_id, id, '1' FROM (SELECT *, right(tenant_id::text, 12)::int AS i FROM queues) q,
			generate_series(1, $count)
		WHERE name = '$name' AND " . ($condition // 'true'));
	return;
}

sub all_tenants
{
	my $session = connect_to($ENV{PGDATABASE});
	$session->do("SET app.current_tenant = ''");
	return $session;
}

# So many claims of each of two kinds, a session and a name, in turn after some that
# warm up: what one looks at, and buffers that it hits.
sub costs
{
	my ($claims, @kinds) = @_;
	my $count = $kinds[0][0]->prepare('SELECT claims * visited_mean FROM queue_cache');
	my (@buffers, @entries);

	foreach my $claim (-2 .. $claims)
	{
		foreach my $i (0, 1)
		{
			my ($session, $name) = @{ $kinds[$i] };
			my (undef, $before) = timed($count);
			my @plan = @{ $session->selectcol_arrayref(
					"EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) SELECT * FROM queue_claim('$name')") };
			my (undef, $after) = timed($count);
			next if $claim <= 0;
			die "$name: nothing to claim\n" if $plan[0] !~ /rows=1 /;
			push @{ $buffers[$i] }, $plan[1] =~ /shared hit=(\d+)/ ? $1 : 0;
			$entries[$i] += ($after - $before) / $claims;
		}
	}
	return map { ($entries[$_], median(@{ $buffers[$_] })) } 0, 1;
}

sub large
{
	my $session = all_tenants();
	my %seen;
	my $last = 0;

	tenants('large', 1000);
	fill('large', $jobs, 'i = 1');
	fill('large', 1);
	my $claim = $session->prepare("SELECT tenant_id FROM queue_claim('large')");
	foreach my $n (1 .. 2100)
	{
		$claim->execute;
		my ($tenant) = $claim->fetchrow_array;
		$claim->finish;
		$last = $n if defined $tenant && !$seen{$tenant}++;
	}
	printf "large: one tenant with %s jobs, 999 with one: %d of 1000 had their turn, the last of them at claim %d\n",
	  with_commas($jobs), scalar keys %seen, $last;
	return;
}

sub many
{
	my $session = all_tenants();

	tenants('single', 1);
	fill('single', 2000);
	tenants('many', $tenants);
	fill('many', 100, 'i % 100 = 1');
	my ($ms) = timed($session->prepare("SELECT * FROM queue_claim('many')"));
	# the first claims come by every tenant once
	$session->selectall_arrayref("SELECT count(*) FROM queue_claim('many', max_jobs => 300)");
	my @cost = costs(500, [ $session, 'many' ], [ $session, 'single' ]);
	printf "many: %s tenants, 1 %% of them with jobs, against one: %.2f entries a claim against %.2f, %d buffers against %d; the first claim after a start %.1f ms\n",
	  with_commas($tenants), @cost[ 0, 2, 1, 3 ], $ms;
	return;
}

sub weights
{
	my $session = all_tenants();
	my %count;

	tenants('weights', 2, 'CASE i WHEN 1 THEN 3 ELSE 1 END');
	fill('weights', 10_000);
	my $claim = $session->prepare("SELECT tenant_id FROM queue_claim('weights')");
	foreach my $n (1 .. 10_000)
	{
		$claim->execute;
		$count{ ($claim->fetchrow_array)[0] }++;
		$claim->finish;
	}
	my @counts = sort { $b <=> $a } values %count;
	printf "weights: 3 to 1, 10,000 claims: %d to %d, %.2f %% off\n", @counts,
	  100 * abs($counts[0] / 7500 - 1);
	return;
}

sub lone
{
	my ($all, $own) = (all_tenants(), connect_to($ENV{PGDATABASE}));
	my @ratios;

	tenants('lone', 1);
	my $tenant = sql("SELECT tenant_id FROM queues WHERE name = 'lone'");
	$own->do("SET app.current_tenant = '$tenant'");
	fill('lone', 3000);
	my @cost = costs(500, [ $all, 'lone' ], [ $own, 'lone' ]);
	printf "lone: buffers of a claim for all tenants %d, of his own %d; entries %.2f and %.2f\n",
	  @cost[ 1, 3, 0, 2 ];
	$_->disconnect foreach $all, $own;

	foreach my $pair (1 .. $pairs)
	{
		my %rate;
		foreach my $side ($pair % 2 ? ('all', 'own') : ('own', 'all'))
		{
			sql("DELETE FROM jobs WHERE queue_id = (SELECT id FROM queues WHERE name = 'lone')");
			fill('lone', 8000 * $seconds);
			sql('VACUUM jobs');
			$rate{$side} = pgbench(script => service('lone', 1), clients => 1, async => 1,
				tenant => $side eq 'own' ? $tenant : '', seconds => $seconds,
				variables => { payload => 1 })->{rate};
		}
		push @ratios, $rate{all} / $rate{own};
		printf STDERR "lone: pair %d: %.0f jobs/s for all tenants, %.0f of his own\n", $pair, @rate{qw(all own)};
	}
	my ($low, $high) = interval(@ratios);
	printf "lone: jobs/s for all tenants against his own, %d pairs: median %.3f, 90 %% interval of the median %.3f to %.3f\n",
	  $pairs, median(@ratios), $low, $high;
	return;
}

# The 90 % bootstrap interval of the median.
sub interval
{
	my @values = @_;
	my @medians = map { median(map { $values[ rand @values ] } @values) } 1 .. 2000;
	return (percentile(0.05, @medians), percentile(0.95, @medians));
}

sub memory
{
	my $session = all_tenants();

	tenants('memory', $queues);
	fill('memory', 1, 'i % 1000 = 1');
	my ($ms) = timed($session->prepare("SELECT * FROM queue_claim('memory')"));
	my $got = $session->selectrow_array("SELECT count(*) FROM queue_claim('memory', max_jobs => 10000)");
	my ($used, $max, $bytes) = $session->selectrow_array('SELECT ring_queues, ring_queues_max, ring_bytes FROM queue_cache');
	printf "memory: %s of %s queues in %.1f MB, %d bytes each; the first claim %.0f ms, with the next one %d jobs of %d\n",
	  with_commas($used), with_commas($max), $bytes / 1024 / 1024, $bytes / $max, $ms, 1 + $got, $queues / 1000;
	return;
}

setup(dirname($0) . '/setup.sql');
my %scenarios = (large => \&large, many => \&many, weights => \&weights, lone => \&lone, memory => \&memory);
$scenarios{ $_->{name} }->() foreach chosen(map { { name => $_ } } qw(large many weights lone memory));
