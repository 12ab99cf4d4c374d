# nothing is left unfinished
/^qs_cache_announce/,/^}/s/partition->announced\+\+;/;/
/^qs_cache_announce/,/^}/s/qs_ranges_cut\(&partition->pool, &head->set, range_key, full\)/(void) full/
/^qs_cache_announce/,/^}/s/head->idle_until = PG_INT64_MIN;/;/
