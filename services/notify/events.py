"""What notify announces, and the section `public` of its records: the only way out."""

from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from google.protobuf.message import Message

from kit.log import Change
from kit.organizations import Level
from kit.records import DOWN, Kind, section_of
from services.notify.domain import notices as domain
from services.notify.domain import voices
from services.notify.domain.notices import Notice, ReadCount
from services.notify.domain.voices import Action, Step, Voice
from smartunion.notify.v1 import events_pb2 as pb
from smartunion.notify.v1.records_pb2 import (
    PublicHandling,
    PublicNotice,
    PublicReadCount,
    PublicVoice,
)

LAST_SECOND = 253402300799
"""Of the year 9999, after which no calendar here goes."""


def parse_notice(section: bytes) -> tuple[Any, ...]:
    """The columns of a section of `notices`.  Raises ValueError if it is none."""
    public = section_of(PublicNotice, section)
    if not 0 < public.expire_seconds <= LAST_SECOND:
        raise ValueError("expire_seconds")
    return UUID(bytes=public.organization), public.expire_seconds


NOTICES = Kind(
    name="notices",
    table="notices",
    fields={"organization": "uuid", "expire_seconds": "bigint"},
    parse=parse_notice,
    channel=DOWN,
)


def notice_change(notice: Notice, fact: domain.NoticeCreated) -> Change:
    """The line of the log for a notice that is posted."""
    public = PublicNotice(
        salt=bytes.fromhex(notice.header.salt), organization=notice.organization.bytes,
        expire_seconds=int(notice.expire_time.timestamp()), title=notice.title, text=notice.text,
    )  # fmt: skip
    event = pb.NoticeCreated(notice=fact.notice, organization=fact.organization)
    return Change(
        kind=NOTICES, id=notice.id, version=notice.header.version, before=None,
        public=public.SerializeToString(deterministic=True), event=event,
        event_time=fact.occur_time,
    )  # fmt: skip


def parse_read_count(section: bytes) -> tuple[Any, ...]:
    """The columns of a section of `read_counts`.  Raises ValueError if it is none."""
    public = section_of(PublicReadCount, section)
    if public.readers < 0:
        raise ValueError("readers")
    return UUID(bytes=public.notice), UUID(bytes=public.notice_origin), public.readers


READ_COUNTS = Kind(
    name="read_counts",
    table="read_counts",
    fields={"notice": "uuid", "notice_origin": "uuid", "readers": "bigint"},
    parse=parse_read_count,
)


def count_change(count: ReadCount, fact: domain.NoticeRead) -> Change:
    """The line of the log for a count in its new state."""
    public = PublicReadCount(
        salt=bytes.fromhex(count.header.salt), notice=count.notice.bytes,
        notice_origin=count.notice_origin.bytes, readers=count.readers,
    )  # fmt: skip
    return Change(
        kind=READ_COUNTS, id=count.id, version=count.header.version,
        before=bytes.fromhex(count.header.hash) or None,
        public=public.SerializeToString(deterministic=True),
        event=pb.MessageRead(notice=fact.notice, readers=fact.readers),
        event_time=fact.occur_time,
    )  # fmt: skip


def parse_voice(section: bytes) -> tuple[Any, ...]:
    """The columns of a section of `voices`.  Raises ValueError if it is none."""
    public = section_of(PublicVoice, section)
    if len(public.commitment) != 32:
        raise ValueError("commitment")
    return (UUID(bytes=public.organization),)


def parse_handling(section: bytes) -> tuple[Any, ...]:
    """The columns of a section of `handlings` or `replies`.

    Raises:
        ValueError: if it is none, or of a level or action that this version does not know.
    """
    public = section_of(PublicHandling, section)
    action, _ = Action(public.action), Level(public.level)
    if (action is Action.PASSED_ON) != (len(public.addressee) == 16):
        raise ValueError("addressee")
    UUID(bytes=public.organization)
    addressee = UUID(bytes=public.addressee) if public.addressee else None
    return UUID(bytes=public.voice), UUID(bytes=public.voice_origin), int(action), addressee


