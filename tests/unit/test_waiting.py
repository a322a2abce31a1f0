"""Waiting with a deadline: returns what came, looks once more at the end, says what it saw last."""

from __future__ import annotations

import pytest

from tests.waiting import NeverError, eventually


def test_it_returns_the_first_true_value() -> None:
    values = iter([0, "", None, [7], [8]])
    assert eventually(lambda: next(values), every=0.001) == [7]


def test_a_failed_assertion_counts_as_not_yet() -> None:
    looks: list[int] = []

    def condition() -> bool:
        looks.append(1)
        assert len(looks) == 3
        return True

    assert eventually(condition, every=0.001)


def test_it_looks_even_without_any_time() -> None:
    assert eventually(lambda: "there", timeout=0) == "there"


def test_it_ends_with_what_it_saw_last() -> None:
    with pytest.raises(NeverError, match="'the file to come'; last seen: 0"):
        eventually(lambda: 0, timeout=0.01, every=0.001, what="the file to come")


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 // 0, timeout=60)
