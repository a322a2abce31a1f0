"""The option `timezone`: the zone in which instants are written, and which values of a file are instants.

What lives here is the choice and its check; how an instant is written is local_times.py's. Called by csv_options.py,
xlsx_options.py and registry.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from zoneinfo import available_timezones

from segments import Catalog
from tasks_service.errors import Fault
from tasks_service.formats.composition import Composition
from tasks_service.formats.file_columns import AnyColumn, Path
from tasks_service.formats.local_times import LocalTimes
from tasks_service.zones import rules_of

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
    if isinstance(name, str) and name in _zones() and rules_of(name) is not None:
        return []
    by_case = {zone.casefold(): zone for zone in _zones()}
    wanted = name.strip().replace(" ", "_").casefold() if isinstance(name, str) else ""
    near = difflib.get_close_matches(wanted, by_case, n=1)
    hint = f"did you mean {by_case[near[0]]}?" if near else 'write a name like "Europe/Amsterdam" or "UTC".'
    return [Fault(_POINTER, "unknown_zone", f"timezone names no time zone of the IANA database; {hint}")]


def local_times(options: Mapping[str, Any], columns: Sequence[AnyColumn], catalog: Catalog) -> LocalTimes | None:
    """Return how the instants of these columns are written, by sound options; None where nothing is asked for.

    The columns are as the task names them, with the paths that the catalogue has.
    """
    rules = rules_of(options[ZONE_OPTION]) if ZONE_OPTION in options else None
    if rules is None:
        return None
    fields = Composition(columns).fields
    return LocalTimes(rules, [place for place, field in enumerate(fields) if _holds_instants(field.path, catalog)])


def _holds_instants(path: Path, catalog: Catalog) -> bool:
    field = catalog.get(".".join(path))
    return field is not None and field.type == "date" and set(field.date_format.split("||")) <= _READ_AS_ISO


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # Names of this machine's own choice are no zones.
    return frozenset(available_timezones() - {"localtime", "Factory"})
