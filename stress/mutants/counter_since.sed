# counters equal what there is
s/if \(entry->recounting && is_running\(xid\)\)/if (false)/
