"""What may be relied on of made-up people."""

import csv
from datetime import date

from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric

from node.people import HEADER, Crowd, check_digit, roster

CODES = st.from_regex(r"[1-9][0-9](?:[0-9]{2}){0,2}", fullmatch=True)


@given(st.from_regex(r"[1-9][0-9]{16}", fullmatch=True))
def test_the_check_digit_is_that_of_the_national_standard(digits: str) -> None:
    assert check_digit(digits) == ric.calc_check_digit(f"{digits}0")


@given(st.integers(0, 10_000), CODES)
def test_an_id_number_begins_with_its_division_and_tells_a_working_age(
    seed: int, code: str
) -> None:
    person = Crowd(seed).person(code)
    assert len(person.id_number) == 18
    assert person.id_number.startswith(code)
    assert ric.calc_check_digit(person.id_number) == person.id_number[-1]
    day = person.id_number[6:14]
    born = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    assert date(1962, 1, 1) <= born <= date(2006, 12, 31)


@given(st.integers(0, 10_000))
def test_a_name_is_two_to_four_chinese_characters_and_a_phone_eleven_digits(seed: int) -> None:
    person = Crowd(seed).person("5101")
    assert 2 <= len(person.full_name) <= 4
    assert all("\u4e00" <= character <= "\u9fff" for character in person.full_name)
    assert len(person.phone) == 11 and person.phone.isdigit() and person.phone[0] == "1"


def test_the_same_seed_gives_the_same_people() -> None:
    assert Crowd(7).people(100, "5107") == Crowd(7).people(100, "5107")
    assert Crowd(7).people(100, "5107") != Crowd(8).people(100, "5107")


def test_no_two_people_of_a_crowd_share_an_id_number_or_a_phone() -> None:
    people = Crowd(1).people(20_000, "510104")
    assert len({person.id_number for person in people}) == 20_000
    assert len({person.phone for person in people}) == 20_000


def test_a_township_gives_its_county_to_the_id_number() -> None:
    assert Crowd(1).person("510104017").id_number.startswith("510104")


def test_a_roster_is_what_a_spreadsheet_writes() -> None:
    people = Crowd(3).people(5, "5101")
    content = roster(people, approval="成工发〔2025〕12号", approved=date(2025, 3, 8))
    assert content.startswith(b"\xef\xbb\xbf")
    header, *rows = csv.reader(content.decode("utf-8-sig").splitlines())
    assert tuple(header) == HEADER == ("姓名", "身份证号", "手机号码", "批准文号", "批准日期")
    assert [row[1] for row in rows] == [person.id_number for person in people]
    assert all(row[3:] == ["成工发〔2025〕12号", "2025-03-08"] for row in rows)
