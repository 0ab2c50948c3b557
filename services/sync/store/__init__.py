"""What sync keeps in PostgreSQL.  One repository per aggregate, SQL in full view."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from kit.calls import Calls
from kit.db import Connection
from kit.log import Change, Outbox
from kit.sealing import Keyring
from services.sync.domain import Cursor, Held, Invitation, Node, Stream, StreamKey
from services.sync.store.directives import DirectiveReports, Directives
from services.sync.store.down import TrustedKeys
from services.sync.store.homes import Homes
from services.sync.store.views import Sections, ViewReports, Views
from services.sync.store.watching import Arrivals, Subscribers
from smartunion.sync.v1 import frame_pb2

NODE = "id, parent, organization_code, display_name, level, public_key, certificate"
KEY = "origin, service, channel"


class Nodes:
    """The nodes below: own children and copies."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def list(self) -> list[Node]:
        """All of them, as their parents say."""
        rows = await self._conn.fetch(f"SELECT {NODE} FROM nodes WHERE origin = parent")
        return [Node(**row) for row in rows]

    async def knows(self, node: UUID, *, origin: UUID) -> bool:
        """Whether a node's record is written already, by `origin`."""
        found: bool = await self._conn.fetchval(
            "SELECT EXISTS (SELECT FROM nodes WHERE id = $1 AND origin = $2)", node, origin
        )
        return found

    async def add(self, change: Change, node: Node, *, origin: UUID) -> None:
        await self._conn.execute(
            f"""
            INSERT INTO nodes (origin, owner_epoch, version, hash, public, {NODE})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            """,
            origin, change.owner_epoch, change.version, change.hash, change.public, node.id,
            node.parent,
            node.organization_code, node.display_name, node.level, node.public_key,
            node.certificate,
        )  # fmt: skip

    async def certificate(self, node: UUID, *, origin: UUID) -> bytes:
        """That of an own child; empty if there is none."""
        found: bytes | None = await self._conn.fetchval(
            "SELECT certificate FROM nodes WHERE id = $1 AND origin = $2", node, origin
        )
        return found or b""

    async def lock(self, node: UUID, *, origin: UUID) -> tuple[Node, Held]:
        """An own child and its record, held until the transaction ends."""
        row = await self._conn.fetchrow(
            f"""
            SELECT {NODE}, version, hash, public FROM nodes
             WHERE id = $1 AND origin = $2 FOR UPDATE
            """,
            node, origin,
        )  # fmt: skip
        assert row is not None
        facts = dict(row)
        held = Held(facts.pop("version"), facts.pop("hash"), facts.pop("public"))
        return Node(**facts), held

    async def renew(self, change: Change, certificate: bytes, *, origin: UUID) -> None:
        """Keep the certificate of an own child."""
        await self._conn.execute(
            """
            UPDATE nodes SET version = $3, hash = $4, public = $5, certificate = $6
             WHERE id = $1 AND origin = $2
            """,
            change.id, origin, change.version, change.hash, change.public, certificate,
        )  # fmt: skip


class Invitations:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def add(self, invitation: Invitation) -> None:
        await self._conn.execute(
            "INSERT INTO invitations (token_hash, organization_code, expire_time)"
            " VALUES ($1, $2, $3)",
            invitation.token_hash, invitation.organization_code, invitation.expire_time,
        )  # fmt: skip

    async def lock(self, token_hash: bytes) -> Invitation | None:
        row = await self._conn.fetchrow(
            """
            SELECT token_hash, organization_code, expire_time, node
              FROM invitations WHERE token_hash = $1 FOR UPDATE
            """,
            token_hash,
        )
        return Invitation(**row) if row else None

    async def use(self, token_hash: bytes, node: UUID) -> None:
        await self._conn.execute(
            "UPDATE invitations SET node = $2 WHERE token_hash = $1", token_hash, node
        )


