"""What another part asks for by `Retry-After`, in either of HTTP's forms; anything else is no wish at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.errors import asked_seconds


@pytest.mark.parametrize(("header", "seconds"), [("0", 0), (" 120 ", 120), ("9" * 400, 999_999_999)])
def test_seconds(header: str, seconds: float) -> None:
    assert asked_seconds(header) == seconds


def test_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=90)
    assert asked_seconds(format_datetime(soon, usegmt=True)) == pytest.approx(90, abs=5)
    assert asked_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("header", [None, "", "-1", "1.5", "soon", "\u0663", "Wed, 99 Oct 2015 07:28:00 GMT"])
def test_nothing_that_could_be_understood(header: str | None) -> None:
    assert asked_seconds(header) is None


@given(st.text(max_size=60))
def test_no_header_is_an_error(header: str) -> None:
    asked = asked_seconds(header)
    assert asked is None or asked >= 0
