"""TLS: what the services of a node and the nodes show each other, and whom it names.

    a service   the node's CA vouches for it: `tls.crt`, `tls.key` and `ca.crt` in one folder, put
                there and renewed by whoever runs the node.  It is `spiffe://smartunion/NODE/SERVICE`
    a node      its own key vouches for it, the same that signs its frames: it makes a certificate
                for a day, and another in time.  It is `spiffe://smartunion/NODE`

A child trusts the key of its parent, which the invitation brought.  The parent gives the child a
certificate of the child's key (`for_child`), which the child shows below its own: so a server
trusts one key, however many children there are.  TLS proves that a certificate's key is held and
that somebody trusted vouches for it; whether they may vouch for that name is asked here
(`Certificates`).
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kit.errors import Unauthenticated
from kit.ids import utc_now, uuid_of

TRUST_DOMAIN = "spiffe://smartunion/"
LEAF_VALID = timedelta(days=1)
"""A node makes another certificate of itself when half of that is over."""
SKEW = timedelta(hours=1)
"""How far the clocks of a node and its neighbours may differ."""
LOOK_EVERY = 1.0
"""Seconds after which files are looked at again."""
CHAIN, KEY, CA = "tls.crt", "tls.key", "ca.crt"
"""As cert-manager names them."""

SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
    decipher_only=False,
)  # fmt: skip
Signer: TypeAlias = ec.EllipticCurvePrivateKey | Ed25519PrivateKey
UNFIT = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm)
"""What comes of a text that is no certificate or key, or of one that another has signed."""

logger = logging.getLogger(__name__)


class CertificateUnfit(Exception):
    """The text says which file is missing or wrong, never what is in it."""


class CertificateForeign(Unauthenticated):
    message = (
        "the certificate that was shown names nobody whom this node knows; show one of a service "
        "of this node, issued by its CA, or of a child that is admitted"
    )
    chinese = (
        "所出示的证书不属于本节点认识的任何一方；请出示由本节点 CA 签发的本节点服务证书，"
        "或已获准加入的下级节点的证书"
    )


class CertificateExpired(Unauthenticated):
    message = "the certificate that was shown is not valid now; connect again with a new one"
    chinese = "所出示的证书目前无效；请用新的证书重新连接"


@dataclass(frozen=True, slots=True)
class Identity:
    """What one end of a connection shows, and whom it trusts; all in PEM."""

    roots: bytes
    """Whoever may vouch for the other end."""
    key: bytes | None = field(default=None, repr=False)
    """None, as `chain`: it shows nothing."""
    chain: bytes | None = None


Source: TypeAlias = Callable[[], Identity]
"""The identity that counts now: the same object while nothing has changed."""


def uri(node: UUID, service: str = "") -> str:
    """Who shows a certificate: a service, or the node itself.

    >>> uri(UUID(int=1), "sync")
    'spiffe://smartunion/00000000-0000-0000-0000-000000000001/sync'
    """
    return f"{TRUST_DOMAIN}{node}{service and '/'}{service}"


def host(node: UUID, service: str) -> str:
    """The name by which a service is dialled and checked, wherever it listens: gRPC compares names
    of hosts, not URIs.

    >>> host(UUID(int=1), "sync")
    'sync.00000000-0000-0000-0000-000000000001.smartunion.internal'
    """
    return f"{service}.{node}.smartunion.internal"


def label(public_key: bytes) -> str:
    """The name that a node's key has in certificates."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def node_host(public_key: bytes) -> str:
    """The name by which a child dials its parent, and the server tells such calls from others."""
    return f"{label(public_key)}.smartunion.internal"


