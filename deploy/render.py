"""Renders the kustomizations of deploy/ without kustomize, which a clone and CI need not have.

    python -m deploy.render

It knows the few fields that ours use, and refuses any other; where `kubectl` is, a test compares
the two.
"""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
LEVELS = ROOT / "deploy" / "levels"
RENDERED = ROOT / "deploy" / "rendered"
KNOWN = {"apiVersion", "kind", "resources", "namespace", "labels", "images", "sortOptions"}


def render(folder: Path) -> list[dict[str, Any]]:
    """The resources of a kustomization, in the order in which it names them.

    Raises:
        ValueError: if it has a field that is not known here.
    """
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := wanted.keys() - KNOWN:
        raise ValueError(f"{folder.name}/kustomization.yaml: {sorted(unknown)} is not known here")
    found: list[dict[str, Any]] = []
    for name in wanted["resources"]:
        path = folder / name
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        found += list(yaml.safe_load_all(content)) if content else render(path)
    for resource in found:
        _change(resource, wanted)
    return found


def _change(resource: dict[str, Any], wanted: dict[str, Any]) -> None:
    metadata, template = resource["metadata"], resource.get("spec", {}).get("template")
    if "namespace" in wanted:
        metadata["namespace"] = wanted["namespace"]
    for label in wanted.get("labels", []):
        metadata.setdefault("labels", {}).update(label["pairs"])
        if template and label.get("includeTemplates"):
            template["metadata"]["labels"].update(label["pairs"])
    tags = {image["name"]: image["newTag"] for image in wanted.get("images", [])}
    for container in template["spec"]["containers"] if template else ():
        if container["image"] in tags:
            container["image"] += f":{tags[container['image']]}"


def rendered() -> dict[Path, str]:
    """The text of each file in deploy/rendered, one a level, from the kustomizations."""
    return {
        RENDERED / f"{level.name}.yaml": yaml.safe_dump_all(
            render(level), sort_keys=False, allow_unicode=True, width=1000
        )
        for level in sorted(LEVELS.iterdir())
    }


if __name__ == "__main__":
    for file, text in rendered().items():
        file.write_text(text, encoding="utf-8")
