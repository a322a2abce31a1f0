from __future__ import annotations

from pathlib import Path

from segments import OPERATORS
from segments.reference import reference_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "segments.md"


def test_the_reference_page_is_what_the_operator_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_page(), "run python -m segments.reference > docs/segments.md"


def test_every_operator_is_on_it() -> None:
    assert all(f"| `{name}` |" in reference_page() for name in OPERATORS)
