"""The structure of JSON lines, put together document by document, is what DuckDB finds by reading them all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks_service.sources.files_folder import open_folder
from tasks_service.sources.files_kinds import read_relation

WORDS = st.sampled_from(["", "x", "lamp"])
SCALARS = st.one_of(
    st.none(), st.booleans(), WORDS, st.sampled_from([0, -1, 7, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 1.5, 1e300])
)
NAMES = st.sampled_from(["a", "b", "c.d", 'e"f'])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=5).filter(any)


def by_duckdb(paths: list[str]) -> list[tuple[str, str]]:
    """Return the columns that DuckDB finds by itself, with the type that a document's member gets from us."""
    rows = duckdb.execute(
        "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_json(?, format = 'newline_delimited', "
        "sample_size = -1, maximum_depth = -1, map_inference_threshold = -1, field_appearance_threshold = 0))",
        [paths],
    ).fetchall()
    return sorted((str(name), str(kind).replace('"NULL"', "JSON")) for name, kind in rows)


def narrowed(kind: str) -> str:
    return kind.replace("HUGEINT", "BIGINT")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "things"
    made.mkdir()
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@example(documents=[{"a": {"b": 0}}, {"a": {"a": None, "b": -1}}])
@given(documents=DOCUMENTS)
def test_documents_have_the_structure_that_duckdb_finds_in_all_of_them(
    documents: list[dict[str, Any]], folder: Path
) -> None:
    for position in range(2):  # two files: what one lacks, the other may have
        lines = [json.dumps(one) + "\n" for one in documents[position::2]]
        (folder / f"{position}.jsonl").write_text("".join(lines))
    opened = open_folder(folder.parent, "things")
    try:
        with duckdb.connect(":memory:") as connection:
            found = read_relation(connection, opened, {})
        expected = by_duckdb([str(folder / f"{position}.jsonl") for position in range(2)])
        # DuckDB takes HUGEINT for what is negative in one document and not in another; that is narrower here.
        told = sorted(found.columns)
        if not any(str(wide) in json.dumps(documents) for wide in (2**63, 2**64 - 1)):
            assert "HUGEINT" not in str(told)
        assert [(name, narrowed(kind)) for name, kind in told] == [(name, narrowed(kind)) for name, kind in expected]
    finally:
        opened.close()
