"""The rules of notify.  Pure: no I/O, no clock, no proto."""
