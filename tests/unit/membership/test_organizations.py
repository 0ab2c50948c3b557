"""The tree of unions, made of the lists of divisions."""

from hypothesis import given
from hypothesis import strategies as st

from kit.divisions import divisions
from kit.organizations import Organization, around, organization_id, tree

ALL = {organization.code: organization for organization in tree(divisions())}


@st.composite
def lists(draw: st.DrawFn) -> dict[str, str]:
    """Lists of divisions with placeholders and with areas that repeat their city."""
    found: dict[str, str] = {}
    digits = st.sets(st.integers(11, 14).map(str), max_size=3)
    names = st.sampled_from(["甲市", "乙县", "市辖区", "县", "省直辖县级行政区划"])
    for province in draw(digits):
        found[province] = "某省"
        for city in draw(digits):
            found[province + city] = draw(names)
            for area in draw(digits):
                found[province + city + area] = draw(names)
                found[province + city + area + "001"] = "某街道"
    return found


@given(lists())
def test_every_union_hangs_below_one_that_is_there_and_stands_once(found: dict[str, str]) -> None:
    paths: dict[str, Organization] = {}
    for organization in tree(found):
        assert organization.path not in paths
        above, _, code = organization.path.rpartition(".")
        assert code == organization.code
        assert organization.parent == (paths[above].id if above else None)
        assert not above or paths[above].level < organization.level
        paths[organization.path] = organization
    codes = [organization.code for organization in paths.values()]
    assert len(codes) == len(set(codes))
    assert {code for code in found if len(code) == 9} <= set(codes)


def test_the_real_lists_give_one_union_for_each_division_that_is_none_other() -> None:
    assert ALL["0"].display_name == "中华全国总工会"
    assert ALL["510104017"].path == "0.51.5101.510104.510104017"
    assert ALL["5101"].display_name == "成都市总工会"
    assert len({organization.id for organization in ALL.values()}) == len(ALL) > 44_000


def test_the_counties_of_a_placeholder_hang_below_the_province() -> None:
    assert "1101" not in ALL
    assert ALL["110101"].path == "0.11.110101"
    assert ALL["429004"].parent == organization_id("42")


def test_a_city_without_counties_has_its_streets_directly_below() -> None:
    for city, street in (("4419", "441900003"), ("4420", "442000001"), ("4604", "460400100")):
        assert city in ALL and f"{city}00" not in ALL
        assert ALL[street].parent == organization_id(city)
    assert "620201" not in ALL


def test_a_node_holds_what_it_serves_what_is_below_and_what_is_above() -> None:
    held = [organization.code for organization in around(ALL.values(), "510104")]
    assert held[:4] == ["0", "51", "5101", "510104"]
    assert all(code.startswith("510104") for code in held[3:])
    assert len(around(ALL.values(), "0")) == len(ALL)


def test_ids_are_for_life() -> None:
    assert str(organization_id("5101")) == "a23ea788-fc0a-5eac-98cf-432978f913a0"


def test_a_neighbour_whose_code_begins_alike_is_not_within() -> None:
    assert not ALL["5101"].is_within("0.5")
    assert ALL["510104"].is_within("0.51.5101") and not ALL["5101"].is_within("0.51.5101.510104")
