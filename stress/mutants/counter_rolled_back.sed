# counters equal what there is
/^at_sub_end/,/^}/s/^\t\tforget_from\(level\);/\t\t(void) level;/
