# one effect for each job completed with one
/^find_leased/,/^}/s/if \(strict\)/if (strict \&\& jobs == NULL)/
