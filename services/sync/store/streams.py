"""How far each stream is made or stored."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from kit.db import Connection
from services.sync.domain.streams import Cursor, Stream, StreamKey
from smartunion.sync.v1 import frame_pb2


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

    async def hear_own(self, key: StreamKey, cursor: Cursor, head: int) -> bool:
        """The head of an own log that was heard just now; False if the stream does not stand at the
        cursor.  Not flushed: it is heard again every second."""
        return bool(
            await self._conn.fetchval(
                """
                UPDATE streams SET head = greatest(head, $6), heard_time = clock_timestamp()
                  FROM set_config('synchronous_commit', 'off', true)
                 WHERE origin = $1 AND service = $2 AND channel = $3 AND number = $4 AND run = $5
                RETURNING true
                """,
                key.origin, key.service, key.channel, cursor.number, cursor.run, head,
            )
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


def _stream(row: Any) -> Stream:
    return Stream(
        key=StreamKey(row["origin"], row["service"], row["channel"]),
        frame=row["frame"], hash=row["hash"], number=row["number"], head=row["head"],
        heard_age=row["heard_age"], rewound=row["rewound"], via=row["via"],
        refusals=row["refusals"], refusal=row["refusal"],
    )  # fmt: skip
