"""The documentation says what there is: the first commands, every command of the shell, every setting."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tasks_service.cli import app, reference
from tasks_service.config import every_setting

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PROMISED = ("demo", "test", "lint", "bench", "elasticsearch", "lock", "test-full", "help", "config.example.toml")


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
    events = {"storage.uploads_swept", "database.retrying"}  # log events share the first word with a section
    assert settings - known - events == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_inside_the_repository_is_dead(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
