"""The service membership with one more kind."""
