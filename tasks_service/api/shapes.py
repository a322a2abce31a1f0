"""Rows as the documents the contract shows. Pure: rows in, JSON values out; schemas.py says what comes out.

What lives here is every place where a stored row becomes something a caller sees, so that what must not be seen (the
place of an object in the storage, a lease, a worker's queue) is left out once. Called by the routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from segments import Field, operators_for
from tasks_service.api.stretches import Stretch
from tasks_service.artifacts import is_split
from tasks_service.database.backfills import Progress
from tasks_service.database.clients import Principal
from tasks_service.database.models import Attempt, Backfill, Client, Event, Run, SavedSegment, SegmentVersion, Task

Document = dict[str, Any]


def moment(value: datetime) -> str:
    """Return an instant as the contract writes it: UTC, whole seconds, `2026-05-26T12:00:00Z`."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def moment_or_none(value: datetime | None) -> str | None:
    """Return an instant as the contract writes it, or None."""
    return None if value is None else moment(value)


def state(task: Task) -> Document:
    """Return where a task stands: the bare state object."""
    return {
        "code": task.state,
        "reason": task.state_reason,
        "last_run_date": moment_or_none(task.last_run_at),
        "last_modified": moment(task.modified_at),
        "created_date": moment(task.created_at),
        "next_run_date": None if task.paused_at is not None else moment_or_none(task.next_run_at),
    }


def listed_task(task: Task, author: Client | Principal | None, result_run: Run | None) -> Document:
    """Return a task without its log."""
    paused = None
    if task.paused_at is not None:
        paused = {"since": moment(task.paused_at), "note": task.paused_note, "reason": task.paused_reason}
    return {
        "id": task.id,
        "chain": task.chain,
        "desc": task.desc,
        "created_by": _author(task.client_id, author),
        "state": state(task),
        "paused": paused,
        "target": task.target,
        "trigger": {name: value for name, value in task.trigger.items() if value is not None},
        "debug": None,
        "version": task.version,
        "result": result(result_run) if task.state == "DONE" else None,
    }


def full_task(
    task: Task, author: Client | Principal | None, result_run: Run | None, events: Sequence[Event]
) -> Document:
    """Return a task with its newest log entries."""
    return listed_task(task, author, result_run) | {"logs": [log_entry(event) for event in events]}


def log_entry(event: Event) -> Document:
    """Return one entry of a log."""
    return {
        "time": moment(event.time),
        "level": event.level,
        "event": event.event,
        "message": event.message,
        "run": event.run_id,
    }


def result(run: Run | None) -> Document | None:
    """Return the file of a run, or None where it published none. Where it lies in the storage is nobody's business."""
    if run is None or run.artifact is None:
        return None
    artifact = run.artifact
    return {
        "run": run.id,
        "file_name": artifact["file_name"],
        "format": artifact["format"],
        "compression": artifact["compression"],
        "records_count": artifact["rows"],
        "documents_count": artifact.get("documents", artifact["rows"]),
        "bytes": artifact["bytes"],
        "sha256": artifact.get("sha256"),
        "crc32c": artifact.get("crc32c"),
        "archive": artifact.get("archive"),
        "files": _files(artifact),
        "suspicious_cells": artifact.get("suspicious_cells", 0),
        "snapshot_at": moment(datetime.fromisoformat(artifact["snapshot_at"])),
        "expires_at": moment_or_none(run.expires_at),
        "destination": _pushed(artifact.get("destination")),
    }


def _pushed(document: Document | None) -> Document | None:
    if document is None:
        return None
    return document | {"pushed_at": moment(datetime.fromisoformat(document["pushed_at"]))}


def _files(artifact: Document) -> list[Document] | None:
    if not is_split(artifact):
        return None
    shown = ("file_name", "bytes", "sha256", "crc32c")
    return [{name: file[name] for name in shown} | {"records_count": file["rows"]} for file in artifact["files"]]


