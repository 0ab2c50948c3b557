"""Arrival numbers and subscribers.  The order of arrival is the order in which events are read."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from kit.db import Connection
from services.sync.domain.streams import StreamKey
from services.sync.domain.watching import EventFilter, Subscriber

READER = "arrivals"
"""Numbers frames: until it has, they are not freed."""

STEP = 64
"""Frames of a stream that are numbered at once."""

# Of each stream, how far its frames are numbered.
_FOLLOWED = f"""
    SELECT streams.origin, streams.service, streams.channel, coalesce(held.frame, 0) AS numbered
      FROM streams
      LEFT JOIN frame_receipts held
        ON held.reader = '{READER}' AND held.origin = streams.origin
       AND held.service = streams.service AND held.channel = streams.channel
     WHERE streams.frame > coalesce(held.frame, 0)
       AND NOT (streams.channel = 'down' AND streams.via IS NOT NULL)
"""


class Arrivals:
    """The order in which the frames of all streams became readable here."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def lead(self, run: UUID) -> bool:
        """Begin a run, if nobody else numbers; the right to do so lasts as long as the connection.

        A run begins at the head that nobody else can move any more.
        """
        if not await self._conn.fetchval("SELECT pg_try_advisory_lock(hashtext('arrivals'))"):
            return False
        await self._conn.execute(
            "INSERT INTO arrival_runs (first, run) SELECT head + 1, $1 FROM arrival_head", run
        )
        return True

    async def head(self) -> int:
        """The last number that was given."""
        return int(await self._conn.fetchval("SELECT head FROM arrival_head"))

    async def waiting(self) -> bool:
        """Whether there are frames that have no number."""
        return bool(await self._conn.fetchval(f"SELECT EXISTS ({_FOLLOWED})"))

    async def number(self) -> int:
        """Number committed frames that have none; how many.

        Of each stream only those that follow without a hole and whose signature was checked; so a
        stream's frames keep their order, and one that cannot be checked keeps only its own stream
        waiting.  Between streams, `urgent` goes first.  It never asks for what is new since a
        moment or a number: frames of different streams commit in any order.
        """
        async with self._conn.transaction():
            await self._lock()  # what is read after it is read after every jump
            return await self._number()

    async def _lock(self) -> None:
        await self._conn.execute("SELECT FROM arrival_head FOR UPDATE")

    async def _number(self) -> int:
        status = await self._conn.execute(
            f"""
            WITH next AS (
                SELECT origin, service, channel, found.number,
                       found.number = numbered + row_number() OVER stream
                       AND bool_and(found.verified) OVER stream AS follows
                  FROM ({_FOLLOWED}) followed
                 CROSS JOIN LATERAL (
                       SELECT number, verified FROM frames
                        WHERE frames.origin = followed.origin
                          AND frames.service = followed.service
                          AND frames.channel = followed.channel AND number > numbered
                        ORDER BY number LIMIT {STEP}) found
                WINDOW stream AS (PARTITION BY origin, service, channel ORDER BY found.number)
            ), taken AS (
                SELECT origin, service, channel, number,
                       row_number() OVER (ORDER BY channel <> 'urgent', origin, service, number)
                       AS place
                  FROM next WHERE follows
            ), moved AS (
                UPDATE arrival_head SET head = head + (SELECT count(*) FROM taken)
                 WHERE EXISTS (SELECT FROM taken)
                RETURNING head - (SELECT count(*) FROM taken) AS before
            ), settled AS (
                INSERT INTO frame_receipts (reader, origin, service, channel, frame)
                SELECT '{READER}', origin, service, channel, max(number)
                  FROM taken GROUP BY origin, service, channel
                ON CONFLICT (reader, origin, service, channel) DO UPDATE
                   SET frame = excluded.frame
            )
            INSERT INTO arrivals (number, origin, service, channel, frame)
            SELECT before + place, origin, service, channel, number FROM taken, moved
            """
        )
        return int(status.split()[-1])

    async def cut(self, key: StreamKey, frame: int) -> None:
        """Forget what arrived of a stream from a frame on: others take its place."""
        await self._lock()
        await self._conn.execute(
            "DELETE FROM arrivals"
            " WHERE origin = $1 AND service = $2 AND channel = $3 AND frame >= $4",
            key.origin, key.service, key.channel, frame,
        )  # fmt: skip
        await self._conn.execute(
            "UPDATE frame_receipts SET frame = greatest($4::bigint - 1, 0) WHERE reader = $5"
            " AND origin = $1 AND service = $2 AND channel = $3 AND frame >= $4",
            key.origin, key.service, key.channel, frame, READER,
        )  # fmt: skip

    async def jump(self, key: StreamKey, frame: int) -> None:
        """Go on behind a frame of a stream whose frames before are gone.

        If it was followed here before, nobody can be told all of it, so everybody must begin again.
        """
        await self.cut(key, 0)
        await self._conn.execute(
            """
            UPDATE arrival_head SET head = head + 1, trimmed = head + 1
             WHERE EXISTS (SELECT FROM streams WHERE origin = $1 AND service = $2
                              AND channel = $3 AND frame > 0)
            """,
            key.origin, key.service, key.channel,
        )  # fmt: skip
        await self._conn.execute(
            """
            INSERT INTO frame_receipts (reader, origin, service, channel, frame)
            VALUES ($5, $1, $2, $3, $4)
            ON CONFLICT (reader, origin, service, channel) DO UPDATE SET frame = excluded.frame
            """,
            key.origin, key.service, key.channel, frame, READER,
        )  # fmt: skip

    async def unverified(self, origins: Collection[UUID]) -> Sequence[Any]:
        """Of each stream of these nodes, the next frame, if its signature was not checked yet."""
        rows = await self._conn.fetch(
            f"""
            SELECT origin, service, channel, number, body
              FROM ({_FOLLOWED}) followed
              JOIN frames USING (origin, service, channel)
             WHERE number = numbered + 1 AND NOT verified AND origin = ANY ($1)
            """,
            list(origins),
        )
        return rows

    async def stalled(self) -> list[tuple[StreamKey, int]]:
        """Of each stream, the frame that would be numbered next, if it is not stored."""
        rows = await self._conn.fetch(
            f"""
            SELECT origin, service, channel, numbered + 1 AS number
              FROM ({_FOLLOWED}) followed
             WHERE NOT EXISTS (SELECT FROM frames
                                WHERE frames.origin = followed.origin
                                  AND frames.service = followed.service
                                  AND frames.channel = followed.channel
                                  AND number = numbered + 1)
            """
        )
        return [
            (StreamKey(row["origin"], row["service"], row["channel"]), row["number"])
            for row in rows
        ]

    async def mark(self) -> Any:
        """head, trimmed and published, each number with the run in which it was given."""
        return await self._conn.fetchrow(
            """
            SELECT head, arrival_run(head) AS head_run, trimmed,
                   arrival_run(trimmed) AS trimmed_run, published FROM arrival_head
            """
        )

    async def run_of(self, number: int) -> UUID:
        """The run in which a number was given."""
        found: UUID = await self._conn.fetchval("SELECT arrival_run($1)", number)
        return found

    async def after(
        self, number: int, origins: Collection[UUID] | None, *, most: int
    ) -> Sequence[Any]:
        """The frames of these nodes (all, if None) that arrived after a number, in that order.

        `body` is NULL of a frame that is gone from storage although nobody freed it.
        """
        rows = await self._conn.fetch(
            """
            SELECT next.*, arrival_run(next.number) AS run, body
              FROM (SELECT * FROM arrivals
                     WHERE number > $1 AND ($2::uuid[] IS NULL OR origin = ANY ($2))
                     ORDER BY number LIMIT $3) next
              LEFT JOIN frames
                ON frames.origin = next.origin AND frames.service = next.service
               AND frames.channel = next.channel AND frames.number = next.frame
             ORDER BY next.number
            """,
            number, None if origins is None else list(origins), most,
        )  # fmt: skip
        return rows

    async def publish(self, before: int, after: int) -> bool:
        """Move the cursor of the stream BELOW; False if someone else has moved it."""
        status = await self._conn.execute(
            "UPDATE arrival_head SET published = $2 WHERE published = $1", before, after
        )
        return bool(status == "UPDATE 1")


