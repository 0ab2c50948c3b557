"""The service sync, as it is."""
