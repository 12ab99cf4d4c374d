# no job is claimed while another lease holds
s/LockTupleNoKeyExclusive, LockWaitSkip, 0,/LockTupleNoKeyExclusive, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION,/
