# the server's log has no warning
/^queue_claim/,/^}/s/qs_claim_only_begin\(\);/qs_claim_only_begin(); elog(WARNING, "claiming");/
