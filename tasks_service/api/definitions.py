"""Target and trigger of a task as callers write them: everything wrong with them at once, or their stored form.

The one place where the findings of all who know something meet: the models (shape), schedule.py (when), `segments`
(which rows), formats/ (which columns and options), the configuration (which indices). What is stored is what this
module returns: normalised, so that whoever reads a task need not ask again. Called by the routes that create, edit,
save and preview; it does no I/O but to ask the source for its catalogue, which is cached, and the database for a saved
segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from segments import Catalog, SegmentError, Tree, compile_segment, is_relative, parse, read_segment, read_sort
from tasks_service import schedule
from tasks_service.api.bodies import nearest, shown
from tasks_service.api.saved_segments_use import Saved, find_saved, unfit
from tasks_service.api.target_destinations import destination_faults, stored_destination
from tasks_service.app import Services
from tasks_service.config import IndexSettings
from tasks_service.errors import Fault, InvalidRequestError, SourceError, SourceUnavailableError
from tasks_service.formats.compression import EXTENSIONS
from tasks_service.formats.registry import (
    COLUMN_FORMATS,
    COMPRESSED_FORMATS,
    FORMATS,
    JOINED_FORMATS,
    check_by_catalog,
    check_options,
)

_JUDGED = {"options": dict, "columns": list, "dry_data": bool}


@dataclass(frozen=True)
class Definition:
    """A task's target and trigger in their stored form."""

    target: dict[str, Any]
    trigger: dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A segment, where it stands in the body, what its relative rules are measured from, and the other indices."""

    segment: dict[str, Any]
    pointer: str
    now: datetime
    zone: ZoneInfo
    others: Mapping[str, Catalog]


class Findings:
    """Faults gathered so far; a part that is known to be wrong is not judged twice."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Add faults, but for places that have one already."""
        known = {fault.pointer for fault in self.faults}
        self.faults += [fault for fault in faults if fault.pointer not in known]

    def sound(self, pointer: str) -> bool:
        """Tell whether nothing is known to be wrong at a place or inside it."""
        return not any(one.pointer == pointer or one.pointer.startswith(f"{pointer}/") for one in self.faults)

    def raise_if_any(self) -> None:
        """Raise everything that was found."""
        if self.faults:
            raise InvalidRequestError(faults=self.faults)


def define(
    services: Services, document: Mapping[str, Any], findings: Findings, *, chain: int | None, now: datetime
) -> Definition:
    """Return the stored form of a body's `target` and `trigger`; raise InvalidRequestError with every fault.

    `findings` holds what is wrong with the body's shape; `now` is where relative rules are tried from.
    """
    target = _object(document, "target")
    index, catalog = _index_of(services, target, findings)
    _check_target(target, index, catalog, findings)
    _check_destination(services, target, findings, chain=chain)
    trigger: dict[str, Any] = {}
    if _object(document, "trigger") is not None:
        trigger, faults = schedule.check_trigger(document["trigger"], now=now)
        findings.add(faults)
        zone = ZoneInfo(trigger.get("timezone", "UTC"))
        trigger = _with_segment(services, trigger, target, catalog, findings, chain=chain, now=now, zone=zone)
    findings.raise_if_any()
    if target is None or index is None or not trigger:
        raise InvalidRequestError("`target` and `trigger` are required.")
    return Definition(_stored_target(target), trigger)


def redefine(
    services: Services,
    target: Mapping[str, Any],
    trigger: dict[str, Any],
    findings: Findings,
    *,
    chain: int,
    now: datetime,
    zone: ZoneInfo,
) -> Definition:
    """Return the stored form of a new target beside a task's stored trigger, of which only the segment is judged.

    `zone`: the one the trigger names, by the rules that hold.
    """
    members = dict(target)
    index, catalog = _index_of(services, members, findings)
    _check_target(members, index, catalog, findings)
    _check_destination(services, members, findings, chain=chain)
    _with_segment(services, trigger, members, catalog, findings, chain=chain, now=now, zone=zone)
    findings.raise_if_any()
    if index is None:
        raise InvalidRequestError("`target` names no export index.")
    return Definition(_stored_target(members), trigger)


def _with_segment(
    services: Services,
    trigger: dict[str, Any],
    target: dict[str, Any] | None,
    catalog: Catalog | None,
    findings: Findings,
    *,
    chain: int | None,
    now: datetime,
    zone: ZoneInfo,
) -> dict[str, Any]:
    """Judge a trigger's segment, and fill in the defaults that depend on it."""
    if trigger.get("segment_id") is not None:
        relative = _judge_saved(services, trigger, target, catalog, findings, chain=chain, now=now, zone=zone)
        return schedule.defaults(trigger, relative=relative)
    segment: Any = trigger.get("segment")
    if not isinstance(segment, dict) or not findings.sound("/trigger/segment"):
        return schedule.defaults(trigger, relative=False)
    members = cast("dict[str, Any]", segment)
    _check_belonging(members, target, chain, findings)
    check_segment(Question(members, "/trigger/segment", now, zone, services.source.catalogs()), catalog, findings)
    relative = findings.sound("/trigger/segment") and is_relative(read_segment(members))
    return schedule.defaults(trigger, relative=relative)


