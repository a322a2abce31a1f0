"""One order in two engines: DuckDB and a real Elasticsearch put the documents of the generated world in the same order.

Every field that both have, either way round, over documents that spell values in every way JSON can. What one engine
takes for equal the other may tell apart (microseconds of a date), so each order is held against the other's groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from segments import SortKey, read_sort, sort_clauses, sort_sql, unsortable
from tests.property.segments_engines import MAPPED, TABLED, Index, Table, World

FINER = {"date"}  # Elasticsearch keeps milliseconds, DuckDB microseconds
FIELDS = sorted(
    field.name
    for field in TABLED.fields
    if not unsortable(field, TABLED)
    and (mapped := MAPPED.get(field.name)) is not None
    and not unsortable(mapped, MAPPED)
)


@pytest.fixture(scope="module", params=range(2))
def engines(request: pytest.FixtureRequest, elasticsearch_url: str) -> Iterator[tuple[Table, Index]]:
    world = World(100 + request.param)
    table, index = Table(world), Index(elasticsearch_url, world)
    yield table, index
    table.close()
    index.close()


def places(groups: list[set[int]]) -> dict[int, int]:
    return {number: place for place, group in enumerate(groups) for number in group}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("name", FIELDS)
def test_every_field_orders_documents_alike(engines: tuple[Table, Index], name: str, order: str) -> None:
    table, index = engines
    wanted = [{"field": name, "order": order}]
    tabled, mapped = read_sort(wanted, TABLED), read_sort(wanted, MAPPED)
    by_table, by_index = table.sort(sort_sql(tabled)), index.sort([clause for clause, _ in sort_clauses(mapped)])
    assert len(by_table) > 1
    if tabled[0].field.type not in FINER:
        assert by_table == by_index
        return
    place = places(by_index)
    along = [place[number] for group in by_table for number in sorted(group, key=place.__getitem__)]
    assert along == sorted(along)


def test_the_fields_that_are_compared_are_of_every_kind() -> None:
    kinds = {SortKey(field).field.type for field in TABLED.fields if field.name in FIELDS}
    assert kinds == {"keyword", "text", "number", "date", "boolean"}
