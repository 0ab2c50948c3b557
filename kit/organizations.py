"""Organisations (工会组织): the tree of unions that follows the administrative divisions."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID, uuid5

from kit.authority import is_within
from kit.errors import FailedPrecondition, InvalidArgument, NotFound
from kit.ids import uuid_of

NAMESPACE = UUID("5138f56d-5c2f-5e91-94af-28a73922d314")
"""The namespace of seeded organisations: an id is the UUIDv5 of the division code in it, so nodes
that are seeded apart agree.  It is itself the UUIDv5 of the DNS name organizations.smartunion.org
and never changes."""

NATION = "0"
PLACEHOLDERS = frozenset({"市辖区", "县", "省直辖县级行政区划", "自治区直辖县级行政区划"})
"""Names of entries in the lists of divisions that only group others: they have no union."""


class OrganizationNotFound(NotFound):
    message = "there is no {organization} at this node; it keeps its own part of the tree"
    chinese = "本节点没有 {organization}；节点只保存自己所辖范围及其上级"


class OrganizationNameMalformed(InvalidArgument):
    message = "the format is organizations/{{uuid}} or organizations/{{code}}, not {name}"
    chinese = "格式应为 organizations/{{uuid}} 或 organizations/{{行政区划代码}}，而不是 {name}"


class OrganizationAbove(FailedPrecondition):
    message = "{organization} is above this node; its records are kept there"
    chinese = "{organization} 在本节点之上；其数据由上级节点维护"


class OwnedElsewhere(FailedPrecondition):
    message = "{resource} belongs to {node}, where it can be changed; here it can only be read"
    chinese = "{resource} 归 {node} 所有，须在该节点修改；本节点只可查阅"


class Level(IntEnum):
    """The level in the hierarchy, with the numbers of the contract."""

    NATIONAL = 1
    PROVINCE = 2
    CITY = 3
    COUNTY = 4
    TOWNSHIP = 5
    GRASSROOTS = 6
    GROUP = 7


_LEVELS = {1: Level.NATIONAL, 2: Level.PROVINCE, 4: Level.CITY, 6: Level.COUNTY, 9: Level.TOWNSHIP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """One union."""

    id: UUID
    code: str
    """The division code: `0`, or 2, 4, 6 or 9 digits."""
    display_name: str
    level: Level
    parent: UUID | None
    """None for the nation."""
    path: str
    """The codes from the nation down, joined by dots: `0.51.5101.510104`."""
    host: UUID | None = None
    """The node below that hosts it or what it is part of; None if that is this node."""

    @property
    def name(self) -> str:
        return f"organizations/{self.id}"

    def is_within(self, path: str) -> bool:
        """Whether it stands at `path` or below.

        >>> sichuan, *_ = tree({"51": "四川省"}); sichuan.is_within("0")
        True
        """
        return is_within(self.path, path)

    def check_writable(self, *, home: str, node: UUID) -> None:
        """Raises a refusal unless this node may write what belongs to the organisation.

        Args:
            home: the path of the organisation that the node serves.
            node: the node.
        """
        if not self.is_within(home):
            raise OrganizationAbove(organization=self.name)
        if self.host not in (None, node):
            raise OwnedElsewhere(resource=self.name, node=f"nodes/{self.host}")


def organization_id(code: str) -> UUID:
    """The id of a seeded organisation.

    >>> organization_id("51") == organization_id("51") != organization_id("5101")
    True
    """
    return uuid5(NAMESPACE, code)


def is_code(text: str) -> bool:
    """Whether a text has the form of a division code.

    >>> is_code("5101"), is_code("510"), is_code("５１")
    (True, False, False)
    """
    return text.isascii() and text.isdigit() and len(text) in _LEVELS


def organization_in(name: str, *, field: str = "name") -> UUID:
    """The id in `organizations/{uuid}` or `organizations/{code}`.

    Raises:
        OrganizationNameMalformed: if it is neither.
    """
    collection, _, key = name.partition("/")
    if collection == "organizations":
        if is_code(key):
            return organization_id(key)
        try:
            return uuid_of(key)
        except ValueError:
            pass
    raise OrganizationNameMalformed(field=field, name=name[:100])


def near(divisions: Mapping[str, str], code: str, *, below: bool = True) -> dict[str, str]:
    """The divisions that are needed for what stands above one and, if asked, below.

    >>> near({"51": "四川省", "5101": "成都市", "5107": "绵阳市", "44": "广东省"}, "51")
    {'51': '四川省', '5101': '成都市', '5107': '绵阳市'}
    >>> near({"51": "四川省", "5101": "成都市", "5107": "绵阳市"}, "5101", below=False)
    {'51': '四川省', '5101': '成都市'}
    """
    if code == NATION:
        return dict(divisions) if below else {}
    return {
        one: name
        for one, name in divisions.items()
        if code.startswith(one) or (below and one.startswith(code))
    }


def tree(divisions: Mapping[str, str]) -> Iterator[Organization]:
    """The unions of the divisions, every one after its parent.

    Where a level is a placeholder, or an area that only repeats its city (东莞, 中山, 儋州 and
    嘉峪关 have no counties, and the lists fill the gap with an area named like the city), there is
    no union of its own: what is below hangs one level higher.  So no code stands for two unions.

    Args:
        divisions: names by code; the code of a part begins with the code of the whole.
    """
    paths = {NATION: NATION}
    yield _organization(NATION, "中华全国总工会", parent=None, path=NATION)
    for code in sorted(divisions, key=lambda code: (len(code), code)):
        if _has_union(code, divisions):
            above = next((code[:n] for n in (6, 4, 2) if n < len(code) and code[:n] in paths), "0")
            paths[code] = f"{paths[above]}.{code}"
            yield _organization(code, f"{divisions[code]}总工会", parent=above, path=paths[code])


def _has_union(code: str, divisions: Mapping[str, str]) -> bool:
    name = divisions[code]
    repeats = len(code) == 6 and divisions.get(code[:4]) == name
    return not repeats and not (len(code) == 4 and name in PLACEHOLDERS)


def _organization(code: str, display_name: str, *, parent: str | None, path: str) -> Organization:
    return Organization(
        id=organization_id(code),
        code=code,
        display_name=display_name,
        level=_LEVELS[len(code)],
        parent=None if parent is None else organization_id(parent),
        path=path,
    )


def around(organizations: Iterable[Organization], code: str) -> list[Organization]:
    """What of the tree a node holds that serves `code`: its organisation, all above, all below.

    Raises:
        KeyError: if there is no organisation with that code.
    """
    everything = {organization.code: organization for organization in organizations}
    home = everything[code]
    above = [everything[part] for part in home.path.split(".")[:-1]]
    return above + [one for one in everything.values() if one.is_within(home.path)]
