"""The kinds of metrics: counters and histograms that code moves, gauges that are read when somebody asks.

A declaration is plain data; the value behind it is made at its first use (processes.py), so that nothing happens at
import. Called by everyone through the declarations of `tasks_service.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tasks_service.metrics.processes import values


@dataclass(frozen=True)
class Metric:
    """A name as Prometheus has it, what it means in a few words, and the names of its labels.

    `starts` are values of the one label that are shown as 0 before they first move: what appears with 1 has not
    increased, as Prometheus sees it, and no alert on a first time would ever come.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    starts: tuple[str, ...] = field(default=(), kw_only=True)

    def make(self, registry: Any) -> Any:  # noqa: ANN401 -- prometheus_client is imported where it is used
        """Make the value behind it, in this process; gauges have none."""
        raise NotImplementedError(f"{self.name} is kept by no process")


@dataclass(frozen=True)
class Counter(Metric):
    """Something that is counted; it only grows."""

    def count(self, amount: float = 1, /, **labels: str) -> None:
        """Add to it, under exactly its labels."""
        values.of(self, labels).inc(amount)

    def make(self, registry: Any) -> Any:  # noqa: ANN401
        """Make the value behind it, in this process."""
        from prometheus_client import Counter as Kind

        return Kind(self.name, self.meaning, self.labels, registry=registry)


@dataclass(frozen=True)
class Histogram(Metric):
    """Seconds: how often they were at most each of the bounds, and their sum."""

    bounds: tuple[float, ...] = field(kw_only=True)

    def observe(self, seconds: float, /, **labels: str) -> None:
        """Note a duration, under exactly its labels; what two clocks show as less than nothing counts as nothing."""
        self.observe_each([seconds], **labels)

    def observe_each(self, durations: Iterable[float], /, **labels: str) -> None:
        """Note many durations, as `observe` does one."""
        note = values.of(self, labels).observe
        for seconds in durations:
            note(max(seconds, 0.0))

    def make(self, registry: Any) -> Any:  # noqa: ANN401
        """Make the value behind it, in this process."""
        from prometheus_client import Histogram as Kind

        return Kind(self.name, self.meaning, self.labels, buckets=self.bounds, registry=registry)


@dataclass(frozen=True)
class Gauge(Metric):
    """Something that goes up and down: read when /metrics is asked (scrape.py), kept by no process."""