class Enrollments:
    """Nodes that have shown an invitation; with a link token once they are admitted."""

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self._conn, self._sealer = conn, keyring.node

    async def add(self, node: Node, nats_user_key: str, *, fresh: bool) -> bool:
        """Keep what a child showed; False if the node has enrolled with other keys before.

        Args:
            fresh: whether the invitation is shown for the first time.  Then a node that has lost
                its database may come with another NATS user: it waits for a confirmation again.
        """
        return bool(
            await self._conn.fetchval(
                """
                INSERT INTO enrollments AS held (node, organization_code, display_name, level,
                                                 public_key, nats_user_key, certificate,
                                                 create_time)
                VALUES ($1, $2, $3, $4, $5, $6, $8, clock_timestamp())
                ON CONFLICT (node) DO UPDATE
                   SET nats_user_key = excluded.nats_user_key,
                       certificate = excluded.certificate,
                       link_token = CASE WHEN held.nats_user_key = excluded.nats_user_key
                                         THEN held.link_token END,
                       link_token_hash = CASE WHEN held.nats_user_key = excluded.nats_user_key
                                              THEN held.link_token_hash END,
                       revoke_time = NULL
                 WHERE held.public_key = excluded.public_key
                   AND (held.nats_user_key = excluded.nats_user_key OR $7)
                RETURNING true
                """,
                node.id, node.organization_code, node.display_name, node.level, node.public_key,
                nats_user_key, fresh, node.certificate,
            )
        )  # fmt: skip

    async def lock(self, node: UUID) -> Any | None:
        return await self._conn.fetchrow(
            "SELECT * FROM enrollments WHERE node = $1 FOR UPDATE", node
        )

    async def waiting(self) -> Sequence[Any]:
        """Those that no operator has confirmed, oldest first."""
        return await self._conn.fetch(
            """
            SELECT * FROM enrollments WHERE link_token IS NULL AND revoke_time IS NULL
             ORDER BY create_time, node
            """
        )

    async def admit(self, node: UUID, *, token: str, token_hash: bytes, user_jwt: str) -> None:
        await self._conn.execute(
            """
            UPDATE enrollments
               SET link_token = $2, link_token_hash = $3, user_jwt = $4
             WHERE node = $1
            """,
            node, self._sealer.seal(token.encode(), f"enrollments.link_token/{node}"), token_hash,
            user_jwt,
        )  # fmt: skip

    async def revoke(self, node: UUID) -> bool:
        """Whether there was one to take back, with the invitation that it came by."""
        await self._conn.execute("DELETE FROM invitations WHERE node = $1", node)
        return bool(
            await self._conn.fetchval(
                """
                UPDATE enrollments
                   SET link_token = NULL, link_token_hash = NULL, user_jwt = '',
                       revoke_time = coalesce(revoke_time, clock_timestamp())
                 WHERE node = $1 RETURNING true
                """,
                node,
            )
        )

    def token(self, row: Any) -> str:
        """The link token of an admitted node."""
        place = f"enrollments.link_token/{row['node']}"
        return self._sealer.open(row["link_token"], place).decode()

    async def by_token(self, token_hash: bytes) -> UUID | None:
        """The admitted node with this link token."""
        found: UUID | None = await self._conn.fetchval(
            "SELECT node FROM enrollments WHERE link_token_hash = $1", token_hash
        )
        return found

    async def key(self, node: UUID) -> bytes | None:
        """The public key of an admitted node."""
        found: bytes | None = await self._conn.fetchval(
            "SELECT public_key FROM enrollments WHERE node = $1 AND link_token IS NOT NULL", node
        )
        return found

    async def admitted(self) -> list[UUID]:
        """The nodes that an operator has confirmed."""
        rows = await self._conn.fetch("SELECT node FROM enrollments WHERE link_token IS NOT NULL")
        return [row["node"] for row in rows]


