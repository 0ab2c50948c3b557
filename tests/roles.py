"""The two roles of a database of the tests: who serves there, and `…_owner`, who owns it."""

from urllib.parse import urlsplit, urlunsplit

from node.databases import OWNER


def on(postgres: str, database: str) -> str:
    """A database that the role of `postgres` owns, for who serves there."""
    parts = urlsplit(postgres)
    server = parts.netloc.replace(f"{OWNER}:", ":", 1)
    return urlunsplit(parts._replace(netloc=server, path=f"/{database}"))
