"""Settings of sync, read from the environment: SMARTUNION_DATABASE_URL and so on."""

from typing import Self

from pydantic import Field, model_validator

from kit import config
from services.sync.domain.enrollments import key_invited_by

ADDRESS = r"^(|[A-Za-z0-9.-]+:\d{1,5})\Z"


class Settings(config.Settings):
    """What sync must know beyond what every service knows."""

    detach_days: float = 30.0
    """How many days a frame is kept for a reader that does not come: then it is detached, and
    returns by a snapshot."""
    parent: str = ""
    """host:port of the parent's sync; empty at the top, and where a level starts alone."""
    parent_peers: str = ""
    """host:port where the parent's sync takes calls with certificates, its `listen_peers`; needed
    in production beside `parent`, where the invitation is shown."""
    parent_nats: str = ""
    """nats://host:port by which the parent's NATS is reached from here; empty: as it announces."""
    parent_nats_ca: str = ""
    """The path of the CAs that vouch for it at tls://…; empty: those that the machine knows."""
    invitation: str = ""
    """The invitation of the parent; needed until it has admitted this node."""
    public_address: str = Field(default="", pattern=ADDRESS)
    """host:port where clients reach the gRPC services of this node, as FindHome tells them; empty:
    it is not told."""
    nats_public_url: str = ""
    """nats://host:port that children are told; empty: they push over gRPC alone."""

    @model_validator(mode="after")
    def _knows_its_parent(self) -> Self:
        if self.profile == "development" or not self.parent:
            return self
        if not self.parent_peers:
            raise ValueError("set SMARTUNION_PARENT_PEERS: host:port, the parent's listen_peers")
        if self.invitation and not key_invited_by(self.invitation):
            raise ValueError("SMARTUNION_INVITATION is wrong: it holds no key of the parent")
        return self
