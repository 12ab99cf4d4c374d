# indexes and tables are sound (amcheck)
s/if \(!is_wanted\(indexes, index->info, slot\)\)/if (i == 1 \&\& update || !is_wanted(indexes, index->info, slot))/