COLUMNS = "id, display_name, nats_user_key, types, origins, subtree, user_jwt, create_time"


class Subscribers:
    """Programs that read the stream BELOW."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def add(self, subscriber: Subscriber) -> None:
        await self._conn.execute(
            f"INSERT INTO subscribers ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            subscriber.id, subscriber.display_name, subscriber.nats_user_key,
            subscriber.filter.types, subscriber.filter.origins, subscriber.filter.subtree,
            subscriber.user_jwt, subscriber.create_time,
        )  # fmt: skip

    async def page(self, after: UUID, size: int) -> list[Subscriber]:
        """Those that were made after one, oldest first."""
        rows = await self._conn.fetch(
            "SELECT * FROM subscribers WHERE id > $1 ORDER BY id LIMIT $2", after, size
        )
        return [_subscriber(row) for row in rows]

    async def all(self) -> list[Subscriber]:
        rows = await self._conn.fetch("SELECT * FROM subscribers ORDER BY id")
        return [_subscriber(row) for row in rows]

    async def lock(self, id_: UUID) -> Subscriber | None:
        row = await self._conn.fetchrow("SELECT * FROM subscribers WHERE id = $1 FOR UPDATE", id_)
        return _subscriber(row) if row else None

    async def revoke(self, subscriber: Subscriber) -> None:
        await self._conn.execute(
            "UPDATE subscribers SET revoke_time = $2 WHERE id = $1",
            subscriber.id, subscriber.revoke_time,
        )  # fmt: skip


def _subscriber(row: Any) -> Subscriber:
    filter_ = EventFilter(
        types=tuple(row["types"]), origins=tuple(row["origins"]), subtree=row["subtree"]
    )
    return Subscriber(
        id=row["id"], display_name=row["display_name"], nats_user_key=row["nats_user_key"],
        filter=filter_, user_jwt=row["user_jwt"], create_time=row["create_time"],
        revoke_time=row["revoke_time"],
    )  # fmt: skip
