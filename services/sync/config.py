"""Settings of sync, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from pydantic import Field

from kit import config

ADDRESS = r"^(|[A-Za-z0-9.-]+:\d{1,5})\Z"


class Settings(config.Settings):
    """What sync must know beyond what every service knows."""

    detach_days: float = 30.0
    """How many days a frame is kept for a reader that does not come: then it is detached, and
    returns by a snapshot."""
    parent: str = ""
    """host:port of the parent's sync; empty at the top, and where a level starts alone."""
    parent_nats: str = ""
    """nats://host:port by which the parent's NATS is reached from here; empty: as it announces."""
    invitation: str = ""
    """The invitation of the parent; needed until it has admitted this node."""
    public_address: str = Field(default="", pattern=ADDRESS)
    """host:port where clients reach the gRPC services of this node, as FindHome tells them; empty:
    it is not told."""
    nats_public_url: str = ""
    """nats://host:port that children are told; empty: they push over gRPC alone."""
