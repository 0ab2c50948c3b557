"""An OIDC issuer in a process of its own: discovery, keys, tokens, and what goes wrong with them.

    python -m tests.issuer PORT [FOLDER]

With a folder that holds tls.crt and tls.key it speaks https.

A test asks it for what it wants by POST: a token with any header and claims, other keys, or an
answer in place of its keys.
"""

import asyncio
import json
import ssl
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from joserfc import jws
from joserfc.jwk import ECKey

from node import ports
from tests.eventually import eventually

ROOT = Path(__file__).parents[1]


class Answers(BaseHTTPRequestHandler):
    """All there is to know is kept in the class: one process is one issuer."""

    keys: list[ECKey] = []  # noqa: RUF012
    asked = 0
    scheme = "http"
    instead: dict[str, Any] = {}  # noqa: RUF012
    """By path: what is answered there; a text, or a status."""

    def do_GET(self) -> None:
        self._answer(self._found())

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self._answer(getattr(self, self.path.lstrip("/"))(**json.loads(self.rfile.read(size))))

    def _found(self) -> Any:
        if self.path == "/keys":
            type(self).asked += 1
        if self.path in self.instead:
            return self.instead[self.path]
        if self.path == "/keys":
            return {"keys": [public(key) for key in self.keys]}
        issuer = f"{self.scheme}://{self.headers['Host']}"
        return {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}

    def rotate(self, *, keep: bool) -> None:
        """A new key, by which tokens are signed from now on."""
        key = ECKey.generate_key("P-256", auto_kid=True)
        type(self).keys = [key, *(self.keys if keep else [])]

    def sign(self, *, header: dict[str, Any], claims: dict[str, Any]) -> str:
        return signed({"kid": self.keys[0].thumbprint(), **header}, claims, self.keys[0])

    def answer(self, *, path: str, with_: Any) -> None:
        self.instead[path] = with_
        if with_ is None:
            del self.instead[path]

    def count(self) -> int:
        """How often the keys were asked for."""
        return self.asked

    def _answer(self, said: Any) -> None:
        status, content = (said, "") if type(said) is int and self.command == "GET" else (200, said)
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/moved")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


HEADER = {"alg": "ES256", "typ": "at+jwt"}


def signed(header: dict[str, Any], claims: Any, key: ECKey) -> str:
    """A token, whatever it says: no library looks at it first."""
    parts = [encoded(json.dumps(part)) for part in (HEADER | header, claims)]
    text = ".".join(parts)
    signature = jws.JWSRegistry.algorithms["ES256"].sign(text.encode(), key)
    return f"{text}.{encoded(signature)}"


def encoded(part: str | bytes) -> str:
    """In base64url, as the parts of a token are."""
    content = part.encode() if isinstance(part, str) else part
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def public(key: ECKey) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig"}


class Issuer:
    """The process, as a test sees it."""

    def __init__(self, port: int, certificates: Path | None = None) -> None:
        self.url = f"{'https' if certificates else 'http'}://127.0.0.1:{port}"
        self._folder = [str(certificates)] if certificates else []
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        port = self.url.rpartition(":")[2]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.issuer", port, *self._folder, cwd=ROOT
        )

        async def up() -> None:
            try:
                await self.asked()
            except OSError:
                raise AssertionError from None

        await eventually(up)

    async def stop(self) -> None:
        if self._process:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def ask(self, what: str, **how: Any) -> Any:
        request = Request(f"{self.url}/{what}", json.dumps(how).encode())

        def answer() -> bytes:
            with urlopen(request, timeout=5) as answer:
                content: bytes = answer.read()
                return content

        content = await asyncio.to_thread(answer)
        return content.decode() if what == "sign" else json.loads(content)

    async def asked(self) -> int:
        """How often its keys were asked for."""
        return int(await self.ask("count"))

    async def rotate(self, *, keep: bool = True) -> None:
        await self.ask("rotate", keep=keep)

    async def answers(self, path: str, with_: Any) -> None:
        await self.ask("answer", path=path, with_=with_)

    async def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """One that it signed; a claim that is None is left out."""
        given = {name: claim for name, claim in claims.items() if claim is not None}
        return str(await self.ask("sign", header=header or {}, claims=given))


@asynccontextmanager
async def issuing(certificates: Path | None = None) -> AsyncIterator[Issuer]:
    """An issuer with keys of its own; with certificates, at https://."""
    issuer = Issuer(ports.free(), certificates)
    try:
        await issuer.start()
        yield issuer
    finally:
        await issuer.stop()


if __name__ == "__main__":
    Answers.keys = [ECKey.generate_key("P-256", auto_kid=True)]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers)
    if folder := sys.argv[2:]:
        Answers.scheme = "https"
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(f"{folder[0]}/tls.crt", f"{folder[0]}/tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