def full_run(run: Run, attempts: Sequence[Attempt], events: Sequence[Event]) -> Document:
    """Return a run with its attempts and its log."""
    return {
        "id": run.id,
        "task": run.task_id,
        "kind": run.kind,
        "state": run.state,
        "reason": run.reason,
        "detail": run.detail,
        "occurrence": moment(run.occurrence),
        "repeats": run.repeats_run_id,
        "backfill": run.backfill_id,
        "created_date": moment(run.created_at),
        "started_date": moment_or_none(run.started_at),
        "finished_date": moment_or_none(run.finished_at),
        "cancel_requested": run.cancel_requested_at is not None,
        "segment": _segment_used(run.definition["trigger"]),
        "attempts": [_attempt(one) for one in attempts],
        "events": [log_entry(event) for event in events],
        "progress": {
            "rows": run.rows,
            "total": run.total,
            "bytes": run.bytes_written,
            "updated_at": moment_or_none(run.progress_at),
            "started_over": run.started_over,
        },
        "query": run.query,
        "artifact": result(run),
    }


def occurrence(instant: datetime, stretch: Stretch | None, runs: Sequence[Run], *, whole: bool) -> Document:
    """Return what became of an occurrence; of a whole stretch of them where nothing else is known."""
    return {
        "occurrence": moment(instant),
        "outcome": "run" if stretch is None else stretch.outcome,
        "reason": None if stretch is None else stretch.reason,
        "until": moment(stretch.last) if stretch is not None and whole else None,
        "count": stretch.count if stretch is not None and whole else 1,
        "runs": [
            {"id": one.id, "kind": one.kind, "state": one.state, "reason": one.reason, "backfill": one.backfill_id}
            for one in runs
        ],
    }


def backfill(one: Backfill, progress: Progress, author: Client | Principal | None) -> Document:
    """Return a backfill with where its occurrences are."""
    return {
        "id": one.id,
        "task": one.task_id,
        "state": one.state,
        "reason": one.reason,
        "start": moment(one.start_at),
        "end": moment(one.end_at),
        "reprocess": one.reprocess,
        "concurrency": one.concurrency,
        "created_by": _author(one.client_id, author),
        "created_date": moment(one.created_at),
        "finished_date": moment_or_none(one.finished_at),
        "progress": asdict(progress),
    }


def field(one: Field) -> Document:
    """Return a field rules may ask, with the operators that get an exact answer from it."""
    return {"name": one.name, "type": one.type, "operators": operators_for(one), "nested": one.nested}


def saved_segment(segment: SavedSegment, newest: SegmentVersion, author: Client | Principal | None) -> Document:
    """Return a saved segment as its newest version has it."""
    return {
        "id": segment.id,
        "chain": segment.chain,
        "name": newest.name,
        "version": newest.version,
        "segment": newest.document,
        "created_by": _author(segment.client_id, author),
        "created_date": moment(segment.created_at),
        "last_modified": moment(newest.created_at),
    }


def segment_version(version: SegmentVersion, author: Client | Principal | None) -> Document:
    """Return one version of a saved segment."""
    return {
        "id": version.segment_id,
        "version": version.version,
        "name": version.name,
        "segment": version.document,
        "created_by": _author(version.client_id, author),
        "created_date": moment(version.created_at),
    }


def _author(client_id: str, author: Client | Principal | None) -> Document:
    return {
        "type": "operator" if author is not None and author.chain is None else "client",
        "id": client_id,
        "name": author.name if author is not None else client_id,
    }


def _segment_used(trigger: Document) -> Document | None:
    if trigger.get("segment_version") is None:
        return None
    return {"id": trigger["segment_id"], "version": trigger["segment_version"]}


def _attempt(attempt: Attempt) -> Document:
    return {
        "number": attempt.number,
        "started_at": moment(attempt.started_at),
        "ended_at": moment_or_none(attempt.ended_at),
        "outcome": attempt.outcome,
        "code": attempt.code,
        "detail": attempt.detail,
    }
