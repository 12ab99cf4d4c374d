# no job is claimed while another lease holds
s/return DatumGetTimestampTz\(leased_until\) <= ready->now;/return DatumGetTimestampTz(leased_until) != 0;/
