"""The service notify, as it is."""
