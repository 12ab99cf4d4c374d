# counters equal what there is
s/^\t\t\tqs_stats_prepared\(&notes\[i\]\.queue, xid\);/\t\t\t(void) xid;/
