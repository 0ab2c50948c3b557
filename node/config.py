"""What an operator decides about a node: one TOML file."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kit.authority import SUBJECT
from kit.identity import is_loopback, is_web_address
from kit.limits import Limits
from node.problems import ConfigMalformed, ConfigNotFound, NotLoopback

Port = Annotated[int, Field(ge=0, le=65535)]
"""0: a free one, chosen at the first start and kept in data/ports.json."""

EXAMPLE = """\
# A node of Smart Union.  Start it with: smartunion node up --config THIS_FILE

name = "成都市总工会"      # what people call it
organization = "5101"      # division code: 0 nation, 51 province, 5101 city, 510104 county …
level = "city"             # national province city county township grassroots group
data = "data"              # folder for all that it keeps, relative to this file
profile = "development"    # development or production
first_officer = ""         # who begins, while there is no chair; empty: admin, in development
privacy_texts = ""         # what people are told of the use of their data: a TOML file, relative to
                           # this one; empty: services/membership/privacy.toml

[identity]
issuer = ""                # https://… of the OIDC issuer whose tokens count here; empty, in
                           # development: a key of this node, and `smartunion token`
audience = ""              # what its tokens for this node, and no other, have as `aud`
jwks = ""                  # https://… of its keys; empty: where its OIDC discovery says
strong_acr = []            # what its tokens have as `acr` after a strong login; empty: any login

[postgres]
dsn = ""                   # of a role that may create databases; empty: the embedded server

[nats]
url = ""                   # empty: the embedded server
creds = ""                 # credentials file, relative to this file

[listen]
host = "127.0.0.1"
public = ""                # host:port where clients reach the services, as FindHome tells it
membership = 0             # 0: a free port, kept in data/ports.json
benefits = 0
notify = 0
sync = 0
sync_peers = 0             # in production: where children push, with certificates
nats = 0
postgres = 0

[limits]                   # in calls a second, or at once; see kit/limits.py
reads = 5000               # of one officer, member or merchant: what changes nothing
writes = 2000              # what does
streams = 100              # watches, uploads and downloads that begin
strangers = 500            # from one address: what needs no token, or shows a wrong one
neighbours = 20000         # of one service of this node, or of one child
calls_at_once = 500        # of one caller
streams_at_once = 100
all_at_once = 1000         # calls, and as many streams, of all people

[parent]
sync = ""                  # host:port of the parent's sync; empty: this node starts alone
peers = ""                 # in production: host:port of its sync_peers
nats = ""                  # the parent's NATS, if not where the parent says it is
invitation = ""            # the token that the parent's operator made for this node
"""


class Section(BaseModel):
    model_config = ConfigDict(regex_engine="python-re", extra="forbid", frozen=True)


class IdentityConfig(Section):
    issuer: str = ""
    """Of the tokens that count here; empty: the development issuer."""
    audience: str = ""
    jwks: str = ""
    """Where its keys are; empty: where its OIDC discovery says."""
    strong_acr: tuple[str, ...] = ()
    """What its tokens have as `acr` after a strong login; empty: any login is one."""


class PostgresConfig(Section):
    dsn: str = ""
    """Of a role that may create roles and databases; empty: the embedded server."""


class NatsConfig(Section):
    url: str = ""
    """Empty: the embedded server."""
    creds: str = ""
    """The path of a credentials file, relative to the config."""


class ListenConfig(Section):
    host: str = "127.0.0.1"
    public: str = Field(default="", pattern=r"^(|[A-Za-z0-9.-]+:\d{1,5})\Z")
    """host:port where clients reach the services; empty: FindHome does not tell it."""
    membership: Port = 0
    benefits: Port = 0
    notify: Port = 0
    sync: Port = 0
    sync_peers: Port = 0
    """Of production; those of the other services are free ones."""
    nats: Port = 0
    postgres: Port = 0


class ParentConfig(Section):
    sync: str = Field(default="", pattern=r"^(|.+:\d{1,5})$")
    """host:port; empty: the node starts alone."""
    peers: str = Field(default="", pattern=r"^(|.+:\d{1,5})$")
    """host:port where the parent's sync takes calls with certificates; needed in production."""
    nats: str = ""
    """Instead of the address that the parent announces."""
    invitation: str = ""


class NodeConfig(Section):
    name: str = Field(min_length=1, max_length=200)
    organization: str = Field(pattern=r"^[0-9A-Za-z-]{1,36}$")
    """The division code of the organisation that the node serves; `0` is the nation."""
    level: Literal["national", "province", "city", "county", "township", "grassroots", "group"]
    data: Path = Path("data")
    """Absolute once loaded."""
    profile: Literal["development", "production"] = "development"
    first_officer: str = Field(default="", pattern=rf"^({SUBJECT})?\Z")
    """The subject who is chair and node operator while the organisation has no chair; empty:
    `admin` in development, nobody in production."""
    privacy_texts: str = ""
    """The path of a TOML file; absolute once loaded; empty: the one that comes with membership."""
    identity: IdentityConfig = IdentityConfig()
    postgres: PostgresConfig = PostgresConfig()
    nats: NatsConfig = NatsConfig()
    listen: ListenConfig = ListenConfig()
    limits: Limits = Limits()
    parent: ParentConfig = ParentConfig()

    @model_validator(mode="after")
    def _knows_its_peers(self) -> Self:
        if self.profile == "production" and self.parent.sync and not self.parent.peers:
            raise ValueError("set parent.peers; in production children push to that port")
        return self

    @model_validator(mode="after")
    def _knows_its_issuer(self) -> Self:
        one, development = self.identity, self.profile == "development"
        if one == IdentityConfig() and development:
            return self
        if not one.issuer or not one.audience:
            raise ValueError("set issuer and audience; only development has an issuer of its own")
        if not is_web_address(one.jwks or one.issuer, loopback=development):
            raise ValueError("write https://… as jwks, or as issuer if jwks is empty")
        return self


def load(file: Path) -> NodeConfig:
    """The config in `file`.

    Raises:
        ConfigNotFound: if there is no such file.
        ConfigMalformed: if it cannot be read, with the setting that is wrong.
        NotLoopback: if it listens beyond this machine, in development.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        config = NodeConfig.model_validate(values)
    except FileNotFoundError:
        raise ConfigNotFound(config=file) from None
    except ValidationError as error:
        raise _malformed(file, error) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigMalformed(config=file, setting="the file", problem=error) from None
    if config.profile == "development" and not is_loopback(config.listen.host):
        raise NotLoopback(host=config.listen.host)
    folder = file.resolve().parent
    creds = config.nats.creds and str(folder / config.nats.creds)
    nats = config.nats.model_copy(update={"creds": creds})
    texts = config.privacy_texts and str(folder / config.privacy_texts)
    return config.model_copy(
        update={"data": folder / config.data, "nats": nats, "privacy_texts": texts}
    )


def _malformed(file: Path, error: ValidationError) -> ConfigMalformed:
    """The first thing that is wrong; the value is left out, as it may be secret."""
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"]) or "identity"
    unknown = first["type"] == "extra_forbidden"
    problem = "there is no such setting" if unknown else first["msg"].removeprefix("Value error, ")
    return ConfigMalformed(config=file, setting=setting, problem=problem)
