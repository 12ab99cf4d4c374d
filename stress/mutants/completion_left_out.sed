# what was completed is complete
/^qs_job_complete/,/^}/s/qs_delete\(table\)/(void) table/
/^qs_job_complete/,/^}/s/qs_delete_if_same\(table\)/table != NULL/