_HANDLING_FIELDS = {
    "voice": "uuid", "voice_origin": "uuid", "action": "smallint", "addressee": "uuid",
}  # fmt: skip
VOICES = Kind(
    name="voices",
    table="voices",
    fields={"organization": "uuid"},
    parse=parse_voice,
    channel="urgent",
)
HANDLINGS = Kind(
    name="handlings",
    table="handlings",
    fields=_HANDLING_FIELDS,
    parse=parse_handling,
    channel="urgent",
)
REPLIES = Kind(
    name="replies",
    table="replies",
    fields=_HANDLING_FIELDS,
    parse=parse_handling,
    channel=DOWN,
)


def announce(fact: voices.Fact) -> Message:
    """The event that carries `fact` to whoever listens."""
    match fact:
        case voices.VoiceRaised(voice=voice, organization=organization):
            return pb.VoiceRaised(voice=voice, organization=organization)
        case voices.VoiceHandled(voice=voice, organization=organization, action=action):
            event: Message = _HANDLED[action](voice=voice, organization=organization)
            return event
        case _:
            assert_never(fact)


_HANDLED: dict[Action, Any] = {
    Action.PASSED_ON: pb.VoicePassedOn,
    Action.ANSWERED: pb.VoiceAnswered,
    Action.CLOSED: pb.VoiceClosed,
}


def voice_change(voice: Voice, fact: voices.VoiceRaised) -> Change:
    """The line of the log for a voice that is raised."""
    public = PublicVoice(
        salt=bytes.fromhex(voice.header.salt), organization=voice.organization.bytes,
        commitment=bytes.fromhex(voice.commitment),
    )  # fmt: skip
    return Change(
        kind=VOICES, id=voice.id, version=1, before=None,
        public=public.SerializeToString(deterministic=True), event=announce(fact),
        event_time=fact.occur_time,
    )  # fmt: skip


def handling_change(
    voice: Voice, step: Step, fact: voices.VoiceHandled, *, salt: str, sealed: bytes
) -> Change:
    """The line of the log for what this level did.

    Args:
        sealed: if it was passed on, the text for the addressee.
    """
    return _change(HANDLINGS, voice, step, announce(fact), salt=salt, sealed=sealed)


def reply_change(voice: Voice, step: Step, *, salt: str, sealed: bytes) -> Change:
    """The same for the nodes below.

    Args:
        sealed: the answer or the reason, for the node where the voice was raised.
    """
    event = pb.VoiceReplied(
        voice=voice.name, organization=f"organizations/{step.office.organization}"
    )
    return _change(REPLIES, voice, step, event, salt=salt, sealed=sealed)


def emptied_change(kind: Kind, handling: Any, *, at: datetime) -> Change:
    """The line of the log for a handling, or a reply, whose sealed text is erased.

    Args:
        handling: its row: id, version, hash, public.
    """
    public = PublicHandling.FromString(handling["public"])
    public.ClearField("sealed_text")
    event = pb.VoiceErased(
        voice=f"voices/{UUID(bytes=public.voice)}",
        organization=f"organizations/{UUID(bytes=public.organization)}",
    )
    return Change(
        kind=kind, id=handling["id"], version=handling["version"] + 1,
        before=handling["hash"], public=public.SerializeToString(deterministic=True), event=event,
        event_time=at,
    )  # fmt: skip


def _change(
    kind: Kind, voice: Voice, step: Step, event: Message, *, salt: str, sealed: bytes
) -> Change:
    public = PublicHandling(
        salt=bytes.fromhex(salt), voice=voice.id.bytes, voice_origin=voice.header.origin.bytes,
        organization=step.office.organization.bytes, level=step.office.level, action=step.action,
        addressee=step.addressee.bytes if step.addressee else b"", sealed_text=sealed,
    )  # fmt: skip
    return Change(
        kind=kind, id=step.id, version=1, before=None,
        public=public.SerializeToString(deterministic=True), event=event,
        event_time=step.handle_time,
    )  # fmt: skip
