# no job is completed twice, or claimed after it
/^set_completed/,/^}/s/set_finished\(table, "completed", "completed"\);/set_status(table, "pending"); qs_set_null(table, QS_JOB_LEASE_TOKEN); qs_set_null(table, QS_JOB_LEASED_UNTIL);/
