"""Storing and forwarding: frames pushed into a province, until the nation has stored them.

They are of a service that nobody serves, so nothing applies them.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.changes import APPLIED, Records
from bench.figures import Figure, Target
from bench.network import Conn, database, organization_of, origin_of, running, until
from kit import frames
from kit.ids import uuid7
from kit.sealing import FileKeys, Keyring
from node.network import Node
from services.membership.events import MEMBERS
from services.sync.link.uplink import LARGEST_PUSH
from services.sync.store.uplink import Uplink
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2, sync_pb2

FRAMES = 100
ENTRIES = FRAMES * APPLIED


async def store_and_forward(folder: Path, runs: int) -> list[Figure]:
    """Entries a second through a node to the next: pushed as a child pushes, signed, stored,
    forwarded, stored."""
    values, probes = [], []
    async with running(folder, "0", "51", "5101") as network, database(network.top, "sync") as top:
        city, province = network.nodes["5101"], network.nodes["51"]
        key, token = await _secrets(city)
        entries = _entries(city)
        for run in range(runs):
            stream = frame_pb2.Stream(
                origin=origin_of(city).bytes, service="bench" + "abcdefgh"[run], channel="records"
            )
            made = _frames(stream, entries, key)
            bodies = [frame.SerializeToString() for frame in made]
            pushing = asyncio.create_task(_push(province, token, made))
            began = time.perf_counter()
            ended = await until(partial(_stored, top, stream), every=0.01)
            await pushing
            values.append(ENTRIES / (ended - began))
            probes.append(ENTRIES / await _copied(top, bodies))
    return [
        Figure(
            name="storing and forwarding frames", unit="entries/s", values=values,
            probe="COPY of the same bytes", probes=probes, target=Target("≥", 0.50),
        )
    ]  # fmt: skip


async def _secrets(city: Node) -> tuple[Ed25519PrivateKey, str]:
    """The key with which a node signs, and the token that its parent gave it."""
    secrets = city.log.with_name("data") / "secrets"
    async with database(city, "sync") as conn:
        keyring = await Keyring.open(conn, FileKeys(secrets / "data.key"))
        kept = await Uplink(conn, keyring).get()
    assert kept is not None
    key = bytes.fromhex((secrets / "node.key").read_text())
    return Ed25519PrivateKey.from_private_bytes(key), kept["link_token"]


def _entries(city: Node) -> list[log_pb2.Entry]:
    records = Records(MEMBERS, origin_of(city), organization_of(city), ENTRIES)
    found: list[log_pb2.Entry] = []
    for part in records.next():
        for at, id_ in enumerate(part.ids):
            entry = log_pb2.Entry(
                number=len(found) + 1, kind=MEMBERS.name, id=id_.bytes, owner_epoch=1, version=1,
                hash=part.hashes[at], public=part.publics[at], event_id=uuid7().bytes,
                event_type="smartunion.membership.v1.MemberAdmitted", event=part.events[at],
            )  # fmt: skip
            entry.event_time.GetCurrentTime()
            found.append(entry)
    return found


def _frames(
    stream: frame_pb2.Stream, entries: Sequence[log_pb2.Entry], key: Ed25519PrivateKey
) -> list[frame_pb2.Frame]:
    made: list[frame_pb2.Frame] = []
    previous = frames.START
    for at in range(0, len(entries), APPLIED):
        made.append(frames.make(stream, len(made) + 1, previous, entries[at : at + APPLIED], key))
        previous = made[-1].hash
    return made


async def _push(province: Node, token: str, made: Sequence[frame_pb2.Frame]) -> None:
    """As an uplink does: one push after the other, as large as they grow."""
    metadata = (("authorization", f"Bearer {token}"),)
    each = max(1, LARGEST_PUSH // made[0].ByteSize())
    for at in range(0, len(made), each):
        request = sync_pb2.PushFramesRequest(frames=made[at : at + each])
        await province.sync.PushFrames(request, metadata=metadata, timeout=15)


async def _stored(conn: Conn, stream: frame_pb2.Stream) -> bool:
    frame = await conn.fetchval(
        "SELECT frame FROM streams WHERE origin = $1 AND service = $2",
        UUID(bytes=stream.origin), stream.service,
    )  # fmt: skip
    return frame is not None and frame >= FRAMES


async def _copied(conn: Conn, bodies: Sequence[bytes]) -> float:
    await conn.execute("CREATE SCHEMA IF NOT EXISTS bench")
    await conn.execute("CREATE TABLE bench.bodies (body bytea)")
    await conn.execute("ALTER TABLE bench.bodies ALTER COLUMN body SET STORAGE EXTERNAL")
    began = time.perf_counter()
    await conn.copy_records_to_table(
        "bodies", schema_name="bench", records=[(body,) for body in bodies]
    )
    seconds = time.perf_counter() - began
    await conn.execute("DROP TABLE bench.bodies")
    return seconds
