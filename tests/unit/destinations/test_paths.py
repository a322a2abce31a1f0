"""Where files go below a prefix: placeholders filled, nothing that leaves it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.destinations.paths import DEFAULT_PATH, PLACEHOLDERS, folder_of, path_fault
from tasks_service.storage.names import checked_name
from tests.orders import order_of

NIGHT = datetime(2026, 5, 25, 22, 5, tzinfo=UTC)


def test_every_placeholder_stands_for_something() -> None:
    order = order_of({}, task=7, run=8, now=NIGHT, zone="Europe/Amsterdam")
    path = "/".join(f"{{{name}}}" for name in PLACEHOLDERS)
    assert path_fault(path) is None
    assert folder_of("from/{chain}", path, order) == "from/1764/1764/7/8/products/2026/05/26/00/05"


def test_without_a_prefix_the_folder_begins_with_the_path() -> None:
    assert folder_of("", DEFAULT_PATH, order_of({}, task=7, run=8)) == "7/8"


@given(st.text(st.sampled_from("a1._=-/{}chain task"), max_size=30))
def test_a_path_without_fault_makes_a_name_that_every_bucket_takes_below_its_prefix(path: str) -> None:
    if path_fault(path) is None:
        name = checked_name(folder_of("from/{chain}", path, order_of({})) + "/file.csv")
        assert name.startswith("from/1764/")
        assert ".." not in name.split("/")


@pytest.mark.parametrize("path", ["{nobody}", "{}", "{ task }", "{{task}}"])
def test_an_unknown_placeholder_is_told_the_known_ones(path: str) -> None:
    fault = path_fault(path)
    assert fault is not None
    assert "{task}" in fault
