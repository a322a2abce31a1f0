"""What /metrics answers: what the processes of this host counted, and how things stand in the database.

What lives here: putting both into Prometheus' text, and the scraper's own token. What does not: the HTTP around it, and
operators' tokens (api/monitoring.py, vitals.py). The counters are of this host, so one process of each host is to be
scraped; the gauges are of the whole database, and every host shows the same.
"""

from __future__ import annotations

import hmac
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from tasks_service import __version__, metrics
from tasks_service.config import MetricsSettings
from tasks_service.database.engine import Database
from tasks_service.database.standing import Standing, standing
from tasks_service.errors import DatabaseUnavailableError
from tasks_service.vitals import Answer

log = structlog.stdlib.get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(database: Database) -> bytes:
    """Return every metric in Prometheus' text format; without the database's gauges where it does not answer."""
    from prometheus_client import exposition as text_format

    answer: Any = _Families([*metrics.values.collect(metrics.ALL), *_gauges(database)])
    return text_format.generate_latest(answer)


def may_scrape(settings: MetricsSettings, authorization: str | None) -> bool:
    """Tell whether /metrics is open to all, or `Authorization` holds the scraper's own token."""
    if settings.access == "open":
        return True
    scheme, _, given = (authorization or "").partition(" ")
    if settings.token is None or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(), settings.token.get_secret_value().encode())


def answer(database: Database, settings: MetricsSettings, authorization: str | None) -> Answer:
    """Answer /metrics beside a scheduler or a worker, where no operator's token is looked up (vitals.py)."""
    if not may_scrape(settings, authorization):
        said = b"Send `Authorization: Bearer` with metrics.token, or set metrics.access to open.\n"
        return Answer(401, "text/plain", said)
    return Answer(200, CONTENT_TYPE, exposition(database))


class _Families:
    """What prometheus_client takes for a registry."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._families = list(families)

    def collect(self) -> list[Any]:
        return self._families


def _gauges(database: Database) -> list[Any]:
    version = {"version": __version__, "python": platform.python_version()}
    there = [({"process": kind}, count) for kind, count in sorted(metrics.values.processes().items())]
    families = [_gauge(metrics.BUILD_INFO, [(version, 1)]), _gauge(metrics.PROCESSES, there)]
    try:
        with database.read() as session:
            found = standing(session, now=database.now(session))
    except DatabaseUnavailableError as error:
        log.warning("metrics.database_unavailable", detail=error.detail)
        return [*families, _gauge(metrics.DATABASE_UP, [({}, 0)])]
    return [*families, _gauge(metrics.DATABASE_UP, [({}, 1)]), *_standing(found)]


def _standing(found: Standing) -> list[Any]:
    shown = _most(found)
    families = [
        _gauge(metrics.RUNS_QUEUED, _by_chain(found.queued, shown, sum)),
        _gauge(metrics.RUNS_RUNNING, _by_chain(found.running, shown, sum)),
        _gauge(metrics.OLDEST_QUEUED, _by_chain(found.waited_seconds, shown, max)),
    ]
    families.append(_gauge(metrics.BACKFILL_WAITING, [({}, found.backfill_waiting)]))
    if found.next_due_seconds is not None:
        families.append(_gauge(metrics.NEXT_DUE, [({}, found.next_due_seconds)]))
    return families


def _most(found: Standing) -> set[int]:
    """Return the chains that are shown by name: those with the most runs, so that every family shows the same."""
    runs = {
        chain: found.queued.get(chain, 0) + found.running.get(chain, 0) for chain in {*found.queued, *found.running}
    }
    return set(sorted(runs, key=lambda chain: (-runs[chain], chain))[: metrics.CHAINS_SHOWN])


def _by_chain(counts: Mapping[int, float], shown: set[int], together: Any) -> list[tuple[dict[str, str], float]]:  # noqa: ANN401 -- sum or max
    samples: list[tuple[dict[str, str], float]] = [
        ({"chain": str(chain)}, count) for chain, count in sorted(counts.items()) if chain in shown
    ]
    others = [count for chain, count in counts.items() if chain not in shown]
    return [*samples, ({"chain": "other"}, together(others))] if others else samples


def _gauge(metric: metrics.Gauge, samples: Iterable[tuple[Mapping[str, str], float]]) -> Any:  # noqa: ANN401
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in samples:
        family.add_metric([labels[name] for name in metric.labels], value)
    return family
