"""The rules of benefits.  Pure: no I/O, no clock, no proto."""
