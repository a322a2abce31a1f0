"""One attempt's push to its task's destination: noted in the database, then carried out.

What lives here is the meeting of destinations/ (which knows no database) and database/leases.py (which knows no
buckets). Called by runner.py, between the export and its publication.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlmodel import Session

from tasks_service.app import Services
from tasks_service.artifacts.sealing import Exported
from tasks_service.artifacts.writing import taking_back
from tasks_service.database import claims
from tasks_service.database.claims import Claim
from tasks_service.destinations.pushing import plan_push, push_files
from tasks_service.errors import LeaseLost
from tasks_service.order import ExportOrder
from tasks_service.progress import Progress, Report

Record = Callable[[str, Callable[[Session, datetime], bool]], bool]
"""Writes one fact about the claim, fenced by its token; False where it is another's run by now."""


def check_destination(services: Services, order: ExportOrder) -> None:
    """Raise DestinationGoneError or ZoneGoneError (its paths have dates) before anything is read for nothing."""
    if (wanted := order.target.get("destination")) is not None:
        order.local()
        services.destinations.get(wanted["name"], chain=order.chain)


def deliver(
    services: Services, claim: Claim, order: ExportOrder, exported: Exported, report: Report, record: Record
) -> Exported:
    """Push the files to the destination, where the task names one; the artifact says so then.

    Raises LeaseLost where the run is another's by now, and what `push_files` raises. The export's own objects are
    deleted then.
    """
    artifact, wanted = exported.artifact, order.target.get("destination")
    if artifact is None or wanted is None:
        return exported
    destinations, storage, database = services.destinations, services.storage, services.database
    with taking_back(storage) as committed:
        committed.objects += exported.objects
        destination = destinations.get(wanted["name"], chain=order.chain)
        push = plan_push(order, artifact, destination, destinations.settings[wanted["name"]].prefix)

        def note(document: dict[str, Any]) -> None:
            if not record("push", lambda session, _: claims.note_push(session, claim, document)):
                raise LeaseLost

        note(push.note)
        former = database.retrying(lambda session: claims.former_marks(session, claim))
        read = artifact["documents"]
        written = Progress(rows=read, total=read, bytes_written=artifact["bytes"])
        clock = partial(database.retrying, database.now)
        pushed = push_files(push, storage, destination, report, written, former, clock, note)
    return replace(exported, artifact=artifact | {"destination": pushed})
