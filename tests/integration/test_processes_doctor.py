"""The doctor against real parts: what is well, what is wrong, and in which words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.service import Service, free_port, running
from tests.command_line import Command, in_process


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
