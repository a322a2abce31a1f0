"""Time zone data: where it comes from, which release that is, and the rules of one zone as they are on file.

What lives here: one source for the whole process (`pin`), and a zone's rules as bytes, which the database keeps so that
occurrences can be followed from one release to the next (database/zone_rules.py). What does not: occurrences
(schedule.py). The source is the `tzdata` package, which every host has in the same version; the operating system's data
is used only where PYTHONTZPATH names it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_VARIABLE = "PYTHONTZPATH"
# The first line of tzdata.zi, which every distribution of the data has beside its zones.
_FIRST_LINE = re.compile(r"# version (\d{4}[a-z]+)\b", re.ASCII)
_RELEASE = re.compile(r"(\d{4})([a-z]+)", re.ASCII)
_UNTOLD = ""


@dataclass(frozen=True)
class Rules:
    """How the clock of a zone goes: its TZif file, and the IANA release it is of ("2026f"; "" where none is told)."""

    name: str
    release: str
    data: bytes

    @cached_property
    def fingerprint(self) -> str:
        """What tells these rules from all others, also from those of another zone."""
        return hashlib.sha256(self.name.encode() + b"\0" + self.data).hexdigest()[:32]

    @property
    def zone(self) -> ZoneInfo:
        """The zone under these rules, whatever this host has on file."""
        return _zone(self.name, self.data)


def pin() -> None:
    """Let this process read zones from the `tzdata` package alone, where PYTHONTZPATH names no other place."""
    if _VARIABLE not in os.environ:
        zoneinfo.reset_tzpath(())
        ZoneInfo.clear_cache()


@cache
def rules_of(name: str) -> Rules | None:
    """Return the rules of a zone as this host has them; None where it has no such zone. Read once, until `forget`."""
    parts = name.split("/")
    if not all(parts) or ".." in parts:
        return None
    for place in _places():
        file = place.joinpath(*parts)
        if file.is_file():
            return Rules(name, _release_in(place), file.read_bytes())
    return None


@cache
def names() -> frozenset[str]:
    """Return the names of the zones this host has, without a machine's own choice; read once, until `forget`."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def unknown_name(name: str) -> str:
    """Say that a name is none of a zone, and what would be one."""
    by_case = {zone.casefold(): zone for zone in names()}
    near = difflib.get_close_matches(name.strip().replace(" ", "_").casefold(), by_case, n=1)
    hint = f"did you mean {by_case[near[0]]}?" if near else 'write a name like "Europe/Amsterdam" or "UTC".'
    return f"names no time zone of the IANA database; {hint}"


def name_in(trigger: Mapping[str, Any]) -> str:
    """Return the name of a stored trigger's zone."""
    return trigger.get("timezone") or "UTC"


def forget() -> None:
    """Read zones anew from now on: the data of a host may be replaced under a running process."""
    rules_of.cache_clear()
    names.cache_clear()


def release() -> str:
    """Return the IANA release of this host's data, such as "2026f"; "" where its source does not tell."""
    return next((_release_in(place) for place in _places()), _UNTOLD)


def source() -> str:
    """Say where this host's data comes from."""
    place = next(_places())
    return str(place) if isinstance(place, Path) and str(place) in zoneinfo.TZPATH else "the tzdata package"


def age(release: str) -> tuple[int, int, str]:
    """Return what orders releases from the oldest to the newest; one that is not told is older than all others."""
    found = _RELEASE.fullmatch(release)
    return (int(found[1]), len(found[2]), found[2]) if found else (0, 0, "")


def _places() -> Iterator[Traversable]:
    """Yield the folders of zones, in the order in which zoneinfo looks into them."""
    yield from (Path(folder) for folder in zoneinfo.TZPATH if Path(folder).is_dir())
    yield files("tzdata") / "zoneinfo"


def _release_in(place: Traversable) -> str:
    listing = place / "tzdata.zi"
    if not listing.is_file():
        return _UNTOLD
    with listing.open(encoding="ascii", errors="replace") as lines:
        found = _FIRST_LINE.match(lines.readline())
    return found[1] if found else _UNTOLD


@lru_cache(maxsize=1024)
def _zone(name: str, data: bytes) -> ZoneInfo:
    return ZoneInfo.from_file(BytesIO(data), key=name)
