import base64
import json
from typing import Any

import pytest

from kit import accounts


def claims(jwt: str) -> dict[str, Any]:
    body = jwt.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


@pytest.mark.parametrize(("kind", "letter"), [("operator", "O"), ("account", "A"), ("user", "U")])
def test_a_key_shows_its_kind_and_hides_its_seed(kind: accounts.Kind, letter: str) -> None:
    key = accounts.new_key(kind)
    assert key.public.startswith(letter)
    assert key == accounts.key_from_seed(key.seed)
    assert key.seed not in repr(key)


def test_the_account_of_a_child_is_always_the_same() -> None:
    operator = accounts.new_key("operator")
    assert accounts.child_account(operator, "A") == accounts.child_account(operator, "A")
    assert accounts.child_account(operator, "A") != accounts.child_account(operator, "B")


def test_a_child_imports_its_own_part_alone_and_has_no_jetstream() -> None:
    operator, node = accounts.new_key("operator"), accounts.new_key("account")
    facts = claims(accounts.child_account_jwt(operator, node.public, "A"))["nats"]
    assert [(i["subject"], i["local_subject"]) for i in facts["imports"]] == [("up.A.>", "up.>")]
    assert not set(accounts.JETSTREAM) & set(facts["limits"])
    assert "exports" not in facts


def test_a_child_may_publish_up_and_hear_its_inbox() -> None:
    user = accounts.new_key("user")
    facts = claims(accounts.child_user_jwt(accounts.new_key("operator"), "A", user.public))
    assert facts["sub"] == user.public
    assert facts["nats"]["pub"] == {"allow": ["up.>"]}
    assert facts["nats"]["sub"] == {"allow": ["_INBOX_A.>"]}
