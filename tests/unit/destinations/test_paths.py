"""Where files go below a prefix: placeholders filled, nothing that leaves it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.destinations import DestinationError
from tasks_service.destinations.paths import DEFAULT_PATH, PLACEHOLDERS, folder_of, path_fault
from tasks_service.destinations.pushing import plan_push
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


FAULTY = {
    "above": "..",
    "a folder above": "../1765",
    "within": "a/../../b",
    "here": "./a",
    "empty": "a//b",
    "from the root": "/a",
    "to nowhere": "a/",
    "a line": "a\nb",
    "nothing": "a\0b",
    "an escape": "a\x1bb",
    "backwards": "a\\..\\b",
    "encoded": "%2e%2e",
    "a name too long": "a" * 201,
    "too long": "/".join(["a" * 199] * 5),
}


@pytest.mark.parametrize("filled", FAULTY.values(), ids=FAULTY.keys())
def test_what_a_path_became_is_judged_again(filled: str) -> None:
    """What fills it is of the run: a path that was sound by itself may become none."""
    with pytest.raises(DestinationError, match=r"Nothing is pushed to .* Give the task another path"):
        folder_of("from/{chain}", "{index}", order_of({"export_index": filled}))


@pytest.mark.parametrize("path", ["..", "a/../b", "", "a//b", "{nobody}"])
def test_a_path_of_a_task_that_no_rule_was_held_against_is_judged_in_the_run(path: str) -> None:
    if path:
        with pytest.raises(DestinationError, match="Give the task another path"):
            folder_of("from/{chain}", path, order_of({}))
    else:
        assert folder_of("from/{chain}", path, order_of({})) == "from/1764"


def test_a_refused_path_is_told_and_a_long_one_cut() -> None:
    with pytest.raises(DestinationError) as caught:
        folder_of("", "{index}", order_of({"export_index": "a" * 5000}))
    assert "'{index}'" in caught.value.detail
    assert len(caught.value.detail) < 600


def test_a_file_whose_name_makes_it_too_long_is_refused() -> None:
    """Before a byte is pushed, whatever kind of bucket it is."""
    folder = "/".join(["a" * 195] * 4)
    order = order_of({"destination": {"name": "acme", "path": "{index}", "overwrite": False}, "export_index": folder})
    stored = {"object": "x", "generation": 1, "bytes": 1, "crc32c": "x", "stored_at": "2026-05-26T00:00:00+00:00"}
    assert folder_of("", "{index}", order) == folder
    file = stored | {"bucket": "b", "file_name": "f" * 180 + ".csv", "sha256": "0", "rows": 1, "content_type": "x"}
    with pytest.raises(DestinationError, match="Nothing is pushed to"):
        plan_push(order, file, Here(), "")  # type: ignore[arg-type]


class Here:
    place = "gs://here"
