"""How a point-in-time is dealt out: every slice with documents to exactly one share, shares of about one size."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments import Catalog
from tasks_service.errors import SnapshotLostError
from tasks_service.sources.elasticsearch_shares import PinnedView, dealt, share_slices

MAPPING = {
    "id": {"type": "long"},
    "name": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
    "lines": {"type": "nested", "properties": {"at": {"type": "date", "format": "epoch_millis"}}},
}


@given(st.lists(st.integers(0, 100_000), max_size=128), st.integers(1, 32))
def test_every_slice_with_documents_is_in_one_share_and_no_share_is_empty(counts: list[int], most: int) -> None:
    shares = dealt(counts, most)
    assert [n for share in shares for n in share.slices] == [n for n, count in enumerate(counts) if count]
    assert all(share.documents == sum(counts[n] for n in share.slices) > 0 for share in shares)
    assert all(share.of == len(counts) for share in shares)
    assert len(shares) <= most


def test_even_slices_make_even_shares() -> None:
    assert [share.documents for share in dealt([10] * 32, 8)] == [40] * 8
    assert [share.documents for share in dealt([0, 0, 100, 0], 4)] == [100]


@pytest.mark.parametrize("shards", [1, 3, 5, 64, 1024])
def test_slices_of_shares_are_whole_shards(shards: int) -> None:
    assert share_slices(8, shards, 4) % shards == 0
    assert min(32, shards) <= share_slices(8, shards, 4) <= 1024


def test_a_view_is_written_down_and_read_again_whole() -> None:
    view = PinnedView(
        pit_id="abc==",
        shards=3,
        taken_at=datetime(2026, 5, 26, 12, 0, 0, 123456, tzinfo=UTC),
        total=7,
        query={"bool": {}},
        question={"terms": {"id": [1, 2]}},
        catalog=Catalog.from_mapping(MAPPING, doubts_counted=True),
    )
    handle = msgspec.json.decode(msgspec.json.encode(view.written()))
    assert PinnedView.read(handle) == view


def test_what_another_version_wrote_is_a_lost_view() -> None:
    with pytest.raises(SnapshotLostError, match="Another version"):
        PinnedView.read({"pit_id": "abc=="})
