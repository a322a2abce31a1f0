"""Fault points: the table of names and the calls in the code are the same, and a call does what a test asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_service.fault_points import FAULT_POINTS, fault_point, strike_with

PACKAGE = Path(__file__).parents[2] / "tasks_service"
RECORDED = re.compile(r'\b_?record\("(\w+)"')
CALLED = re.compile(r'fault_point\("([\w.]+)"\)')


@pytest.fixture
def struck() -> Iterator[list[str]]:
    names: list[str] = []
    strike_with(names.append)
    yield names
    strike_with(None)


def called_names() -> Counter[str]:
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    recorded = [f"{fact}.{moment}" for fact in RECORDED.findall(source) for moment in ("written", "committed")]
    return Counter(CALLED.findall(source) + recorded)


def test_every_name_is_called_at_one_place_and_every_call_is_named() -> None:
    assert called_names() == Counter(dict.fromkeys(FAULT_POINTS, 1))


def test_a_call_does_what_was_asked_for(struck: list[str]) -> None:
    fault_point("claim.committed")
    assert struck == ["claim.committed"]


def test_a_call_does_nothing_otherwise(struck: list[str]) -> None:
    strike_with(None)
    fault_point("claim.committed")
    assert struck == []
