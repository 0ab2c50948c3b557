"""Made-up people for demonstrations and tests: plausible, valid in every field, and never real.

The same seed gives the same people; no ID number and no phone number comes twice from one `Crowd`.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
    "姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
COMPOUND_SURNAMES = ("欧阳", "上官", "司马", "诸葛", "夏侯", "皇甫")
GIVEN = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英建国文华玉兰秀红梅春海燕志永东晓峰云飞宇浩轩梓涵欣怡子睿"
    "佳琪思雨嘉豪俊熙诗博雅婷晨曦凯琳鑫鹏雪慧颖莉波斌辉龙泽昊若一诺语桐安然宁康福生荣贵德才立新成林川蓉绵"
)
PHONE_PREFIXES = (
    "133",
    "135",
    "136",
    "138",
    "139",
    "150",
    "158",
    "159",
    "177",
    "186",
    "189",
    "199",
)
HEADER = ("姓名", "身份证号", "手机号码", "批准文号", "批准日期")

OLDEST, YOUNGEST = date(1962, 1, 1), date(2006, 12, 31)
"""Birthdays of people who may work in 2026."""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who does not exist."""

    full_name: str
    id_number: str
    """18 characters (GB 11643-1999)."""
    phone: str
    """11 digits."""


def check_digit(digits: str) -> str:
    """The last character of an ID number, from the 17 digits before it.

    >>> check_digit("11010519491231002")
    'X'

    Source: GB 11643-1999; ISO 7064, MOD 11-2.
    """
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(digits))
    return "10X98765432"[total % 11]


class Crowd:
    """Gives people, one after the other, each once."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._taken: set[str] = set()

    def person(self, code: str) -> Person:
        """Someone whose ID number was issued in a division.

        Args:
            code: a division code of 2 digits or more, such as `5101`.
        """
        return Person(self._name(), self._fresh_id_number(code), self._fresh_phone())

    def people(self, count: int, code: str) -> list[Person]:
        """So many people of one division."""
        return [self.person(code) for _ in range(count)]

    def _name(self) -> str:
        pick = self._random
        compound = pick.random() < 0.01
        surname = pick.choice(COMPOUND_SURNAMES) if compound else pick.choice(SURNAMES)
        length = 1 if pick.random() < 0.25 else 2
        return surname + "".join(pick.choice(GIVEN) for _ in range(length))

    def _fresh_id_number(self, code: str) -> str:
        region = code[:6].ljust(6, "0")
        while True:
            day = OLDEST + timedelta(days=self._random.randint(0, (YOUNGEST - OLDEST).days))
            digits = f"{region}{day:%Y%m%d}{self._random.randint(1, 999):03}"
            if self._take(number := digits + check_digit(digits)):
                return number

    def _fresh_phone(self) -> str:
        while True:
            prefix = self._random.choice(PHONE_PREFIXES)
            if self._take(number := f"{prefix}{self._random.randrange(10**8):08}"):
                return number

    def _take(self, number: str) -> bool:
        fresh = number not in self._taken
        self._taken.add(number)
        return fresh


def roster(people: Iterable[Person], *, approval: str, approved: date) -> bytes:
    """A roster (花名册) of people whose membership was approved on paper: CSV as Excel writes it.

    Args:
        approval: the number of the approval document (批准文号).
        approved: the day of the approval, in Beijing.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(HEADER)
    rows.writerows(
        (person.full_name, person.id_number, person.phone, approval, approved.isoformat())
        for person in people
    )
    return text.getvalue().encode("utf-8-sig")
