"""What was counted, for tests: of this process, of every process of an installation, or as /metrics said it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tasks_service import metrics
from tasks_service.metrics.processes import directory_of, read

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Counted:
    """Samples by name and labels; what never moved is 0."""

    samples: dict[Key, float]

    def of(self, metric: metrics.Metric, suffix: str = "", **labels: str) -> float:
        """The value of a metric under these labels; for a histogram give `_count` or `_sum`."""
        return self.samples.get((metric.name + suffix, frozenset(labels.items())), 0.0)

    def total(self, metric: metrics.Metric, suffix: str = "", **labels: str) -> float:
        """The sum over every label that is not given."""
        wanted = frozenset(labels.items())
        return sum(v for (name, found), v in self.samples.items() if name == metric.name + suffix and wanted <= found)

    def names(self) -> set[str]:
        """The names of everything that was sampled."""
        return {name for name, _ in self.samples}


def _counted(families: Iterable[Any]) -> Counted:
    return Counted({(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples})


def by_this_process() -> Counted:
    """What this process counted in its memory."""
    return _counted(metrics.values.collect(metrics.ALL))


def by_installation(state_directory: Path) -> Counted:
    """What all processes of an installation on this host counted, dead ones too: for a checker that only reads."""
    return _counted(read(directory_of(state_directory)))


def said(text: str) -> Counted:
    """What an answer of /metrics says."""
    return _counted(text_string_to_metric_families(text))


@dataclass
class Moved:
    """What moved in this process since a block was entered."""

    before: Counted

    def of(self, metric: metrics.Metric, suffix: str = "", **labels: str) -> float:
        return by_this_process().of(metric, suffix, **labels) - self.before.of(metric, suffix, **labels)

    def total(self, metric: metrics.Metric, suffix: str = "", **labels: str) -> float:
        return by_this_process().total(metric, suffix, **labels) - self.before.total(metric, suffix, **labels)


@contextmanager
def moving() -> Iterator[Moved]:
    yield Moved(by_this_process())
