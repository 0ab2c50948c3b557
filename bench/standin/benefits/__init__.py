"""The service benefits, as it is."""
