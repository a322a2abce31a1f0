"""The command line in one process: what it prints where, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_service import cli
from tasks_service.config import DatabaseSettings
from tasks_service.database import clients, tasks
from tasks_service.database.engine import Database
from tests.command_line import Command, in_process


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Commands in an empty directory, with nothing configured."""
    with in_process(tmp_path, monkeypatch, capsys) as call:
        yield call


@pytest.fixture
def installed(command: Command) -> Command:
    assert command("db", "upgrade").code == 0
    return command


def database() -> Database:
    return Database(DatabaseSettings())


# -- how commands end ---------------------------------------------------------------------------------------------


def test_help_is_data_and_lists_every_command(command: Command) -> None:
    shown = command("--help")
    assert (shown.code, shown.err) == (0, "")
    for name in ("serve", "web", "scheduler", "worker", "demo", "doctor", "db", "clients", "tokens", "tasks", "sample"):
        assert f"  {name} " in shown.out


def test_wrong_usage_ends_with_2_and_a_hint(command: Command) -> None:
    for arguments in (["nothing"], ["db", "sideways"], ["tokens", "create"], ["tasks", "show", "x"]):
        ended = command(*arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert "Error:" in ended.err


def test_a_configuration_error_ends_with_2_and_names_every_fault(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKS_WEB__PROT", "1")
    monkeypatch.setenv("TASKS_WEB__THREADS", "none")
    ended = command("clients", "list")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("tasks-service: The configuration has 2 faults:\n")


def test_the_file_may_be_named_on_the_command_line(command: Command, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[web]\nport = 4711\n")
    assert "port = 4711" in command("--config", str(other), "config", "show").out
    missing = command("--config", "missing.toml", "config", "show")
    assert missing.code == 2
    assert "missing.toml" in missing.err


@pytest.mark.parametrize("arguments", [["clients", "list"], ["tokens", "list"], ["tasks", "list"], ["db", "current"]])
def test_a_database_without_tables_ends_with_2_and_what_to_run(command: Command, arguments: list[str]) -> None:
    ended = command(*arguments)
    assert ended.code == 2
    assert "run `tasks-service db upgrade`" in ended.err
    assert not Path("var/tasks.db").exists()


def test_an_interruption_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert command("db", "upgrade").code == 130


# -- db -----------------------------------------------------------------------------------------------------------


def test_the_schema_goes_up_and_down(command: Command) -> None:
    assert "it was empty" in command("db", "upgrade").err
    again = command("db", "upgrade")
    assert (again.code, again.err.count("now")) == (0, 0)
    current = json.loads(command("db", "current", "--json").out)
    assert current["current"] == current["known"]
    assert command("db", "downgrade", "base", "--yes").code == 0
    assert command("db", "current").code == 2


# -- clients and tokens -------------------------------------------------------------------------------------------


def test_a_client_and_its_token(installed: Command) -> None:
    made = installed("clients", "create", "erp", "--chain", "1764")
    assert made.code == 0
    assert "1764" in made.out
    assert "tasks:read tasks:write" in made.out
    token = installed("tokens", "create", "--client", "erp", "--days", "3")
    token_id, secret = token.out.strip().split(":")
    assert "not shown again" in token.err
    principal = clients.authenticate(database(), token_id, secret)
    assert principal is not None
    assert (principal.name, principal.chain, principal.type) == ("erp", 1764, "client")
    for shown in (installed("tokens", "list"), installed("tokens", "list", "--json"), installed("clients", "list")):
        assert secret not in shown.out + shown.err
    [listed] = json.loads(installed("tokens", "list", "--json", "--client", "erp").out)
    assert (listed["id"], listed["client"], listed["revoked_at"]) == (token_id, "erp", None)
    assert listed["expires_at"] > listed["created_at"]
    assert listed["last_used_at"].endswith("Z")


def test_a_token_of_which_the_whole_is_pasted_is_revoked_and_not_repeated(installed: Command) -> None:
    installed("clients", "create", "erp", "--chain", "1764")
    text = installed("tokens", "create", "--client", "erp").out.strip()
    token_id, secret = text.split(":")
    ended = installed("tokens", "revoke", text)
    assert ended.code == 0
    assert secret not in ended.err
    assert clients.authenticate(database(), token_id, secret) is None
    assert secret not in installed("tokens", "revoke", f"unknown:{secret}").err


def test_an_operator_has_every_chain_and_scope(installed: Command) -> None:
    client = json.loads(installed("clients", "create", "ops", "--operator", "--json").out)
    assert (client["chain"], client["scopes"]) == ("every", ["admin", "tasks:read", "tasks:write"])
    reader = json.loads(installed("clients", "create", "r", "--chain", "1", "--scope", "tasks:read", "--json").out)
    assert reader["scopes"] == ["tasks:read"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x"], "--chain NUMBER"),
        (["x", "--chain", "1", "--operator"], "--operator"),
        (["x", "--chain", "0"], "greater than or equal to 1"),
        (["x", "--chain", "1", "--scope", "tasks"], "there are tasks:read, tasks:write, admin"),
    ],
)
def test_a_client_that_cannot_be_is_refused(installed: Command, arguments: list[str], said: str) -> None:
    ended = installed("clients", "create", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert json.loads(installed("clients", "list", "--json").out) == []


def test_names_that_are_not_there_end_with_1_and_where_to_look(installed: Command) -> None:
    installed("clients", "create", "erp", "--chain", "1764")
    assert "another name" in installed("clients", "create", "erp", "--chain", "1").err
    for arguments in (
        ["clients", "remove", "x"],
        ["tokens", "create", "--client", "x"],
        ["tokens", "list", "--client", "x"],
    ):
        ended = installed(*arguments)
        assert ended.code == 1
        assert "`tasks-service clients list` shows them" in ended.err


def test_a_removed_client_is_listed_only_where_asked_for(installed: Command) -> None:
    installed("clients", "create", "erp", "--chain", "1764")
    assert installed("clients", "remove", "erp").code == 0
    assert json.loads(installed("clients", "list", "--json").out) == []
    [removed] = json.loads(installed("clients", "list", "--removed", "--json").out)
    assert removed["removed_at"] is not None


# -- tasks --------------------------------------------------------------------------------------------------------


def test_tasks_are_listed_and_shown(installed: Command) -> None:
    installed("clients", "create", "erp", "--chain", "1764")
    token = installed("tokens", "create", "--client", "erp").out.strip()
    here = database()
    principal = clients.authenticate(here, *token.split(":"))
    assert principal is not None
    with here.write() as session:
        tasks.create_task(
            session,
            now=here.now(session),
            principal=principal,
            chain=1764,
            desc="Nightly",
            target={"action": "export", "export_index": "products"},
            trigger={"once": "2026-05-26T12:00:00Z"},
            next_run_at=None,
        )
    here.dispose()
    [listed] = json.loads(installed("tasks", "list", "--json").out)
    assert (listed["id"], listed["export_index"], listed["state"]) == (1, "products", "READY")
    assert "Nightly" in installed("tasks", "list", "--state", "ready").out
    assert "Nightly" not in installed("tasks", "list", "--chain", "2001").out
    shown = installed("tasks", "show", "1")
    assert '"export_index": "products"' in shown.out
    assert json.loads(installed("tasks", "show", "1", "--json").out)["runs"] == []
    assert installed("tasks", "show", "2").code == 1


# -- sample and config ---------------------------------------------------------------------------------------


def test_an_unknown_sample_index_is_refused(command: Command) -> None:
    ended = command("sample", "files", "--index", "product")
    assert ended.code == 2
    assert "there are transactions, users" in ended.err


def test_the_example_of_the_configuration_is_data(command: Command) -> None:
    shown = command("config", "example")
    assert shown.out.startswith("# Every setting of tasks-service")
    assert shown.err == ""
