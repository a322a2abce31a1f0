"""GET .../download_url and .../manifest_url: links to what a run published, made on the spot.

Each is pinned to its object's generation. A link is never stored and never logged: what is logged is who asked for
which run's. Whether there is a file to link to is decided here; the signature is the storage's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.problems import MembersError
from tasks_service.api.runs import find_run
from tasks_service.api.tasks import find_task
from tasks_service.artifacts import Linked, file_links, manifest_link
from tasks_service.database import shown
from tasks_service.database.models import Run, Task
from tasks_service.errors import GoneError
from tasks_service.storage import LINKS_AT_ONCE, SignedUrl

log = structlog.stdlib.get_logger(__name__)


class NotDoneError(MembersError):
    """Only what is DONE has a file to link to; `state` tells where it stands."""

    code = "not_done"


class NoFileError(MembersError):
    """The run found no rows, and the task wants no file then (`on_empty: skip`)."""

    code = "no_file"


class NoManifestError(MembersError):
    """The run is of a version that wrote no manifests; repeat it for one."""

    code = "no_manifest"


@dataclass(frozen=True)
class _Published:
    """What a run published, and is still there to be downloaded."""

    run: Run
    task: Task
    artifact: dict[str, Any]
    expires_at: datetime
    now: datetime


def get_task_download_url(call: Call) -> Reply:
    """Answer a link to the file of the run that made the task DONE."""
    return _file(call, _of_task(call))


def get_run_download_url(call: Call) -> Reply:
    """Answer a link to the file of one run."""
    return _file(call, _of_run(call))


def get_task_manifest_url(call: Call) -> Reply:
    """Answer a link to the manifest beside the file of the run that made the task DONE."""
    return _manifest(call, _of_task(call))


def get_run_manifest_url(call: Call) -> Reply:
    """Answer a link to the manifest beside the file of one run."""
    return _manifest(call, _of_run(call))


def _of_task(call: Call) -> _Published:
    with call.services.database.read() as session:
        task = find_task(call, session, deleted=True)
        now = call.services.database.now(session)
        if task.deleted_at is not None:
            raise GoneError
        if task.state != "DONE" or task.result_run_id is None:
            latest = shown.latest_published(session, call.path["task_id"])
            raise NotDoneError(
                f"The task is {task.state}, not DONE; poll it until it is. The file of an earlier run, where there is "
                "one, is at /runs/{run}/download_url.",
                state=shapes.state(task),
                run=latest.id if latest is not None else None,
            )
        run = shown.runs_by_id(session, [task.result_run_id])[task.result_run_id]
    return _published(run, task, now)


def _of_run(call: Call) -> _Published:
    with call.services.database.read() as session:
        run, task = find_run(call, session)
        now = call.services.database.now(session)
    if task.deleted_at is not None:
        raise GoneError
    if run.state != "done":
        detail = f"The run is {run.state}; only a run that is done has a file."
        raise NotDoneError(detail, state=shapes.state(task), run=run.id)
    return _published(run, task, now)


def _published(run: Run, task: Task, now: datetime) -> _Published:
    if run.artifact is None:
        raise NoFileError(NoFileError.__doc__ or "", state=shapes.state(task), run=run.id)
    if run.file_deleted_at is not None or run.expires_at is None or run.expires_at <= now:
        raise GoneError
    return _Published(run, task, run.artifact, run.expires_at, now)


def _file(call: Call, published: _Published) -> Reply:
    artifact = published.artifact
    files = file_links(artifact)
    with ThreadPoolExecutor(min(LINKS_AT_ONCE, len(files)), thread_name_prefix="link") as threads:
        signed = threads.map(partial(_sign, call, published), files)
        links = [_answer(file, link) | {"records_count": file.rows} for file, link in zip(files, signed, strict=True)]
    answer: dict[str, Any] = {**links[0], "files": None}
    if artifact.get("object") is None:
        # No link at the top: whoever knows of one file only must not take the first for everything.
        answer = {
            "url": None,
            "expires_at": links[0]["expires_at"],
            "file_name": artifact["file_name"],
            "bytes": artifact["bytes"],
            "sha256": None,
            "records_count": artifact["rows"],
            "files": links,
        }
    log.info("link.made", run_id=published.run.id, task_id=published.run.task_id, client=call.principal.client_id)
    return Reply(answer)


def _manifest(call: Call, published: _Published) -> Reply:
    linked = manifest_link(published.artifact)
    if linked is None:
        raise NoManifestError(NoManifestError.__doc__ or "", state=shapes.state(published.task), run=published.run.id)
    answer = _answer(linked, _sign(call, published, linked))
    log.info(
        "link.made",
        what="manifest",
        run_id=published.run.id,
        task_id=published.run.task_id,
        client=call.principal.client_id,
    )
    return Reply(answer)


def _sign(call: Call, published: _Published, linked: Linked) -> SignedUrl:
    # A link that outlives its file would only promise what it cannot keep.
    link_seconds = timedelta(seconds=call.services.settings.storage.link_seconds)
    lifetime = min(link_seconds, published.expires_at - published.now)
    return call.services.storage.sign(
        linked.stored,
        file_name=linked.file_name,
        content_type=linked.content_type,
        lifetime=max(timedelta(seconds=int(lifetime.total_seconds())), timedelta(seconds=1)),
    )


def _answer(linked: Linked, signed: SignedUrl) -> dict[str, Any]:
    return {
        "url": signed.url,
        "expires_at": shapes.moment(signed.expires_at),
        "file_name": linked.file_name,
        "bytes": linked.stored.size,
        "sha256": linked.sha256,
    }
