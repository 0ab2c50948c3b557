"""What benefits announces, and the section `public` of its records: the only way out."""

from datetime import UTC, datetime
from typing import Any, assert_never
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit.log import Change
from kit.records import DOWN, Kind, section_of
from services.benefits.domain import cards, coupons, lists, programmes
from services.benefits.domain.cards import Card, CardState
from services.benefits.domain.coupons import Coupon, CouponState
from services.benefits.domain.lists import ListRecord
from services.benefits.domain.programmes import Programme
from smartunion.benefits.v1 import events_pb2 as pb
from smartunion.benefits.v1 import records_pb2

Fact = (
    cards.CardIssued
    | cards.CardMoved
    | cards.CardRevoked
    | lists.StatusListSigned
    | lists.StatusListShared
    | programmes.ProgrammeCreated
    | coupons.CouponClaimed
    | coupons.CouponUsed
)


def announce(fact: Fact) -> Message:
    """The event that carries `fact` to whoever listens."""
    match fact:
        case cards.CardIssued() | cards.CardMoved() | cards.CardRevoked():
            return _of_cards(fact)
        case lists.StatusListSigned(node=node):
            return pb.StatusListSigned(node=node)
        case lists.StatusListShared(node=node):
            return pb.StatusListShared(node=node)
        case programmes.ProgrammeCreated(programme=programme, organization=organization):
            return pb.ProgrammeCreated(programme=programme, organization=organization)
        case coupons.CouponClaimed():
            return pb.CouponClaimed(
                coupon=fact.coupon, programme=fact.programme, organization=fact.organization
            )
        case coupons.CouponUsed():
            return pb.CouponRedeemed(
                coupon=fact.coupon, programme=fact.programme, organization=fact.organization
            )
        case _:
            assert_never(fact)


def _of_cards(fact: cards.CardIssued | cards.CardMoved | cards.CardRevoked) -> Message:
    facts = {"card": fact.card, "member": fact.member, "organization": fact.organization}
    match fact:
        case cards.CardIssued():
            return pb.CardIssued(**facts)
        case cards.CardMoved():
            return pb.CardMoved(**facts)
        case cards.CardRevoked():
            return pb.CardRevoked(**facts)
        case _:
            assert_never(fact)


def time_of(timestamp: Timestamp) -> datetime:
    """Raises ValueError if it is none."""
    return timestamp.ToDatetime(UTC)


def parse_card(section: bytes) -> tuple[Any, ...]:
    """The fields of a card.

    Raises:
        ValueError: if it is none, or of a state that this version of the software does not know.
    """
    public = section_of(records_pb2.PublicCard, section)
    for timestamp in (public.issue_time, public.revoke_time):
        time_of(timestamp)
    return (
        UUID(bytes=public.member), UUID(bytes=public.organization),
        int(CardState(public.state)), public.status_index,
    )  # fmt: skip


CARDS = Kind(
    name="cards",
    table="cards",
    fields={
        "member": "uuid", "organization": "uuid", "state": "smallint", "status_index": "bigint",
    },
    parse=parse_card,
)  # fmt: skip


def parse_list(section: bytes) -> tuple[Any, ...]:
    """The fields of a status list.  Raises ValueError if it is none."""
    public = section_of(records_pb2.PublicStatusList, section)
    return UUID(bytes=public.node), public.number


STATUS_LISTS = Kind(
    name="status_lists",
    table="status_lists",
    fields={"node": "uuid", "number": "bigint"},
    parse=parse_list,
    may=lambda origin, values: bool(values[0] == origin),
)
SHARED_STATUS_LISTS = Kind(
    name="shared_status_lists",
    table="shared_status_lists",
    fields={"node": "uuid", "number": "bigint"},
    parse=parse_list,
    channel=DOWN,
)


