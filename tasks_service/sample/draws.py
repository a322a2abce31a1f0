"""Reproducible chance: the draws of one row, a pure function of seed, index and row number.

Not ``random``: its sequence is promised for ``random()`` alone, and seeding a generator for each row is slow. A
SHAKE-128 digest is the same everywhere, and as long as a row needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import shake_128
from struct import Struct
from typing import TypeVar

T = TypeVar("T")

_NUMBERS = Struct("<42I")  # one block of the digest


class Draws:
    """The draws of one row. Every call uses up 32 bits of the row's digest.

    Args:
        seed: of the whole data set.
        index: the name of the index.
        row: counted from 0.
    """

    __slots__ = ("_key", "_more", "_next")

    def __init__(self, seed: int, index: str, row: int) -> None:
        self._key = f"{seed}/{index}/{row}"
        self._more = 0
        self._next: Callable[[], int] = iter(_NUMBERS.unpack(shake_128(self._key.encode()).digest(168))).__next__

    def _go_on(self) -> int:
        self._more += 1
        digest = shake_128(f"{self._key}/{self._more}".encode()).digest(168)
        self._next = iter(_NUMBERS.unpack(digest)).__next__
        return self._next()

    def below(self, count: int) -> int:
        """A whole number from 0 to below ``count``, which is far below 2**32: what is left over is no visible bias."""
        try:
            return self._next() % count
        except StopIteration:
            return self._go_on() % count

    def one_in(self, count: int) -> bool:
        """True once in ``count`` times."""
        return self.below(count) == 0

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        try:
            return choices[self._next() % len(choices)]
        except StopIteration:
            return choices[self._go_on() % len(choices)]

    def some(self, choices: Sequence[T], most: int) -> list[T]:
        """Up to ``most`` neighbouring choices, perhaps none, in a stable order."""
        first, count = self.below(len(choices)), self.below(most + 1)
        return [choices[(first + step) % len(choices)] for step in range(count)]

    def cents(self, lowest: int, highest: int) -> float:
        """An amount in whole cents, given in cents, returned in units: exact to two decimals when printed."""
        return (lowest + self.below(highest - lowest + 1)) / 100
