"""Starts engines and services on one machine, and holds the command line."""
