"""One meaning in three engines: ``evaluate``, DuckDB and a real Elasticsearch select the same documents.

Each case is a segment asked of two hundred documents at once. ``SEGMENT_CASES`` sets how many cases each of
the two tests has; beyond the default they are drawn anew each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segments import to_elasticsearch, to_sql
from tests.property.segments_engines import MAPPED, TABLED, Index, Table, World, compiled
from tests.property.segments_world import every_operator, questions

DEFAULT_CASES = 500
CASES = int(os.environ.get("SEGMENT_CASES", DEFAULT_CASES))
BATCH = 25
WORLDS = 3 if CASES <= DEFAULT_CASES else 20

pytestmark = pytest.mark.timeout(120 + CASES)
cases = settings(
    max_examples=max(CASES // BATCH, 1),
    deadline=None,
    derandomize=CASES <= DEFAULT_CASES,
    database=None,
    # A failure names one segment and one document already, and each step of shrinking would ask the engines.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
batches = st.lists(questions(), min_size=BATCH, max_size=BATCH)
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


def test_duckdb_knows_every_operator_on_every_field(worlds: list[World], tables: list[Table]) -> None:
    for question in every_operator(seed=1, times=3):
        tree = compiled(question, TABLED)
        if tree is not None:
            worlds[0].agrees(question, tree, tables[0].select(tree), to_sql(tree))


def test_elasticsearch_knows_every_operator_on_every_field(worlds: list[World], indices: list[Index]) -> None:
    asked = every_operator(seed=2, times=3)
    for first in range(0, len(asked), 200):
        _ask(worlds[0], indices[0], asked[first : first + 200])


@cases
@given(number=numbers, batch=batches)
def test_duckdb_selects_what_is_meant(
    worlds: list[World], tables: list[Table], number: int, batch: list[dict[str, Any]]
) -> None:
    for question in batch:
        tree = compiled(question, TABLED)
        if tree is not None:
            worlds[number].agrees(question, tree, tables[number].select(tree), to_sql(tree))


@cases
@given(number=numbers, batch=batches)
def test_elasticsearch_selects_what_is_meant(
    worlds: list[World], indices: list[Index], number: int, batch: list[dict[str, Any]]
) -> None:
    _ask(worlds[number], indices[number], batch)


def _ask(world: World, index: Index, batch: list[dict[str, Any]]) -> None:
    asked = [(question, tree) for question in batch if (tree := compiled(question, MAPPED)) is not None]
    if not asked:
        return
    trees = [tree for _, tree in asked]
    found = zip(asked, index.select(trees), index.doubted(trees), strict=True)
    for (question, tree), selected, doubted in found:
        if not doubted:
            world.agrees(question, tree, selected, to_elasticsearch(tree))


@cases
@given(number=numbers, batch=batches)
def test_both_catalogues_mean_the_same(worlds: list[World], number: int, batch: list[dict[str, Any]]) -> None:
    for question in batch:
        tabled, mapped = compiled(question, TABLED), compiled(question, MAPPED)
        if tabled is not None and mapped is not None:
            assert worlds[number].meant(tabled) == worlds[number].meant(mapped), question
