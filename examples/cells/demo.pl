#!/usr/bin/perl
# demo.pl: a router and nodes, which "make cells" has started: tenants are served
# where their hash says, moved, and lose nothing. The last line says "N passed, N
# failed". CELLS_SECONDS (20) is how long clients load the nodes.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cells;
use Load;
use Check;

$| = 1;
my $router = connect_router();
my $seconds = $ENV{CELLS_SECONDS} // 20;

sub title { print "\n== $_[0]\n" }

# New tenants until each node has as many.
sub add_tenants
{
	my ($each) = @_;
	my %on;

	while (grep { @{ $on{$_} // [] } < $each } @nodes)
	{
		my ($tenant, $node) = row($router, 'SELECT id, cells.node(id) FROM gen_random_uuid() AS id');
		next if @{ $on{$node} // [] } == $each;
		push @{ $on{$node} }, $tenant;
		my $session = connect_node($node);
		$session->do('INSERT INTO tenants (id) VALUES (?)', undef, $tenant);
		$session->do("SET app.current_tenant = '$tenant'");
		row($session, q{SELECT queue_create('work', max_attempts => 1000)});
	}
	return map { $on{$_} } @nodes;
}

# Both ways to enqueue.
sub show_enqueue
{
	my ($tenant) = @_;
	my $node = connect_node(row($router, 'SELECT cells.node(?)', $tenant), 'router');
	my ($id, $created);

	title('Two ways to enqueue');
	$router->do('BEGIN');
	($id) = row($router, q{SELECT job_id FROM cells.enqueue(?, 'work', '{"by": "router"}', 'key')}, $tenant);
	$router->do('ROLLBACK');
	is(($router->selectrow_array(q{SELECT created FROM cells.enqueue(?, 'work', '{}', 'key')}, undef, $tenant)) ? 'new' : 'there',
		'there', 'through the router: commits by itself, whatever the caller does');
	$node->do("SET app.current_tenant = '$tenant'");
	$node->do('BEGIN');
	$node->do(q{INSERT INTO orders (name, tenant_id) VALUES ('taken back', ?)}, undef, $tenant);
	($id) = row($node, q{SELECT job_id FROM queue_enqueue('work')});
	$node->do('ROLLBACK');
	is(row($node, 'SELECT count(*) FROM queue_job(?) WHERE job_id IS NOT NULL', $id), 0, 'on the node: goes with the transaction');
	is(row($router, q{SELECT count(cells.complete(c.tenant, c.job_id, c.lease_token))
			FROM (SELECT ?::uuid AS tenant, c.* FROM cells.claim(?, 'work', max_jobs => 10) c) c}, $tenant, $tenant),
		1, 'claimed and completed through the router: the one that there is');
	is(fails($router, q{SELECT cells.enqueue(?, 'unknown')}, $tenant), 'QS010', 'errors of a node come through with their SQLSTATE');
	is(fails($router, q{SELECT cells.enqueue(gen_random_uuid(), 'work')}), 'QC001', 'a tenant that no node has is an error');
}

sub show_statistics
{
	my (@by_node) = @_;

	title('Statistics of all nodes');
	is(join(' ', row($router, 'SELECT count(DISTINCT tenant_id), sum(completed) FROM cells.statistics()')),
		@nodes * scalar(@{ $by_node[0] }) . ' 1', 'RUN ON ALL: the queues of all');
	is(join(' ', column($router, 'SELECT tenants FROM cells.state() ORDER BY node')),
		join(' ', map { scalar @$_ } @by_node), 'node by node');
}

# All that a tenant has, as text; statistics and tokens change by themselves.
my $contents = q{
	SELECT md5(coalesce(string_agg(kind || row::text, '' ORDER BY kind, row::text), 'nothing')) FROM (
		SELECT 'tenants' AS kind, to_jsonb(t) AS row FROM tenants t WHERE id = $1
		UNION ALL SELECT 'queues', to_jsonb(t) - '{depth,delayed,processing,oldest_claimable_at,enqueued_total,claimed_total,completed_total,failed_total,dead_total,cancelled_total,statistics_at}'::text[]
			FROM queues t WHERE tenant_id = $1
		UNION ALL SELECT 'jobs', to_jsonb(t) FROM jobs t WHERE tenant_id = $1
		UNION ALL SELECT 'critical_jobs', to_jsonb(t) FROM critical_jobs t WHERE tenant_id = $1
		UNION ALL SELECT 'dead_letter_jobs', to_jsonb(t) FROM dead_letter_jobs t WHERE tenant_id = $1
		UNION ALL SELECT 'idempotency_keys', to_jsonb(t) FROM idempotency_keys t WHERE tenant_id = $1
		UNION ALL SELECT 'schedules', to_jsonb(t) FROM schedules t WHERE tenant_id = $1
		UNION ALL SELECT 'rate_limits', to_jsonb(t) - '{tokens_available,last_refill_at}'::text[] FROM rate_limits t WHERE tenant_id = $1
		UNION ALL SELECT 'orders', to_jsonb(t) FROM orders t WHERE tenant_id = $1) AS rows};

sub contents
{
	my ($tenant) = @_;
	return map { row(connect_node($_), $contents, $tenant) } @nodes;
}

# A tenant that has one of everything.
sub furnish
{
	my ($tenant, $at) = @_;
	my $node = connect_node($at);
	my %has;

	$node->do("SET app.current_tenant = '$tenant'");
	$node->do($_) foreach
	  q{SELECT queue_create('grouped', group_concurrency => 1), queue_create('limited', max_concurrency => 2), queue_create('other', max_attempts => 1)},
	  q{SELECT queue_enqueue('grouped', to_jsonb(n), group_key => 'g') FROM generate_series(1, 3) n},
	  q{SELECT queue_enqueue('limited') FROM generate_series(1, 4)},
	  q{SELECT queue_enqueue('other', '"delayed"', run_at => now() + interval '1 day')},
	  q{SELECT queue_enqueue_critical('other', '"critical"', 'critical', run_at => now() + interval '1 day')},
	  q{SELECT queue_enqueue('other', '"dies"')},
	  q{SELECT f.outcome FROM queue_claim('other') c, queue_fail(c.job_id, c.lease_token, 'for good') f},
	  q{SELECT queue_schedule('yearly', 'other', '0 0 1 1 *')},
	  q{INSERT INTO orders (name, tenant_id) VALUES ('an order', queue_tenant())};
	row($node, q{SELECT queue_tenant_limit_set(?, 'own', max_tokens => 10, refill_per_second => 0.001)}, $tenant);
	($has{key}) = row($node, q{SELECT job_id FROM queue_enqueue('other', '"key"', idempotency_key => 'key', run_at => now() + interval '1 day')});
	$has{leases} = $node->selectall_arrayref(q{SELECT job_id, lease_token FROM queue_claim('limited', max_jobs => 4, lease => '1 hour')});
	$has{group} = [ row($node, q{SELECT job_id, lease_token FROM queue_claim('grouped', max_jobs => 4, lease => '1 hour')}) ];
	return %has;
}

# Moved there and back, each time as it was, whatever the mover died of.
sub show_moves
{
	my ($tenant, $from, $to) = @_;
	my %has = furnish($tenant, $from);
	my $was = (contents($tenant))[$from];
	my $nothing = (contents($tenant))[$to];
	my @steps = ('begun', 'copied', 'new node prepared', 'old node prepared', 'decided', 'new node committed', 'routed', 'old node committed');

	title('A tenant moves');
	is(move($tenant, $to), 0, 'moves to another node');
	my @now = contents($tenant);
	ok($now[$to] eq $was && $now[$from] eq $nothing, 'all of it is there, and nothing is left');
	is(row($router, 'SELECT cells.node(?)', $tenant), $to, 'the route leads there');
	is((row($router, q{SELECT created, job_id FROM cells.enqueue(?, 'other', '"again"', 'key')}, $tenant))[1], $has{key},
		'an idempotency key stands for its job');
	is(row($router, 'SELECT held FROM cells.heartbeat(?, ?, ?)', $tenant, @{ $has{leases}[0] }), 1, 'a lease is held under its token');
	is(row($router, q{SELECT count(*) FROM cells.claim(?, 'limited', max_jobs => 4)}, $tenant), 0, 'the slots of a queue are taken');
	is(row($router, q{SELECT count(*) FROM cells.claim(?, 'grouped', max_jobs => 4)}, $tenant), 0, 'what a group holds is held');
	is(row($router, q{SELECT count(*) FROM cells.claim(?, 'other', max_jobs => 4)}, $tenant), 0, 'what is delayed is delayed');
	$was = (contents($tenant))[$to];

	foreach my $i (0 .. $#steps)
	{
		my $done = $i >= 4;
		my $expected = $done ? $from : $to;
		my $other = $done ? $to : $from;

		ok(move($tenant, $from, $steps[$i]) != 0, "the mover dies: $steps[$i]");
		is(recover(), 0, '... and is recovered');
		@now = contents($tenant);
		ok($now[$expected] eq $was && $now[$other] eq $nothing && row($router, 'SELECT cells.node(?)', $tenant) == $expected,
			'... the tenant is ' . ($done ? 'on the new node' : 'where it was'));
		($from, $to) = ($to, $from) if $done;
	}
	is(join(' ', map { row(connect_node($_), 'SELECT count(*) FROM pg_prepared_xacts') } @nodes), join(' ', map { 0 } @nodes),
		'nothing is left prepared');

	is(row($router, q{SELECT count(*) FROM cells.claim(?, 'limited', max_jobs => 4)}, $tenant), 0, 'the slots are still taken');
	is(row($router, 'SELECT cells.complete(?, ?, ?)', $tenant, @{ $has{leases}[0] }), 'done', 'a job is completed under its old lease');
	is(row($router, q{SELECT count(*) FROM cells.claim(?, 'limited', max_jobs => 4)}, $tenant), 1, '... which frees its slot');
	is(row($router, 'SELECT cells.complete(?, ?, ?)', $tenant, @{ $has{group} }), 'done', 'the head of a group ends');
	is(row($router, q{SELECT string_agg(payload::text, ' ') FROM cells.claim(?, 'grouped', max_jobs => 4)}, $tenant), 2,
		'... and its next job goes');
}

# Moves, a mover that dies, and a node that crashes, under load.
sub show_load
{
	my ($tenants, $moves) = @_;
	my ($there, $back, $dies) = @$moves;
	my $start = time;
	my $at = sub { sleep 0.05 while time < $start + $_[0] * $seconds };
	my @home = map { row($router, 'SELECT cells.node(?)', $_) } @$moves;
	my $next = sub { ($home[ $_[0] ] + 1) % $nodes };

	title("Moves and a crash under load, $seconds s");
	start_clients(@$tenants);
	$at->(0.1);
	is(move($there, $next->(0)), 0, 'a tenant moves');
	$at->(0.25);
	ok(move($back, $next->(1), 'old node prepared') != 0, 'a mover dies before it decided');
	$at->(0.32);
	is(recover(), 0, '... which is taken back');
	$at->(0.4);
	ok(move($dies, $next->(2), 'decided') != 0, 'a mover dies after it decided');
	$at->(0.47);
	is(recover(), 0, '... which is finished');
	$at->(0.55);
	pg_ctl($next->(0), 'restart', '-m', 'immediate');
	ok(1, 'the node that it moved to crashes, and starts again');
	$at->(0.75);
	is(move($there, $home[0]), 0, 'the tenant moves back');
	$at->(1);
	finish_clients('no_more');
	eventually(sub { (row($router, q{SELECT coalesce(sum(depth + processing), 0) FROM cells.statistics() WHERE queue = 'work'
			AND tenant_id = ANY (?)}, $tenants))[0] == 0 }, 'all jobs are done');
	finish_clients('stop');
	check_history();
}

sub show_node_down
{
	my ($by_node) = @_;
	my ($down, $up) = (0, 1);
	my $tenant = $by_node->[$down][-1];
	my @others = map { $_->[-1] } @$by_node[ 1 .. $#$by_node ];
	my $failed = 0;

	title('A node is down');
	pg_ctl($down, 'stop', '-m', 'immediate');
	foreach my $n (1 .. 100)
	{
		eval {
			my $other = $others[ $n % @others ];
			row($router, q{SELECT cells.enqueue(?, 'work')}, $other);
			my @lease = row($router, q{SELECT job_id, lease_token FROM cells.claim(?, 'work')}, $other);
			row($router, 'SELECT cells.complete(?, ?, ?)', $other, @lease) eq 'done' or die;
			1;
		} or $failed++;
	}
	is($failed, 0, 'the tenants of other nodes are served: none of 100 jobs fails');
	ok(fails($router, q{SELECT cells.enqueue(?, 'work')}, $tenant) !~ /nothing|QC001/, 'those of that node get an error');
	is(row($router, q{SELECT string_agg(node::text, ' ') FROM cells.state() WHERE error IS NOT NULL}), $down, 'the state says which');
	pg_ctl($down, 'start');
	eventually(sub { row($router, q{SELECT job_id FROM cells.enqueue(?, 'work')}, $tenant) }, 'it is back without more to do');
}

print "A router and $nodes nodes.\n";
my @by_node = add_tenants(5);
show_enqueue($by_node[0][0]);
show_statistics(@by_node);
show_moves($by_node[0][1], 0, 1);
show_load([ map { @$_[ 2, 3 ] } @by_node ], [ map { $by_node[ $_ % $nodes ][ $_ < $nodes ? 2 : 3 ] } 0 .. 2 ]);
show_node_down(\@by_node);
print "\n";
exit !summary();
