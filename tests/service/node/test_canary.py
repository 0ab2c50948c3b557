"""A person who can be told from all other bytes comes through every door, and is found nowhere."""

import asyncio
import io
import json
import re
import sys
import zipfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from kit import frames
from node.databases import as_owner
from node.network import NODE_UP, Node, Seat
from node.services import OFFICERS, is_healthy
from smartunion.benefits.v1 import benefits_pb2, benefits_pb2_grpc
from smartunion.membership.v1 import identity_pb2, identity_pb2_grpc
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.notify.v1 import notify_pb2, notify_pb2_grpc
from smartunion.sync.v1 import frame_pb2
from tests.builders import HEADER, a_workbook, an_id_number, sha256
from tests.eventually import eventually
from tests.service.desk import upload_parts
from tests.service.node.nodes import ROOT, write_config

STREET = "organizations/510104017"
NAME, PHONE, SAID = "瓯阳鱻彧", "19377730951", "厂里瞒报矽肺病例七起"
"""A name and words that nothing else holds."""
ID_NUMBERS = [an_id_number(number) for number in range(770_001, 770_010)]
"""One for each door: a person comes once."""
BAD_ID_NUMBER = ID_NUMBERS[0][:-1] + ("1" if ID_NUMBERS[0][-1] != "1" else "2")
WORDS = [NAME, PHONE, SAID, *(number[:17] for number in ID_NUMBERS)]


def disguises(word: str) -> set[bytes]:
    """The bytes as which a word can stand in a file."""
    plain = word.encode()
    return {
        plain, word.encode("gb18030"), word.encode("utf-16-le"), word.encode("utf-16-be"),
        plain.hex().encode(), plain.hex().upper().encode(),
        json.dumps(word)[1:-1].encode(),
        "".join(f"\\\\{byte:03o}" for byte in plain).encode(),
    }  # fmt: skip


NEEDLES = sorted({one for word in WORDS for one in disguises(word)})


def needle_in(content: bytes) -> bytes:
    """A needle that stands in some bytes; empty if none does."""
    return next((one for one in NEEDLES if one in content), b"")


@dataclass
class House:
    """A node that is up, and what its callers have read of errors."""

    node: Node
    folder: Path
    errors: list[bytes] = field(default_factory=list)

    async def ask(self, stub: Any, request: Any, *, by: str = "") -> Any:
        """The answer to a request, whose name says what is asked."""
        method = getattr(stub, type(request).__name__.removesuffix("Request"))
        return await method(request, **(self.node.calling_as(by) if by else self.node.call))

    async def refused(self, stub: Any, request: Any, *, by: str = "") -> None:
        """A request that must be refused; all that the caller sees is kept."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(stub, request, by=by)
        assert error.value.code() is not grpc.StatusCode.INTERNAL
        self.errors.append(repr(error.value).encode())
        self.errors += [
            value if isinstance(value, bytes) else value.encode()
            for _, value in error.value.trailing_metadata() or ()
        ]

    async def check(self, content: bytes) -> pb.Roster:
        """A roster that is checked."""
        announced = pb.Roster(file_name="花名册", size_bytes=len(content), sha256=sha256(content))
        request = pb.CreateRosterRequest(parent=STREET, roster=announced)
        roster = await self.ask(self.node.membership, request)
        await self.node.membership.UploadRoster(upload_parts(roster, content), **self.node.call)
        return await self._watched(roster)

    async def bring(self, content: bytes) -> pb.Roster:
        """A roster that is imported."""
        roster = await self.check(content)
        commit = pb.CommitRosterRequest(name=roster.name)
        await self.ask(self.node.membership, commit, by="officers/deputy")
        return await self._watched(roster)

    async def _watched(self, roster: pb.Roster) -> pb.Roster:
        watching = self.node.membership.WatchRoster(
            pb.WatchRosterRequest(name=roster.name), **self.node.call
        )
        seen: list[pb.Roster] = [one async for one in watching]
        return seen[-1]


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A node with its own engines, as `smartunion node up` starts it."""
    folder = tmp_path_factory.mktemp("canary")
    config = write_config(folder)
    with (folder / "node.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *NODE_UP, "--config", str(config), cwd=ROOT, stdout=log, stderr=log
        )
    endpoints = folder / "data" / "endpoints.json"

    async def up() -> dict[str, Any]:
        assert process.returncode is None, (folder / "node.log").read_text()
        assert endpoints.exists()
        facts: dict[str, Any] = json.loads(endpoints.read_text())
        for address in facts["grpc"].values():
            assert await is_healthy(address, OFFICERS)
        return facts

    try:
        facts = await eventually(up, within=90)
        seat = Seat("成都市总工会", "5101", "city", "")
        yield House(Node(seat, process, folder / "node.log", facts), folder)  # type: ignore[arg-type]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def row(id_number: str, *, approved: bool = True) -> str:
    more = "2025-03-08,成工发〔2025〕12号" if approved else ","
    return f"{NAME},{id_number},{PHONE},{more}"


