# nothing is left unfinished
s/qs_ring_announce\(&key\.queue\);/;/
