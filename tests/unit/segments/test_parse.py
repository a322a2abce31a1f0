from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from segments import EVERYTHING, SegmentError, Tree, all_of, evaluate, is_relative, parse, read_segment
from segments.tree import And, Nested, Not, Or, Period
from tests.unit.segments.shop import AMSTERDAM, NOW, compiled, group, item, rule, segment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _window(now: str, zone: str, operator: str, **operands: object) -> tuple[str | None, str | None]:
    tree = compiled(rule("created", "date", operator, **operands), now=datetime.fromisoformat(now), zone=ZoneInfo(zone))
    assert isinstance(tree, Period)
    return _shown(tree.start), _shown(tree.end)


def _shown(instant: int | None) -> str | None:
    if instant is None:
        return None
    return (EPOCH + timedelta(milliseconds=instant)).isoformat().replace("+00:00", "Z").replace(":00Z", "Z")


@pytest.mark.parametrize(
    ("now", "zone", "operator", "factor", "amount", "expected"),
    [
        ("2026-03-31T10:00Z", "UTC", "relative_less_than", "month", 1, ("2026-02-28T10:00Z", "2026-03-31T10:00Z")),
        ("2024-03-31T10:00Z", "UTC", "relative_less_than", "month", 1, ("2024-02-29T10:00Z", "2024-03-31T10:00Z")),
        ("2024-02-29T10:00Z", "UTC", "relative_less_than", "year", 1, ("2023-02-28T10:00Z", "2024-02-29T10:00Z")),
        ("2026-05-31T10:00Z", "UTC", "relative_less_than", "quarters", 1, ("2026-02-28T10:00Z", "2026-05-31T10:00Z")),
        # The day the clocks went forward had 23 hours: the same wall-clock time, not 24 hours.
        (
            "2026-03-29T10:00:00+02:00",
            "Europe/Amsterdam",
            "relative_less_than",
            "day",
            1,
            ("2026-03-28T09:00Z", "2026-03-29T08:00Z"),
        ),
        (
            "2026-03-29T10:00:00+02:00",
            "Europe/Amsterdam",
            "relative_less_than",
            "hour",
            24,
            ("2026-03-28T08:00Z", "2026-03-29T08:00Z"),
        ),
        # 02:30 did not exist: the offset before the gap.
        (
            "2026-03-30T02:30:00+02:00",
            "Europe/Amsterdam",
            "relative_less_than",
            "day",
            1,
            ("2026-03-29T01:30Z", "2026-03-30T00:30Z"),
        ),
        # 02:30 existed twice: the first.
        (
            "2026-10-26T02:30:00+01:00",
            "Europe/Amsterdam",
            "relative_less_than",
            "day",
            1,
            ("2026-10-25T00:30Z", "2026-10-26T01:30Z"),
        ),
        # No time at all is an empty window that ends now, in the second 02:30 too.
        (
            "2026-10-25T02:30:00+01:00",
            "Europe/Amsterdam",
            "relative_less_than",
            "day",
            0,
            ("2026-10-25T01:30Z", "2026-10-25T01:30Z"),
        ),
        (
            "2026-03-31T10:00:00.123456Z",
            "UTC",
            "relative_less_than",
            "minute",
            1,
            ("2026-03-31T09:59:00.123000Z", "2026-03-31T10:00:00.123000Z"),
        ),
        ("2026-03-31T10:00Z", "UTC", "relative_more_than", "week", 2, (None, "2026-03-17T10:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_within_next", "day", 3, ("2026-03-31T10:00Z", "2026-04-03T10:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_beyond_next", "day", 3, ("2026-04-03T10:00Z", None)),
        ("2026-03-31T10:00Z", "UTC", "relative_less_than", "year", 2026, (None, "2026-03-31T10:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_less_than", "day", 10**30, (None, "2026-03-31T10:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_within_next", "hour", 10**30, ("2026-03-31T10:00Z", None)),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "day", 1, ("2026-03-30T00:00Z", "2026-03-31T00:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "day", 0, ("2026-03-31T00:00Z", "2026-04-01T00:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "week", 1, ("2026-03-23T00:00Z", "2026-03-30T00:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "month", 1, ("2026-02-01T00:00Z", "2026-03-01T00:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "quarter", 1, ("2025-10-01T00:00Z", "2026-01-01T00:00Z")),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "year", 1, ("2025-01-01T00:00Z", "2026-01-01T00:00Z")),
        ("2026-03-31T10:20:30Z", "UTC", "relative_exactly", "hour", 1, ("2026-03-31T09:00Z", "2026-03-31T10:00Z")),
        (
            "2026-03-31T10:20:30Z",
            "Asia/Kathmandu",
            "relative_exactly",
            "hour",
            1,
            ("2026-03-31T09:15Z", "2026-03-31T10:15Z"),
        ),
        ("2026-03-31T10:20:30Z", "UTC", "relative_exactly", "minute", 21, ("2026-03-31T09:59Z", "2026-03-31T10:00Z")),
        (
            "2026-03-29T12:00Z",
            "Europe/Amsterdam",
            "in_current",
            "day",
            None,
            ("2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ),
        (
            "2026-10-25T12:00Z",
            "Europe/Amsterdam",
            "in_current",
            "day",
            None,
            ("2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        ),
        ("2026-03-29T12:00Z", "UTC", "in_current", "week", None, ("2026-03-23T00:00Z", "2026-03-30T00:00Z")),
        ("2026-03-29T12:00Z", "UTC", "in_current", "quarter", None, ("2026-01-01T00:00Z", "2026-04-01T00:00Z")),
        ("2026-03-29T12:00Z", "UTC", "in_current", "year", None, ("2026-01-01T00:00Z", "2027-01-01T00:00Z")),
        # Midnight did not exist in Cairo that day: it began at one.
        ("2026-04-24T12:00Z", "Africa/Cairo", "in_current", "day", None, ("2026-04-23T22:00Z", "2026-04-24T21:00Z")),
        # Apia had no 30 December 2011.
        (
            "2011-12-31T12:00:00+14:00",
            "Pacific/Apia",
            "relative_exactly",
            "day",
            1,
            ("2011-12-30T10:00Z", "2011-12-30T10:00Z"),
        ),
        ("2026-03-31T10:00Z", "UTC", "relative_exactly", "year", 9999, ("2026-03-31T10:00Z", "2026-03-31T10:00Z")),
    ],
)
def test_relative_windows(
    now: str, zone: str, operator: str, factor: str, amount: int | None, expected: tuple[str | None, str | None]
) -> None:
    operands = {"time_factor": factor} if amount is None else {"time_factor": factor, "time_amount": amount}
    assert _window(now, zone, operator, **operands) == expected


@pytest.mark.parametrize(
    ("operator", "operands", "expected"),
    [
        ("is_date", {"value": "2026-03-29"}, ("2026-03-28T23:00Z", "2026-03-29T22:00Z")),
        ("is_date", {"value": "2026-03-29T23:30Z"}, ("2026-03-29T22:00Z", "2026-03-30T22:00Z")),
        ("is_date", {"value": "2026-03-29T23:30"}, ("2026-03-28T23:00Z", "2026-03-29T22:00Z")),
        ("is_after_date", {"start_date": "2026-03-28"}, ("2026-03-28T23:00Z", None)),
        ("is_after_date", {"start_date": "2026-03-28T10:00:00.0009Z"}, ("2026-03-28T10:00:00.001000Z", None)),
        ("is_before_date", {"end_date": "2026-03-29"}, (None, "2026-03-28T23:00Z")),
        ("is_before_date", {"end_date": "2026-03-29 10:00:00+0100"}, (None, "2026-03-29T09:00Z")),
        (
            "is_between_date",
            {"start_date": "2026-03-01", "end_date": "2026-03-31"},
            ("2026-02-28T23:00Z", "2026-03-31T22:00Z"),
        ),
        (
            "is_between_date",
            {"start_date": "2026-03-29T10:00", "end_date": "2026-03-29T10:00"},
            ("2026-03-29T08:00Z", "2026-03-29T08:00:00.001000Z"),
        ),
    ],
)
def test_dates_are_read_in_the_zone(
    operator: str, operands: dict[str, object], expected: tuple[str | None, str | None]
) -> None:
    assert _window("2026-03-31T10:00:00Z", "Europe/Amsterdam", operator, **operands) == expected


def test_the_ends_of_the_calendar_are_no_error() -> None:
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        for text in ("0001-01-01", "9999-12-31", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"):
            compiled(rule("created", "date", "is_date", text), zone=ZoneInfo(zone))


def test_an_aware_now_is_asked_for() -> None:
    with pytest.raises(ValueError, match="aware"):
        compiled(rule("created", "date", "is_date", "2026-01-01"), now=datetime(2026, 1, 1))  # noqa: DTZ001


ORDER = {"line_items": [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 5}]}
A, B = item("sku", "keyword", "is", "a"), item("sku", "keyword", "is", "b")
FIVE, NOT_A = item("quantity", "number", "is", 5), item("sku", "keyword", "is_not", "a")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (compiled(A, FIVE), False),  # no one child is both
        (compiled(B, FIVE), True),
        (compiled(A, group("all", FIVE)), True),  # each group is a scope of its own
        (compiled(A, group("any", FIVE)), True),
        (compiled(A, FIVE, join="any"), True),
        (compiled(item("sku", "keyword", "is", "c"), FIVE, join="any"), True),
        (compiled(NOT_A), False),  # some child is a, so "no child is a" fails
        (compiled(B, NOT_A), False),  # a negative rule stands alone
        (compiled(FIVE, NOT_A), False),
        (compiled(A, FIVE, negate=True), True),
        (compiled(group("all", A, FIVE, negate=True), B), True),
        (compiled(item("sku", "keyword", "is_not", "c")), True),
        (compiled(item("at", "date", "is_not_set")), True),
    ],
)
def test_what_speaks_of_the_same_child(tree: Tree, *, expected: bool) -> None:
    assert evaluate(tree, ORDER) is expected


def test_a_negative_rule_matches_documents_without_children() -> None:
    for document in ({}, {"line_items": None}, {"line_items": []}, {"line_items": [{}]}):
        assert evaluate(compiled(NOT_A), document)
        assert not evaluate(compiled(A), document)


def test_groups_and_negation() -> None:
    one = rule("category", "keyword", "is", "x")
    two = rule("active", "boolean", "is_true")
    document = {"category": "x", "active": False}
    assert not evaluate(compiled(one, two), document)
    assert evaluate(compiled(one, two, negate=True), document)
    assert evaluate(compiled(one, two, join="any"), document)
    assert not evaluate(compiled(one, two, join="any", negate=True), document)
    assert evaluate(compiled(one, group("any", two, negate=True)), document)
    assert isinstance(compiled(one, two, join="any"), Or)


def test_no_rules_select_everything() -> None:
    assert compiled() == EVERYTHING
    assert evaluate(EVERYTHING, {})
    assert not evaluate(compiled(negate=True), {})


def test_trees_are_joined_flat() -> None:
    one, two = compiled(A), compiled(rule("active", "boolean", "is_true"))
    assert all_of() == EVERYTHING
    assert all_of(one) == one
    assert all_of(EVERYTHING, one) == one
    assert all_of(two, all_of(one, two)) == And((two, one, two))
    assert isinstance(one, Nested)


def test_a_double_negation_is_none() -> None:
    positive = compiled(rule("category", "keyword", "is", "x"))
    assert compiled(rule("category", "keyword", "is_not", "x"), negate=True) == positive
    assert compiled(rule("category", "keyword", "is_not", "x")) == Not(positive)


def test_relative_segments_are_known() -> None:
    relative = rule("created", "date", "in_current", time_factor="day")
    assert is_relative(read_segment(segment(group("any", relative))))
    assert not is_relative(read_segment(segment(rule("created", "date", "is_date", "2026-01-01"))))


def test_parse_alone_tells_contradictions() -> None:
    raw = segment(rule("price", "number", "is_between_number", min=2, max=1))
    with pytest.raises(SegmentError, match="min must not be greater"):
        parse(read_segment(raw), now=NOW, zone=AMSTERDAM)