class Uplink:
    """What the parent gave to this node."""

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self._conn, self._sealer = conn, keyring.node

    async def seed(self, new: str) -> str:
        """The seed of this node's NATS user at the parent: `new` at first, the same ever after."""
        sealed = await self._conn.fetchval(
            """
            INSERT INTO uplink (nats_seed) VALUES ($1)
            ON CONFLICT (single) DO UPDATE SET single = true
            RETURNING nats_seed
            """,
            self._sealer.seal(new.encode(), "uplink.nats_seed"),
        )
        return self._sealer.open(sealed, "uplink.nats_seed").decode()

    async def get(self) -> Any | None:
        """The row, its link token opened; None until the parent has admitted this node."""
        row = await self._conn.fetchrow("SELECT * FROM uplink WHERE parent IS NOT NULL")
        if row is None:
            return None
        token = self._sealer.open(row["link_token"], "uplink.link_token").decode()
        return {**row, "link_token": token}

    async def save(
        self, *, parent: UUID, key: bytes, token: str, certificate: bytes, nats_url: str,
        user_jwt: str,
    ) -> None:  # fmt: skip
        """
        Args:
            key: the parent's, as the invitation named it.
            certificate: of this node's key, by the parent.
        """
        await self._conn.execute(
            """
            UPDATE uplink SET parent = $1, link_token = $2, nats_url = $3, user_jwt = $4,
                              parent_key = $5, link_certificate = $6
            """,
            parent, self._sealer.seal(token.encode(), "uplink.link_token"), nats_url, user_jwt,
            key, certificate,
        )  # fmt: skip

    async def chain(self) -> list[bytes]:
        """The certificates from this node's up to the top's; none if this is the top."""
        found: list[bytes] | None = await self._conn.fetchval("SELECT chain FROM uplink")
        return found or []

    async def save_chain(self, chain: Sequence[bytes]) -> None:
        await self._conn.execute("UPDATE uplink SET chain = $1", chain)


