# no job is completed twice, or claimed after it
/^qs_job_complete/,/^}/s/finish\(table, "completed", "completed"\)/give_back(table)/
