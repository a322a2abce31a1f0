"""An Elasticsearch mapping read as fields: sub-fields, aliases, objects, nested documents.

Facts about what a mapping can answer are those of Elasticsearch 8 and 9 (keyword, text, numeric, date,
boolean mappers). A field of a kind this package has not been proven on, or with a parameter that makes the
index differ from the document (``null_value``, ``normalizer``, ``copy_to`` targets, ``index: false`` ...), is
kept with the reason why no rule on it can be answered. Called by ``Catalog.from_mapping`` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from segments.fields import Column, Field, FieldType, Level, undotted

_TYPES: dict[str, FieldType] = {
    "keyword": "keyword",
    "text": "text",
    "byte": "number",
    "short": "number",
    "integer": "number",
    "long": "number",
    "float": "number",
    "half_float": "number",
    "double": "number",
    "date": "date",
    "date_nanos": "date",
    "boolean": "boolean",
}
_SHOWN: dict[str, FieldType] = {
    "scaled_float": "number",
    "unsigned_long": "number",
    "wildcard": "keyword",
    "constant_keyword": "keyword",
    "match_only_text": "text",
}
_STRINGS = frozenset({"keyword", "text"})
_DEFAULT_DATES = "strict_date_optional_time||epoch_millis"
_NO_KEYWORD = "its words are indexed, not its value; a keyword sub-field in the mapping would answer it"

_Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk stands: the members from the root and from the innermost nested document."""

    path: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    nested: str | None = None
    levels: tuple[Level, ...] = ()

    def down(self, key: str) -> _Place:
        return replace(self, path=(*self.path, key), keys=(*self.keys, key))

    def into(self) -> _Place:
        """The same place as the root of nested documents."""
        level = Level(self.keys, undotted(self.keys))
        return replace(self, keys=(), nested=self.name, levels=(*self.levels, level))

    @property
    def name(self) -> str:
        return ".".join(self.path)


def read_mapping(properties: _Spec) -> tuple[list[Field], list[Column]]:
    """The fields and columns of ``mappings.properties``."""
    leaves = list(_leaves(properties, _Place()))
    copied = {target for _, spec in leaves for target in _copy_targets(spec)}
    fields: list[Field] = []
    columns: list[Column] = []
    aliases: list[tuple[_Place, str]] = []
    for place, spec in leaves:
        if spec["type"] == "alias":
            aliases.append((place, str(spec.get("path", ""))))
            continue
        if place.nested is None:
            columns.append(Column(place.name, place.path))
        elif spec["type"] == "nested":
            if len(place.levels) == 1:
                columns.append(Column(place.name, place.path))
            continue
        fields.extend(_fields(place, spec, copied))
    known = {one.name: one for one in fields}
    fields.extend(_alias(place, known.get(target), target) for place, target in aliases)
    return fields, columns


def _leaves(properties: _Spec, place: _Place) -> Iterator[tuple[_Place, _Spec]]:
    """Every leaf of the mapping, and every nested path itself."""
    for key, raw in properties.items():
        spec = cast("_Spec", raw)
        kind = str(spec.get("type", "object"))
        here = place.down(key)
        inner = cast("_Spec", spec.get("properties", {}))
        if kind == "nested":
            here = here.into()
            yield here, {"type": "nested"}
            yield from _leaves(inner, here)
        elif kind == "object" and spec.get("enabled", True) not in {False, "false"}:
            yield from _leaves(inner, here)
        else:
            yield here, {**spec, "type": kind}


def _copy_targets(spec: _Spec) -> list[str]:
    targets = spec.get("copy_to", [])
    return [targets] if isinstance(targets, str) else [str(target) for target in targets]


def _fields(place: _Place, spec: _Spec, copied: set[str]) -> list[Field]:
    """The field of a leaf and its multi-fields."""
    subs = {key: cast("_Spec", sub) for key, sub in cast("_Spec", spec.get("fields", {})).items()}
    parent = _plain(place, place.name, spec)
    children = [_plain(place, f"{place.name}.{key}", sub) for key, sub in subs.items()]
    if place.name in copied:
        reason = "copy_to puts values of other fields into it, which the documents do not show"
        return [replace(one, refusal=reason) for one in (parent, *children)]
    return [_with_strings(parent, children), *children]