def _judge_saved(
    services: Services,
    trigger: dict[str, Any],
    target: dict[str, Any] | None,
    catalog: Catalog | None,
    findings: Findings,
    *,
    chain: int | None,
    now: datetime,
    zone: ZoneInfo,
) -> bool:
    """Judge the saved segment a trigger names, as it is now, and tell whether it has relative operators."""
    pointer = "/trigger/segment_id"
    if chain is None or not findings.sound("/chain") or not findings.sound(pointer):
        return False
    saved = find_saved(services, trigger["segment_id"], pointer, chain=chain)
    if isinstance(saved, Fault):
        findings.add([saved])
        return False
    name, index = saved.document["index"], (target or {}).get("export_index")
    if isinstance(index, str) and name != index:
        detail = f"The saved segment is about `{name}`; the task's `export_index` is `{shown(index)}`."
        findings.add([Fault(pointer, "other_index", detail)])
        return False
    tree = check_saved(
        saved,
        pointer,
        catalog,
        findings,
        now=now,
        zone=zone,
        others=services.source.catalogs(),
    )
    return tree is not None and is_relative(read_segment(saved.document))


def check_saved(
    saved: Saved,
    pointer: str,
    catalog: Catalog | None,
    findings: Findings,
    *,
    now: datetime,
    zone: ZoneInfo,
    others: Mapping[str, Catalog],
) -> Tree | None:
    """Return a compiled saved segment, or None and one fault at the place that names it."""
    inner = Findings()
    tree = check_segment(Question(saved.document, "", now, zone, others), catalog, inner)
    if inner.faults:
        findings.add([unfit(saved, pointer, [(one.pointer, one.detail) for one in inner.faults])])
    return tree


def check_segment(question: Question, catalog: Catalog | None, findings: Findings) -> Tree | None:
    """Return the compiled segment, or None and all its faults; without a catalogue its fields are not judged."""
    try:
        if catalog is None:
            return parse(read_segment(question.segment), now=question.now, zone=question.zone)
        return compile_segment(question.segment, catalog, question.others, now=question.now, zone=question.zone)
    except SegmentError as error:
        findings.add(Fault(question.pointer + one.pointer, one.code, one.detail) for one in error.faults)
        return None
    except SourceError:
        detail = "The source does not offer every index that groups of the segment are about; see GET /export_indices."
        findings.add([Fault(question.pointer, "index_not_there", detail)])
        return None


def find_index(services: Services, name: Any, pointer: str, findings: Findings) -> IndexSettings | None:  # noqa: ANN401
    """Return the export index of that name, or None and the fault that lists the known ones."""
    indices = services.settings.indices
    if isinstance(name, str) and name in indices:
        return indices[name]
    if isinstance(name, str):
        detail = f"There is no export index `{shown(name)}`. {nearest(name, list(indices))}"
        findings.add([Fault(pointer, "unknown_index", detail)])
    return None


