"""Starts engines and services on one machine, and holds the command line."""

import os

# Our programs fork only to execute another; gRPC would write a line about each to stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
