# no job is claimed while another lease holds
s/if \(entry->until > direct->table->call->now\)/if (entry->until == 0)/
