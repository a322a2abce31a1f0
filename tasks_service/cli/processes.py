"""The processes: `serve` with all of them under one supervisor, each alone, and the list of those there are.

What lives here: the main function of each process: settings, log, schema check, signals, work. What does not: the
work (scheduler.py, runner.py, api/) and the HTTP server (web_server.py). With `--supervised` a process ends when its
standard input closes, which is how it learns that its supervisor is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tasks_service import metrics, scrape
from tasks_service.app import Services
from tasks_service.cli.invocation import Invocation, JsonOption, invocation, write_rows
from tasks_service.loops import Loops
from tasks_service.presence import Doing, Presence, idle
from tasks_service.supervisor import Child, Supervisor, stopped_by_signals, watch_parent
from tasks_service.vitals import VitalsServer

if TYPE_CHECKING:
    from sqlmodel import Session

    from tasks_service.database.processes import Kind

_COLUMNS = ("name", "kind", "state", "run", "version", "started_at", "seen_at", "late")

Supervised = Annotated[
    bool, typer.Option("--supervised", hidden=True, help="End when standard input closes: the parent is gone.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(serve)
    app.command()(web)
    app.command()(scheduler)
    app.command()(worker)
    app.command()(processes)


def serve(
    context: typer.Context,
    workers: Annotated[
        int | None, typer.Option(min=0, max=256, help="Worker processes; else worker.processes of the settings.")
    ] = None,
    supervised: Supervised = False,
) -> None:
    """Run everything: web, scheduler and workers as separate processes, restarted when they die.

    SIGTERM or Ctrl-C drains: no new work, what runs is finished or handed back within the grace.
    """
    call = invocation(context)
    _begin(call, "serve", supervised)
    metrics.begin(call.settings.service.state_directory, "serve")
    count = call.settings.worker.processes if workers is None else workers
    grace = max(call.settings.worker.grace_seconds, call.settings.web.graceful_timeout_seconds)
    children = _children(call.settings.vitals.port, count)
    raise typer.Exit(Supervisor(children, grace_seconds=grace, environ=call.environ()).run())


def _children(vitals_port: int, workers: int) -> list[Child]:
    """Return the processes of `serve`; each but web, which has a port already, gets a port for its vitals."""
    command = (sys.executable, "-m", "tasks_service")
    names = ["scheduler", *(f"worker-{number}" for number in range(1, workers + 1))]
    children = [Child("web", (*command, "web", "--supervised"))]
    for place, name in enumerate(names):
        port = str(vitals_port + place if vitals_port else 0)
        arguments = (*command, name.partition("-")[0], "--supervised")
        children.append(Child(name, arguments, {"TASKS_VITALS__PORT": port}))
    return children


def web(context: typer.Context, supervised: Supervised = False) -> None:
    """Answer HTTP: gunicorn with threads."""
    call = invocation(context)
    # Not watched here: gunicorn forks, and a thread must not stand by; its workers watch instead.
    _begin(call, "web", supervised=False)
    from tasks_service.cli import web_server

    web_server.serve(call.settings, supervised=supervised)


def scheduler(context: typer.Context, supervised: Supervised = False) -> None:
    """Turn due occurrences into runs. Any number may run at once."""
    call = invocation(context)
    _begin(call, "scheduler", supervised, grace_seconds=call.settings.worker.grace_seconds)
    from tasks_service.rescuer import rescue
    from tasks_service.schedule import Limits, Planner
    from tasks_service.scheduler import Scheduler
    from tasks_service.zone_changes import EVERY_SECONDS, follow_zones

    metrics.begin(call.settings.service.state_directory, "scheduler")
    services = call.services()
    clock = Scheduler(services.database, services.executor, services.settings)
    with stopped_by_signals() as stop, _watched(services) as loops, _present(services, "scheduler", loops):
        clock.start()
        loops.ask("scheduler", clock.alive)
        mover = Planner(Limits.of(call.settings.scheduler))
        loops.start("zones", partial(follow_zones, services.database, mover), every_seconds=EVERY_SECONDS)
        if call.settings.executor.kind != "table":
            look = partial(rescue, services.database, services.executor, call.settings.limits.running_per_chain)
            loops.start("rescuer", look, every_seconds=call.settings.executor.rescue_interval_seconds)
        try:
            stop.wait()
        finally:
            loops.stop()
            clock.stop()
            services.close()


def worker(context: typer.Context, supervised: Supervised = False) -> None:
    """Carry out runs, one at a time. Any number may run at once."""
    call = invocation(context)
    _begin(call, "worker", supervised, grace_seconds=call.settings.worker.grace_seconds)
    from tasks_service.beater_link import BeaterLink

    with closing(BeaterLink(call.settings)) as beater:  # it starts while this process imports the rest
        from tasks_service.runner import Worker

        metrics.begin(call.settings.service.state_directory, "worker")
        services = call.services()
        with stopped_by_signals() as stop, _watched(services) as loops:
            works = Worker(services, loops=loops, beater=beater)
            try:
                with _present(services, "worker", loops, works.doing):
                    beater.wait_until_ready(stop)
                    works.run(stop)
            finally:
                services.close()


def processes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the service's processes on all hosts: what they do, and when they were last seen.

    One that ends as it should leaves the list; LATE are those not seen for half a minute.
    """
    call = invocation(context)
    from tasks_service.database import processes as rows

    def read(session: Session) -> list[dict[str, object]]:
        now = call.database.now(session)
        return [
            {**process.model_dump(), "run": process.run_id, "late": rows.is_late(process, now=now)}
            for process in rows.all_processes(session)
        ]

    write_rows(call.reading(read), _COLUMNS, as_json=as_json)


@contextmanager
def _present(services: Services, kind: Kind, loops: Loops, doing: Doing = idle) -> Generator[None]:
    """Let this process be listed for as long as it works."""
    presence = Presence(services.database, kind, doing)
    presence.begin(loops)
    try:
        yield
    finally:
        presence.end()


@contextmanager
def _watched(services: Services) -> Generator[Loops]:
    """Let the loops of this process be watched: over HTTP, and by a thread that ends a process whose loop is dead."""
    loops = Loops()
    vitals = VitalsServer(services.settings.vitals, loops)
    vitals.register("/metrics", partial(scrape.answer, services.database, services.settings.metrics))
    vitals.start()
    loops.end_process_when_dead()
    try:
        yield loops
    finally:
        loops.stop()
        vitals.stop()


def _begin(call: Invocation, process: str, supervised: bool, grace_seconds: float | None = None) -> None:
    """Do what every process does first: settings, log, the bond with the parent, the schema."""
    call.log_as(process)
    if supervised:
        watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM), grace_seconds=grace_seconds)
    call.ready_database().dispose()
