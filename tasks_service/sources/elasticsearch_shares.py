"""A point-in-time divided into shares, and written down so that another process reads on in it.

What lives here is pure: how many slices a view is cut into, which of them make a share, and the view as a JSON value.
The requests are elasticsearch.py's, which alone calls this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from segments import Catalog
from tasks_service.errors import SnapshotLostError
from tasks_service.sources import Share

_MOST_SLICES = 1024  # index.max_slices_per_pit
_SLICES_PER_READER = 4
"""Slices are ranges of document numbers: where matches cluster some are empty, so that readers need several each."""

_ROWS_PER_SLICE = 20_000
"""Fewer rows than this are not worth another slice's requests."""


class PinnedView(msgspec.Struct, frozen=True, kw_only=True):
    """All a process needs to read in a point-in-time that another one opened.

    Attributes:
        question: the query as it is sent, keys of linked groups and all; `query` is the one for the record.
    """

    pit_id: str
    shards: int | None
    taken_at: datetime
    total: int
    query: dict[str, Any]
    question: dict[str, Any]
    catalog: Catalog

    def written(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return msgspec.to_builtins(self)

    @classmethod
    def read(cls, handle: dict[str, Any]) -> PinnedView:
        """Return what `written` wrote. Raises SnapshotLostError where it was another version that wrote it."""
        try:
            return msgspec.convert(handle, cls)
        except msgspec.ValidationError as exc:
            raise SnapshotLostError("Another version wrote the snapshot down; the export starts over.") from exc


def slice_count(total: int, shards: int, readers: int) -> int:
    """Return into how many slices to divide so many rows: a multiple of the shards, several for each reader."""
    if total <= _ROWS_PER_SLICE:
        return 1
    return _of_whole_shards(min(readers * _SLICES_PER_READER, -(-total // _ROWS_PER_SLICE)), shards)


def share_slices(shares: int, shards: int, readers: int) -> int:
    """Return into how many slices to divide a view of so many shares, each to be read by several readers."""
    return _of_whole_shards(shares * readers, shards)


def _of_whole_shards(wanted: int, shards: int) -> int:
    if shards > _MOST_SLICES:
        return wanted  # fewer slices than shards: whole shards are dealt to each
    return min(-(-wanted // shards), _MOST_SLICES // shards) * shards


def dealt(counts: Sequence[int], most: int) -> tuple[Share, ...]:
    """Deal slices of so many documents to at most `most` shares of about the same size; none of them is empty."""
    fair = -(-sum(counts) // most)
    shares: list[Share] = []
    slices: list[int] = []
    documents = 0
    for number, count in enumerate(counts):
        if not count:
            continue
        # A share ends where it would be farther from the fair size with the next slice than without it.
        if documents and documents + count - fair > fair - documents and len(shares) < most - 1:
            shares.append(Share(tuple(slices), len(counts), documents))
            slices, documents = [], 0
        slices.append(number)
        documents += count
    return (*shares, Share(tuple(slices), len(counts), documents)) if documents else tuple(shares)