def plainly_zipped(book: bytes) -> bytes:
    """A workbook whose cells stand in it uncompressed."""
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(stored, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name))
    found = stored.getvalue()
    assert needle_in(found)
    return found


async def come(house: House) -> str:
    """The person comes by each door once; the name of the member who applied."""
    membership = house.node.membership

    def applying(id_number: str, phone: str = PHONE, name: str = NAME) -> Any:
        person = pb.Person(full_name=name, id_number=id_number, phone=phone)
        return pb.CreateApplicationRequest(
            parent=STREET, application=pb.Application(person=person), request_id=str(uuid4())
        )

    request = applying(ID_NUMBERS[0])
    applied = await house.ask(membership, request)
    assert (await house.ask(membership, request)).name == applied.name
    approving = pb.ApproveApplicationRequest(name=applied.name)
    approved = await house.ask(membership, approving, by="officers/deputy")
    other = await house.ask(membership, applying(ID_NUMBERS[1]))
    reason = f"{NAME}（{PHONE}）材料不全"
    await house.ask(membership, pb.RejectApplicationRequest(name=other.name, reason=reason))
    for bad in (
        request.__class__(parent=STREET, application=pb.Application(person=pb.Person(
            full_name=NAME, id_number=BAD_ID_NUMBER, phone=PHONE))),
        applying(ID_NUMBERS[0]), applying(ID_NUMBERS[2], PHONE + "0"),
        applying(ID_NUMBERS[2] + "0"), applying(ID_NUMBERS[2], name=NAME * 20),
        applying(ID_NUMBERS[2], name=f"{NAME}\x00"),
        pb.SearchMembersRequest(id_number=BAD_ID_NUMBER),
        pb.RejectApplicationRequest(name=other.name, reason=reason),
        approving,
    ):  # fmt: skip
        await house.refused(membership, bad)
    identity = identity_pb2_grpc.IdentityServiceStub(house.node.to["membership"])
    own = pb.Person(full_name=NAME, id_number=ID_NUMBERS[7], phone=PHONE)
    asking = identity_pb2.CreateMyApplicationRequest(
        parent=STREET, person=own, request_id=str(uuid4())
    )
    await house.ask(identity, asking, by="persons/somebody")
    for wrong in (ID_NUMBERS[8], BAD_ID_NUMBER):
        binding = identity_pb2.BindIdentityRequest(full_name=NAME, id_number=wrong)
        await house.refused(identity, binding, by="persons/somebody")
    binding.id_number = ID_NUMBERS[0]
    await house.ask(identity, binding, by="persons/the-worker")
    found = await house.ask(membership, pb.SearchMembersRequest(id_number=ID_NUMBERS[0]))
    assert [one.name for one in found.members] == [approved.member]

    lines = [HEADER, row(ID_NUMBERS[2]), row(ID_NUMBERS[3], approved=False), row(BAD_ID_NUMBER),
             row(ID_NUMBERS[2]), f"{NAME},5.10104E+17,{PHONE},,"]  # fmt: skip
    for encoding, numbers in (("utf-8", (2, 3)), ("gb18030", (4, 5))):
        text = "\r\n".join(lines)
        for at, number in zip((2, 3), numbers, strict=True):
            text = text.replace(ID_NUMBERS[at], ID_NUMBERS[number])
        roster = await house.bring(text.encode(encoding))
        assert (roster.admitted_rows, roster.applied_rows) == (1, 1), roster
        assert roster.refused_rows >= 2
    book = [HEADER.split(","), row(ID_NUMBERS[6]).split(","), row(BAD_ID_NUMBER).split(",")]
    checked = await house.check(plainly_zipped(a_workbook(book)))
    assert (checked.state, checked.admitted_rows) == (pb.Roster.PREVIEWED, 1)
    member: str = approved.member
    return member


