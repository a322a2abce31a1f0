"""What another part asks for by `Retry-After`, in either of HTTP's forms; anything else is no wish at all."""

from __future__ import annotations

import importlib
import pkgutil
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks_service
from tasks_service.errors import ServiceError, asked_seconds

OTHERS = {"__main__", "api", "cli", "migrations"}
# What a run may meet, as the worker decides: to try it again later, or to fail at once.
MAY_PASS = [
    "corrupt_upload",
    "database_unavailable",
    "destination_changed",
    "destination_unavailable",
    "incomplete",
    "internal_error",
    "snapshot_lost",
    "source_unavailable",
    "stalled",
    "storage_unavailable",
    "unavailable",
]
FOR_GOOD = [
    "another_version",
    "authority_lost",
    "conflict",
    "destination_gone",
    "destination_refused",
    "destination_taken",
    "empty",
    "forbidden",
    "gone",
    "index_gone",
    "internal_error",
    "invalid_configuration",
    "invalid_request",
    "link_limit",
    "name_taken",
    "not_a_manifest",
    "not_authenticated",
    "not_found",
    "precondition_failed",
    "schema_version",
    "segment_gone",
    "segment_refused",
    "source_refused",
    "storage_refused",
    "too_many_files",
    "too_many_requests",
    "unfit_document",
    "zone_gone",
]


def test_every_error_is_tried_again_or_not_as_this_list_says() -> None:
    """A new class of error is decided here, not by what it happens to inherit; those of the API and of the
    command line no run meets.
    """
    for module in pkgutil.walk_packages(tasks_service.__path__, "tasks_service."):
        if not OTHERS.intersection(module.name.split(".")):
            importlib.import_module(module.name)
    kinds, found = [ServiceError], set[tuple[str, bool]]()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("tasks_service.") and not OTHERS.intersection(kind.__module__.split(".")):
            found.add((kind.code, kind.retryable))
    assert found == {(code, True) for code in MAY_PASS} | {(code, False) for code in FOR_GOOD}


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
