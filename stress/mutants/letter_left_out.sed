# no acknowledged job is lost
s/^\tqs_insert\(dead\);/\t(void) dead;/