class Streams:
    """How far each stream is made or stored."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def list(self) -> list[Stream]:
        rows = await self._conn.fetch(
            """
            SELECT origin, service, channel, frame, hash, number, head, rewound, via, refusals,
                   refusal, clock_timestamp() - heard_time AS heard_age
              FROM streams ORDER BY origin, service, channel
            """
        )
        return [_stream(row) for row in rows]

    async def cursor(self, key: StreamKey) -> Cursor:
        """How far an own log is framed."""
        row = await self._conn.fetchrow(
            "SELECT number, run FROM streams"
            " WHERE origin = $1 AND service = $2 AND channel = $3",
            key.origin, key.service, key.channel,
        )  # fmt: skip
        return Cursor(row["number"], row["run"]) if row else Cursor(0, b"")

    async def lock(self, key: StreamKey, *, via: UUID | None) -> Any:
        """The row, made if it is new, held until the transaction ends."""
        query = (
            "SELECT * FROM streams WHERE origin = $1 AND service = $2 AND channel = $3 FOR UPDATE"
        )
        if row := await self._conn.fetchrow(query, key.origin, key.service, key.channel):
            return row
        await self._conn.execute(
            "INSERT INTO streams (origin, service, channel, via, hash) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT DO NOTHING",
            key.origin, key.service, key.channel, via, bytes(32),
        )  # fmt: skip
        return await self._conn.fetchrow(query, key.origin, key.service, key.channel)

    async def advance(
        self, frame: frame_pb2.Frame, key: StreamKey, *, run: bytes = b"", verified: bool,
        view: UUID | None = None,
    ) -> None:  # fmt: skip
        """Store the next frame of a locked stream, and move its cursor to it.

        Args:
            view: the one by which sections besides `public` were left in it, if it has any.
        """
        await self._conn.execute(
            """
            WITH moved AS (
                UPDATE streams
                   SET frame = $4, hash = $6, number = $9, run = $10, head = greatest(head, $9)
                 WHERE origin = $1 AND service = $2 AND channel = $3 AND frame = $4 - 1)
            INSERT INTO frames (origin, service, channel, number, previous_hash, hash,
                                verified, body, view)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $11)
            """,
            key.origin, key.service, key.channel, frame.number, frame.previous_hash, frame.hash,
            verified, frame.SerializeToString(), frame.last, run, view,
        )  # fmt: skip

    async def store(
        self, frame: frame_pb2.Frame, key: StreamKey, *, verified: bool, view: UUID | None = None
    ) -> None:
        """Store a frame that was gone; `view` as in `advance`."""
        await self._conn.execute(
            """
            INSERT INTO frames (origin, service, channel, number, previous_hash, hash,
                                verified, body, view)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            key.origin, key.service, key.channel, frame.number, frame.previous_hash, frame.hash,
            verified, frame.SerializeToString(), view,
        )  # fmt: skip

    async def refuse(self, key: StreamKey, refusal: str, times: int = 1) -> None:
        """Remember that what was brought of a stream is not what its origin signed, or, with an
        empty reason, that it is now."""
        await self._conn.execute(
            """
            UPDATE streams SET refusal = $4, refusals = refusals + $5
             WHERE origin = $1 AND service = $2 AND channel = $3 AND (refusal <> '' OR $5 > 0)
            """,
            key.origin, key.service, key.channel, refusal, times if refusal else 0,
        )  # fmt: skip

    async def hear(
        self, heads: Sequence[tuple[StreamKey, int, timedelta]], *, via: UUID | None
    ) -> None:
        """Heads that were told, and how long ago; a greater one that is known stays."""
        await self._conn.execute(
            """
            INSERT INTO streams AS held (origin, service, channel, via, hash, head, heard_time)
            SELECT origin, service, channel, $6, $7, head, clock_timestamp() - age
              FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::interval[])
                   AS told(origin, service, channel, head, age)
            ON CONFLICT (origin, service, channel) DO UPDATE
               SET head = greatest(held.head, excluded.head),
                   heard_time = greatest(held.heard_time, excluded.heard_time)
            """,
            [key.origin for key, _, _ in heads], [key.service for key, _, _ in heads],
            [key.channel for key, _, _ in heads], [head for _, head, _ in heads],
            [age for _, _, age in heads], via, bytes(32),
        )  # fmt: skip

    async def forgive(self, refusal: str) -> None:
        """Nothing that was refused for this reason is waited for any more."""
        await self._conn.execute("UPDATE streams SET refusal = '' WHERE refusal = $1", refusal)

    async def rewind(self, key: StreamKey, rewound: bool) -> None:
        """Show whether the frames that come do not continue what is stored."""
        await self._conn.execute(
            "UPDATE streams SET rewound = $4"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND rewound <> $4",
            key.origin, key.service, key.channel, rewound,
        )  # fmt: skip

    async def put(
        self, key: StreamKey, *, frame: int, hash_: bytes, number: int, run: bytes
    ) -> None:
        """Let a locked stream go on behind a frame that is not stored here."""
        await self._conn.execute(
            """
            UPDATE streams
               SET frame = $4, hash = $5, number = $6, run = $7, head = greatest(head, $6),
                   rewound = false
             WHERE origin = $1 AND service = $2 AND channel = $3
            """,
            key.origin, key.service, key.channel, frame, hash_, number, run,
        )  # fmt: skip

    async def resume(self, stream: Stream, *, run: bytes) -> None:
        """The run in which an own log goes on behind what is framed, unless that has changed."""
        key = stream.key
        await self._conn.execute(
            "UPDATE streams SET run = $5, rewound = false"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND hash = $4",
            key.origin, key.service, key.channel, stream.hash, run,
        )  # fmt: skip


