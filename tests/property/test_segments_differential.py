"""One meaning in three engines: ``evaluate``, DuckDB and a real Elasticsearch select the same documents.

Each case is a segment asked of two hundred documents at once, of every engine that has its fields. ``SEGMENT_CASES``
sets how many cases there are, a quarter of them with groups about other documents; beyond the default they are drawn
anew each time (``make fuzz``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segments import to_elasticsearch, to_sql
from segments.to_elasticsearch import Query
from tests.property.segments_engines import MAPPED, TABLED, Index, Table, World, compiled
from tests.property.segments_world import every_operator, questions

DEFAULT_CASES = 2000
CASES = int(os.environ.get("SEGMENT_CASES", DEFAULT_CASES))
BATCH = 50
WORLDS = 3 if CASES <= DEFAULT_CASES else 20

pytestmark = pytest.mark.timeout(600 + CASES)


def cases(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=max(count // BATCH, 1),
        deadline=None,
        derandomize=CASES <= DEFAULT_CASES,
        database=None,
        # A failure names one segment and one document already, and each step of shrinking would ask the engines.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


plain = st.lists(questions(), min_size=BATCH, max_size=BATCH)
linking = st.lists(questions(linked=True), min_size=BATCH, max_size=BATCH)
numbers = st.integers(0, WORLDS - 1)


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World(seed) for seed in range(WORLDS)]


@pytest.fixture(scope="module")
def tables(worlds: list[World]) -> Iterator[list[Table]]:
    made = [Table(world) for world in worlds]
    yield made
    for table in made:
        table.close()


@pytest.fixture(scope="module")
def indices(elasticsearch_url: str, worlds: list[World]) -> Iterator[list[Index]]:
    made = [Index(elasticsearch_url, world) for world in worlds]
    yield made
    for index in made:
        index.close()


@pytest.fixture(scope="module")
def ask(worlds: list[World], tables: list[Table], indices: list[Index]) -> Callable[[int, list[dict[str, Any]]], int]:
    """Ask a batch of every engine; says of how many the engines selected some documents and not all."""

    def asked(number: int, batch: list[dict[str, Any]]) -> int:
        telling = 0
        world = worlds[number]
        mapped = {at: tree for at, one in enumerate(batch) if (tree := compiled(one, MAPPED)) is not None}
        found = dict(zip(mapped, indices[number].select(list(mapped.values())), strict=True)) if mapped else {}
        for at, question in enumerate(batch):
            tree = compiled(question, TABLED)
            meant = None
            if tree is not None:
                meant = world.meant(tree)
                world.agrees(question, meant, tables[number].select(tree), to_sql(tree))
            if at in mapped and (meant is None or found[at] is not None):
                same = world.meant(mapped[at])
                assert meant is None or same == meant, question  # both catalogues mean the same
                meant = same
                if (selected := found[at]) is not None:
                    world.agrees(question, meant, selected, to_elasticsearch(mapped[at], _shown))
            telling += meant is not None and 0 < len(meant) < len(world.own.decoded)
        return telling

    return asked


def _shown(group: object) -> Query:
    return {"linked": repr(group)}


def test_every_engine_knows_every_operator_on_every_field(ask: Callable[[int, list[dict[str, Any]]], int]) -> None:
    asked = every_operator(seed=1, times=3)
    for first in range(0, len(asked), 200):
        assert ask(0, asked[first : first + 200])


@cases(CASES * 3 // 4)
@given(number=numbers, batch=plain)
def test_every_engine_selects_what_is_meant(
    ask: Callable[[int, list[dict[str, Any]]], int], number: int, batch: list[dict[str, Any]]
) -> None:
    ask(number, batch)


@cases(CASES // 4)
@given(number=numbers, batch=linking)
def test_every_engine_selects_what_links_mean(
    ask: Callable[[int, list[dict[str, Any]]], int], number: int, batch: list[dict[str, Any]]
) -> None:
    ask(number, batch)
