"""Where at a destination a run's files go: the operator's prefix, then the task's path with its placeholders filled.

Pure. The prefix keeps chains apart (config_named.py); a path cannot leave it, for it is made of names joined by
slashes: that is held against the template when a task is created, and once more against what it became in a run, for
what fills a placeholder is of the run, and the task may be older than the rules. Called by pushing.py and by api/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from tasks_service.destinations import DestinationError
from tasks_service.errors import StorageError
from tasks_service.order import ExportOrder
from tasks_service.storage.names import checked_name

DEFAULT_PATH = "{task}/{run}"
LONGEST_PATH = 400
_LONGEST_SHOWN = 200

PLACEHOLDERS: dict[str, str] = {
    "chain": "the task's chain",
    "task": "the task's id",
    "run": "the run's id",
    "index": "the export index",
    "year": "of the occurrence, in the task's time zone, four digits",
    "month": "likewise, two digits",
    "day": "likewise, two digits",
    "hour": "likewise, two digits",
    "minute": "likewise, two digits",
}
"""What a path may hold in braces, and what stands there in a run."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def path_fault(path: str) -> str | None:
    """Return what is wrong with a task's path, or None."""
    if len(path) > LONGEST_PATH:
        return f"Give at most {LONGEST_PATH} characters."
    unknown = sorted({name for name in _PLACEHOLDER.findall(path) if name not in PLACEHOLDERS})
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    if unknown:
        return f"There is no placeholder {{{unknown[0][:60]}}}. Known: {known}."
    try:
        checked_name(_filled(path, dict.fromkeys(PLACEHOLDERS, "0")))
    except StorageError:
        return (
            "A path is made of names joined by /, of letters, digits and . _ = -, none of them empty or beginning with "
            f"a dot; in braces it may hold {known}."
        )
    return None


def folder_of(prefix: str, path: str, order: ExportOrder) -> str:
    """Return the folder of a run's files at a destination, without a slash at its end.

    Raises DestinationError where it is none that objects may lie in.
    """
    values = {
        "chain": str(order.chain),
        "task": str(order.task),
        "run": str(order.run),
        "index": order.target["export_index"],
        **_moments(order.now.astimezone(order.local())),
    }
    templates = [template for template in (prefix, path) if template]
    unknown = sorted({name for template in templates for name in _PLACEHOLDER.findall(template)} - values.keys())
    if unknown:
        detail = f"There is no placeholder {{{unknown[0][:60]}}} in the path {path!r} of `target.destination`."
        raise DestinationError(f"{detail} Give the task another path.")
    folder = "/".join(_filled(template, values) for template in templates)
    return checked_object(folder, path)


def checked_object(name: str, path: str) -> str:
    """Return the name of an object at a destination, or of a folder; raise DestinationError where it is none."""
    try:
        return checked_name(name)
    except StorageError as error:
        shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
        raise DestinationError(
            f"Nothing is pushed to {shown!r}, which the path {path!r} of `target.destination` became in this run. "
            f"{error.detail} Give the task another path."
        ) from error


def _moments(now: datetime) -> Mapping[str, str]:
    formats = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M"}
    return {name: now.strftime(written) for name, written in formats.items()}


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)
