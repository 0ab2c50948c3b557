"""Settings of membership, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from pathlib import Path

from pydantic import Field

from kit import config
from kit.authority import SUBJECT, Role


class Settings(config.Settings):
    """What membership needs beyond what every service knows."""

    first_officer: str = Field(default="", pattern=rf"^({SUBJECT})?\Z")
    """The subject who becomes chair and node operator of the node's organisation while it has no
    chair; empty: `admin` in development, nobody in production.  In development there is then a
    `deputy` too, since two decide."""

    privacy_texts: Path = Path(__file__).with_name("privacy.toml")
    """The TOML file of what people are told of the use of their data."""

    @property
    def first_officers(self) -> dict[str, tuple[Role, ...]]:
        """What subjects become; empty: nobody becomes anything."""
        development = self.profile == "development"
        first = self.first_officer or ("admin" if development else "")
        found: dict[str, tuple[Role, ...]] = {}
        if first:
            found[first] = (Role.CHAIR, Role.NODE_OPERATOR)
        if development:
            found["deputy"] = (Role.MEMBERSHIP, Role.BENEFITS)
        return found