async def speak(house: House, member: str) -> None:
    """The member raises a voice that is answered, and has a card that is revoked with a reason."""
    notify = notify_pb2_grpc.NotifyServiceStub(house.node.to["notify"])
    mine = notify_pb2_grpc.MyVoiceServiceStub(house.node.to["notify"])
    text = f"{SAID}。{NAME}，{PHONE}，{ID_NUMBERS[0]}"

    async def raised() -> Any:
        request = notify_pb2.RaiseVoiceRequest(text=text, request_id=str(uuid4()))
        return await house.ask(mine, request, by=member)

    voice = await eventually(raised)
    answering = notify_pb2.AnswerVoiceRequest(
        name=voice.name, text=f"{NAME}您好：{SAID}", request_id=str(uuid4())
    )
    await house.ask(notify, answering)
    await house.refused(notify, answering.__class__(name=voice.name, text=SAID))
    await house.refused(mine, notify_pb2.RaiseVoiceRequest(text=SAID * 2_000), by=member)
    await house.refused(mine, notify_pb2.RaiseVoiceRequest(text=f"{SAID}\x00"), by=member)

    cards = benefits_pb2_grpc.BenefitsServiceStub(house.node.to["benefits"])
    holder = benefits_pb2_grpc.MyCardServiceStub(house.node.to["benefits"])

    async def carded() -> Any:
        return await house.ask(holder, benefits_pb2.GetMyCardRequest(), by=member)

    card = await eventually(carded)
    revoking = benefits_pb2.RevokeCardRequest(
        name=card.card.name, reason=f"{NAME}遗失，{PHONE}", request_id=str(uuid4())
    )
    assert (await house.ask(cards, revoking)).revoke_reason == revoking.reason
    assert (await house.ask(cards, revoking)).revoke_reason == revoking.reason
    await house.refused(cards, revoking.__class__(name=card.card.name, reason=revoking.reason))
    checked = await house.ask(cards, benefits_pb2.VerifyCardRequest(text=f"UC1:{NAME}{PHONE}"))
    assert not needle_in(checked.SerializeToString())


def in_files(folder: Path) -> Iterable[str]:
    """The files below a folder in which a needle stands."""
    for file in folder.rglob("*"):
        if file.is_file():
            try:
                content = file.read_bytes()
            except FileNotFoundError:  # PostgreSQL and NATS go on.
                continue
            if found := needle_in(content):
                yield f"{file.relative_to(folder)}: {found!r}"


async def in_tables(dsn: str) -> list[str]:
    """The tables of a database in which a needle stands, however their values are packed."""
    found = []
    conn = await asyncpg.connect(as_owner(dsn))
    for (table,) in await conn.fetch(
        """
        SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
        """
    ):
        content = io.BytesIO()
        await conn.copy_from_query(f"SELECT * FROM {table}", output=content)
        if word := needle_in(content.getvalue()):
            found.append(f"{table}: {word.decode()}")
    await conn.close()
    return found


