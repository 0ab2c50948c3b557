"""The CA of a node on one machine: in production it issues what the services show each other.

secrets/tls/                    ca.key  ca.crt   made once
secrets/tls/<service>/          tls.crt  tls.key  ca.crt   made at each start, and again in time
secrets/tls/nats/               the same three, of the embedded NATS, made at each start
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from kit import tls
from kit.ids import utc_now
from node import keys

NAME = "the CA of a node"
VALID = timedelta(days=1)
"""How long a service is vouched for at once."""


class Authority:
    """Vouches for the services of one node."""

    def __init__(self, folder: Path, node: UUID, address: str) -> None:
        """
        Args:
            folder: its key is made there if it is missing.
            address: of the machine, an IP address or a name: by it people check the services.
        """
        self._folder, self._node, self._address = folder, node, address
        pem = keys.keep(folder / "ca.key", lambda: tls.key_pem(_new_key()).decode())
        key = load_pem_private_key(pem.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self.root = keys.keep(folder / tls.CA, self._new_root)
        """Its certificate, in PEM."""

    def issue(
        self, service: str, *, begin: datetime | None = None, end: datetime | None = None
    ) -> Path:
        """The folder with a new certificate of a service; it is valid for a day, as from now."""
        begin = begin or utc_now() - tls.SKEW
        names = (
            x509.UniformResourceIdentifier(tls.uri(self._node, service)),
            x509.DNSName(tls.host(self._node, service)),
            _address_name(self._address),
        )
        return self._write(service, names, begin=begin, end=end or utc_now() + VALID)

    def issue_server(self, engine: str, address: str) -> Path:
        """The folder with a new certificate of an engine, for whoever dials its address.

        It names nobody who may call a service, and has no end: the engine would have to be told of
        another, and its key lies beside that of the CA.
        """
        return self._write(
            engine, (_address_name(address),), begin=utc_now() - tls.SKEW, end=tls.LAST_DAY,
            purposes=(ExtendedKeyUsageOID.SERVER_AUTH,),
        )  # fmt: skip

    def _write(
        self, name: str, names: tuple[x509.GeneralName, ...], *, begin: datetime, end: datetime,
        purposes: tuple[x509.ObjectIdentifier, ...] = (),
    ) -> Path:  # fmt: skip
        key, folder = _new_key(), self._folder / name
        leaf = tls.certificate(
            f"{name} of {self._node}", key.public_key(), NAME, self._key,
            begin=begin, end=end, names=names, purposes=purposes,
        )  # fmt: skip
        folder.mkdir(mode=0o700, exist_ok=True)
        keys.write(folder / tls.KEY, tls.key_pem(key).decode())
        keys.write(folder / tls.CHAIN, tls.to_pem(leaf).decode())
        keys.write(folder / tls.CA, self.root)
        return folder

    async def renew_forever(self, services: Iterable[str]) -> None:
        """Issue again in time, until cancelled."""
        while True:
            await asyncio.sleep(VALID.total_seconds() / 3)
            for service in services:
                self.issue(service)

    def _new_root(self) -> str:
        root = tls.certificate(
            NAME, self._key.public_key(), NAME, self._key, begin=tls.FIRST_DAY,
            end=tls.LAST_DAY, depth=0,
        )  # fmt: skip
        return tls.to_pem(root).decode()


def _address_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
