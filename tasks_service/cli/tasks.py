"""`tasks-service tasks`: a look at the tasks without going through HTTP, for the host's operator. Reads only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks_service.cli.invocation import JsonOption, cell, group, invocation, write, write_json, write_rows
from tasks_service.errors import NotFoundError

if TYPE_CHECKING:
    from sqlmodel import Session

    from tasks_service.database.models import Run, Task

group = group("tasks", "A look at the tasks; reads only.")

_COLUMNS = ("id", "chain", "export_index", "state", "reason", "next_run_at", "last_run_at", "desc")
_RUN_COLUMNS = ("id", "kind", "state", "reason", "occurrence", "attempts", "rows", "finished_at")


@group.command("list")
def list_(
    context: typer.Context,
    chain: Annotated[int | None, typer.Option(help="Only those of this chain.")] = None,
    state: Annotated[str | None, typer.Option(help="READY, INPROGRESS, DONE or ERROR.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest tasks."""
    from tasks_service.database import tasks

    filters = tasks.TaskFilters(chain=chain, state=state.upper() if state else None)
    found, _ = invocation(context).reading(lambda session: tasks.list_tasks(session, filters, limit=limit))
    write_rows(map(_row, found), _COLUMNS, as_json=as_json)


@group.command()
def show(
    context: typer.Context,
    task_id: Annotated[int, typer.Argument(min=1, help="The id of the task.")],
    as_json: JsonOption = False,
) -> None:
    """Show one task, deleted ones too, with its latest runs."""
    from tasks_service.database import runs, tasks

    def read(session: Session) -> tuple[Task, list[Run]]:
        task = tasks.get_task(session, task_id, chain=None, deleted=True)
        if task is None:
            raise NotFoundError(f"There is no task {task_id}; `tasks-service tasks list` shows them.")
        return task, runs.list_runs(session, task_id, limit=10)[0]

    task, latest = invocation(context).reading(read)
    details: dict[str, Any] = {
        **_row(task),
        "target": task.target,
        "trigger": task.trigger,
        "paused_at": task.paused_at,
        "deleted_at": task.deleted_at,
    }
    if as_json:
        write_json({**details, "runs": [_run_row(run) for run in latest]})
        return
    width = max(map(len, details)) + 2
    for name, value in details.items():
        write(f"{name + ':':{width}}{json.dumps(value) if isinstance(value, dict) else cell(value)}")
    write("")
    write_rows(map(_run_row, latest), _RUN_COLUMNS, as_json=False)


def _row(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "chain": task.chain,
        "export_index": task.export_index,
        "state": "paused" if task.paused_at else task.state,
        "reason": task.state_reason,
        "next_run_at": task.next_run_at,
        "last_run_at": task.last_run_at,
        "desc": task.desc,
    }


def _run_row(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _RUN_COLUMNS}
