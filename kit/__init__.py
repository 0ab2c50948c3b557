"""What every service needs and no service is about: refusals, RPC, PostgreSQL, the log."""
