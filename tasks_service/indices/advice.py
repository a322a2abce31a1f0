"""What to say of an index as it is: the mapping that would help a field, and where it differs from the template. Pure.

Called by `tasks-service indices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segments import Catalog, Field
from tasks_service.indices.fields import LONGEST_KEYWORD

_KEYWORD: dict[str, Any] = {"type": "keyword"}
_LIMITED: dict[str, Any] = {**_KEYWORD, "ignore_above": LONGEST_KEYWORD}
_WHOLE = frozenset({"byte", "short", "integer", "long", "unsigned_long"})
_AS_KEYWORD = frozenset({"ip", "version", "flattened", "runtime"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of an index that is not mapped as the template maps it."""

    field: str
    found: str
    wanted: str


def doubt(field: Field) -> str:
    """Say which values the index leaves out, if it does; what needs them is counted before it is answered."""
    if field.malformed:
        return "malformed values are not indexed: every rule is refused for a chain that has any"
    if field.ignore_above is None:
        return ""
    what = "substrings, and equality with longer values, are refused for a chain that has any"
    return f"values of more than {field.ignore_above} characters are not indexed: {what}"


def helping(field: Field) -> dict[str, Any] | None:
    """The mapping under which every operator of the field is exact; None where it is, or where none is known."""
    strings = field.type in {"keyword", "text"}
    enough = field.ignore_above is not None and field.ignore_above >= LONGEST_KEYWORD
    answers = not field.refusal and (enough or not doubt(field)) and (not strings or field.exact)
    # A sub-field has none of its own: its parent says it.
    return None if answers or field.name != ".".join(field.path) else _better(field)


def _better(field: Field) -> dict[str, Any] | None:
    if field.type == "text":
        return {"type": "text", "fields": {"keyword": _LIMITED}}
    if field.type == "keyword":
        return _LIMITED if field.ignore_above is not None else _KEYWORD
    if field.type == "number":
        return {"type": "long" if field.storage in _WHOLE else "double"}
    if field.type in {"date", "boolean"}:
        return {"type": field.storage}
    return _KEYWORD if field.storage in _AS_KEYWORD else None


def differences(found: Catalog, wanted: Catalog) -> list[Difference]:
    """Where an index answers less than, or other than, it would under the template; fields it lacks are left out."""
    own = (field for field in wanted.fields if field.name == ".".join(field.path))  # a sub-field is its parent's affair
    pairs = ((found.get(field.name), field) for field in own)
    told = ((field, _told(one, field)) for one, field in pairs if one is not None)
    return [Difference(field.name, said, _named(field)) for field, said in told if said]


def _told(found: Field, wanted: Field) -> str:
    if found.nested != wanted.nested:
        return f"nested in {found.nested}" if found.nested else "not nested"
    if found.storage != wanted.storage:
        return found.storage
    if found.refusal:
        return f"{found.storage}, refused: {found.refusal}"
    if wanted.exact and not found.exact:
        return f"{found.storage} without a keyword that answers"
    if found.ignore_above is not None and found.ignore_above < (wanted.ignore_above or LONGEST_KEYWORD + 1):
        return f"{found.storage}, ignore_above {found.ignore_above}"
    return f"{found.storage}, ignore_malformed" if found.malformed and not wanted.malformed else ""


def _named(field: Field) -> str:
    exact = " with a keyword" if field.type == "text" else ""
    return f"{field.storage}{exact}" + (f" nested in {field.nested}" if field.nested else "")
