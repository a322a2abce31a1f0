"""What is counted and timed, one declaration each: name, meaning, labels.

What lives here: the list, which is what code counts by (`metrics.BEATS.count()`), what /metrics shows and what
docs/operations.md explains. What does not: where the values are kept (processes.py) and what /metrics answers
(scrape.py). Called by everyone; a call costs about two microseconds and never raises for a full disk.

Labels are bounded: states, slugs of errors and reasons, names of configured indices and destinations, templates of
routes. Never an id, never a text of somebody's. Chains are a label of three gauges alone, of at most so many
(`CHAINS_SHOWN`).
"""

from __future__ import annotations

from pathlib import Path

from tasks_service.metrics.kinds import Counter, Gauge, Histogram, Metric
from tasks_service.metrics.processes import values

CHAINS_SHOWN = 20
"""Gauges by chain show so many chains, those with the most; the others together are `chain="other"`."""

# Upper bounds in seconds. On time is milliseconds; after a downtime it may be hours.
_LATE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_WORK = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200)
_ANSWER = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

# -- the schedule ---------------------------------------------------------------------------------------------------

FIRING_LATENESS = Histogram("tasks_service_firing_lateness_seconds", "From an occurrence to its run.", bounds=_LATE)
RUNS_MADE = Counter(
    "tasks_service_runs_made_total",
    "Runs made, by kind.",
    ("kind",),
    starts=("schedule", "manual", "retry", "backfill"),
)
OCCURRENCES_NOT_RUN = Counter(
    "tasks_service_occurrences_not_run_total",
    "Occurrences that were not run, by reason.",
    ("reason",),
    starts=("misfire", "overlap", "queue_full", "paused", "catch_up_window", "catch_up_limit", "executed", "deleted"),
)
TICKS = Counter(
    "tasks_service_scheduler_ticks_total",
    "Looks at the task table, by outcome: ok, failed.",
    ("outcome",),
    starts=("ok", "failed"),
)
TASKS_PAUSED = Counter(
    "tasks_service_tasks_paused_total",
    "Schedules paused by the service, by reason.",
    ("reason",),
    starts=("failures", "client_removed", "scope_lost", "invalid_trigger"),
)

# -- runs and their attempts ----------------------------------------------------------------------------------------

START_DELAY = Histogram("tasks_service_start_delay_seconds", "From available to claimed.", bounds=_LATE)
CLAIMS = Counter("tasks_service_claims_total", "Runs claimed by workers.")
RESCUES = Counter("tasks_service_rescues_total", "Claims of runs whose lease had lapsed.")
RUNS_ENDED = Counter("tasks_service_runs_ended_total", "Runs that are final, by state and code.", ("state", "code"))
POISONED = Counter("tasks_service_poisoned_runs_total", "Runs given up because they lost too many workers.")
OFFERED_AGAIN = Counter("tasks_service_runs_offered_again_total", "Wake-ups that were lost and sent again.")
ATTEMPTS = Counter("tasks_service_attempts_total", "Attempts ended, by outcome and error code.", ("outcome", "code"))
FENCED_WRITES = Counter(
    "tasks_service_fenced_writes_total",
    "Writes of a worker that had lost its run; they changed nothing.",
    ("write",),
    starts=("beat", "object_name", "push", "published", "failed", "retried", "interrupted", "cancelled"),
)
CANCEL_DELAY = Histogram("tasks_service_cancel_delay_seconds", "From asked to cancelled.", bounds=_LATE)
BEATS = Counter(
    "tasks_service_beats_total",
    "Heartbeats, by outcome: ok, lost, failed.",
    ("outcome",),
    starts=("ok", "lost", "failed"),
)
EXPORT_SECONDS = Histogram(
    "tasks_service_export_seconds", "Published attempts, from start to end.", ("index", "format"), bounds=_WORK
)
EXPORT_ROWS = Counter("tasks_service_export_rows_total", "Rows published.", ("index", "format"))
EXPORT_BYTES = Counter("tasks_service_export_bytes_total", "Bytes published.", ("index", "format"))
PUSHES = Counter(
    "tasks_service_pushes_total",
    "Pushes to destinations, by outcome: pushed, failed, stopped.",
    ("destination", "outcome"),
)
PUSH_SECONDS = Histogram("tasks_service_push_seconds", "Pushes that came to their end.", ("destination",), bounds=_WORK)
PUSH_BYTES = Counter("tasks_service_push_bytes_total", "Bytes pushed to destinations.", ("destination",))
SWEPT = Counter(
    "tasks_service_swept_objects_total",
    "Objects deleted by the sweeper: orphan, parts, pushed, expired.",
    ("kind",),
    starts=("orphan", "parts", "pushed", "expired"),
)
SWEEPS = Counter(
    "tasks_service_sweeps_total",
    "Sweeps, and deletions that failed: ok, failed.",
    ("outcome",),
    starts=("ok", "failed"),
)

# -- processes -------------------------------------------------------------------------------------------------------

LOOP_TURNS = Counter("tasks_service_loop_turns_total", "Turns of the loops of this host's processes.", ("loop",))
LOOP_FAILURES = Counter(
    "tasks_service_loop_failures_total", "Turns that ended with an exception.", ("loop",), starts=("worker", "rescuer")
)
PROCESS_ENDS = Counter(
    "tasks_service_process_ends_total",
    "Children of `serve` that ended, restarts.",
    ("process",),
    starts=("web", "scheduler", "worker"),
)

# -- what is around them --------------------------------------------------------------------------------------------

HTTP_REQUESTS = Counter("tasks_service_http_requests_total", "HTTP answers.", ("method", "route", "status"))
HTTP_SECONDS = Histogram("tasks_service_http_request_seconds", "HTTP answers.", ("method", "route"), bounds=_ANSWER)
DATABASE_RETRIES = Counter("tasks_service_database_retries_total", "Transactions tried again.")
DATABASE_UNAVAILABLE = Counter(
    "tasks_service_database_unavailable_seconds_total", "Spent in transactions that the database failed."
)

# -- read when asked ------------------------------------------------------------------------------------------------

BUILD_INFO = Gauge("tasks_service_build_info", "1, with the version that answers.", ("version", "python"))
PROCESSES = Gauge("tasks_service_processes", "Processes of this host that are there, by kind.", ("process",))
DATABASE_UP = Gauge("tasks_service_database_up", "1 where the database answered this scrape, else 0.")
RUNS_QUEUED = Gauge("tasks_service_runs_queued", "Runs that are queued.", ("chain",))
RUNS_RUNNING = Gauge("tasks_service_runs_running", "Runs that are going.", ("chain",))
OLDEST_QUEUED = Gauge("tasks_service_oldest_queued_seconds", "How long the first in the queue has waited.", ("chain",))
BACKFILL_WAITING = Gauge("tasks_service_backfill_occurrences_waiting", "Occurrences of backfills without a run yet.")
NEXT_DUE = Gauge("tasks_service_next_due_seconds", "Until the next occurrence is due; negative: overdue.")

ALL: tuple[Metric, ...] = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
"""Every metric there is."""


def begin(state_directory: Path, process: str) -> None:
    """Let this process count where every process of its host can read it; called once by each, before its work.

    `process` is what it is: web, scheduler, worker, serve.
    """
    values.keep_in(state_directory, (one for one in ALL if not isinstance(one, Gauge)), process=process)
