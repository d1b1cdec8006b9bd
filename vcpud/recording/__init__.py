"""What the daemon saw and decided, cycle by cycle, in files that can be replayed.

A file is gzip'd lines of JSON: a heading, then one line per cycle, the first of them in full, so
that each file can be read by itself. `files` writes and reads them, `samples`, `readings` and `codec` say how.
"""
