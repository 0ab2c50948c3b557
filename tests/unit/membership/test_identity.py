"""What is right about a person's name and numbers."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.membership.domain.identity import (
    full_name_of,
    id_number_of,
    phone_of,
)
from tests.builders import an_id_number

TODAY = date(2026, 11, 22)
numbers = st.integers(0, 9_000_000).map(an_id_number)
blanks = st.sampled_from(["", " ", "\u3000", "\t", "\u200b", "\ufeff"])


@given(numbers, blanks, blanks, st.integers(0, 18), st.booleans())
def test_a_number_is_the_same_however_it_is_typed(
    number: str, before: str, between: str, at: int, wide: bool
) -> None:
    typed = number.lower()
    if wide:
        typed = "".join(chr(ord(character) + 0xFEE0) for character in typed)
    assert id_number_of(f"{before}{typed[:at]}{between}{typed[at:]}", today=TODAY) == number


@given(numbers, st.integers(0, 17), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed_and_never_quoted(
    number: str, at: int, step: int
) -> None:
    digit = "0" if number[at] == "X" else str((int(number[at]) + step) % 10)
    wrong = f"{number[:at]}{digit}{number[at + 1 :]}"
    with pytest.raises(InvalidArgument) as refusal:
        id_number_of(wrong, today=TODAY)
    told = f"{refusal.value}{refusal.value.chinese_text}{refusal.value.facts}"
    assert wrong not in told and number not in told


@given(st.text(max_size=30))
def test_any_text_is_either_a_number_of_18_characters_or_refused(text: str) -> None:
    try:
        number = id_number_of(text, today=TODAY)
    except InvalidArgument as refusal:
        assert refusal.field == "id_number"
    else:
        assert len(number) == 18 and number.isascii()


def test_who_is_not_born_yet_has_no_number() -> None:
    number = an_id_number(0)
    born = date(1960, 1, 1)
    assert id_number_of(number, today=born) == number
    with pytest.raises(InvalidArgument, match="future"):
        id_number_of(number, today=date(1959, 12, 31))


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "ID_NUMBER_LENGTH"),
        ("510104800101001", "ID_NUMBER_FIRST_GENERATION"),
        ("5.10104E+17", "ID_NUMBER_ROUNDED"),
        ("5.10104198001E17", "ID_NUMBER_ROUNDED"),
        ("51010419800101001Y", "ID_NUMBER_CHARACTERS"),
        ("510104198013010012", "ID_NUMBER_BIRTH_DATE"),
        ("510104000001010012", "ID_NUMBER_BIRTH_DATE"),
        ("੫10104198001010012", "ID_NUMBER_CHARACTERS"),
    ],
)
def test_each_mistake_has_its_own_reason(typed: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        id_number_of(typed, today=TODAY)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    "typed", ["13800000000", "+86 138 0000 0000", "138-0000-0000", "１３８００００００００"]
)
def test_a_phone_is_the_same_however_it_is_typed(typed: str) -> None:
    assert phone_of(typed) == "13800000000"


@pytest.mark.parametrize(
    "typed", ["1", "12800000000", "02887654321", "138000000001", "1380000000a"]
)
def test_what_is_no_mobile_phone_is_refused(typed: str) -> None:
    with pytest.raises(InvalidArgument):
        phone_of(typed)


def test_a_phone_may_be_unknown() -> None:
    assert phone_of(" ") == ""


@pytest.mark.parametrize(("typed", "right"), [("张", True), ("张" * 50, True), ("张" * 51, False)])
def test_a_name_has_1_to_50_characters(typed: str, right: bool) -> None:
    try:
        assert full_name_of(f" {typed}\u3000") == typed and right
    except InvalidArgument:
        assert not right
