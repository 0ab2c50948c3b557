"""The settings that every service of a node shares, read from the environment: SMARTUNION_…"""

from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a service must know of its node.  Read only by its `__main__`."""

    model_config = SettingsConfigDict(env_prefix="SMARTUNION_", frozen=True)

    database_url: str
    """postgresql://role:password@host:port/database of this service."""
    nats_url: str = ""
    """nats://host:port of the node; empty: the node works without a carrier, slower."""
    nats_creds: str = ""
    """The path of the credentials file for it; empty: none are needed."""
    listen: str = "127.0.0.1:0"
    """host:port of the gRPC server."""
    profile: Literal["development", "production"] = "production"
    node: UUID
    """The id of the node."""
    node_name: str
    """The name that people know it by."""
    organization: str
    """The division code of the organisation that the node serves; `0` is the nation."""
    level: str
    """national, province, city, county, township, grassroots or group."""
    secrets: Path
    """The folder with node.key, data.key and token.key, each 32 bytes in hex."""
    peers: dict[str, str] = {}
    """host:port of the node's services, by name."""
    keep_days: float = 7.0
    """How many days an entry or frame is kept after all its readers have passed it: longer than
    the age of any backup that may be restored."""

    def secret(self, name: str) -> bytes:
        """The 32 bytes of one secret."""
        return bytes.fromhex((self.secrets / name).read_text().strip())
