# only errors that are to be expected
s/\(errcode\(QS_JOB_UNKNOWN\),/(errcode(ERRCODE_INTERNAL_ERROR),/
