from pathlib import Path

import pytest

from kit.errors import Refusal
from node import config

SMALLEST = 'name = "成都市总工会"\norganization = "5101"\nlevel = "city"\n'
OUTSIDE = (
    f"{SMALLEST}profile = 'production'\n[identity]\nissuer = 'https://a.example'\naudience = 'b'\n"
)


def load(folder: Path, text: str) -> config.NodeConfig:
    file = folder / "node.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file)


def test_three_settings_make_a_node(tmp_path: Path) -> None:
    loaded = load(tmp_path, SMALLEST)
    assert loaded.data == tmp_path / "data"
    assert loaded.listen.sync == 0
    assert loaded.profile == "development"


def test_the_example_is_a_config(tmp_path: Path) -> None:
    assert load(tmp_path, config.EXAMPLE).name == "成都市总工会"


def test_a_path_is_relative_to_the_config(tmp_path: Path) -> None:
    loaded = load(tmp_path, SMALLEST + 'data = "x/y"\n[nats]\nurl = "u"\ncreds = "c"\n')
    assert loaded.data == tmp_path / "x" / "y"
    assert loaded.nats.creds == str(tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALLEST + "colour = 1", "colour: there is no such setting"),
        (SMALLEST + "[listen]\nsync = 70000", "listen.sync: Input should be less than"),
        (SMALLEST + "[listen]\nsync = 'x'", "listen.sync: Input should be a valid integer"),
        (SMALLEST.replace("city", "village"), "level: Input should be 'national'"),
        ('name = "x"', "organization: Field required"),
        (SMALLEST + "[parent]\nsync = 'here'", "parent.sync: "),
        ("name =", "the file: Invalid value"),
        (SMALLEST + "[listen]\nhost = '0.0.0.0'", "TLS"),
        (SMALLEST + "profile = 'production'", "identity: set issuer and audience"),
        (SMALLEST + "[identity]\nissuer = 'https://a'", "identity: set issuer and audience"),
        (SMALLEST + "[identity]\njwks = 'https://a'", "identity: set issuer and audience"),
        (SMALLEST + "[identity]\nissuer = 'a'\naudience = 'b'", "identity: write https://"),
        (OUTSIDE.replace("https", "http"), "identity: write https://"),
        (OUTSIDE + "jwks = 'file:///tmp/keys'", "identity: write https://"),
        (OUTSIDE + "[parent]\nsync = 'a:1'", "set parent.peers"),
    ],
)
def test_a_wrong_config_is_one_line_that_names_the_setting(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        load(tmp_path, text)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value) + refusal.value.chinese_text


def test_a_wrong_value_is_not_repeated_as_it_may_be_secret(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        load(tmp_path, SMALLEST + "[postgres]\ndsn = ['hush']")
    assert "hush" not in str(refusal.value)


def test_a_missing_config_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="smartunion node init"):
        config.load(tmp_path / "none.toml")
