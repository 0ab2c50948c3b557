"""The frames that are stored, and who has read how far."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from kit.db import Connection
from services.sync.domain.streams import StreamKey
from smartunion.sync.v1 import frame_pb2


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
