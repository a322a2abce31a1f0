"""The documentation says what there is: the first commands, every command of the shell, every setting."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tasks_service import metrics
from tasks_service.cli import app, reference
from tasks_service.config import every_setting

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PROMISED = (
    "demo",
    "test",
    "lint",
    "bench",
    "chaos",
    "fuzz",
    "elasticsearch",
    "lock",
    "test-full",
    "help",
    "config.example.toml",
)


def events() -> dict[str, set[str]]:
    """Every event name that a line of the log may have, and its levels."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tasks_service").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("log."):
                level = ast.unparse(call.func).removeprefix("log.").replace("exception", "error")
                for argument in call.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        found.setdefault(argument.value, set()).add(level)
    return found


def documented(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading of operations.md, by their first cell."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", section, re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in rows}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z./-]+):", MAKEFILE, re.MULTILINE))


def test_the_first_commands_of_the_readme_are_the_two() -> None:
    commands = [line.strip() for line in README.splitlines() if line.startswith("    ")]
    assert commands[:2] == ["make demo", "make test"]


def test_the_makefile_has_what_is_promised() -> None:
    assert targets() >= set(PROMISED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_command_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"(?:^    |`)make ([a-z][a-z.-]*)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets()


def test_make_help_lists_every_command() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0] for line in shown.splitlines()}
    assert listed >= set(PROMISED) - {"config.example.toml"}


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert "set -euo pipefail" in commands
    assert "make lint" in commands
    assert commands[-1] == "make test"


def test_the_page_of_the_command_line_is_the_commands() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference.render(app), "run `make docs`"


def test_every_command_and_every_option_has_a_line_on_it() -> None:
    text = reference.render(app)
    for command in reference.commands(app):
        assert f"## {command}\n" in text
    assert not re.findall(r"^\| `[^`]+` \|  \|$", text, re.MULTILINE), "an option without a help text"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_shell_command_that_a_page_names_is_there(page: Path) -> None:
    known = {command.removeprefix("tasks-service ") for command in reference.commands(app)}
    groups = {command.split()[0] for command in known}
    named = re.findall(r"(?:^    |`)tasks-service ([a-z]+(?: [a-z]+)?)", page.read_text(encoding="utf-8"), re.MULTILINE)
    for words in named:
        assert words in known or words.split()[0] in known | groups, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_is_there(page: Path) -> None:
    sections = {setting.path[0] for setting in every_setting()}
    known = {setting.key for setting in every_setting()}
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text(encoding="utf-8")))
    modules = {"py", "toml", "md", "db"}
    settings = {name for name in named if name.split(".")[0] in sections and name.split(".")[1] not in modules}
    assert settings - known - events().keys() == set()  # events may share their first word with a section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_inside_the_repository_is_dead(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_operations_explains_every_metric_and_no_other() -> None:
    table = documented("Metrics")
    assert table.keys() == {metric.name for metric in metrics.ALL}, "add a line to docs/operations.md, Metrics"
    assert all(len(cells) == 2 and all(cells) for cells in table.values()), "what it means, and when it moves"


def test_every_metric_is_seen_to_move() -> None:
    """By a test that makes happen what it counts: one that never moves tells an operator that all is well."""
    asserted = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = {name for name, value in vars(metrics).items() if isinstance(value, metrics.Metric)}
    assert len(names) == len(metrics.ALL)
    assert {name for name in names if not re.search(rf"(of|total)\(metrics\.{name}\b", asserted)} == set()


def test_operations_explains_every_event_and_no_other() -> None:
    table = documented("Events")
    logged = events()
    assert table.keys() == logged.keys(), "add a line to docs/operations.md, Events"
    for name, (level, meaning) in table.items():
        assert logged[name] in ({level}, {"log"}), name  # `log`: its level is chosen where it happens
        assert len(meaning) > 10, name


def test_alerts_ask_for_metrics_and_labels_that_are_there() -> None:
    known = {metric.name: set(metric.labels) for metric in metrics.ALL}
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts) > 10
    for alert in alerts:
        assert {"summary", "action"} == alert["annotations"].keys(), alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}
        asked = re.findall(r"\b(tasks_service_[a-z_]+)(?:\{([a-z_]+))?", alert["expr"])
        assert asked, alert["alert"]
        named = {name.removesuffix("_bucket"): label for name, label in asked}
        assert named.keys() <= known.keys(), alert["alert"]
        assert all(label in known[name] for name, label in named.items() if label), alert["alert"]
        grouped = set(re.findall(r"by \((\w+)\)", alert["expr"])) - {"le"}
        assert grouped <= set().union(*(known[name] for name in named)), alert["alert"]
