"""What the sources remember of catalogues: each is believed for a while, and a tree may outlive its own.

Pure data and a clock that is passed in; reading a catalogue is the adapters' business. Called by files.py and
elasticsearch.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from segments import Catalog


class CatalogCache:
    """Catalogues by the name of their source, each with when it was read. Safe to share between threads."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Take how long a catalogue is believed."""
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Catalog]] = {}

    def fresh(self, source: str) -> Catalog | None:
        """Return the catalogue where it is still believed."""
        with self._lock:
            known = self._known.get(source)
        return known[1] if known is not None and self._clock() - known[0] < self._seconds else None

    def last(self, source: str) -> Catalog | None:
        """Return the catalogue that was read last, however long ago."""
        with self._lock:
            known = self._known.get(source)
        return known[1] if known is not None else None

    def keep(self, source: str, catalog: Catalog) -> Catalog:
        """Remember a catalogue that was read just now, and return it."""
        with self._lock:
            self._known[source] = (self._clock(), catalog)
        return catalog

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known.clear()


def still_fits(old: Catalog, new: Catalog) -> bool:
    """Tell whether a tree checked against the old catalogue means the same in the new one: no field changed."""
    return old is new or all(new.get(field.name) == field for field in old.fields)
