"""Settings of benefits, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from pydantic import Field

from kit import config


class Settings(config.Settings):
    card_days: float = Field(default=30.0, gt=0, le=366)
    """How many days the text of a card is good after it was shown: unverified default."""
    list_days: float = Field(default=7.0, gt=0, le=366)
    """How many days old a status list may be that is trusted: unverified default."""
