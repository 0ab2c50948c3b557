"""The rules of sync.  Pure: no I/O, no clock, no proto."""