async def in_frames(dsn: str) -> list[str]:
    """The frames in which a needle stands, unpacked."""
    conn = await asyncpg.connect(as_owner(dsn))
    rows = await conn.fetch("SELECT body FROM frames")
    await conn.close()
    assert rows
    return [
        line.kind
        for row in rows
        for line in frames.lines(frame_pb2.Frame.FromString(row["body"]))
        if needle_in(line.event + (line.public or b""))
    ]


async def settled(house: House) -> None:
    """All that was announced is numbered and in frames, and PostgreSQL has written its files."""
    dsns = house.node.facts["postgres"]
    for service in ("membership", "benefits", "notify"):

        async def numbered(dsn: str = dsns[service]) -> None:
            conn = await asyncpg.connect(as_owner(dsn))
            waiting = await conn.fetchval("SELECT count(*) FROM outbox")
            await conn.close()
            assert not waiting

        await eventually(numbered)

    async def framed() -> None:
        conn = await asyncpg.connect(dsns["sync"])
        services = await conn.fetch("SELECT DISTINCT service FROM frames")
        await conn.close()
        assert {"membership", "benefits", "notify"} <= {row["service"] for row in services}

    await eventually(framed)
    secret = (house.folder / "data" / "secrets" / "postgres" / "postgres").read_text()
    conn = await asyncpg.connect(re.sub(r"//[^@]+@", f"//postgres:{secret}@", dsns["sync"]))
    await conn.execute("CHECKPOINT")
    await conn.close()


async def test_nobody_is_found_in_any_file_table_frame_log_or_error(house: House) -> None:
    member = await come(house)
    await speak(house, member)
    await settled(house)
    logs = {path.name for path in house.folder.rglob("*.log")}
    assert {"node.log", "postgres.log"} <= logs
    assert not list(in_files(house.folder))
    for service, dsn in house.node.facts["postgres"].items():
        assert not await in_tables(dsn), service
    assert not await in_frames(house.node.facts["postgres"]["sync"])
    assert house.errors
    assert not [error for error in house.errors if needle_in(error)]


async def test_whoever_stands_there_in_clear_is_found(house: House) -> None:
    """So the search above can fail, also where PostgreSQL has compressed a value."""
    dsn = house.node.facts["postgres"]["membership"]
    conn = await asyncpg.connect(as_owner(dsn))
    await conn.execute("CREATE TABLE canary (cell text, bytes bytea)")
    await conn.execute("INSERT INTO canary VALUES (repeat('x', 9000) || $1, '')", NAME)
    assert await in_tables(dsn) == [f"public.canary: {NAME}"]
    await conn.execute("UPDATE canary SET cell = '', bytes = $1", PHONE.encode())
    assert await in_tables(dsn) == [f"public.canary: {PHONE.encode().hex()}"]
    await settled(house)
    assert any("cluster" in found for found in in_files(house.folder))
    await conn.execute("DROP TABLE canary")
    await conn.close()


async def test_an_operator_changes_the_key_of_a_node_that_works(house: House) -> None:
    membership, file = house.node.membership, house.folder / "data" / "secrets" / "data.key"
    listing = pb.ListMembersRequest(parent=STREET)
    members = (await house.ask(membership, listing)).members
    assert members
    for command in ("rotate", "rewrap"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *NODE_UP[:2], "keys", command, "--config",
            str(house.folder / "node.toml"), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0
        wrapped = dict(re.findall(r"^(\w+): (\d+) data keys wrapped anew$", said, re.MULTILINE))
        assert {name: int(count) > 1 for name, count in wrapped.items()} == dict.fromkeys(
            house.node.facts["postgres"], command == "rotate"
        )
    new, old = file.read_text().split()
    assert new != old
    file.write_text(new)
    assert (await house.ask(membership, listing)).members == members
    found = await house.ask(membership, pb.SearchMembersRequest(id_number=ID_NUMBERS[0]))
    assert found.members[0].person.full_name == NAME
