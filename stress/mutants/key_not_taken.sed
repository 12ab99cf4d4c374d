# one job for each idempotency key
s/key->ttl \? NULL : "     n ", 0\) == 1;/key->ttl ? NULL : "     n ", 0) >= 0;/
