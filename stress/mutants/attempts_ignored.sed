# no job has more attempts than it may
s/get_int\(table, QS_JOB_ATTEMPTS\) >= get_int\(table, QS_JOB_MAX_ATTEMPTS\)/get_int(table, QS_JOB_ATTEMPTS) > get_int(table, QS_JOB_MAX_ATTEMPTS)/