def _object(document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = document.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _index_of(
    services: Services, target: dict[str, Any] | None, findings: Findings
) -> tuple[IndexSettings | None, Catalog | None]:
    """Return the index and its catalogue; no catalogue where the source cannot be asked and need not be."""
    if target is None:
        return None, None
    pointer = "/target/export_index"
    index = find_index(services, target.get("export_index"), pointer, findings)
    if index is None:
        return None, None
    return index, catalog_of(services, index, pointer, findings)


def catalog_of(services: Services, index: IndexSettings, pointer: str, findings: Findings) -> Catalog | None:
    """Return an index's catalogue, or None and the fault where the source does not have the index."""
    try:
        return services.source.catalog(index)
    except SourceUnavailableError:
        raise
    except SourceError:
        detail = "The source does not offer this index now; choose another of GET /export_indices."
        findings.add([Fault(pointer, "index_not_there", detail)])
        return None


def _check_target(
    target: dict[str, Any] | None, index: IndexSettings | None, catalog: Catalog | None, findings: Findings
) -> None:
    if target is None:
        return
    export_format = _format_of(target, findings)
    compression = target.get("compression", "none")
    if isinstance(compression, str) and compression not in EXTENSIONS:
        detail = f"There is no compression `{shown(compression)}`. {nearest(compression, list(EXTENSIONS))}"
        findings.add([Fault("/target/compression", "unknown_compression", detail)])
    if target.get("dry_data") is True and target.get("columns"):
        detail = "`dry_data` and `columns` exclude each other: `columns` name all that is wanted."
        findings.add([Fault("/target", "clash", detail)])
    findings.add(_sort_faults(target.get("sort"), catalog))
    if export_format is None:
        return
    if export_format in COMPRESSED_FORMATS and compression in EXTENSIONS and compression != "none":
        detail = f"`compression` and {export_format} exclude each other: {export_format} is compressed inside."
        findings.add([Fault("/target", "clash", detail)])
    findings.add(_split_faults(target.get("split"), export_format))
    has_columns = export_format in COLUMN_FORMATS
    if isinstance(target.get("columns"), list) and not has_columns:
        detail = f"`columns` and {export_format} exclude each other: {', '.join(COLUMN_FORMATS)} have columns."
        findings.add([Fault("/target", "clash", detail)])
    # What is of another type than it should be has a fault of its shape already.
    members = {name: target.get(name) for name, kind in _JUDGED.items() if isinstance(target.get(name), kind)}
    findings.add(check_options(export_format, members.get("options") or {}))
    if has_columns and index is not None and catalog is not None:
        findings.add(check_by_catalog({"export_format": export_format} | members, catalog, index))


def _check_destination(
    services: Services, target: dict[str, Any] | None, findings: Findings, *, chain: int | None
) -> None:
    if target is not None:
        known = chain if findings.sound("/chain") else None
        findings.add(destination_faults(target.get("destination"), services.destinations, chain=known))


def _sort_faults(sort: object, catalog: Catalog | None) -> list[Fault]:
    """Return what is wrong with the order rows are to have."""
    if not isinstance(sort, list) or catalog is None:
        return []
    try:
        read_sort(cast("list[object]", sort), catalog)
    except SegmentError as error:
        return [Fault(f"/target/sort{one.pointer}", one.code, one.detail) for one in error.faults]
    return []


def _split_faults(split: object, export_format: str) -> list[Fault]:
    """Return what is wrong with where files are to end; the shape is judged by the model."""
    if not isinstance(split, dict):
        return []
    given = {name for name, value in cast("dict[str, Any]", split).items() if value is not None}
    if given == {"rows", "bytes"}:
        return [Fault("/target/split", "clash", "Give either `rows` or `bytes`; a file ends at one of them.")]
    if not given:
        detail = 'Say where a file ends: `{"rows": 100000}` or `{"bytes": 50000000}`.'
        return [Fault("/target/split", "missing", detail)]
    if "bytes" in given and export_format not in JOINED_FORMATS:
        detail = f"A file of {export_format} cannot end at a number of bytes; split it by `rows`."
        return [Fault("/target/split/bytes", "not_with_format", detail)]
    return []


def _format_of(target: dict[str, Any], findings: Findings) -> str | None:
    """Return the format, by either of its names, where it is one."""
    given = {name: target[name] for name in ("export_format", "format") if target.get(name) is not None}
    if len(set(map(repr, given.values()))) > 1:
        detail = "`format` is another name of `export_format`; give one of them."
        findings.add([Fault("/target", "clash", detail)])
        return None
    for name, value in given.items():
        if not isinstance(value, str):
            return None
        if value not in FORMATS:
            detail = f"There is no format `{shown(value)}`. {nearest(value, list(FORMATS))}"
            findings.add([Fault(f"/target/{name}", "unknown_format", detail)])
            return None
        return value
    return "csv"


def _check_belonging(
    segment: dict[str, Any], target: dict[str, Any] | None, chain: int | None, findings: Findings
) -> None:
    """A segment speaks of the task's own chain and index, and says so."""
    said, wanted = segment.get("chain_id"), chain
    if isinstance(said, int) and not isinstance(said, bool) and wanted is not None and said != wanted:
        detail = f"The segment's `chain_id` must be the task's chain, {wanted}."
        findings.add([Fault("/trigger/segment/chain_id", "foreign_chain", detail)])
    name, index = segment.get("index"), (target or {}).get("export_index")
    if isinstance(name, str) and isinstance(index, str) and name != index:
        detail = f"The segment's `index` must be the task's `export_index`, `{shown(index)}`."
        findings.add([Fault("/trigger/segment/index", "other_index", detail)])


def _stored_target(target: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in target.items() if value is not None and name != "format"}
    if (split := kept.get("split")) is not None:
        kept["split"] = {name: value for name, value in split.items() if value is not None}
    if (destination := kept.get("destination")) is not None:
        kept["destination"] = stored_destination(destination)
    kept["export_format"] = target.get("export_format") or target.get("format") or "csv"
    first = ("action", "export_index", "export_format")
    return {name: kept[name] for name in first} | kept
