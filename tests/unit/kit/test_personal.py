"""How personal data is shown in answers, and that it is not in logs."""

from hypothesis import given
from hypothesis import strategies as st

from kit.personal import loggable, mask, redacted
from kit.texts import without_numbers
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.notify.v1 import notify_pb2
from tests.builders import an_id_number

numbers = st.integers(0, 9_000_000).map(an_id_number)
phones = st.integers(0, 10**9 - 1).map(lambda number: f"13{number:09}")


def a_page(number: str, phone: str = "") -> pb.ListMembersResponse:
    person = pb.Person(full_name="张三", id_number=number, phone=phone)
    return pb.ListMembersResponse(members=[pb.Member(), pb.Member(name="members/x", person=person)])


@given(numbers, phones)
def test_a_mask_shows_the_region_and_the_last_four(number: str, phone: str) -> None:
    page = a_page(number, phone)
    mask(page)
    empty, member = page.members
    assert empty == pb.Member()
    assert (member.name, member.person.full_name) == ("members/x", "张三")
    assert member.person.id_number == f"{number[:6]}********{number[-4:]}"
    assert member.person.phone == f"{phone[:3]}****{phone[-4:]}"


@given(st.text(max_size=30))
def test_whatever_stands_there_at_least_four_characters_of_it_are_hidden(text: str) -> None:
    person = pb.Person(id_number=text, phone=text)
    mask(person)
    for shown in (person.id_number, person.phone):
        assert len(shown) == len(text)
        hidden = sum(one != "*" for one in text) - sum(one != "*" for one in shown)
        assert hidden >= min(4, len(text)) - text.count("*")


def test_a_mask_leaves_what_is_not_a_number() -> None:
    voice = notify_pb2.Voice(text="食堂太贵。", steps=[notify_pb2.Step(text="已降价。")])
    masked = notify_pb2.Voice.FromString(voice.SerializeToString())
    mask(masked)
    assert masked == voice


@given(numbers, phones)
def test_of_a_message_a_log_shows_nobody(number: str, phone: str) -> None:
    asked = pb.CreateApplicationRequest(
        parent="organizations/5101",
        application=pb.Application(person=a_page(number, phone).members[1].person),
    )
    told = redacted(asked)
    assert "organizations/5101" in told and "[ID_NUMBER]" in told
    for secret in (number, phone, "张三"):
        assert secret not in told
    assert asked.application.person.id_number == number, "the message itself is not touched"


def test_what_members_wrote_and_the_parts_of_a_file_are_in_no_log() -> None:
    voice = notify_pb2.Voice(name="voices/1", text="食堂太贵。", steps=[notify_pb2.Step(text="好")])
    assert redacted(voice) == (
        'Voice {name: "voices/1" text: "[FREE_TEXT]" steps { text: "[FREE_TEXT]" }}'
    )
    part = pb.UploadRosterRequest(content="张三".encode())
    assert redacted(part) == 'UploadRosterRequest {content: "[FILE]"}'


@given(numbers, phones)
def test_nothing_that_is_logged_by_mistake_shows_a_number(number: str, phone: str) -> None:
    page = a_page(number, phone)
    logged = [page, page.members, {"asked": [page]}, ValueError(number), f"号{number}号", (phone,)]
    told = repr(loggable(logged))
    assert number not in told and phone not in told and "张三" not in told
    assert loggable([13800000000, "0190a1b2-0000-7000-8000-138000000001"]) == (
        13800000000, "0190a1b2-0000-7000-8000-138000000001"
    )  # fmt: skip
    assert without_numbers(f"{number}1 a{phone}") == f"{number}1 a{phone}", "these are no numbers"
