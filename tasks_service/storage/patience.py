"""How long and how often a call is tried again: full jitter, doubled, capped.

Pure but for the pause it is given. Called by gcs_upload.py.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Patience:
    """The policy: `seconds` without any progress before giving up, pauses of at most `cap` seconds.

    The cap is what decides how soon work goes on once a storage is back.
    """

    seconds: float = 120.0
    first: float = 0.5
    cap: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def attempts(self) -> Iterator[int]:
        """Yield the number of each try, from 0, pausing between; end when patience does. There is always a second."""
        deadline = self.clock() + self.seconds
        longest = self.first
        yield 0
        for number in count(1):
            self.sleep(random.uniform(0, longest))  # noqa: S311 -- jitter is no secret
            longest = min(self.cap, longest * 2)
            yield number
            if self.clock() >= deadline:
                return
