# no token is accepted after its lease was lost
s/DatumGetInt64\(qs_get\(table, QS_JOB_LEASE_TOKEN\)\) == token;/true;/
