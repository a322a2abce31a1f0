"""Triggers as documents: what is lawful, what it is stored as, and every fault of what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_service.schedule import CronError, check_trigger, defaults, parse_cron

NOW = datetime(2026, 5, 26, 12, 0, 0, 500, tzinfo=UTC)


def faults(trigger: object) -> dict[str, str]:
    _, found = check_trigger(trigger, now=NOW)
    return {fault.pointer: fault.code for fault in found}


def stored(**trigger: Any) -> dict[str, Any]:
    document, found = check_trigger(trigger, now=NOW)
    assert found == []
    return document


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0 2 * * *", "0 2 * * *"),
        ("  0   2 * * *\t", "0 2 * * *"),
        ("00 02 * * *", "0 2 * * *"),
        ("*/15 0-6,22-23/2 1,15 * 1-5", "*/15 0,1,2,3,4,5,6,22 1,15 * 1,2,3,4,5"),
        ("5/15 * * * *", "5,20,35,50 * * * *"),
        ("0 0 * JAN-mar/2 Mon,WED", "0 0 * 1,3 1,3"),
        ("0 0 * * 7", "0 0 * * 7"),
        ("0 0 * * mon-sun", "0 0 * * 1,2,3,4,5,6,7"),
        ("0 0 * * sun-tue", "0 0 * * 0,1,2"),
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@yearly", "0 0 1 1 *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        # cronsim reads the first as 5/10.
        ("5-5/10 7,7,3 *,5 */3,2 5,*/4", "5 3,7 * */3,2 0,4,5"),
        ("0 0 31 2 1", "0 0 31 2 1"),
        ("*/60 */24 */31 */12 */8", "*/60 */24 */31 */12 */8"),
    ],
)
def test_a_line_of_the_dialect_is_read(text: str, line: str) -> None:
    assert parse_cron(text).line == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "five"),
        ("* * * *", "five"),
        ("* * * * * *", "five"),
        ("60 * * * *", "0 to 59"),
        ("* 24 * * *", "0 to 23"),
        ("* * 0 * *", "1 to 31"),
        ("* * * 13 *", "1 to 12"),
        ("* * * * 8", "0 to 7"),
        ("-1 * * * *", "minute"),
        ("1- * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("1-2-3 * * * *", "minute"),
        ("*/0 * * * *", "1 to 60"),
        ("*/90 * * * *", "1 to 60"),
        ("*5 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("\u0661 * * * *", "minute"),
        ("* 22-2 * * *", "backwards"),
        ("* * * * fri-mon", "backwards"),
        ("* * * * mon#1", "weekday"),
        ("* * * * mon-fri!!", "weekday"),
        ("* * * * mon;drop", "weekday"),
        ("* * * * 5L", "weekday"),
        ("* * L * *", "day of month"),
        ("* * ? * *", "day of month"),
        ("* * 15W * *", "day of month"),
        ("* * * january *", "jan to dec"),
        ("* * * * jan", "sun to sat"),
        ("jan * * * *", "minute"),
        ("@reboot", "@daily"),
        ("@every 5m", "@daily"),
        ("0 0 30 2 *", "no month"),
        ("0 0 31 4,6,9,11 *", "no month"),
        ("0 0 30 2 *\n* * * * *", "five"),
        ("0 " * 200, "256"),
    ],
)
def test_what_is_no_line_is_refused_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(CronError, match=said):
        parse_cron(text)


@given(st.text(alphabet="0123456789*/-,@ LW#?montuefrijand\u0661\n\t\0", max_size=30))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        line = parse_cron(text)
    except CronError:
        return
    assert parse_cron(line.text).line == line.line


@pytest.mark.parametrize(
    ("once", "zone", "instant"),
    [
        ("2026-05-26T12:00:00Z", None, "2026-05-26T12:00:00Z"),
        ("2026-05-26T12:00:00+02:00", "Asia/Tokyo", "2026-05-26T10:00:00Z"),
        ("2026-05-26 12:00", "Europe/Amsterdam", "2026-05-26T10:00:00Z"),
        ("2026-05-26t12:00:00.999z", None, "2026-05-26T12:00:00Z"),
        # The gap: by the offset before it. The fold: the first.
        ("2026-03-29T02:30:00", "Europe/Amsterdam", "2026-03-29T01:30:00Z"),
        ("2026-10-25T02:30:00", "Europe/Amsterdam", "2026-10-25T00:30:00Z"),
        ("1999-01-01T00:00:00Z", None, "1999-01-01T00:00:00Z"),
    ],
)
def test_a_moment_is_stored_in_utc(once: str, zone: str | None, instant: str) -> None:
    assert stored(once=once, timezone=zone) == {"once": instant, "timezone": zone or "UTC"}


@pytest.mark.parametrize(
    "once",
    [
        "",
        "now",
        "2026-05-26",
        "2026-13-01T00:00:00Z",
        "2026-05-26T25:00:00Z",
        "20260526T120000Z",
        "2026-W22-2T00:00",
        "2026-05-26T12:00:00+24:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
        7,
        True,
        ["x"],
        {},
        "٢026",
    ],
)
def test_what_is_no_moment_is_refused(once: object) -> None:
    assert list(faults({"once": once})) == ["/trigger/once"]


def test_a_cron_trigger_is_stored_whole() -> None:
    assert stored(cron=" 0  2 * * MON ", timezone="Europe/Amsterdam", start_at="2026-06-01T00:00", jitter=30) == {
        "cron": "0 2 * * MON",
        "timezone": "Europe/Amsterdam",
        "start_at": "2026-05-31T22:00:00Z",
        "end_at": None,
        "jitter": 30,
    }


def test_the_segment_is_passed_on_and_nulls_are_absent() -> None:
    document = stored(cron="@daily", once=None, end_at=None, segment={"anything": [1]}, segment_id=None)
    assert document["segment"] == {"anything": [1]}
    assert "once" not in document
    assert "segment_id" not in document


@pytest.mark.parametrize("given", [7, "7"])
def test_the_id_of_a_saved_segment_is_stored_as_a_number(given: object) -> None:
    assert stored(cron="@daily", segment_id=given)["segment_id"] == 7


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (None, {"/trigger": "wrong_type"}),
        ([], {"/trigger": "wrong_type"}),
        ({}, {"/trigger": "missing"}),
        ({"once": "2026-05-26T12:00:00Z", "cron": "@daily"}, {"/trigger": "clash"}),
        ({"cron": "@daily", "segment": {}, "segment_id": 3}, {"/trigger": "clash"}),
        ({"cron": "@daily", "segment_id": "seven"}, {"/trigger/segment_id": "wrong_type"}),
        ({"cron": "@daily", "segment_id": True}, {"/trigger/segment_id": "wrong_type"}),
        ({"cron": "@daily", "segment_id": 0}, {"/trigger/segment_id": "wrong_type"}),
        ({"cron": "@daily", "segment_id": "9" * 19}, {"/trigger/segment_id": "wrong_type"}),
        ({"cron": "@daily", "a/b~c": 3}, {"/trigger/a~1b~0c": "unknown_member"}),
        ({"once": "2026-05-26T12:00:00Z", "jitter": 5}, {"/trigger/jitter": "not_with_once"}),
        ({"cron": 5}, {"/trigger/cron": "wrong_type"}),
        ({"cron": "@daily", "jitter": True}, {"/trigger/jitter": "out_of_range"}),
        ({"cron": "@daily", "jitter": 3601}, {"/trigger/jitter": "out_of_range"}),
        ({"cron": "@daily", "jitter": 1.5}, {"/trigger/jitter": "out_of_range"}),
        ({"cron": "@daily", "misfire": "never"}, {"/trigger/misfire": "unknown_value"}),
        ({"cron": "@daily", "misfire": ["skip"]}, {"/trigger/misfire": "unknown_value"}),
        ({"cron": "@daily", "overlap": "both"}, {"/trigger/overlap": "unknown_value"}),
        ({"cron": "0 0 30 2 *"}, {"/trigger/cron": "invalid_cron"}),
        # Both day fields count as unrestricted, so both must match: a Sunday, 29 February, is six years away.
        ({"cron": "0 0 29 2 */7"}, {"/trigger/cron": "never_fires"}),
        ({"cron": "@daily", "end_at": "2026-05-26T11:00:00Z"}, {"/trigger/end_at": "out_of_range"}),
        ({"cron": "@daily", "end_at": "2026-05-26T13:00:00Z"}, {"/trigger/end_at": "never_fires"}),
        (
            {"cron": "@daily", "start_at": "2027-01-02T00:00:00Z", "end_at": "2027-01-01T00:00:00Z"},
            {"/trigger": "clash"},
        ),
        (
            {"once": "soon", "cron": "61 * * * *", "timezone": "Mars", "jitter": -1, "overlap": 1, "when": 1},
            {
                "/trigger": "clash",
                "/trigger/once": "invalid_date",
                "/trigger/cron": "invalid_cron",
                "/trigger/timezone": "unknown_zone",
                "/trigger/jitter": "out_of_range",
                "/trigger/overlap": "unknown_value",
                "/trigger/when": "unknown_member",
            },
        ),
    ],
)
def test_every_fault_is_named_at_once(trigger: object, expected: dict[str, str]) -> None:
    assert faults(trigger) == expected


@pytest.mark.parametrize(
    ("zone", "nearest"),
    [
        ("Europe/Amsterdm", "Europe/Amsterdam"),
        ("europe/amsterdam", "Europe/Amsterdam"),
        ("Asia/Kalkuta", "Asia/Kolkata"),
        ("America/New York", "America/New_York"),
        ("utc ", "UTC"),
    ],
)
def test_an_unknown_zone_names_the_nearest_right_one(zone: str, nearest: str) -> None:
    _, [fault] = check_trigger({"cron": "@daily", "timezone": zone}, now=NOW)
    assert f"did you mean {nearest}?" in fault.detail


@pytest.mark.parametrize(
    "zone", ["", "/etc/passwd", "../UTC", "right/UTC", "posix/UTC", "localtime", "Europe", "UTC\0", 5]
)
def test_what_is_no_zone_is_refused(zone: object) -> None:
    assert list(faults({"cron": "@daily", "timezone": zone})) == ["/trigger/timezone"]


def test_defaults_lose_no_window_of_a_relative_segment() -> None:
    plain = defaults(stored(cron="@daily"), relative=False)
    assert (plain["misfire"], plain["overlap"]) == ("run_once", "skip")
    relative = defaults(stored(cron="@daily"), relative=True)
    assert (relative["misfire"], relative["overlap"]) == ("run_all", "buffer_all")
    chosen = defaults(stored(cron="@daily", misfire="skip", overlap="allow"), relative=True)
    assert (chosen["misfire"], chosen["overlap"]) == ("skip", "allow")
    once = stored(once="2026-05-26T12:00:00Z")
    assert defaults(once, relative=True) == once