def of_list(record: ListRecord, fact: lists.StatusListSigned | lists.StatusListShared) -> Change:
    """The line of the log for a status list in its new state."""
    public = records_pb2.PublicStatusList(
        salt=bytes.fromhex(record.header.salt),
        node=record.id.bytes,
        number=record.number,
        signed=record.signed,
    )
    shared = isinstance(fact, lists.StatusListShared)
    return _change(SHARED_STATUS_LISTS if shared else STATUS_LISTS, record, public, fact)


def parse_programme(section: bytes) -> tuple[Any, ...]:
    """The fields of a programme.  Raises ValueError if it is none."""
    public = section_of(records_pb2.PublicProgramme, section)
    for timestamp in (public.claim_start_time, public.claim_end_time, public.use_by_time):
        time_of(timestamp)
    for share in public.shares:
        UUID(bytes=share.node)
    return (UUID(bytes=public.organization),)


PROGRAMMES = Kind(
    name="programmes",
    table="programmes",
    fields={"organization": "uuid"},
    parse=parse_programme,
    channel=DOWN,
)


def of_programme(programme: Programme, fact: programmes.ProgrammeCreated) -> Change:
    """The line of the log for a new programme."""
    return _change(PROGRAMMES, programme, section_of_programme(programme), fact)


def section_of_programme(programme: Programme) -> records_pb2.PublicProgramme:
    """The section `public` of a programme, also of a draft."""
    return records_pb2.PublicProgramme(
        salt=bytes.fromhex(programme.header.salt),
        organization=programme.organization.bytes,
        title=programme.title,
        face_value_fen=programme.face_value_fen,
        shares=[
            records_pb2.PublicProgramme.Share(node=share.node.bytes, stock=share.stock)
            for share in programme.shares
        ],
        claim_start_time=programme.claim_start_time,
        claim_end_time=programme.claim_end_time,
        use_by_time=programme.use_by_time,
    )


def parse_coupon(section: bytes) -> tuple[Any, ...]:
    """The fields of a coupon.

    Raises:
        ValueError: if it is none, or of a state that this version of the software does not know.
    """
    public = section_of(records_pb2.PublicCoupon, section)
    for timestamp in (public.claim_time, public.redeem_time):
        time_of(timestamp)
    return (
        UUID(bytes=public.programme), UUID(bytes=public.member),
        UUID(bytes=public.organization), int(CouponState(public.state)),
    )  # fmt: skip


COUPONS = Kind(
    name="coupons",
    table="coupons",
    fields={"programme": "uuid", "member": "uuid", "organization": "uuid", "state": "smallint"},
    parse=parse_coupon,
)


def of_coupon(coupon: Coupon, fact: coupons.CouponClaimed | coupons.CouponUsed) -> Change:
    """The line of the log for a coupon in its new state."""
    public = records_pb2.PublicCoupon(
        salt=bytes.fromhex(coupon.header.salt),
        programme=coupon.programme.bytes,
        member=coupon.member.bytes,
        organization=coupon.organization.bytes,
        state=coupon.state,
        claim_time=coupon.claim_time,
        redeem_time=coupon.redeem_time,
    )
    return _change(COUPONS, coupon, public, fact)


def of_card(card: Card, fact: Fact) -> Change:
    """The line of the log for a card in its new state."""
    public = records_pb2.PublicCard(
        salt=bytes.fromhex(card.header.salt),
        member=card.member.bytes,
        organization=card.organization.bytes,
        state=card.state,
        status_index=card.status_index,
        issue_time=card.issue_time,
        revoke_time=card.revoke_time,
    )
    return _change(CARDS, card, public, fact)


def _change(kind: Kind, record: Any, public: Message, fact: Fact) -> Change:
    return Change(
        kind=kind,
        id=record.id,
        owner_epoch=record.header.owner_epoch,
        version=record.header.version,
        before=bytes.fromhex(record.header.hash) or None,
        public=public.SerializeToString(deterministic=True),
        event=announce(fact),
        event_time=fact.occur_time,
    )
