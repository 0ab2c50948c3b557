"""The use cases of notify.  Each mutation is one transaction: load, decide, save, announce."""