def _with_strings(parent: Field, children: list[Field]) -> Field:
    """A string field, answered through the best of its keyword sub-fields where it cannot answer itself."""
    if parent.type not in _STRINGS:
        return parent
    strings = [one for one in children if one.type in _STRINGS and not one.refusal]
    keywords = [one for one in strings if one.exact]
    if not parent.exact and keywords:
        best = max(keywords, key=lambda one: (one.ignore_above is None, one.ignore_above or 0, one.name))
        parent = replace(parent, exact=best.exact, ignore_above=best.ignore_above, exact_refusal="")
    elif not parent.exact:
        hindered = (one for one in children if one.type == "keyword")
        why = [f"{one.name} cannot: {one.refusal or one.exact_refusal}" for one in hindered]
        parent = replace(parent, exact_refusal=", and ".join([parent.exact_refusal, *why]))
    return replace(parent, types=tuple(dict.fromkeys((parent.type, *(one.type for one in strings)))))


def _plain(place: _Place, name: str, spec: _Spec) -> Field:
    """One field on its own, its sub-fields aside."""
    storage = str(spec.get("type", "object"))
    kind = _TYPES.get(storage)
    exact, exact_refusal = _exact(name, storage, spec)
    return Field(
        name=name,
        type=kind or _SHOWN.get(storage, "other"),
        storage=storage,
        types=(kind or _SHOWN.get(storage, "other"),),
        path=place.path,
        keys=place.keys,
        parts=undotted(place.keys),
        nested=place.nested,
        levels=place.levels,
        refusal=_refusal(storage, spec),
        query_name=name,
        exact=exact,
        exact_refusal=exact_refusal,
        ignore_above=_ignore_above(spec) if storage == "keyword" else None,
        readable=spec.get("doc_values", True) not in {False, "false"},
        malformed=spec.get("ignore_malformed", False) in {True, "true"},
        date_format=str(spec.get("format", _DEFAULT_DATES)) if kind == "date" else "",
    )


def _ignore_above(spec: _Spec) -> int | None:
    value = spec.get("ignore_above")
    # 2**31 - 1 is how Elasticsearch spells that there is no limit.
    return None if value is None or int(value) >= 2**31 - 1 else int(value)


def _exact(name: str, storage: str, spec: _Spec) -> tuple[str | None, str]:
    if storage == "keyword":
        if spec.get("normalizer"):
            return None, "a normalizer changes its values; a keyword sub-field without one would answer it"
        return name, ""
    return None, _NO_KEYWORD if storage == "text" else ""


def _refusal(storage: str, spec: _Spec) -> str:
    if storage not in _TYPES:
        return f"rules cannot ask fields of the type {storage}; {_instead(storage)}"
    if spec.get("index", True) in {False, "false"}:
        return "its mapping says index: false; index it to ask for it"
    if spec.get("null_value") is not None:
        return "its mapping says null_value, so missing values look present; map it without"
    if spec.get("script") is not None:
        return "a script computes it, so documents do not show its values"
    return ""


def _instead(storage: str) -> str:
    better = {
        "scaled_float": "map it as double",
        "unsigned_long": "map it as long",
        "wildcard": "map it as keyword",
        "constant_keyword": "map it as keyword",
        "match_only_text": "map it as text with a keyword sub-field",
        "object": "map its members",
    }
    return better.get(storage, "copy what you would ask for into a keyword, number or date field")


def _alias(place: _Place, target: Field | None, target_name: str) -> Field:
    if target is not None and target.nested == place.nested:
        return replace(target, name=place.name)
    reason = f"it is an alias of {target_name}, which rules cannot ask under this name"
    found = _plain(place, place.name, {"type": "alias"})
    return replace(found, refusal=reason)
