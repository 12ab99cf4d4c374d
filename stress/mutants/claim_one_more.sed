# no claim returns more than it was asked for
s/while \(claimed < max_jobs && qs_direct_next/while (claimed <= max_jobs \&\& qs_direct_next/
