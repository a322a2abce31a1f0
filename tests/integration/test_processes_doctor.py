"""The doctor against real parts: what is well, what is wrong, and in which words."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from sqlmodel import select

from tasks_service.database import processes
from tasks_service.database.models import Process
from tasks_service.database.processes import Identity, Kind
from tests.acceptance.service import Service, free_port, running
from tests.command_line import Command, Ended, in_process
from tests.databases import connect
from tests.waiting import eventually

GIB = 1024**3


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Commands in an empty directory, with an address nobody listens on."""
    with in_process(tmp_path, monkeypatch, capsys) as call:
        monkeypatch.setenv("TASKS_SERVICE__PUBLIC_URL", f"http://127.0.0.1:{free_port()}")
        yield call


@pytest.fixture
def installed(command: Command) -> Command:
    assert command("db", "upgrade").code == 0
    return command


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> str:
    """The database of `well`; asked for before its commands are, which take away how tests find their servers."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgresql_database")()


@pytest.fixture
def well(where: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """An installation on either database with which nothing is wrong; no process of it runs."""
    if where:
        monkeypatch.setenv("TASKS_DATABASE__URL", where)
    monkeypatch.setenv("TASKS_INDICES", '{"products": {"file_prefix": "Product", "source": "products"}}')
    assert command("db", "upgrade").code == 0
    assert command("sample", "files", "--rows", "5", "--index", "products").code == 0
    return command


def said(ended: Ended, part: str) -> list[tuple[str, str]]:
    """What the doctor found about a part."""
    findings: list[dict[str, Any]] = json.loads(ended.out)["findings"]
    return [(one["verdict"], one["detail"]) for one in findings if one["part"] == part]


def seen(where: str, kind: Kind, host: str, *, ago: float) -> None:
    """Write what a process said of itself so many seconds ago."""
    database = connect(where or "sqlite:///var/tasks.db")
    with database.write() as session:
        now = database.now(session) - timedelta(seconds=ago)
        processes.seen(session, Identity(f"{host}:7", kind, host, 7, "1.0"), now=now, state="idle")
    database.dispose()


def test_sample_files_are_what_the_doctor_looks_for(installed: Command) -> None:
    before = installed("doctor", "--json")
    assert before.code == 1
    verdicts = {finding["part"]: finding["verdict"] for finding in json.loads(before.out)["findings"]}
    assert (verdicts["source"], verdicts["index products"]) == ("wrong", "skipped")
    assert installed("sample", "files", "--rows", "20").code == 0
    after = installed("doctor", "--json")
    found = {finding["part"]: finding for finding in json.loads(after.out)["findings"]}
    assert {part for part, finding in found.items() if finding["verdict"] == "wrong"} == set(), found
    assert after.code == 0
    assert {"database", "clock", "secret key", "source", "storage", "download link", "disk"} <= found.keys()


def test_the_doctor_names_a_wrong_chain_field_and_a_wrong_column(
    installed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("sample", "files", "--rows", "5", "--index", "products")
    monkeypatch.setenv("TASKS_INDICES", '{"products": {"file_prefix": "Product", "source": "products"}}')
    assert installed("doctor").code == 0
    for setting, value, said in (
        ("CHAIN_FIELD", "chian_id", "has no field chian_id"),
        ("CHAIN_FIELD", "name", "must be one number a document"),
        ("COLUMNS", "id,pirce", "pirce"),
        ("SOURCE", "goods", "goods"),
    ):
        monkeypatch.setenv(f"TASKS_INDICES__PRODUCTS__{setting}", value)
        ended = installed("doctor")
        assert ended.code == 1, setting
        assert said in ended.out
        monkeypatch.delenv(f"TASKS_INDICES__PRODUCTS__{setting}")


def test_the_doctor_without_a_database_says_what_to_run_and_goes_on(command: Command) -> None:
    ended = command("doctor")
    assert ended.code == 1
    assert "run `tasks-service db upgrade`" in ended.out
    assert "\nok       storage" in ended.out


def test_the_doctor_warns_of_a_short_key(installed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_SERVICE__SECRET_KEY", "hunter2")
    shown = installed("doctor").out
    assert "service.secret_key is short" in shown
    assert "hunter2" not in shown


def test_the_doctor_warns_of_leases_that_one_late_heartbeat_loses(
    installed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKS_WORKER__LEASE_SECONDS", "30")
    assert "ok       leases" in installed("doctor").out
    monkeypatch.setenv("TASKS_WORKER__LEASE_SECONDS", "25")
    monkeypatch.setenv("TASKS_WORKER__STALL_TIMEOUT_SECONDS", "20")
    shown = installed("doctor").out
    assert "ok       leases" not in shown
    assert "worker.lease_seconds (25) leaves a heartbeat 15 s to arrive" in shown
    assert "Set it to 30 or more." in shown
    assert "worker.stall_timeout_seconds (20) is shorter than a lease (25)" in shown


def test_the_doctor_follows_a_link_through_the_running_service(tmp_path: Path) -> None:
    service = Service(tmp_path, {})
    service.command("sample", "files", "--rows", "20")
    with running(service):
        shown = service.command("doctor")
        assert "A signed link was followed, and gave the object." in shown.stdout
        assert shown.stdout.endswith("Nothing is wrong.\n")
        service.environment["TASKS_SERVICE__SECRET_KEY"] = "another key than the running service has"
        other = service.command("doctor", check=False)
        assert other.returncode == 1
        assert "with this secret key?" in other.stdout


def test_the_doctor_tells_that_servers_do_not_answer(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = free_port()
    monkeypatch.setenv("TASKS_DATABASE__URL", f"postgresql+psycopg://u:hunter2@127.0.0.1:{nobody}/d")
    monkeypatch.setenv("TASKS_SOURCE__KIND", "elasticsearch")
    monkeypatch.setenv("TASKS_ELASTICSEARCH__URLS", f"http://u:hunter2@127.0.0.1:{nobody}")
    ended = command("doctor", "--json")
    verdicts = {finding["part"]: finding["verdict"] for finding in json.loads(ended.out)["findings"]}
    assert ended.code == 1
    assert {verdicts["database"], verdicts["source"]} == {"wrong"}
    assert {verdicts["clock"], verdicts["index products"]} == {"skipped"}
    assert verdicts["storage"] == "ok"
    assert "hunter2" not in ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("seconds", "verdict", "code"), [(0, "ok", 0), (8, "warning", 0), (-8, "warning", 0), (700, "wrong", 1)]
)
def test_the_doctor_compares_this_hosts_clock_with_the_databases(
    well: Command, seconds: int, verdict: str, code: int
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True):
        ended = well("doctor", "--json")
    [(found, detail)] = said(ended, "clock")
    assert (found, ended.code) == (verdict, code), detail
    assert detail.startswith("This host and the database differ by ")
    # A machine under load needs some time between one clock and the other.
    assert abs(float(detail.split()[7]) - abs(seconds)) < 4
    assert ("ynchronise" in detail) == (verdict != "ok")


def test_the_doctor_says_who_is_missing_and_who_was_not_seen_of_late(well: Command, where: str) -> None:
    no_scheduler = (
        "warning",
        "No scheduler is seen: start one (`tasks-service scheduler`, or `serve` for everything).",
    )
    no_worker = ("warning", "No worker is seen: start one (`tasks-service worker`, or `serve` for everything).")
    ended = well("doctor", "--json")
    assert (ended.code, said(ended, "processes")) == (0, [no_scheduler, no_worker])
    seen(where, "scheduler", "a", ago=0)
    seen(where, "worker", "b", ago=20)
    assert said(well("doctor", "--json"), "processes") == [("ok", "Seen: 1 scheduler, 1 worker.")]
    seen(where, "worker", "b", ago=40)
    ended = well("doctor", "--json")
    [late, missing, there] = said(ended, "processes")
    assert (missing, there, ended.code) == (no_worker, ("ok", "Seen: 1 scheduler."), 0)
    assert late[0] == "warning"
    assert late[1].startswith("The worker b:7 was last seen 4")
    assert late[1].endswith(" s ago: hung, cut off, or dead.")


def test_the_doctor_wants_one_key_for_all_hosts_of_postgresql(
    well: Command, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = well("doctor", "--json")
    [(verdict, detail)] = said(ended, "secret key")
    assert ended.code == 0
    if where:
        assert verdict == "warning"
        assert "each host makes its own: links and cursors of one host are refused by another" in detail
    else:
        assert (verdict, detail) == ("ok", "Kept in var/secret.key.")
    monkeypatch.setenv("TASKS_SERVICE__SECRET_KEY", "k" * 32)
    ended = well("doctor", "--json")
    assert (ended.code, said(ended, "secret key")) == (0, [("ok", "service.secret_key is set.")])


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_the_doctor_says_that_nothing_answers_where_links_point(well: Command) -> None:
    public = os.environ["TASKS_SERVICE__PUBLIC_URL"]
    ended = well("doctor", "--json")
    told = f"Nothing answers at {public} yet: start the service and look again, or set service.public_url."
    assert (ended.code, said(ended, "download link")) == (0, [("warning", told)])


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("free", "verdict", "begins", "code"),
    [
        (3 * GIB, "ok", "3.0 GiB free for ", 0),
        (2 * GIB - 1, "warning", "Only 2.0 GiB free for ", 0),
        (GIB // 10, "wrong", "Only 0.1 GiB free for ", 1),
    ],
)
def test_the_doctor_looks_how_much_disk_is_left(
    well: Command, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str, begins: str, code: int
) -> None:
    usage = SimpleNamespace(total=9 * GIB, used=9 * GIB - free, free=free)

    def disk_usage(_path: Path) -> SimpleNamespace:
        return usage

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    ended = well("doctor", "--json")
    found = said(ended, "disk")
    assert len(found) == 2, "where the state lies, and where files do"
    assert {one for one, _ in found} == {verdict}
    assert all(detail.startswith(begins) for _, detail in found), found
    assert ended.code == code


def test_the_doctor_warns_of_a_worker_that_was_killed_and_of_nothing_before(tmp_path: Path) -> None:
    service = Service(tmp_path, {"TASKS_INDICES": '{"products": {"file_prefix": "Product", "source": "products"}}'})
    service.command("sample", "files", "--rows", "20", "--index", "products")
    database = connect(service.environment["TASKS_DATABASE__URL"])
    with running(service):
        worker = service.start("worker")
        listed = lambda: service.command("processes", "--json").stdout.count('"kind"') == 4  # noqa: E731
        eventually(listed, timeout=60, what="web, scheduler and both workers are seen")
        shown = json.loads(service.command("doctor", "--json").stdout)
        unwell = [one for one in shown["findings"] if one["verdict"] != "ok" and one["part"] != "disk"]
        assert (shown["wrong"], unwell) == (0, []), "a healthy installation has no warning; the disk is the machine's"
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
        with database.write() as session:  # half a minute later
            row = session.exec(select(Process).where(Process.pid == worker.pid)).one()
            row.seen_at -= timedelta(seconds=45)
        ended = service.command("doctor")
        assert f"The worker {row.name} was last seen " in ended.stdout
        assert ended.stdout.endswith("Nothing is wrong.\n")
    database.dispose()
