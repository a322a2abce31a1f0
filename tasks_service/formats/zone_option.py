"""The option `timezone`: the zone in which instants are written, and which values of a file are instants.

What lives here is the choice and its check; how an instant is written is local_times.py's. Called by csv_options.py,
xlsx_options.py and registry.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from segments import Catalog
from tasks_service import zones
from tasks_service.errors import Fault
from tasks_service.formats.composition import Composition
from tasks_service.formats.file_columns import AnyColumn, Path
from tasks_service.formats.local_times import LocalTimes
from tasks_service.zones import Rules

ZONE_OPTION: Final = "timezone"
_POINTER = "/target/options/timezone"
_READ_AS_ISO = frozenset(
    {
        "",
        "strict_date_optional_time",
        "strict_date_optional_time_nanos",
        "date_optional_time",
        "date_optional_time_nanos",
        "epoch_millis",
    }
)
"""The formats of a mapping whose dates are ISO 8601 or milliseconds; others say something else with the same digits."""


def zone_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the option."""
    if ZONE_OPTION not in options:
        return []
    name = options[ZONE_OPTION]
    if isinstance(name, str) and name in zones.names() and zones.rules_of(name) is not None:
        return []
    detail = f"timezone {zones.unknown_name(name if isinstance(name, str) else '')}"
    return [Fault(_POINTER, "unknown_zone", detail)]


def zone_asked_for(options: Mapping[str, Any]) -> str | None:
    """Return the name of the zone in which instants are to be written; None where none is."""
    return options.get(ZONE_OPTION)


def local_times(
    options: Mapping[str, Any], columns: Sequence[AnyColumn], catalog: Catalog, rules: Rules | None
) -> LocalTimes | None:
    """Return how the instants of these columns are written, by sound options; None where nothing is asked for.

    `rules` are those of the zone that is asked for; this host's, where None.

    The columns are as the task names them, with the paths that the catalogue has.
    """
    name = zone_asked_for(options)
    rules = rules or (zones.rules_of(name) if name is not None else None)
    if name is None or rules is None:
        return None
    fields = Composition(columns).fields
    return LocalTimes(rules, [place for place, field in enumerate(fields) if _holds_instants(field.path, catalog)])


def _holds_instants(path: Path, catalog: Catalog) -> bool:
    field = catalog.get(".".join(path))
    return field is not None and field.type == "date" and set(field.date_format.split("||")) <= _READ_AS_ISO
