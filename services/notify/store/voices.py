"""The tables of voices and of what was done about them, and the texts that may be read here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError

from kit.authority import Scope
from kit.db import Connection, Pool
from kit.envelopes import open_with, seal_to
from kit.headers import Header
from kit.log import Change
from kit.organizations import Level
from kit.records import Kind
from kit.rows import PATH, WITHIN, columns_of
from kit.sealing import KEY, Keyring
from services.notify.domain.voices import (
    Action,
    Office,
    Step,
    Voice,
    VoiceNotFound,
    VoiceState,
    chained,
)
from smartunion.notify.v1.records_pb2 import PublicHandling, PublicVoice, VoiceText


@dataclass(frozen=True, slots=True)
class Keys:
    """What this node seals and opens with."""

    keyring: Keyring
    node_key: bytes
    """Opens envelopes that other nodes sealed for this one."""


VOICE = f"""
    SELECT record.id, record.origin, record.version, record.hash, record.public, {PATH},
           member, text, {KEY}
      FROM voices record LEFT JOIN raisings ON voice = record.id AND record.origin = $1
      LEFT JOIN data_keys ON data_keys.id = member
"""
# How it stands at this node: see domain.voices.Voice.state_at.
STATE_HERE = f"""
    CASE WHEN record.origin <> $1
              AND NOT EXISTS (
                  WITH RECURSIVE way AS (
                      SELECT addressee FROM handlings
                       WHERE (voice, voice_origin) = (record.id, record.origin)
                         AND origin = record.origin
                       UNION
                      SELECT step.addressee FROM way JOIN handlings step ON origin = way.addressee
                       WHERE (voice, voice_origin) = (record.id, record.origin))
                  SELECT FROM way WHERE addressee = $1)
         THEN {VoiceState.ELSEWHERE:d}
         ELSE {VoiceState.WAITING:d} + coalesce(
              (SELECT max(action) FROM handlings
                WHERE voice = record.id AND voice_origin = record.origin AND origin = $1), 0) END
"""
STEPS = """
    SELECT step.*, text
      FROM (SELECT id, origin, voice, public, false AS reply FROM handlings WHERE voice = ANY ($2)
            UNION ALL
            SELECT id, origin, voice, public, true FROM replies
             WHERE voice = ANY ($2) AND origin <> $1) step
      LEFT JOIN handling_texts ON handling = step.id AND step.origin = $1
