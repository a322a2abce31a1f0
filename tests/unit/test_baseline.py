"""The comparison of benchmarks with what they found before."""

from __future__ import annotations

from bench import baseline

BEFORE = {"a.one": 10.0, "a.two": 1.0, "b.one": 5.0}


def test_a_ratio_may_move_a_little_and_not_fall() -> None:
    assert baseline.regressions({"a.one": 7.1, "a.two": 3.0}, ["a"], BEFORE) == []
    [fault] = baseline.regressions({"a.one": 6.9, "a.two": 1.0}, ["a"], BEFORE)
    assert fault == "a.one fell to 6.9; its baseline is 10"


def test_what_is_not_measured_or_not_known_is_said() -> None:
    faults = baseline.regressions({"a.one": 10.0, "a.new": 2.0}, ["a"], BEFORE)
    assert [fault.split()[0] for fault in faults] == ["a.new", "a.two"]
    assert len(baseline.regressions({}, ["a", "b"], BEFORE)) == 3


def test_the_baseline_names_benchmarks_that_are_run() -> None:
    from bench.__main__ import BENCHMARKS

    assert {name.partition(".")[0] for name in baseline.read()} <= set(BENCHMARKS)
    assert all(ratio > 0 for ratio in baseline.read().values())


def test_every_promise_has_a_ratio_that_is_measured() -> None:
    assert baseline.PROMISED.keys() <= baseline.read().keys()


def test_a_ratio_under_its_promise_is_said() -> None:
    [fault] = baseline.short_of_promises({"scheduling.claim.sqlite": 19.0, "scheduling.idle.sqlite": 1.5, "a.one": 0.1})
    assert fault == "scheduling.claim.sqlite is 19; 20 is promised"
