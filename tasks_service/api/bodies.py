"""Reading what callers send: JSON strictly, then against a model, with every fault found at once.

What lives here: bytes to a JSON value (one meaning for every body: no duplicate members, no NaN, no text a database
cannot hold), and pydantic's findings turned into faults that say what would be right. What does not: what the values
mean. Called by api/routes.py for every route that takes a body or a query.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError
from werkzeug.datastructures import MultiDict

from tasks_service.api.problems import InvalidParametersError, MalformedError
from tasks_service.errors import Fault, InvalidRequestError

ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_DEPTH = 32
_SHOWN = 60
_CODES = {
    "missing": "missing",
    "extra_forbidden": "unknown_member",
    "literal_error": "not_allowed",
    "too_short": "too_short",
    "too_long": "too_long",
    "string_too_long": "too_long",
    "string_too_short": "too_short",
    "string_pattern_mismatch": "not_allowed",
    "greater_than_equal": "out_of_range",
    "less_than_equal": "out_of_range",
}
_TYPES = {
    "string_type": "a text",
    "int_type": "an integer",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


class _Members(dict[str, Any]):
    """An object whose text named a member twice."""

    twice: tuple[str, ...] = ()


class _NotJsonError(ValueError):
    """A value that looks like JSON and is none."""


def parse_json(data: bytes) -> Any:  # noqa: ANN401 -- any JSON value
    """Read a JSON value strictly.

    Raises MalformedError (with line and column) where it is not JSON, InvalidRequestError with a pointer where it is
    JSON that has no one meaning (a member twice) or that cannot be stored.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start + 1} is not UTF-8") from error
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise _malformed(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except _NotJsonError as error:
        raise _malformed(str(error)) from error
    except RecursionError as error:
        raise _malformed(f"values lie deeper than {MAX_DEPTH} levels") from error
    if faults := list(_unfit(value)):
        raise InvalidRequestError(faults=faults)
    return value


def pointer_of(parts: Iterable[str | int]) -> str:
    """Return the JSON pointer of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def shape_faults(model: type[BaseModel], document: Any) -> list[Fault]:  # noqa: ANN401 -- any JSON value
    """Return everything about a JSON value that is not as the model has it."""
    return read_model(model, document)[1]


def read_model(model: type[ModelT], document: Any) -> tuple[ModelT | None, list[Fault]]:  # noqa: ANN401 -- JSON
    """Return the value as the model, or None and everything that is wrong with it."""
    if not isinstance(document, dict):
        return None, [Fault("", "wrong_type", "Send an object, `{...}`, as the body.")]
    try:
        return model.model_validate(document), []
    except ValidationError as error:
        faults = {fault.pointer: fault for fault in _faults(model, error)}
        return None, list(faults.values())


def read_query(model: type[ModelT], given: MultiDict[str, str]) -> ModelT:
    """Return the query parameters as the model; raise InvalidParametersError with every fault."""
    faults = [Fault(name, "repeated", f"Give `{name}` once.") for name, values in given.lists() if len(values) > 1]
    faults += [
        Fault(name, "not_allowed", "A parameter cannot hold the character U+0000.")
        for name, value in given.items()
        if "\0" in value
    ]
    document = {name: _number_or_text(model, name, value) for name, value in given.items()}
    read, found = read_model(model, document)
    faults += [Fault(fault.pointer.removeprefix("/"), fault.code, fault.detail) for fault in found]
    if faults or read is None:
        first = {fault.pointer: fault for fault in reversed(faults)}
        raise InvalidParametersError(faults=[_as_parameter(fault) for fault in reversed(first.values())])
    return read


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a sentence that names the nearest known word, and all of them."""
    near = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    hint = f"Did you mean `{near[0]}`? " if near else ""
    return f"{hint}Known: {', '.join(known)}."


def shown(text: str) -> str:
    """Return a caller's word short enough to be quoted back."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _malformed(what: str) -> MalformedError:
    detail = f"The body is not JSON: {what}."
    return MalformedError(detail, faults=[Fault("", "malformed_json", detail)])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    names = [name for name, _ in pairs]
    marked = _Members(members)
    marked.twice = tuple(name for name in members if names.count(name) > 1)
    return marked


def _constant(word: str) -> float:
    raise _NotJsonError(f"{word} is no JSON number; leave the member out or use null")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NotJsonError(f"the number {shown(digits)} is too large")
    return number


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # more digits than the interpreter converts
        raise _NotJsonError(f"the number {shown(digits)} is too large") from None


def _unfit(document: Any) -> Iterator[Fault]:  # noqa: ANN401 -- any JSON value
    """Yield what a JSON value has that no part of the service could take, wherever it lies."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            if not _storable(value):
                detail = "A text cannot hold the character U+0000 or half of a surrogate pair."
                yield Fault(pointer_of(path), "not_allowed", detail)
        elif isinstance(value, dict | list):
            if len(path) >= MAX_DEPTH:
                yield Fault(pointer_of(path), "too_deep", f"Values lie at most {MAX_DEPTH} levels deep.")
                return
            yield from _unfit_members(path, cast("Any", value))
            waiting += [((*path, key), child) for key, child in _children(value)]


def _children(value: Any) -> Iterable[tuple[str | int, Any]]:  # noqa: ANN401 -- dict or list
    if isinstance(value, dict):
        return cast("dict[str | int, Any]", value).items()
    return enumerate(cast("list[Any]", value))


def _unfit_members(path: tuple[str | int, ...], value: Any) -> Iterator[Fault]:  # noqa: ANN401 -- dict or list
    if isinstance(value, _Members):
        for name in value.twice:
            yield Fault(pointer_of((*path, name)), "duplicate_member", "Give this member once.")
    if isinstance(value, dict):
        for name in cast("dict[str, Any]", value):
            if not _storable(name):
                detail = "A member's name cannot hold the character U+0000 or half of a surrogate pair."
                yield Fault(pointer_of(path), "not_allowed", detail)


def _storable(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _faults(model: type[BaseModel], error: ValidationError) -> Iterator[Fault]:
    for found in error.errors(include_url=False, include_input=True):
        path, owner = _walk(model, found["loc"])
        kind = found["type"]
        pointer = pointer_of(path)
        code = _CODES.get(kind, "wrong_type" if kind in _TYPES else "invalid")
        yield Fault(pointer, code, _detail(kind, found, path, owner))


def _detail(kind: str, found: Mapping[str, Any], path: Sequence[str | int], owner: type[BaseModel]) -> str:
    name = str(path[-1]) if path else ""
    context: Mapping[str, Any] = found.get("ctx") or {}
    if kind == "extra_forbidden":
        return f"There is no `{shown(name)}` here. {nearest(name, _names(owner))}"
    said = owner.model_fields[name].description or "" if name in owner.model_fields else ""
    if kind == "missing":
        return f"`{name}` is required. {said}".strip()
    if kind == "literal_error":
        given = found.get("input")
        known = [str(word) for word in get_args(_literal(owner, name))]
        return f"Use one of these. {nearest(given if isinstance(given, str) else '', known)}"
    if kind in _TYPES:
        return f"Give {_TYPES[kind]}. {said}".strip()
    return f"{_bounds(kind, context) or found['msg'] + '.'} {said}".strip()


def _bounds(kind: str, context: Mapping[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"Give {context['ge']} or more."
        case "less_than_equal":
            return f"Give {context['le']} or less."
        case "string_too_long":
            return f"Give at most {context['max_length']} characters."
        case "string_pattern_mismatch":
            return "Write it otherwise."
        case _:
            return ""


def _walk(model: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str | int], type[BaseModel]]:
    """Return the part of a location that is in the document, and the model its last step belongs to.

    Pydantic adds the tags of unions to a location; what is neither a field nor an index is such a tag, except for the
    last step of a superfluous member.
    """
    path: list[str | int] = []
    owner = model
    current: type[BaseModel] | None = model
    for step in location:
        if current is None:
            break
        path.append(step)
        owner = current
        field = current.model_fields.get(str(step))
        current = _model_in(field.annotation) if field is not None else None
    return path, owner


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 -- any annotation
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _literal(owner: type[BaseModel], name: str) -> Any:  # noqa: ANN401 -- an annotation
    annotation: Any = owner.model_fields[name].annotation
    for one in get_args(annotation):
        if get_args(one):
            return one
    return annotation


def _names(owner: type[BaseModel]) -> list[str]:
    return list(owner.model_fields)


def _number_or_text(model: type[BaseModel], name: str, value: str) -> int | str:
    """Read a parameter as the integer its model wants; a text that is none stays one, and is refused as such."""
    field = model.model_fields.get(name)
    wanted = field is not None and int in (field.annotation, *get_args(field.annotation))
    digits = value.removeprefix("-")
    if wanted and digits.isascii() and digits.isdigit() and len(digits) <= 20:  # noqa: PLR2004 -- 64 bits
        return int(value)
    return value


def _as_parameter(fault: Fault) -> Fault:
    code = "unknown_parameter" if fault.code == "unknown_member" else fault.code
    return Fault(shown(fault.pointer), code, fault.detail)
