"""The destination of a target: everything wrong with it at once, or its stored form.

A caller learns of the destinations of the task's chain alone; one of another chain is as unknown as one that is not
there. Called by api/definitions.py.
"""

from __future__ import annotations

from typing import Any, cast

from tasks_service.api.bodies import nearest, shown
from tasks_service.destinations.paths import DEFAULT_PATH, path_fault
from tasks_service.destinations.registry import Destinations
from tasks_service.errors import Fault

_POINTER = "/target/destination"
_MEMBERS = ("name", "path", "overwrite")


def destination_faults(value: object, destinations: Destinations, *, chain: int | None) -> list[Fault]:
    """Return what is wrong with a `target.destination`; without a sound chain its name is not judged."""
    if value is None:
        return []
    if isinstance(value, str):
        return _name_faults(value, _POINTER, destinations, chain)
    if not isinstance(value, dict):
        return [Fault(_POINTER, "wrong_type", 'Give a destination\'s name, or `{"name", "path", "overwrite"}`.')]
    members = cast("dict[str, Any]", value)
    faults = [
        Fault(f"{_POINTER}/{name}", "unknown_member", f"There is no `{shown(name)}` here. {nearest(name, _MEMBERS)}")
        for name in members
        if name not in _MEMBERS
    ]
    name, path, overwrite = (members.get(member) for member in _MEMBERS)
    if name is None:
        faults.append(Fault(f"{_POINTER}/name", "missing", "`name` is required. The destination's."))
    elif isinstance(name, str):
        faults += _name_faults(name, f"{_POINTER}/name", destinations, chain)
    else:
        faults.append(Fault(f"{_POINTER}/name", "wrong_type", "Give a text. The destination's name."))
    if path is not None and not isinstance(path, str):
        faults.append(Fault(f"{_POINTER}/path", "wrong_type", f"Give a text like `{DEFAULT_PATH}`."))
    elif path is not None and (detail := path_fault(path)) is not None:
        faults.append(Fault(f"{_POINTER}/path", "not_allowed", detail))
    if overwrite is not None and not isinstance(overwrite, bool):
        faults.append(Fault(f"{_POINTER}/overwrite", "wrong_type", "Give true or false."))
    return faults


def stored_destination(value: str | dict[str, Any]) -> dict[str, Any]:
    """Return the stored form of a sound `target.destination`: every member, so that no default changes it later."""
    members = {"name": value} if isinstance(value, str) else value
    return {
        "name": members["name"],
        "path": members.get("path") or DEFAULT_PATH,
        "overwrite": members.get("overwrite") or False,
    }


def _name_faults(name: str, pointer: str, destinations: Destinations, chain: int | None) -> list[Fault]:
    if chain is None:
        return []
    known = destinations.names(chain=chain)
    if name in known:
        return []
    offered = nearest(name, known) if known else "It has none; the service's operator configures them."
    detail = f"The chain has no destination `{shown(name)}`. {offered}"
    return [Fault(pointer, "unknown_destination", detail)]
