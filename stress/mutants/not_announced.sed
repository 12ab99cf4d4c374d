# nothing is left unfinished
/^qs_cache_announce/,/^}/s/\tif \(head != NULL\)/\tif (head == NULL)/
/^qs_cache_announce/,/^}/s/partition->announced\+\+;/;/
/^qs_cache_announce/,/^}/s/qs_ranges_cut\(&partition->pool, &head->set, range_key, full\)/(void) full/
