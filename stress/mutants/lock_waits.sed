# no job is claimed while another lease holds
s/LockWaitSkip, 0, &tmfd/LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, \&tmfd/
