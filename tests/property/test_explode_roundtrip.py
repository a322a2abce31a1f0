"""A row for each element, beside what its document holds: as if each element were all its document has (promise 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_service.formats.columns import FileColumn
from tasks_service.formats.csv_encoder import CsvEncoder
from tasks_service.formats.csv_options import CsvOptions
from tasks_service.formats.explode import exploding
from tests.property.test_formats_roundtrip import INDENTS, SCALARS, TEXTS, raw

PATHS = (("list",), ("a", "list"))
COLUMNS = ("id", "a.b", "a.list.x", "a.list.y.z", "list.x", "list.y.z")

INNER = st.none() | SCALARS | st.fixed_dictionaries({}, optional={"z": SCALARS})
ELEMENTS = st.none() | st.fixed_dictionaries({}, optional={"x": SCALARS, "y": INNER, "y.z": SCALARS, "w": TEXTS})
LISTS = st.none() | ELEMENTS | st.lists(ELEMENTS | st.lists(ELEMENTS, max_size=2), max_size=4)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": SCALARS,
        "list": LISTS,
        "a": st.fixed_dictionaries({}, optional={"b": SCALARS, "list": LISTS}),
        "a.b": SCALARS,
        "a.list": LISTS,
        "x": TEXTS,
    },
)


def elements(found: Any, *, outermost: bool = True) -> Iterator[Any]:
    if isinstance(found, list):
        for one in found:
            yield from elements(one, outermost=False)
    elif found is not None or not outermost:
        yield found


def alone(document: dict[str, Any], path: tuple[str, ...]) -> list[dict[str, Any]]:
    """The documents that hold one element each, under a name of its own, instead of the list."""
    rest = {name: value for name, value in document.items() if name != ".".join(path)}
    lists = [document.get(".".join(path))]
    if len(path) > 1 and "a" in rest:
        # Where a document spells the list twice, the shorter spelling comes first, as fields are found.
        lists.insert(0, rest["a"].get("list"))
        rest["a"] = {name: value for name, value in rest["a"].items() if name != "list"}
    found = [one for each in lists for one in elements(each)]
    return [rest | {"alone": element} for element in found] or [rest]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(DOCUMENTS, INDENTS), min_size=1, max_size=5), st.sampled_from(PATHS))
def test_every_element_has_the_row_that_it_would_have_alone(
    found: list[tuple[dict[str, Any], int | None]], path: tuple[str, ...]
) -> None:
    paths = [tuple(name.split(".")) for name in COLUMNS]
    columns = [FileColumn(".".join(one), one) for one in paths]
    encoder = exploding(path, columns, lambda columns: CsvEncoder(columns, CsvOptions()))
    page = encoder.encode([raw(document, indent) for document, indent in found])
    renamed = [
        FileColumn(".".join(one), ("alone", *one[len(path) :]) if one[: len(path)] == path else one) for one in paths
    ]
    wanted = [raw(one, None) for document, _ in found for one in alone(document, path)]
    assert page.data == CsvEncoder(renamed, CsvOptions()).encode(wanted).data
    assert (page.rows, page.documents) == (len(wanted), len(found))
