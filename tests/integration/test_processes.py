"""The processes as an operator meets them: started, watched, restarted, drained, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import urllib3

from tasks_service import metrics
from tests import measured
from tests.acceptance.service import ROOT, Service
from tests.waiting import eventually

CHILDREN = {"web", "scheduler", "worker-1"}


GRACE = {"TASKS_WORKER__GRACE_SECONDS": "3", "TASKS_WEB__GRACEFUL_TIMEOUT_SECONDS": "3"}
Serving = tuple[Service, subprocess.Popen[bytes]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with installed(tmp_path) as service:
        yield service


@pytest.fixture
def serving(service: Service) -> Serving:
    return service, served(service)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One service for the tests that leave it running."""
    with installed(tmp_path_factory.mktemp("shared")) as service:
        yield service, served(service)


@contextmanager
def installed(directory: Path) -> Iterator[Service]:
    service = Service(directory, GRACE)
    (directory / "documents").mkdir()
    try:
        yield service
    finally:
        service.stop()
        # Where a test failed, children that outlived their supervisor must not outlive the test.
        for pid in running({pid for pids in started(service).values() for pid in pids}):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def served(service: Service) -> subprocess.Popen[bytes]:
    service.migrate()
    process = service.start("serve")
    eventually(lambda: answers(service), timeout=120, what="the web process answers")
    eventually(lambda: started(service).keys() >= CHILDREN, what="every child was started")
    return process


