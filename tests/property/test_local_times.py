"""An instant in a zone is what zoneinfo makes of it, at every moment and in every zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_service.formats.local_times import LocalTimes
from tasks_service.formats.zone_offsets import NEVER, zone_offsets
from tasks_service.zones import Rules, rules_of

ZONES = (
    "Europe/Amsterdam",
    "America/New_York",
    "America/St_Johns",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "UTC",
)
EVERY = tuple(sorted(available_timezones() - {"localtime", "Factory"}))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62_135_510_400, 253_402_214_400
"""A day within the years 1 to 9999, so that no offset leads out of them."""


def rules(name: str) -> Rules:
    found = rules_of(name)
    assert found is not None
    return found


def moment(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


def shown(zone: Rules, texts: Sequence[str]) -> list[str]:
    query = LocalTimes(zone, [0]).applied("(SELECT [t] AS v FROM unnest(?::VARCHAR[]) AS u(t))")
    with duckdb.connect(config={"threads": 1}) as connection:
        return [row[0][0] for row in connection.execute(f"SELECT v FROM {query}", [list(texts)]).fetchall()]  # noqa: S608


def agree(zone: Rules, seconds: Sequence[int]) -> None:
    texts = [f"{moment(second).replace(tzinfo=None).isoformat()}Z" for second in seconds]
    assert shown(zone, texts) == [moment(second).astimezone(zone.zone).isoformat() for second in seconds]


def edges(zone: Rules) -> list[int]:
    """Every change from 1970 to 2037, and the seconds around it."""
    table = zone_offsets(zone)
    found: list[int] = []
    for year in range(1970, 2038):
        start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        hours = [start + 1800 * half for half in range(17_520)] if year in {1972, 1995, 2026, 2037} else []
        found += hours
        if table.first <= year <= table.last:
            entry = (year - table.first) * table.width
            changes = [start + one for one in table.changes[entry : entry + table.width] if one != NEVER]
            found += [change + beside for change in changes for beside in (-1, 0, 1)]
    return found


@pytest.mark.parametrize("name", ZONES)
def test_every_edge_is_where_it_is(name: str) -> None:
    agree(rules(name), edges(rules(name)))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(EVERY), st.lists(st.integers(0, 2_145_916_799) | st.integers(FIRST, LAST), min_size=1))
def test_any_instant_in_any_zone_is_what_zoneinfo_says(name: str, seconds: list[int]) -> None:
    agree(rules(name), seconds)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(ZONES),
    st.integers(0, 2_145_916_799),
    st.integers(-1439, 1439),
    st.text("0123456789", max_size=12),
    st.sampled_from(["T", " "]),
)
def test_offsets_are_reckoned_with_and_fractions_copied(
    name: str, second: int, offset: int, digits: str, joint: str
) -> None:
    there = (moment(second) + timedelta(minutes=offset)).replace(tzinfo=None).isoformat(joint)
    sign, size = "-" if offset < 0 else "+", abs(offset)
    fraction = f".{digits}" if digits else ""
    local = moment(second).astimezone(rules(name).zone).isoformat()
    wanted = f"{local[:19]}{fraction}{local[19:]}"
    spellings = [f"{size // 60:02}:{size % 60:02}", f"{size // 60:02}{size % 60:02}"]
    spellings += [f"{size // 60:02}"] if size % 60 == 0 else []
    assert set(shown(rules(name), [f"{there}{fraction}{sign}{one}" for one in spellings])) == {wanted}


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(ZONES), st.integers(-(10**15) + 1, 10**15 - 1))
def test_milliseconds_are_instants(name: str, milliseconds: int) -> None:
    [found] = shown(rules(name), [str(milliseconds)])
    try:
        local = (EPOCH + timedelta(milliseconds=milliseconds)).astimezone(rules(name).zone)
    except OverflowError:
        assert found == str(milliseconds)
        return
    if len(str(abs(milliseconds))) == 4:  # a year
        assert found == str(milliseconds)
    else:
        # A fraction of six digits is one of three with zeros behind.
        assert found == local.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds")
