"""Settings of benefits, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from kit import config


class Settings(config.Settings):
    """Benefits needs nothing beyond what every service knows."""
