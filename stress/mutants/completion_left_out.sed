# what was completed is complete
/^qs_job_complete/,/^}/s/qs_delete\(table\)/(void) table/
