"""The use cases of benefits.  Each mutation is one transaction: load, decide, save, announce."""