class Frames:
    """The frames that are stored."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def after(self, key: StreamKey, frame: int, *, most: int) -> Sequence[Any]:
        """number, verified and body of the frames after one, in order, about `most` bytes."""
        rows = await self._conn.fetch(
            """
            SELECT number, verified, body FROM (
                SELECT number, verified, body,
                       sum(length(body)) OVER (ORDER BY number) - length(body) AS before
                  FROM (SELECT number, verified, body FROM frames
                         WHERE origin = $1 AND service = $2 AND channel = $3 AND number > $4
                         ORDER BY number LIMIT 64) next) sized
             WHERE before < $5 ORDER BY number
            """,
            key.origin, key.service, key.channel, frame, most,
        )  # fmt: skip
        return rows

    async def hash(self, key: StreamKey, number: int) -> bytes | None:
        """The hash of a stored frame."""
        found: bytes | None = await self._conn.fetchval(
            "SELECT hash FROM frames"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND number = $4",
            key.origin, key.service, key.channel, number,
        )  # fmt: skip
        return found

    async def follower(self, key: StreamKey, number: int) -> bytes | None:
        """What the frame after `number` says of the hash of the one before it."""
        found: bytes | None = await self._conn.fetchval(
            "SELECT previous_hash FROM frames"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND number = $4",
            key.origin, key.service, key.channel, number + 1,
        )  # fmt: skip
        return found

    async def freed(self, key: StreamKey, number: int) -> bool:
        """Whether neither this frame nor one before it is stored."""
        return not await self._conn.fetchval(
            "SELECT EXISTS (SELECT FROM frames"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND number <= $4)",
            key.origin, key.service, key.channel, number,
        )  # fmt: skip

    async def cut(self, key: StreamKey, number: int) -> None:
        """Forget the frames from this number on."""
        await self._conn.execute(
            "DELETE FROM frames"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND number >= $4",
            key.origin, key.service, key.channel, number,
        )  # fmt: skip

    async def detached(self) -> dict[StreamKey, list[str]]:
        """The readers that need a frame that is no longer stored."""
        rows = await self._conn.fetch(
            """
            SELECT origin, service, channel, array_agg(reader ORDER BY reader) AS readers
              FROM frame_receipts held JOIN streams USING (origin, service, channel)
             WHERE held.frame < streams.frame
               AND NOT EXISTS (SELECT FROM frames
                                WHERE frames.origin = held.origin
                                  AND frames.service = held.service
                                  AND frames.channel = held.channel
                                  AND frames.number = held.frame + 1)
             GROUP BY origin, service, channel
            """
        )
        return {
            StreamKey(row["origin"], row["service"], row["channel"]): row["readers"] for row in rows
        }

    async def missing(self, key: StreamKey, after: int, last: int) -> list[int]:
        """At most 100 numbers after `after`, up to `last`, of which no frame is stored."""
        rows = await self._conn.fetch(
            """
            SELECT number FROM generate_series($4::bigint + 1, $5::bigint) number
             WHERE NOT EXISTS (SELECT FROM frames WHERE origin = $1 AND service = $2
                                  AND channel = $3 AND frames.number = number.number)
             ORDER BY number LIMIT 100
            """,
            key.origin, key.service, key.channel, after, last,
        )  # fmt: skip
        return [row["number"] for row in rows]

    async def one(self, key: StreamKey, number: int) -> frame_pb2.Frame | None:
        """A frame, if it is stored."""
        bodies = await self.some(key, [number])
        return frame_pb2.Frame.FromString(bodies[0]) if bodies else None

    async def some(self, key: StreamKey, numbers: Iterable[int]) -> list[bytes]:
        """The bodies of these frames, as far as they are stored."""
        rows = await self._conn.fetch(
            "SELECT body FROM frames WHERE origin = $1 AND service = $2 AND channel = $3"
            " AND number = ANY ($4) ORDER BY number",
            key.origin, key.service, key.channel, list(numbers),
        )  # fmt: skip
        return [row["body"] for row in rows]

    async def verify(self, key: StreamKey, number: int) -> None:
        """Remember that the signature was checked."""
        await self._conn.execute(
            "UPDATE frames SET verified = true"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND number = $4",
            key.origin, key.service, key.channel, number,
        )  # fmt: skip

    async def settle(self, reader: str, receipts: Iterable[tuple[StreamKey, int]]) -> None:
        """How far a reader has committed: the latest receipt counts, also when it goes back.

        One that has not changed is not written again, for that would have to be flushed.
        """
        told = list(receipts)
        await self._conn.execute(
            """
            INSERT INTO frame_receipts (reader, origin, service, channel, frame)
            SELECT $1, told.*
              FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[])
                   AS told(origin, service, channel, frame)
              LEFT JOIN frame_receipts held
                ON held.reader = $1 AND held.origin = told.origin
               AND held.service = told.service AND held.channel = told.channel
             WHERE held.frame IS DISTINCT FROM told.frame
            ON CONFLICT (reader, origin, service, channel) DO UPDATE SET frame = excluded.frame
            """,
            reader, [key.origin for key, _ in told], [key.service for key, _ in told],
            [key.channel for key, _ in told], [frame for _, frame in told],
        )  # fmt: skip

    async def free(self, *, own: UUID, parent: bool, keep: timedelta, detach: timedelta) -> int:
        """Forget frames that every reader has passed and that no backup may need; how many.

        The readers of a stream are who numbers arrivals, the parent, if there is one, of streams
        that travel down the children instead of both, and for streams of other nodes the service
        of this node that keeps the copies.  A reader without a
        receipt has passed nothing.  One that is further behind than `detach` keeps nothing: it
        returns by a snapshot.  The last frame stays: in a quiet stream it is the certificate that
        proves a snapshot.
        """
        freed = await self._conn.fetchval(
            """
            WITH freed AS (DELETE FROM frames USING (
                SELECT origin, service, channel, streams.frame AS last,
                       CASE WHEN count(held.frame) < count(*) THEN 0
                            ELSE min(held.frame) END AS passed
                  FROM streams
                 CROSS JOIN LATERAL (SELECT 'arrivals' AS reader
                                       WHERE NOT (channel = 'down' AND via IS NOT NULL)
                                      UNION ALL SELECT 'parent' WHERE $2 AND channel <> 'down'
                                      UNION ALL SELECT service WHERE origin <> $1
                                      UNION ALL SELECT node::text FROM enrollments
                                       WHERE channel = 'down' AND link_token IS NOT NULL) reader
                  LEFT JOIN frame_receipts held USING (reader, origin, service, channel)
                 GROUP BY origin, service, channel, streams.frame) readers
             WHERE frames.origin = readers.origin AND frames.service = readers.service
               AND frames.channel = readers.channel AND frames.number < readers.last
               AND ((frames.number <= readers.passed
                     AND frames.store_time < clock_timestamp() - $3::interval)
                    OR frames.store_time < clock_timestamp() - $4::interval)
             RETURNING frames.*
            ), gone AS (
                DELETE FROM arrivals USING freed
                 WHERE arrivals.origin = freed.origin AND arrivals.service = freed.service
                   AND arrivals.channel = freed.channel AND arrivals.frame = freed.number
                RETURNING arrivals.number
            ), trimmed AS (
                UPDATE arrival_head SET trimmed = greatest(trimmed, last)
                  FROM (SELECT max(number) AS last FROM gone) gone WHERE last > 0
            )
            SELECT count(*) FROM freed
            """,
            own, parent, keep, detach,
        )  # fmt: skip
        return int(freed)


class Store:
    """One transaction: all repositories on one connection, committed or undone together."""

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self.nodes = Nodes(conn)
        self.homes = Homes(conn)
        self.invitations = Invitations(conn)
        self.enrollments = Enrollments(conn, keyring)
        self.uplink = Uplink(conn, keyring)
        self.streams = Streams(conn)
        self.frames = Frames(conn)
        self.arrivals = Arrivals(conn)
        self.trusted_keys = TrustedKeys(conn)
        self.directives = Directives(conn)
        self.directive_reports = DirectiveReports(conn)
        self.views = Views(conn)
        self.view_reports = ViewReports(conn)
        self.sections = Sections(conn)
        self.subscribers = Subscribers(conn)
        self.outbox = Outbox(conn)
        self.calls = Calls(conn, keyring)


def _stream(row: Any) -> Stream:
    return Stream(
        key=StreamKey(row["origin"], row["service"], row["channel"]),
        frame=row["frame"], hash=row["hash"], number=row["number"], head=row["head"],
        heard_age=row["heard_age"], rewound=row["rewound"], via=row["via"],
        refusals=row["refusals"], refusal=row["refusal"],
    )  # fmt: skip