def answers(service: Service) -> bool:
    try:
        return urllib3.request("GET", f"{service.url}/healthz", retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def events(service: Service, name: str) -> list[dict[str, object]]:
    return [event for event in service.events() if event.get("event") == name]


def started(service: Service) -> dict[str, list[int]]:
    """Child -> the pids it has had."""
    found: dict[str, list[int]] = {}
    for event in events(service, "process.started"):
        found.setdefault(str(event["child"]), []).append(int(str(event["pid"])))
    return found


def descendants(root: int) -> set[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parent_of = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    found, more = set[int](), {root}
    while more:
        more = {pid for pid, parent in parent_of.items() if parent in more} - found
        found |= more
    return found


def running(pids: set[int]) -> set[int]:
    """The pids of which a process still runs; one that only waits to be reaped does not."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    states = {int(pid): state for pid, state in (line.split() for line in listed.splitlines())}
    return {pid for pid in pids if pid in states and not states[pid].startswith("Z")}


def seen(service: Service) -> list[str]:
    """The kinds of the processes that say they are there."""
    listed = json.loads(service.command("processes", "--json").stdout)
    assert not any(row["late"] for row in listed)
    return sorted(row["kind"] for row in listed)


def test_serve_starts_every_process_and_drains_at_sigterm(serving: Serving) -> None:
    service, process = serving
    family = descendants(process.pid)
    assert len(family) >= 4  # web with its gunicorn worker, scheduler, worker
    eventually(lambda: seen(service) == ["scheduler", "web", "worker"], timeout=60, what="every process is seen")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert running(family) == set()
    assert events(service, "process.drained")
    assert not events(service, "process.killed")
    assert seen(service) == []
    assert {event["process"] for event in service.events()} >= {"serve", "web", "scheduler", "worker"}


def test_ctrl_c_drains_too(serving: Serving) -> None:
    service, process = serving
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    assert process.wait(60) == 0
    assert not events(service, "process.stopped_at_once")


def test_a_run_that_goes_is_finished_within_the_grace(service: Service) -> None:
    service.environment["TASKS_WORKER__GRACE_SECONDS"] = "100"
    service.command("sample", "files", "--rows", "30000", "--index", "products")
    process = served(service)
    api = service.api(1764)
    target = {"action": "export", "export_index": "products", "export_format": "csv"}
    task = api.create({"chain": 1764, "target": target, "trigger": {"once": "2026-05-26T12:00:00Z"}})
    eventually(lambda: api.task(task["id"])["state"]["code"] != "READY", every=0.01, what="the run goes")
    process.terminate()
    assert process.wait(120) == 0
    shown = json.loads(service.command("tasks", "show", str(task["id"]), "--json").stdout)
    assert (shown["state"], [run["state"] for run in shown["runs"]]) == ("DONE", ["done"])
    assert shown["runs"][0]["rows"] > 20_000


def test_children_end_when_the_supervisor_is_killed(serving: Serving) -> None:
    _, process = serving
    family = descendants(process.pid)
    process.kill()
    process.wait(10)
    eventually(lambda: not running(family), timeout=60, what="every descendant has ended")


@pytest.mark.parametrize("command", ["serve", "web", "scheduler", "worker"])
def test_a_database_without_tables_is_refused_with_what_to_run(service: Service, command: str) -> None:
    refused = service.command(command, check=False)
    assert refused.returncode == 2
    assert "tasks-service db upgrade" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""


def test_a_schema_of_another_version_is_refused_with_what_to_run(service: Service) -> None:
    service.command("db", "upgrade")
    with closing(sqlite3.connect(service.directory / "tasks.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = service.command("serve", check=False)
    assert refused.returncode == 2
    assert "9999" in refused.stderr
    assert "Install the version of the service that made it." in refused.stderr


def test_a_port_that_is_taken_ends_serve_with_a_sentence(service: Service) -> None:
    service.migrate()
    with socket.create_server(("127.0.0.1", service.port)):
        refused = service.command("serve", check=False)
    assert refused.returncode == 2
    assert f"Cannot listen on 127.0.0.1 port {service.port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_misspelt_setting_is_refused_before_anything_starts(service: Service) -> None:
    service.environment["TASKS_WEB__PROT"] = "1"
    refused = service.command("serve", check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "tasks-service: TASKS_WEB__PROT: there is no such setting; did you mean TASKS_WEB__PORT?\n"


def test_web_tells_where_it_listens_and_may_choose_the_port(service: Service) -> None:
    service.migrate()
    service.start("web", TASKS_WEB__PORT="0")
    [listening] = eventually(lambda: events(service, "web.listening"), timeout=60)
    url = str(listening["url"])
    assert not url.endswith(":0")
    eventually(lambda: urllib3.request("GET", f"{url}/healthz", timeout=30).status == 200)


def test_the_log_holds_no_query_and_no_link(shared: Serving) -> None:
    service, _ = shared
    secret = "c2VjcmV0LWxpbms.aGlkZGVuLXBhcnQ"
    for path in (
        f"/files/{secret}/a.csv",
        f"/%66iles/{secret}/a.csv",
        f"/tasks?cursor={secret}",
        f"/nowhere?x={secret}",
    ):
        urllib3.request("GET", service.url + path, headers={"Authorization": f"Bearer tok_1:{secret}"}, timeout=30)
    eventually(lambda: [e for e in events(service, "web.request") if e["path"] == "/nowhere"])
    text = service.log.read_text()
    assert secret not in text
    assert "/files/[" in text
    assert len([e for e in events(service, "web.request") if e["path"] in {"/tasks", "/nowhere"}]) == 2


def test_the_process_list_holds_no_secret(shared: Serving) -> None:
    _, process = shared
    family = {process.pid, *descendants(process.pid)}
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    shown = [rest[0] for pid, *rest in lines if int(pid) in family and rest]
    assert len(shown) >= 5
    assert not [line for line in shown if "sqlite" in line or "SECRET" in line]


def test_killed_children_are_started_again(shared: Serving) -> None:
    service, process = shared
    before = {child: pids[-1] for child, pids in started(service).items()}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for child, pid in before.items():
        eventually(lambda child=child, pid=pid: started(service)[child][-1] != pid, what=f"{child} is started again")
    eventually(lambda: answers(service), timeout=120, what="the web process answers again")
    assert process.poll() is None
    codes = {event["pid"]: event["code"] for event in events(service, "process.ended")}
    assert {codes[pid] for pid in before.values()} == {-signal.SIGKILL}
    counted = measured.by_installation(service.directory / "state")
    assert all(counted.of(metrics.PROCESS_ENDS, process=kind) >= 1 for kind in ("web", "scheduler", "worker"))


# -- the supervisor alone -----------------------------------------------------------------------------------------

SUPERVISE = """
import json, os, sys
from tasks_service import telemetry
from tasks_service.supervisor import Child, Supervisor
telemetry.configure(log_format="json", level="info", process="test")
commands = json.loads(sys.argv[1])
children = [Child(f"child-{n}", (sys.executable, "-c", code)) for n, code in enumerate(commands)]
sys.exit(Supervisor(children, grace_seconds=float(sys.argv[2]), environ=os.environ).run())
"""
WAITS = "import signal; print('up', flush=True); signal.pause()"
DEAF = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)


def supervise(*commands: str, grace: float = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, json.dumps(commands), str(grace)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_child_that_refuses_its_configuration_ends_the_whole() -> None:
    process = supervise(WAITS, "import sys; sys.exit(2)", grace=20)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert '"restart_seconds"' in output
    assert "process.drained" in output


def test_a_child_that_does_not_drain_is_killed_after_the_grace() -> None:
    process = supervise(DEAF, grace=-4.5)  # the margin of five seconds less nearly all of it
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("up") for line in lines)
    process.terminate()
    output = "".join(lines)
    process.stdout.close()
    assert process.wait(60) == 1
    assert "process.killed" in output


def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    process = supervise(DEAF, grace=600)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("up") for line in lines)
    process.terminate()
    assert any("process.draining" in line for line in lines)
    process.terminate()
    output = "".join(lines)
    process.stdout.close()
    assert process.wait(60) == 1
    assert "process.impatient" in output


STOPPED = """
import sys, threading
from tasks_service.supervisor import stopped_by_signals
with stopped_by_signals() as stop:
    print("ready", flush=True)
    stop.wait()
    print("stopping", flush=True)
    threading.Event().wait()
"""


def test_the_first_signal_asks_and_the_second_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(line == "ready\n" for line in lines)
    process.send_signal(signal.SIGINT)
    assert any(line == "stopping\n" for line in lines)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    process.stdout.close()