def certificate(
    subject: str, public_key: Any, issuer: str, signer: Signer, *, begin: datetime,
    end: datetime, names: tuple[x509.GeneralName, ...] = (), depth: int | None = None,
    purposes: tuple[x509.ObjectIdentifier, ...] = (), serial: int = 0,
) -> x509.Certificate:  # fmt: skip
    """A certificate of a key.

    Args:
        names: what it is good for, if it is no CA's.
        depth: of a CA: how many CAs may stand below it.
        purposes: all if empty.
        serial: its number; 0: one at random.
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject)).issuer_name(_name(issuer)).public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.BasicConstraints(depth is not None, depth), critical=True)
    )  # fmt: skip
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
    )
    if subject != issuer:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(above, critical=False)
    if depth is not None:
        builder = builder.add_extension(SIGNS_CERTIFICATES, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
    return builder.sign(signer, None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


FIRST_DAY, LAST_DAY = (
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)
"""Of what is valid as long as somebody keeps it: RFC 5280 section 4.1.2.5."""


def anchor(public_key: bytes) -> bytes:
    """A node's key as a root.  A root is a name and a key; gRPC takes it as a certificate, of which
    nothing else is checked: neither its signature, which here is nobody's, nor its depth."""
    key, nobody = Ed25519PublicKey.from_public_bytes(public_key), Ed25519PrivateKey.generate()
    name = label(public_key)
    return to_pem(certificate(
        name, key, name, nobody, begin=FIRST_DAY, end=LAST_DAY, depth=1
    ))  # fmt: skip


def for_child(signer: Ed25519PrivateKey, public_key: bytes) -> bytes:
    """The certificate of a child's key, in PEM; the same each time.  It ends with the admission,
    which is looked up at every call.  By it a child is known as a client: it cannot pose as its
    parent before a sibling.
    """
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return to_pem(certificate(
        label(public_key), key, label(_raw(signer)), signer, begin=FIRST_DAY, end=LAST_DAY, depth=0,
        purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,), serial=int(label(public_key), 16),
    ))  # fmt: skip


def _raw(signer: Ed25519PrivateKey) -> bytes:
    return signer.public_key().public_bytes_raw()


def to_pem(shown: x509.Certificate) -> bytes:
    return shown.public_bytes(Encoding.PEM)


