"""The examples of docs/formats.md, executed: a target and documents make exactly the file that is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.formats.csv_options import OPTIONS
from tasks_service.formats.nested import NESTED_OPTIONS
from tasks_service.formats.registry import FORMATS, check_by_catalog, check_options, encoder_for

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
_BLOCK = r"\n```{}\n([^`]*?)```\n\n[^`#]*?"
EXAMPLES = re.findall(_BLOCK.format("json") + _BLOCK.format("jsonl") + r"\n```(\w+)\n([^`]*?)```", PAGE)
CATALOG = Catalog.from_mapping(
    {
        "id": {"type": "long"},
        "name": {"type": "keyword"},
        "note": {"type": "text"},
        "price": {"type": "double"},
        "tags": {"type": "keyword"},
    }
)
INDEX = IndexSettings(file_prefix="Product", source="products", columns=[])


def test_there_are_examples() -> None:
    assert {kind for _, _, kind, _ in EXAMPLES} == {"csv", "xml"}


@pytest.mark.parametrize(("target", "documents", "kind", "shown"), EXAMPLES)
def test_an_example_makes_what_is_shown(target: str, documents: str, kind: str, shown: str) -> None:
    wanted = json.loads(target)
    assert wanted["export_format"] == kind
    assert kind in FORMATS
    assert check_options(kind, wanted.get("options", {})) == []
    assert check_by_catalog(wanted, CATALOG, INDEX) == []
    encoder = encoder_for(wanted, CATALOG, INDEX)
    writer = encoder.writer()
    page = encoder.encode([line.encode() for line in documents.splitlines()])
    assert (writer.add(page) + writer.finish()).decode() == shown


def test_every_option_of_csv_has_a_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ", PAGE.partition("\n## CSV\n")[2].partition("\n## ")[0], re.MULTILINE)
    assert sorted(rows) == sorted(set(OPTIONS) - set(NESTED_OPTIONS))
