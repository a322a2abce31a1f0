from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from segments import evaluate
from segments.instants import instant
from segments.tree import Compare
from tests.unit.segments.shop import MAPPED, compiled, rule

WORD = rule("category", "keyword", "is", "x")


@pytest.mark.parametrize(
    ("asked", "document", "expected"),
    [
        (WORD, {"category": "x"}, True),
        (WORD, {"category": "X"}, False),
        (WORD, {"category": ["y", ["x"], None]}, True),
        (WORD, {"category": None}, False),
        (WORD, {}, False),
        (rule("category", "keyword", "is_not", "x"), {}, True),
        (rule("category", "keyword", "is_not", "x"), {"category": ["x", "y"]}, False),
        (rule("category", "keyword", "is", ""), {"category": ""}, True),
        (rule("category", "keyword", "is_set"), {"category": ""}, True),
        (rule("category", "keyword", "is_set"), {"category": [None, []]}, False),
        (rule("category", "keyword", "is_any_of", ["y", "x"]), {"category": "x"}, True),
        (rule("category", "keyword", "is_none_of", ["y", "x"]), {"category": ["z", "x"]}, False),
        (rule("category", "keyword", "contains", "KEL"), {"category": "a\u212aelvin"}, True),
        (rule("category", "keyword", "contains", "\u03c3\u03b1\u03c3"), {"category": "ΣΑΣ ΣΑς"}, True),
        (rule("category", "keyword", "contains", "ss"), {"category": "ß"}, False),
        (rule("category", "keyword", "contains", "i"), {"category": "\u0131İ"}, False),
        (rule("category", "keyword", "contains", "é"), {"category": "e\u0301"}, False),
        (rule("category", "keyword", "contains", ["q", "el"]), {"category": "Electronics"}, True),
        (rule("category", "keyword", "does_not_contain", "x"), {"category": ["a", "x"]}, False),
        (rule("category", "keyword", "starts_with", "el"), {"category": "Electronics"}, True),
        (rule("category", "keyword", "ends_with", "ICS"), {"category": "Electronics"}, True),
        (rule("category", "keyword", "ends_with", "el"), {"category": "Electronics"}, False),
        (rule("category", "keyword", "is", "5"), {"category": 5}, True),
        (rule("category", "keyword", "is", "true"), {"category": True}, True),
        (rule("address.city", "keyword", "is", "x"), {"address": {"city": "x"}}, True),
        (rule("address.city", "keyword", "is", "x"), {"address.city": "x"}, True),
        (rule("address.city", "keyword", "is", "x"), {"address": [{"city": "y"}, {"city": ["x"]}]}, True),
        (rule("address.city", "keyword", "is", "x"), {"address": "x"}, False),
        (rule("name.exact", "keyword", "is", "x"), {"name": "x"}, True),
        (rule("active", "boolean", "is_false"), {"active": "false"}, True),
        (rule("active", "boolean", "is_false"), {}, False),
        (rule("active", "boolean", "is_not", True), {}, True),
        (rule("price", "number", "is_between_number", min=5, max=10), {"price": [1, 20]}, False),
        (rule("price", "number", "is_between_number", min=5, max=10), {"price": [1, 5, 20]}, True),
        (rule("price", "number", "is_not_between_number", min=5), {"price": [1, 20]}, False),
        (rule("created", "date", "is_date", "2026-03-29"), {"created": "2026-03-28T23:00:00Z"}, True),
        (rule("created", "date", "is_date", "2026-03-29"), {"created": "2026-03-29T22:00:00Z"}, False),
        (rule("created", "date", "is_not_date", "2026-03-29"), {"created": "nonsense"}, True),
    ],
)
def test_meaning(asked: dict[str, Any], document: dict[str, Any], *, expected: bool) -> None:
    assert evaluate(compiled(asked), document) is expected


def test_two_one_sided_rules_may_be_met_by_two_values() -> None:
    least, most = (rule("price", "number", name, 10) for name in ("is_greater_than", "is_less_than"))
    assert evaluate(compiled(least, most), {"price": [1, 20]})


def test_an_unchecked_tree_is_no_tree_to_evaluate() -> None:
    from segments.tree import Asked

    leaf = Compare(Asked("", "category", "keyword", None, "is"), "eq", "x")
    with pytest.raises(TypeError, match="unchecked"):
        evaluate(leaf, {})
    assert evaluate(Compare(MAPPED.by_name["category"], "eq", "x"), {"category": "x"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-01", 0),
        ("1970", 0),
        ("1970-01", 0),
        ("1970-01-01T00", 0),
        ("1970-01-01T01:00+01", 0),
        ("1969-12-31T23:30-0030", 0),
        ("1970-01-01T00:00:00.0019Z", 1),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("0001-01-01", -62135596800000),
        ("0000-01-01", -62167219200000),
        (1970, 0),
        (19700, 19700),
        (-1.5, -2),
        ("12345.9", 12345),
        (True, None),
        (None, None),
        ("", None),
        ("1970-01-01 00:00", None),
        ("1970-13-01", None),
        ("1970-01-01T24:00", None),
        ("1970-01-01T00:00+19:00", None),
        ("1970-01-01T00:00Zx", None),
    ],
)
def test_dates_as_documents_write_them(value: object, expected: int | None) -> None:
    assert instant(value) == expected


def test_seconds_where_the_mapping_says_so() -> None:
    assert instant(12345, "strict_date_optional_time||epoch_second") == 12_345_000
    assert instant(2026, "strict_date_optional_time||epoch_second") == instant("2026-01-01")
    assert instant(2026, "epoch_second") == 2_026_000


@pytest.mark.parametrize(
    ("text", "date_format", "expected"),
    [
        ("2026/03/29 10:00:00", "yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis", "2026-03-29T10:00:00.000"),
        ("2026/03/29", "yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis", "2026-03-29T00:00:00.000"),
        ("20260329", "basic_date", "2026-03-29T00:00:00.000"),
        ("20260329T100000+0200", "basic_date_time_no_millis", "2026-03-29T08:00:00.000"),
        ("9.3.2026 o'clock 7", "d.M.yyyy 'o''clock' H", "2026-03-09T07:00:00.000"),
        ("2026-03-29T10:00:00.5Z", "yyyy-MM-dd'T'HH:mm:ss.SSSX", "2026-03-29T10:00:00.500"),
        ("2026", "epoch_second||strict_date_optional_time", "1970-01-01T00:33:46.000"),
        ("2026", "strict_date_optional_time||epoch_millis", "2026-01-01T00:00:00.000"),
        ("2026-03", "strict_year_month", "2026-03-01T00:00:00.000"),
        ("2026-03-29T10:00:00Z", "iso8601", "2026-03-29T10:00:00.000"),
    ],
)
def test_dates_are_read_by_the_format_of_their_mapping(text: str, date_format: str, expected: str) -> None:
    moment = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert instant(text, date_format) == round(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "date_format"),
    [
        ("Sun Mar 29", "EEE MMM dd"),
        ("26-03-29", "yy-MM-dd"),
        ("2026-03-29", "dd-MM-yyyy"),
        ("2026-13-01", "yyyy-MM-dd HH:mm||yyyy-MM-dd"),
        ("2026 2026", "yyyy yyyy"),
        ("2026-03-29", "yyyy-MM-dd '"),
    ],
)
def test_what_a_format_does_not_read_is_no_date(text: str, date_format: str) -> None:
    assert instant(text, date_format) is None
