# indexes and tables are sound (amcheck)
s/if \(!is_wanted\(indexes, index->info, slot\)\)/if (i == 1 \&\& changed != NULL || !is_wanted(indexes, index->info, slot))/
