"""Settings of membership, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from pydantic import Field

from kit import config
from kit.authority import SUBJECT


class Settings(config.Settings):
    """What membership needs beyond what every service knows."""

    first_officer: str = Field(default="", pattern=rf"^({SUBJECT})?\Z")
    """The subject who becomes chair and node operator of the node's organisation while it has no
    chair; empty: `admin` in development, nobody in production."""

    @property
    def first_subject(self) -> str:
        """The subject; empty: nobody."""
        return self.first_officer or ("admin" if self.profile == "development" else "")
