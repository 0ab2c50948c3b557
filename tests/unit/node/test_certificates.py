"""What a node on one machine gives its services in production is what they ask for."""

import importlib
from pathlib import Path
from uuid import uuid4

import pytest

from kit import tls
from kit.config import CannotServe
from kit.wire import Secured
from node import config, services, supervisor
from node.supervisor import Plan

PRODUCTION = """
name = "成都市总工会"
organization = "5101"
level = "city"
profile = "production"
[identity]
issuer = "https://login.example.org"
audience = "nodes/5101"
[listen]
host = "10.0.0.1"
[parent]
sync = "10.0.0.2:1"
peers = "10.0.0.2:2"
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = tmp_path / "node.toml"
    file.write_text(PRODUCTION, encoding="utf-8")
    loaded = config.load(file)
    ports = dict.fromkeys(supervisor.wanted_ports(loaded), 1)
    return Plan(loaded, str(uuid4()), ports, False, "services", None)


def wired(plan: Plan, name: str) -> Secured:
    """As the service begins."""
    carrier = {"nats_url": "tls://127.0.0.1:1"}
    made = supervisor._service(plan, name, "postgresql://x@127.0.0.1/x", carrier)
    settings = importlib.import_module(f"services.{name}.config").Settings(**made.settings)
    return Secured(settings, name)


@pytest.mark.parametrize("name", services.NAMES)
def test_each_service_finds_a_certificate_of_its_own(plan: Plan, name: str) -> None:
    with pytest.raises(CannotServe, match=f"{name}/tls.crt cannot be read: No such file"):
        wired(plan, name)
    supervisor._certified(plan)
    wired(plan, name)
    folder = plan.secrets / "tls"
    (folder / name / "tls.key").write_text((folder / "ca.key").read_text())
    with pytest.raises(CannotServe, match=f"{name}/tls.key is not the key of tls.crt"):
        wired(plan, name)
    others = [other for other in services.NAMES if other != name]
    for file in (tls.CHAIN, tls.KEY):
        (folder / name / file).write_text((folder / others[0] / file).read_text())
    with pytest.raises(CannotServe, match=f"{name}/tls.crt is not for spiffe://smartunion/"):
        wired(plan, name)


def test_engines_and_health_stay_on_this_machine(plan: Plan) -> None:
    assert plan.address("sync_peers") == "10.0.0.1:1"
    assert plan.inside == "127.0.0.1" and plan.health("sync") == "127.0.0.1:1"
