"""The index templates as files of the package: written from ``mappings``, read for ``tasks-service indices apply``.

They are files so that whoever keeps templates elsewhere (a deployment tool, another team) can take them as they are:
``python -m tasks_service.indices.templates`` writes them, and a test fails where they are not what the fields say.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from tasks_service.indices.fields import INDICES
from tasks_service.indices.mappings import template

PRIORITY = 200
"""Above the templates Elasticsearch brings (100), below those that most people write (500)."""

_FOLDER = "template_files"


def template_name(index: str) -> str:
    """The name of an index's template in a cluster."""
    return f"tasks-service-{index}"


def body(index: str, patterns: list[str]) -> dict[str, Any]:
    """The shipped template of an index for the indices that `patterns` name, as ``PUT _index_template`` takes it.

    Raises:
        KeyError: no template is shipped for it.
    """
    if index not in INDICES:
        raise KeyError(index)
    text = (resources.files("tasks_service.indices") / _FOLDER / f"{index}.json").read_text(encoding="utf-8")
    made: dict[str, Any] = {**json.loads(text), "index_patterns": patterns}
    made["_meta"] = {**made["_meta"], "fingerprint": fingerprint(made)}
    return made


def fingerprint(made: dict[str, Any]) -> str:
    """A hash of what a template does, to tell one that is in place from one of another version."""
    said = {name: made[name] for name in ("index_patterns", "priority", "template")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def text(index: str) -> str:
    """The file of an index."""
    whole = {
        "index_patterns": [index],
        "priority": PRIORITY,
        "_meta": {"description": f"Exports of {index}: every rule of a segment is exact.", "made_by": "tasks-service"},
        "template": template(index),
    }
    return json.dumps(whole, indent=2) + "\n"


def write() -> None:
    """Write every file."""
    folder = Path(__file__).parent / _FOLDER
    folder.mkdir(exist_ok=True)
    for index in INDICES:
        (folder / f"{index}.json").write_text(text(index), encoding="utf-8")


if __name__ == "__main__":
    write()
