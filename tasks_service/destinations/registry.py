"""Which destinations there are, and whose: the configuration's, each connected where it is first used.

What lives here: finding one by its name, and leaving one alone that does not answer. Called by app.py, which makes the
one registry of a process, and through it by delivering.py, sweeper.py, api/ and cli/.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tasks_service.config import DestinationSettings
from tasks_service.destinations import Destination, DestinationGoneError
from tasks_service.storage.patience import Patience

_REST_SECONDS = 600.0
_HASTE = Patience(seconds=5.0, first=0.2, cap=1.0)
_HASTY_TIMEOUT_SECONDS = 10.0


class Destinations:
    """The destinations of one configuration. Safe to share between threads."""

    def __init__(
        self,
        settings: Mapping[str, DestinationSettings] = MappingProxyType({}),
        *,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the configured ones, how long a push waits for an answer, and the clock of rests."""
        self.settings = settings
        self._patience = patience or Patience()
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[tuple[str, bool], Destination] = {}
        self._resting: dict[str, float] = {}

    def names(self, *, chain: int) -> list[str]:
        """Return those that the tasks of a chain may name, in order."""
        return sorted(name for name, one in self.settings.items() if chain in one.chains)

    def get(self, name: str, *, chain: int) -> Destination:
        """Return a destination for a run of that chain; raise DestinationGoneError where it is not the chain's now."""
        if name not in self.names(chain=chain):
            raise DestinationGoneError(f"The destination {name} is no longer configured for this chain.")
        return self._open(name, hasty=False)

    def find(self, name: str, place: str) -> Destination | None:
        """Return a destination to clean up at, which waits for no answer for long.

        None where it is not configured any more, is another bucket by now, or is being left alone for a while.
        """
        if name not in self.settings or self._clock() < self._resting.get(name, float("-inf")):
            return None
        found = self._open(name, hasty=True)
        return found if found.place == place else None

    def briefly(self, name: str) -> Destination:
        """Return a destination to try out, which waits for no answer for long."""
        return self._open(name, hasty=True)

    def rest(self, name: str) -> None:
        """Leave a destination alone for a while: it does not answer, and others wait."""
        self._resting[name] = self._clock() + _REST_SECONDS

    def close(self) -> None:
        """Release every connection."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for one in made:
            one.close()

    def _open(self, name: str, *, hasty: bool) -> Destination:
        with self._lock:
            found = self._made.get((name, hasty))
            if found is None:
                settings = self.settings[name]
                if hasty:
                    seconds = min(_HASTY_TIMEOUT_SECONDS, settings.timeout_seconds)
                    settings = settings.model_copy(update={"timeout_seconds": seconds})
                found = self._made[name, hasty] = _made(name, settings, _HASTE if hasty else self._patience)
            return found


def _made(name: str, settings: DestinationSettings, patience: Patience) -> Destination:
    if settings.kind == "s3":
        from tasks_service.destinations.s3 import S3Destination

        return S3Destination(name, settings, patience)
    from tasks_service.destinations.gcs import GcsDestination

    return GcsDestination(name, settings, patience)