def key_pem(key: Signer) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class NodeIdentity:
    """What a node shows of itself to its parent and its children, renewed in time."""

    def __init__(
        self, signer: Ed25519PrivateKey, node: UUID, *, roots: bytes, above: bytes = b"",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:  # fmt: skip
        """
        Args:
            roots: whom it trusts.
            above: the certificate of its key that its parent made.
        """
        self._signer, self._node, self._clock = signer, node, clock
        self._roots, self._above = roots, above
        self._held: tuple[datetime, Identity] | None = None

    def __call__(self) -> Identity:
        """Another one when half of its time is over, or a clock that was wrong was put back."""
        now = self._clock()
        if self._held is None or abs(now - self._held[0]) >= LEAF_VALID / 2:
            key = ec.generate_private_key(ec.SECP256R1())
            own = _raw(self._signer)
            names = x509.DNSName(node_host(own)), x509.UniformResourceIdentifier(uri(self._node))
            leaf = certificate(
                str(self._node), key.public_key(), label(own), self._signer, begin=now - SKEW,
                end=now + LEAF_VALID, names=names,
            )  # fmt: skip
            shown = Identity(self._roots, key_pem(key), to_pem(leaf) + self._above)
            self._held = now, shown
        return self._held[1]


class Files:
    """What a service shows to the others of its node: three files, read again when they change, and
    when the time comes from which their certificate is valid."""

    def __init__(
        self, folder: Path, node: UUID, service: str, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Raises CertificateUnfit if one is missing or wrong."""
        self._folder, self._node, self._service, self._clock = folder, node, service, clock
        self._begins: datetime | None = None
        """From when a certificate is valid that was not taken yet."""
        self._stamp, self._looked = self._look(), monotonic()
        self._held = self._read()

    def __call__(self) -> Identity:
        now = monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked, stamp = now, self._look()
            if stamp != self._stamp or (self._begins and self._begins <= self._clock()):
                self._stamp, self._begins = stamp, None
                self._take_up()
        return self._held

    def _take_up(self) -> None:
        """What is wrong, or half written, is not taken: the next change is looked at again."""
        try:
            self._held = self._read()
            logger.info("new certificate", extra={"folder": str(self._folder)})
        except CertificateUnfit as error:
            logger.warning("certificate not taken", extra={"error": str(error)})

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file does, or is replaced."""
        found = []
        for name in (CHAIN, KEY, CA):
            try:
                status = (self._folder / name).stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)

    def _read(self) -> Identity:
        chain, key, roots = (self._content(name) for name in (CHAIN, KEY, CA))
        self._check(chain, key, roots)
        return Identity(roots, key, chain)

    def _content(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise self._unfit(name, f"cannot be read: {error.strerror}") from None

    def _check(self, chain: bytes, key: bytes, roots: bytes) -> None:
        leaf = self._parsed(CHAIN, lambda: x509.load_pem_x509_certificates(chain)[0])
        private = self._parsed(KEY, lambda: load_pem_private_key(key, None))
        self._parsed(CA, lambda: _issuers(roots))
        if private.public_key() != leaf.public_key():
            raise self._unfit(KEY, f"is not the key of {CHAIN}")
        wanted = uri(self._node, self._service), host(self._node, self._service)
        if missing := [name for name in wanted if name not in _names(leaf)]:
            raise self._unfit(CHAIN, f"is not for {' and '.join(missing)}")
        if not any(_issued(leaf, issuer) for issuer in _issuers(roots)):
            raise self._unfit(CHAIN, f"is not issued by a CA in {CA}")
        now, begins = self._clock(), leaf.not_valid_before_utc
        if not begins <= now < leaf.not_valid_after_utc:
            self._begins = begins if now < begins else None
            raise self._unfit(CHAIN, "is not valid now")

    def _parsed(self, name: str, parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except UNFIT:
            raise self._unfit(name, "is no PEM of the right sort") from None

    def _unfit(self, name: str, problem: str) -> CertificateUnfit:
        return CertificateUnfit(f"{self._folder / name} {problem}")


class Certificates:
    """Whom a certificate names that TLS has let in."""

    def __init__(
        self, files: Source, node: UUID, child_key: Callable[[UUID], Awaitable[bytes | None]] | None
    ) -> None:
        """`child_key`: the public key of a child that is admitted; of no other."""
        self._files, self._node, self._child_key = files, node, child_key

    async def name(self, token: str, shown: str) -> str | None:
        """`services/…` of this node or `nodes/…` below; None without a certificate, whatever token
        there is.

        Raises:
            CertificateForeign: if nobody vouches for it who may.
            CertificateExpired: if it was valid once, or will be.
        """
        if not shown:
            return None
        leaf = _leaf(shown)
        if not leaf.not_valid_before_utc <= utc_now() < leaf.not_valid_after_utc:
            raise CertificateExpired()
        for name in _names(leaf):
            path = name.removeprefix(TRUST_DOMAIN)
            if path != name and (found := await self._vouched(shown, path)):
                return found
        raise CertificateForeign()

    async def _vouched(self, shown: str, path: str) -> str | None:
        node, _, service = path.partition("/")
        try:
            named = uuid_of(node)
        except ValueError:
            return None
        if service:
            ours = named == self._node and _issued_by_any(shown, self._files().roots)
            return f"services/{service}" if ours else None
        key = await self._child_key(named) if self._child_key else None
        return f"nodes/{named}" if key and _signed_by(shown, key) else None


@lru_cache(maxsize=1_000)
def _leaf(shown: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(shown.encode())
    except UNFIT:
        raise CertificateForeign() from None


def _names(leaf: x509.Certificate) -> list[str]:
    """The names of hosts and the URIs that it is for."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [*found.get_values_for_type(x509.DNSName),
            *found.get_values_for_type(x509.UniformResourceIdentifier)]  # fmt: skip


@lru_cache(maxsize=8)
def _issuers(roots: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(roots)


@lru_cache(maxsize=1_000)
def _issued_by_any(shown: str, roots: bytes) -> bool:
    return any(_issued(_leaf(shown), issuer) for issuer in _issuers(roots))


def _issued(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except UNFIT:
        return False
    return True


@lru_cache(maxsize=10_000)
def _signed_by(shown: str, public_key: bytes) -> bool:
    leaf = _leaf(shown)
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(leaf.signature, leaf.tbs_certificate_bytes)
    except UNFIT:
        return False
    return True
