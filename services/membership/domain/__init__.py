"""The rules of membership.  Pure: no I/O, no clock, no proto."""
