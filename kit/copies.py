"""Copies: how a service applies the frames of the nodes below, each once and in order.

The cursor of a stream is moved by compare-and-set in the transaction that applies its frame, which
locks replicas out.  An entry that cannot be applied is parked: it blocks nothing and is never
dropped.  At a certificate the copies are compared with what the origin vouches for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.message import DecodeError

from kit import proofs, sections
from kit.carrier import WAIT
from kit.db import PASSING, Connection, Pool
from kit.frames import FrameBroken, Line, lines
from kit.records import (
    CERTIFICATE,
    SECTIONS,
    Kind,
    groups_of,
    hash_of,
    is_held,
    named,
    record_hash,
)
from kit.waiting import unhurried
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2, sync_pb2, sync_pb2_grpc

logger = logging.getLogger(__name__)


RECOUNT_EVERY = 10.0
"""Seconds between two recounts of some of the copies."""
LOOK_EVERY = 5.0
"""Seconds between two looks for sections that are lacking, while any may be."""

LOOK_SELDOM = 300.0
"""The same, while the same ones are lacking for long."""


class CursorMoved(Exception):
    """Another replica of this service has applied the frame, or one that was killed since, or a
    snapshot took its place; begin again at the cursor."""


FAILURES = (*PASSING, CursorMoved, grpc.aio.AioRpcError)


class Copies:
    """The copies that one service keeps of the records of the nodes below."""

    def __init__(
        self, pool: Pool, node: UUID, service: str, kinds: Sequence[Kind],
        sync: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...],
    ) -> None:  # fmt: skip
        self._pool, self.node, self._service = pool, node, service
        self._kinds = {kind.name: kind for kind in kinds}
        self._sync = sync_pb2_grpc.SyncServiceStub(sync)
        self._metadata = metadata
        self.shown: Collection[str] = ()
        """The sections besides `public` that may be held here, as `kit.records.named` names them:
        what the view in force says, as sync told it last."""
        self.view = ""
        """The view to which all copies hold: what it does not show is deleted from them."""
        self.lacking: Mapping[tuple[UUID, str], Sequence[int]] = {}
        """The buckets with records of which a section that is shown is not held, by stream."""
        self._doubt, self._looked, self._pause = True, 0.0, LOOK_EVERY
        self._stuck: dict[bytes, int] = {}
        """The frames that cannot be applied, by stream: each is told once."""

    async def run(self) -> None:
        """Until cancelled.  What passes by itself is survived by beginning again."""
        away, idle, recounted = False, False, 0.0
        await self._until_done(self.redrive)
        while True:
            began, waits = monotonic(), idle
            try:
                idle = not await self.step(wait=WAIT if waits else 0.0)
                away = False
                if self._doubt and monotonic() - self._looked > self._pause:
                    await self._look()
                if monotonic() - recounted > RECOUNT_EVERY:
                    recounted = monotonic()
                    await self._recount()
            except FAILURES as error:
                if not away:
                    logger.info("copies begin again", extra={"error": type(error).__name__})
                away, idle = True, False
                await asyncio.sleep(0.2)
            else:
                if idle and waits:
                    await unhurried(began)

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await work()
            except FAILURES:
                await asyncio.sleep(0.2)

    async def _recount(self) -> None:
        async with self._pool.acquire() as conn:
            await proofs.recount_some(conn, list(self._kinds.values()), self.node)

    async def step(self, *, wait: float = 0.0) -> bool:
        """Read and apply what follows the cursors, for which sync waits so many seconds; whether
        there was anything."""
        cursors = await self._pool.fetch(
            "SELECT origin, channel, frame FROM proofs WHERE origin <> $1", self.node
        )
        answer = await self._sync.ReadLog(
            sync_pb2.ReadLogRequest(
                reader=self._service,
                after=[
                    sync_pb2.Receipt(stream=self._stream(row), frame=row["frame"])
                    for row in cursors
                ],
                wait=timedelta(seconds=wait),
            ),
            metadata=self._metadata,
            timeout=10,
        )
        await self._show_gaps(answer.gaps, cursors)
        if (answer.view, frozenset(answer.sections)) != (self.view, self.shown):
            await self._hold_to(answer.view, frozenset(answer.sections))
        applied = await self._apply_all(answer.frames)
        if answer.frames and not applied:
            await asyncio.sleep(WAIT)  # they are there, so sync does not wait
        return applied

    async def _show_gaps(self, gaps: Sequence[frame_pb2.Stream], cursors: Sequence[Any]) -> None:
        """Say of streams that they have a hole, unless a snapshot has moved the cursor since."""
        asked = {(row["origin"], row["channel"]): row["frame"] for row in cursors} if gaps else {}
        for stream in gaps:
            key = UUID(bytes=stream.origin), stream.channel
            await self._pool.execute(
                """
                INSERT INTO proofs AS held (origin, channel, verdict) VALUES ($1, $2, $3)
                ON CONFLICT (origin, channel) DO UPDATE SET verdict = excluded.verdict
                 WHERE held.frame = $4
                """,
                *key, log_pb2.GAP, asked.get(key, 0),
            )  # fmt: skip

    async def _hold_to(self, view: str, shown: frozenset[str]) -> None:
        """Hold to a view: nothing else is taken from now on, what it does not show is deleted."""
        self.shown = shown
        for kind in self._kinds.values():
            for section in kind.sections:
                if named(kind.name, section) not in shown:
                    await sections.forget(self._pool, kind, section, self.node)
        await sections.forget_parked(self._pool, shown)
        self.view, self._doubt, self._looked, self._pause = view, True, 0.0, LOOK_EVERY

    async def _look(self) -> None:
        """See of which records a section is lacking that is shown."""
        self._doubt = False
        kinds = list(self._kinds.values())
        found = await sections.lacking(self._pool, kinds, self.shown, self.node)
        # What is lacking for long may never come, and is looked for less often.
        same = found == self.lacking
        self._pause = min(2 * self._pause, LOOK_SELDOM) if same else LOOK_EVERY
        self.lacking = found
        self._doubt, self._looked = self._doubt or bool(found), monotonic()

    async def _apply_all(self, frames: Sequence[frame_pb2.Frame]) -> bool:
        """Apply frames; what keeps one stream from going on does not keep the others."""
        applied, kept_out = False, set[bytes]()
        for frame in frames:
            stream = frame.stream.origin + frame.stream.channel.encode()
            if stream in kept_out:
                continue
            try:
                async with self._pool.acquire() as conn, conn.transaction():
                    await self._apply_frame(conn, frame)
                applied = True
                self._stuck.pop(stream, None)
            except CursorMoved:
                kept_out.add(stream)
            except FrameBroken as error:
                kept_out.add(stream)
                if self._stuck.get(stream) == frame.number:
                    continue
                self._stuck[stream] = frame.number
                origin = str(UUID(bytes=frame.stream.origin))
                facts = {"origin": origin, "frame": frame.number, "error": repr(error)}
                logger.error("frame not applied", extra=facts)
        return applied

    def _stream(self, row: Any) -> frame_pb2.Stream:
        return frame_pb2.Stream(
            origin=row["origin"].bytes, service=self._service, channel=row["channel"]
        )

    async def _apply_frame(self, conn: Connection, frame: frame_pb2.Frame) -> None:
        """One frame and the cursor, together.  Moving the cursor first locks replicas out."""
        origin, channel = UUID(bytes=frame.stream.origin), frame.stream.channel
        if frame.number == 1:
            await conn.execute(
                "INSERT INTO proofs (origin, channel) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                origin, channel,
            )  # fmt: skip
        if not await conn.fetchval(
            """
            UPDATE proofs SET frame = $3, applied = $4,
                   verdict = CASE verdict WHEN $5 THEN $6 ELSE verdict END
             WHERE origin = $1 AND channel = $2 AND frame = $3 - 1 AND applied = $7 - 1
            RETURNING true
            """,
            origin, channel, frame.number, frame.last, log_pb2.GAP, log_pb2.UNPROVEN,
            frame.first,
        ):  # fmt: skip
            at = await conn.fetchval(
                "SELECT frame FROM proofs WHERE origin = $1 AND channel = $2", origin, channel
            )
            if at == frame.number - 1:
                raise FrameBroken("numbers")
            raise CursorMoved(str(at))
        run: list[Line] = []
        for line in lines(frame):
            if line.kind == CERTIFICATE:
                await self.apply(conn, origin, channel, run)
                run = []
                certificate = _certificate(line.event)
                kinds = list(self._kinds.values())
                await proofs.compare(conn, kinds, origin, channel, certificate)
            else:
                run.append(line)
        await self.apply(conn, origin, channel, run)

    async def apply(
        self, conn: Connection, origin: UUID, channel: str, run: Sequence[Line]
    ) -> None:
        """Write lines as copies; those that cannot be applied are parked."""
        if self.shown and not self._doubt:
            self._doubt = any(_lacks(line, self.shown) for line in run)
        by_kind: dict[str, list[Line]] = {}
        for line in run:
            by_kind.setdefault(line.kind, []).append(line)
        for kind, of_kind in by_kind.items():
            await self._halve(conn, origin, channel, self._kinds.get(kind), of_kind)

    async def _halve(
        self, conn: Connection, origin: UUID, channel: str, kind: Kind | None, run: list[Line]
    ) -> None:
        """Halve a failing batch until the failing entry is alone, and park that."""
        if kind is None or kind.channel != channel:  # a child may not bring what travels down
            await self._park(conn, origin, channel, run, "unknown kind")
            return
        try:
            rows = [row_of(kind, origin, line, self.shown) for line in run]
            async with conn.transaction():
                await _upsert(conn, kind, origin, channel, rows)
        except Exception as error:
            # A value that cannot even be sent is an InterfaceError too, and does not pass.
            if isinstance(error, PASSING) and not isinstance(error, ValueError):
                raise
            if len(run) == 1:
                await self._park(conn, origin, channel, run, type(error).__name__)
            else:
                middle = len(run) // 2
                await self._halve(conn, origin, channel, kind, run[:middle])
                await self._halve(conn, origin, channel, kind, run[middle:])

    async def _park(
        self, conn: Connection, origin: UUID, channel: str, run: list[Line], reason: str
    ) -> None:
        logger.warning("parked", extra={"origin": str(origin), "reason": reason, "n": len(run)})
        await conn.executemany(
            """
            INSERT INTO parked VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            ON CONFLICT DO NOTHING
            """,
            [
                (origin, channel, line.number, line.kind, line.id, line.owner_epoch, line.version,
                 line.hash, line.public or b"", reason, *_sections(line, SECTIONS, self.shown))
                for line in run
            ],
        )  # fmt: skip

    async def redrive(self) -> None:
        """Apply what was parked, as far as this version of the software can."""
        for row in await self._pool.fetch(
            "SELECT DISTINCT origin, channel FROM parked WHERE kind = ANY ($1)",
            list(self._kinds),
        ):
            origin, channel = row
            async with self._pool.acquire() as conn, conn.transaction():
                await conn.execute(
                    "SELECT FROM proofs WHERE origin = $1 AND channel = $2 FOR UPDATE",
                    origin, channel,
                )  # fmt: skip
                rows = await conn.fetch(
                    """
                    DELETE FROM parked WHERE origin = $1 AND channel = $2 AND kind = ANY ($3)
                    RETURNING *
                    """,
                    origin, channel, list(self._kinds),
                )  # fmt: skip
                run = sorted(map(_parked, rows), key=lambda line: line.number)
                await self.apply(conn, origin, channel, run)


def _certificate(event: bytes) -> log_pb2.Certificate:
    """Raises FrameBroken if it is none."""
    try:
        certificate = log_pb2.Certificate.FromString(event)
        certificate.certify_time.ToDatetime()
    except (DecodeError, ValueError, OverflowError):
        raise FrameBroken("certificate") from None
    if len(certificate.digests) != 4096:
        raise FrameBroken("certificate")
    return certificate


def _lacks(line: Line, shown: Collection[str]) -> bool:
    return any(
        named(line.kind, name) in shown and not is_held(section)
        for name, section in line.sections.items()
    )


def _parked(row: Any) -> Line:
    others = {name: row[name] for name in SECTIONS if row[name] is not None}
    return Line(row["number"], row["kind"], row["id"], row["owner_epoch"], row["version"],
                row["hash"], row["public"], sections=others)  # fmt: skip


def _sections(line: Line, names: Sequence[str], shown: Collection[str]) -> list[bytes | None]:
    """The sections of a line by these names: those shown, of the others the hash."""
    found: list[bytes | None] = []
    for name in names:
        section = line.sections.get(name)
        if section is not None and named(line.kind, name) not in shown:
            section = hash_of(section)
        found.append(section)
    return found


def row_of(
    kind: Kind, origin: UUID, line: Line, shown: Collection[str] | None = None
) -> tuple[Any, ...]:
    """A line as columns.  Raises FrameBroken if a section is not what its hash says.

    Args:
        shown: the sections besides `public` that are kept, as `kit.records.named` names them; None:
            all that there are.
    """
    if line.public is None:
        raise FrameBroken("section")
    if line.owner_epoch != 1:
        raise FrameBroken("owner epoch")  # no record can change hands yet
    groups = groups_of(line.public, line.sections)
    if line.hash != record_hash(kind.name, line.id, line.owner_epoch, line.version, groups):
        raise FrameBroken("record")
    values = kind.parse(line.public)
    if not kind.may(origin, values):
        raise FrameBroken("not the origin's to say")
    if shown is None:
        others = [line.sections.get(name) for name in kind.sections]
    else:
        others = _sections(line, kind.sections, shown)
    return (line.id, line.owner_epoch, line.version, line.hash, line.public, *others, *values)


async def _upsert(
    conn: Connection, kind: Kind, origin: UUID, channel: str, rows: list[tuple[Any, ...]]
) -> None:
    """Write the rows and what they change of the sums; an older state never replaces a newer.
    What was parked of these records is superseded.

    The same state replaces itself, so that an assertion puts right what was altered here.
    """
    await conn.execute(
        _upsert_statement(kind), origin, channel, kind.name, *zip(*rows, strict=True)
    )


def _upsert_statement(kind: Kind) -> str:
    columns = {"id": "uuid", "owner_epoch": "int", "version": "bigint", "hash": "bytea",
               "public": "bytea", **dict.fromkeys(kind.sections, "bytea"),
               **kind.fields}  # fmt: skip
    names = ", ".join(columns)
    arrays = ", ".join(f"${at}::{type_}[]" for at, type_ in enumerate(columns.values(), start=4))
    sets = ", ".join(
        f"{name} = {_kept(name) if name in kind.sections else f'excluded.{name}'}"
        for name in columns
        if name != "id"
    )
    # A frame can hold one record twice; ON CONFLICT must see it once.
    return f"""
        WITH line AS (
            SELECT DISTINCT ON (id) * FROM unnest({arrays}) AS line({names})
             ORDER BY id, owner_epoch DESC, version DESC
        ), old AS (
            SELECT id, hash FROM {kind.table} WHERE origin = $1 AND id = ANY ($4)
        ), changed AS (
            INSERT INTO {kind.held} AS held (origin, {names})
            SELECT $1, {names} FROM line
            ON CONFLICT (id, origin) DO UPDATE SET {sets}
             WHERE (held.owner_epoch, held.version) <= (excluded.owner_epoch, excluded.version)
            RETURNING id, hash
        ), superseded AS (
            DELETE FROM parked WHERE origin = $1 AND channel = $2 AND kind = $3 AND id = ANY ($4)
        )
        INSERT INTO sums (origin, channel, kind, bucket, records, digest)
        SELECT $1, $2, $3, bucket(changed.id), count(*) - count(old.id),
               modulo(sum(element(changed.hash)) - coalesce(sum(element(old.hash)), 0))
          FROM changed LEFT JOIN old USING (id) GROUP BY bucket(changed.id)
        ON CONFLICT (origin, channel, kind, bucket) DO UPDATE
           SET records = sums.records + excluded.records,
               digest = modulo(sums.digest + excluded.digest)
    """


def _kept(section: str) -> str:
    """A section that is held of the same state is not given up for its hash."""
    return f"""CASE WHEN length(excluded.{section}) = 16 AND held.hash = excluded.hash
                    THEN held.{section} ELSE excluded.{section} END"""
