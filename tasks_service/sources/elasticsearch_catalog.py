"""The mappings of an index, or of the indices behind an alias or a pattern, as one catalogue. Pure.

What a mapping does not show and the index does all the same is added here: defaults that live in the settings of the
index, and runtime fields, which hide mapped fields of their name. Called by elasticsearch.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from segments import Catalog, Column, Field, Tree, doubtful
from tasks_service.errors import SourceError

SETTINGS = "index.mode,index.mapping.source.mode,index.mapping.ignore_above,index.mapping.ignore_malformed"
"""The settings that change what an index answers, for `GET INDEX/_settings/...`."""

_COMPUTED = "it is a runtime field, made anew for every query; map it to ask for it"
_Spec = dict[str, Any]


def read_catalog(mappings: dict[str, Any], settings: dict[str, Any] | None) -> Catalog:
    """Return the catalogue of what `GET INDEX/_mapping` answered.

    Args:
        mappings: index name -> {"mappings": {...}}.
        settings: index name -> {"settings": {...}, "defaults": {...}} with flat names; None where they may not be read.
            Anything may then be left out of the index: the source counts it before it trusts an answer.

    Raises:
        SourceError: there is no index, or one that does not keep documents as they were sent.
    """
    if not mappings:
        raise SourceError("Elasticsearch has no such index.")
    catalogs: list[Catalog] = []
    for name, answer in sorted(mappings.items()):  # in one order, so that equal mappings are equal catalogues
        mapping = cast("_Spec", answer["mappings"])
        own = None if settings is None else _flat(settings.get(name, {}))
        _check_source(mapping.get("_source", {}), own or {})
        properties = _with_defaults(mapping.get("properties", {}), *_implied(own))
        catalog = Catalog.from_mapping(properties, doubts_counted=True)
        catalogs.append(_without_runtime(catalog, mapping.get("runtime", {})))
    return catalogs[0] if len(catalogs) == 1 else Catalog.merged(catalogs)


def left_out(catalog: Catalog, tree: Tree) -> str:
    """Say which values the index may not hold that `tree` asks for, and the mapping that would hold them."""
    return "; ".join(_reason(catalog, name) for name in doubtful(tree))


def _reason(catalog: Catalog, name: str) -> str:
    field = catalog.get(name)
    if field is None or field.malformed:
        return f"{name} leaves out malformed values (map it without ignore_malformed)"
    values = f"values of more than {field.ignore_above} characters" if field.ignore_above else "long values"
    return f"{name} leaves out {values} (map it as keyword without ignore_above)"


def _flat(answer: _Spec) -> dict[str, str]:
    """The settings of one index, those that are set before the defaults."""
    return {**answer.get("defaults", {}), **answer.get("settings", {})}


def _check_source(source: _Spec, settings: Mapping[str, str]) -> None:
    """Refuse an index whose `_source` is off, rebuilt by the server, or a part of the document."""
    disabled = source.get("enabled", True) in {False, "false"} or source.get("mode", "stored") != "stored"
    # An index for logs or metrics rebuilds its documents, unless a setting says otherwise.
    usual = "stored" if settings.get("index.mode", "standard").lower() in {"standard", "lookup"} else "synthetic"
    rebuilt = settings.get("index.mapping.source.mode", usual).lower() != "stored"
    if disabled or rebuilt or source.get("includes") or source.get("excludes"):
        raise SourceError(
            "The index does not keep its documents as they were sent (`_source` is disabled, synthetic or filtered), "
            "so that it cannot be exported."
        )


def _implied(settings: Mapping[str, str] | None) -> tuple[int | None, bool]:
    """`ignore_above` and `ignore_malformed` of fields whose mapping does not say."""
    if settings is None:
        return 0, True
    limit = settings.get("index.mapping.ignore_above")
    return None if limit is None else int(limit), settings.get("index.mapping.ignore_malformed", "false") == "true"


def _with_defaults(properties: _Spec, ignore_above: int | None, ignore_malformed: bool) -> _Spec:  # noqa: FBT001
    """The properties with what the settings of the index say of every field."""
    if ignore_above is None and not ignore_malformed:
        return properties
    implied: _Spec = {"ignore_malformed": ignore_malformed}
    if ignore_above is not None:
        implied["ignore_above"] = ignore_above
    return {name: _spec_with(cast("_Spec", spec), implied) for name, spec in properties.items()}


def _spec_with(spec: _Spec, implied: _Spec) -> _Spec:
    kind = spec.get("type")
    if kind == "keyword":
        spec = {**{name: value for name, value in implied.items() if name == "ignore_above"}, **spec}
    elif kind not in {None, "object", "nested", "text", "alias"}:
        spec = {"ignore_malformed": implied["ignore_malformed"], **spec}
    for inner in ("properties", "fields"):
        if inner in spec:
            below = cast("_Spec", spec[inner])
            spec = {**spec, inner: {name: _spec_with(cast("_Spec", one), implied) for name, one in below.items()}}
    return spec


def _without_runtime(catalog: Catalog, runtime: _Spec) -> Catalog:
    """The catalogue with runtime fields refused: also the mapped ones that they hide."""
    if not runtime:
        return catalog
    fields = dict(catalog.by_name)
    columns = set(catalog.columns)
    for name, spec in runtime.items():
        # A composite makes fields of its own below its name.
        made = [f"{name}.{key}" for key in spec["fields"]] if "fields" in spec else [name]
        for one in made:
            path = tuple(one.split("."))
            empty = Field(one, "other", "runtime", ("other",), path, path, path)
            fields[one] = replace(fields.get(one, empty), refusal=_COMPUTED)
            if "script" not in spec:
                columns.add(Column(one, path))  # without a script it shows what documents hold
    ordered = sorted(fields.values(), key=lambda one: one.name)
    return Catalog(tuple(ordered), tuple(sorted(columns, key=lambda one: (one.name, one.path))), catalog.doubts_counted)
