"""Settings of notify, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from kit import config


class Settings(config.Settings):
    """Notify needs nothing beyond what every service knows."""