"""


VoiceKey = tuple[UUID, UUID]
"""A voice, and the node where it was raised."""
# As the index says it.
EMPTIED = "below.action = 1 AND octet_length(below.public) < 100"


class Voices:
    def __init__(self, conn: "Connection | Pool", keys: Keys, node: UUID) -> None:
        self._conn, self._keys, self._node = conn, keys, node

    async def get(self, voice: UUID, *, scope: Scope, lock: str = "") -> Voice:
        """One voice, with the texts that may be read here.  Raises VoiceNotFound, OutsideScope."""
        rows = await self._conn.fetch(
            f"{VOICE} WHERE record.id = $2 ORDER BY record.origin = $1 DESC LIMIT 1 {lock}",
            self._node, voice,
        )  # fmt: skip
        if not rows:
            raise VoiceNotFound(voice=f"voices/{voice}")
        scope.check(rows[0]["path"])
        return (await self._with_steps(rows, texts=True))[0]

    async def lock(self, voice: UUID, *, scope: Scope) -> Voice:
        """Like `get`, and holds the row until the transaction ends.  Locked before it is read:
        whoever raised it may be erased meanwhile."""
        await self._conn.execute("SELECT FROM voices WHERE id = $1 FOR UPDATE", voice)
        return await self.get(voice, scope=scope, lock="FOR UPDATE OF record")

    async def of_member(self, voice: UUID, member: UUID) -> Voice:
        """One that a member raised.  Raises VoiceNotFound."""
        rows = await self._conn.fetch(
            f"{VOICE} WHERE record.id = $2 AND record.origin = $1 AND member = $3",
            self._node, voice, member,
        )  # fmt: skip
        if not rows:
            raise VoiceNotFound(voice=f"voices/{voice}")
        return (await self._with_steps(rows, texts=True))[0]

    async def page(self, path: str, *, state_here: int, after: UUID, limit: int) -> list[Voice]:
        """Those of organisations at a path and below, oldest first, without texts.

        Args:
            state_here: a VoiceState at this node; 0 for all.
        """
        rows = await self._conn.fetch(
            f"""
            {VOICE}
             WHERE {WITHIN} AND record.id > $3 AND ($4 = 0 OR $4 = {STATE_HERE})
             ORDER BY record.id LIMIT $5
            """,
            self._node, path, after, state_here, limit,
        )  # fmt: skip
        return await self._with_steps(rows, texts=False)

    async def page_of(self, member: UUID, *, before: UUID, limit: int) -> list[Voice]:
        """Those that a member raised, newest first."""
        rows = await self._conn.fetch(
            f"""
            {VOICE} WHERE member = $2 AND record.id < $3 ORDER BY record.id DESC LIMIT $4
            """,
            self._node, member, before, limit,
        )  # fmt: skip
        return await self._with_steps(rows, texts=True)

    async def add(self, voice: Voice, change: Change) -> None:
        assert voice.member is not None, "a copy is never new"
        text = VoiceText(opening=bytes.fromhex(voice.opening), text=voice.text)
        sealer = await self._keys.keyring.of(self._conn, voice.member)
        await self._conn.execute(
            """
            WITH record AS (
                INSERT INTO voices (origin, id, owner_epoch, version, hash, public, organization)
                VALUES ($1, $2, $3, $4, $5, $6, $7)
            )
            INSERT INTO raisings (voice, member, text) VALUES ($2, $8, $9)
            """,
            *columns_of(voice, change), voice.organization, voice.member,
            sealer.seal(text.SerializeToString(), f"raisings.text/{voice.id}"),
        )  # fmt: skip

    async def add_step(self, voice: Voice, step: Step, change: Change) -> None:
        """What this node did, of kind `handlings` or `replies`."""
        await self._conn.execute(
            f"""
            INSERT INTO {change.kind.table} (origin, id, owner_epoch, version, hash, public, voice,
                                             voice_origin, action, addressee)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            """,
            self._node, step.id, change.owner_epoch, change.version, change.hash, change.public,
            voice.id, voice.header.origin, step.action, step.addressee,
        )  # fmt: skip

    async def keep_text(self, voice: Voice, step: Step) -> None:
        """Keep what this node answered, or why it did something: it may tell of the member."""
        sealer = self._keys.keyring.node
        if voice.member:
            sealer = await self._keys.keyring.of(self._conn, voice.member)
        await self._conn.execute(
            "INSERT INTO handling_texts (handling, text) VALUES ($1, $2)",
            step.id, sealer.seal(step.text.encode(), _at_rest(step.id)),
        )  # fmt: skip

    async def forget_members(self, members: Sequence[UUID]) -> list[VoiceKey]:
        """Destroy the keys of members and what they said; which voices they had raised.  Whoever
        handles or raises one now is waited for."""
        await self._conn.execute(
            """
            SELECT FROM voices record JOIN raisings ON voice = record.id
             WHERE record.origin = $1 AND member = ANY ($2)
             ORDER BY record.id FOR UPDATE OF record
            """,
            self._node, members,
        )  # fmt: skip
        await self._keys.keyring.destroy(self._conn, members)
        rows = await self._conn.fetch(
            "DELETE FROM raisings WHERE member = ANY ($1) RETURNING voice", members
        )
        return [(row["voice"], self._node) for row in rows]

    async def erased_below(self) -> list[VoiceKey]:
        """Voices that were passed on to this node and are erased where they come from, while
        something about them is left here."""
        erased = await self._conn.fetch(
            f"""
            SELECT below.id AS step, below.voice, below.voice_origin FROM handlings below
             WHERE {EMPTIED} AND below.addressee = $1 AND below.origin <> $1
               AND EXISTS (
                   SELECT FROM handlings own LEFT JOIN handling_texts ON handling = own.id
                    WHERE own.origin = $1 AND own.voice = below.voice
                      AND own.voice_origin = below.voice_origin
                      AND (handling IS NOT NULL
                           OR own.action = 1 AND octet_length(own.public) >= 100))
            """,
            self._node,
        )
        rows = await self._conn.fetch(
            f"{VOICE} WHERE record.id = ANY ($2)", self._node, [row["voice"] for row in erased]
        )
        voices = await self._with_steps(rows, texts=False)
        heard = {(voice.id, voice.header.origin, s.id) for voice in voices for s in voice.steps}
        return [
            (row["voice"], row["voice_origin"])
            for row in erased
            if (row["voice"], row["voice_origin"], row["step"]) in heard
        ]

    async def lock_sealed(self, kind: Kind, voices: Sequence[VoiceKey]) -> list[Any]:
        """What this node did about voices, of a kind, as far as something is sealed in it."""
        rows = await self._conn.fetch(
            f"""
            SELECT id, version, hash, public
              FROM {kind.table} step JOIN unnest($2::uuid[], $3::uuid[]) AS of(voice, voice_origin)
             USING (voice, voice_origin)
             WHERE origin = $1 ORDER BY id FOR UPDATE OF step
            """,
            self._node, *_columns(voices),
        )  # fmt: skip
        return [row for row in rows if PublicHandling.FromString(row["public"]).sealed_text]

    async def forget(self, voices: Sequence[VoiceKey], emptied: Sequence[Change]) -> None:
        """Delete what this node wrote about voices; `emptied`: the new states of what it did."""
        await self._conn.execute(
            """
            DELETE FROM handling_texts
             USING handlings step JOIN unnest($2::uuid[], $3::uuid[]) AS of(voice, voice_origin)
             USING (voice, voice_origin)
             WHERE handling = step.id AND step.origin = $1
            """,
            self._node, *_columns(voices),
        )  # fmt: skip
        for change in emptied:
            await self._conn.execute(
                f"UPDATE {change.kind.table} SET version = $3, hash = $4, public = $5"
                " WHERE origin = $1 AND id = $2",
                self._node, change.id, change.version, change.hash, change.public,
            )  # fmt: skip

    async def _with_steps(self, rows: Sequence[Any], *, texts: bool) -> list[Voice]:
        found: dict[tuple[UUID, UUID], list[tuple[Any, PublicHandling]]] = {}
        for step in await self._conn.fetch(STEPS, self._node, [row["id"] for row in rows]):
            public = PublicHandling.FromString(step["public"])
            key = step["voice"], UUID(bytes=public.voice_origin)
            found.setdefault(key, []).append((step, public))
        return [self._of(row, found.get((row["id"], row["origin"]), []), texts) for row in rows]

    def _of(self, row: Any, found: Sequence[tuple[Any, PublicHandling]], texts: bool) -> Voice:
        public = PublicVoice.FromString(row["public"])
        header = Header(
            origin=row["origin"], copy=row["origin"] != self._node, version=row["version"],
            hash=row["hash"].hex(),
        )  # fmt: skip
        steps = [(_step(*one), one) for one in found]
        voice = Voice(
            id=row["id"], header=header, organization=UUID(bytes=public.organization),
            commitment=public.commitment.hex(), member=row["member"],
            steps=chained(row["origin"], [step for step, _ in steps]),
        )  # fmt: skip
        if not texts:
            return voice
        said, readable = self._own_text(row), list[Step]()
        for step in voice.steps:
            at, handling = next(one for known, one in steps if known is step)
            text = self._text(row, voice, step, at, handling)
            if step.addressee == self._node:
                said = self._opened(voice, handling.sealed_text)
                text = said.reason
            readable.append(replace(step, text=text))
        return replace(voice, steps=tuple(readable), text=said.text, opening=said.opening.hex())

    def _own_text(self, row: Any) -> VoiceText:
        """What was said to this node; empty if it was said to another."""
        if row["text"] is None:
            return VoiceText()
        place = f"raisings.text/{row['id']}"
        return VoiceText.FromString(self._keys.keyring.unseal(row, row["text"], place) or b"")

    def _text(self, raised: Any, voice: Voice, step: Step, row: Any, public: PublicHandling) -> str:
        """What this node wrote itself, or what a level above wrote to it."""
        if row["text"] is not None:
            return own_text(self._keys, raised, step.id, row["text"])
        if row["reply"] and voice.header.origin == self._node:
            return reply_text(self._keys, voice.id, step.id, public.sealed_text)
        return ""

    def _opened(self, voice: Voice, sealed: bytes) -> VoiceText:
        """What was sealed for this node; empty if it was not, or is broken."""
        try:
            plain = open_with(self._keys.node_key, sealed, _passed_on(voice.id, self._node))
            return VoiceText.FromString(plain)
        except (ValueError, DecodeError):
            return VoiceText()


def sealed_voice(seal_key: bytes, addressee: UUID, voice: Voice, reason: str) -> bytes:
    """A voice, for the one node to which it is passed on."""
    text = VoiceText(opening=bytes.fromhex(voice.opening), text=voice.text, reason=reason)
    return seal_to(seal_key, text.SerializeToString(), _passed_on(voice.id, addressee))


def sealed_reply(seal_key: bytes, voice: UUID, step: Step) -> bytes:
    """An answer or a reason, for the node where the voice was raised."""
    return seal_to(seal_key, step.text.encode(), _reply(voice, step.id))


def own_text(keys: Keys, member: Any, step: UUID, sealed: bytes) -> str:
    """What this node answered, or why it did something.

    Args:
        member: a row with the columns KEY, of the key of the member who raised it.
    """
    return (keys.keyring.unseal(member, sealed, _at_rest(step)) or b"").decode()


def reply_text(keys: Keys, voice: UUID, step: UUID, sealed: bytes) -> str:
    """What a level above answered; empty if it was not sealed for this node, or is broken."""
    try:
        return open_with(keys.node_key, sealed, _reply(voice, step)).decode()
    except ValueError:
        return ""


def _passed_on(voice: UUID, addressee: UUID) -> str:
    return f"voices/{voice}/{addressee}"


def _reply(voice: UUID, step: UUID) -> str:
    return f"replies/{voice}/{step}"


def _at_rest(step: UUID) -> str:
    return f"handling_texts.text/{step}"


def _step(row: Any, public: PublicHandling) -> Step:
    office = Office(
        node=row["origin"], organization=UUID(bytes=public.organization), level=Level(public.level)
    )
    return Step(
        id=row["id"], office=office, action=Action(public.action),
        addressee=UUID(bytes=public.addressee) if public.addressee else None,
    )  # fmt: skip


def _columns(voices: Sequence[VoiceKey]) -> tuple[list[UUID], list[UUID]]:
    return [voice for voice, _ in voices], [origin for _, origin in voices]
