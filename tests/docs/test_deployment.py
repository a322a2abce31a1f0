"""What lies in deploy/ is what the documentation says and the service understands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks_service.config import every_setting
from tests.servers.parts import under_ci

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
FILES = [*UNITS, ROOT / "deploy/Containerfile"]
INSTALLED = "/opt/tasks-service/bin/tasks-service"


def verified(unit: str, name: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What systemd says of a unit, where the service is not installed."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert not under_ci(), "install systemd: its own check of the units must not be left out"
        pytest.skip("systemd-analyze is not on this machine")
    path = directory / name.replace("@.", "@1.")
    path.write_text(unit.replace(INSTALLED, "/bin/true"))
    return subprocess.run(
        [analyze, "verify", "--recursive-errors=no", str(path)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_every_unit_without_a_word(unit: Path, tmp_path: Path) -> None:
    done = verified(unit.read_text(), unit.name, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_say_what_is_misspelt(tmp_path: Path) -> None:
    unit = UNITS[0].read_text().replace("NoNewPrivileges=yes", "NoNewPrivilege=yes")
    assert "NoNewPrivilege" in verified(unit, "misspelt.service", tmp_path).stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_named_there_exists(path: Path) -> None:
    known = {setting.variable for setting in every_setting()}
    known |= {f"{setting.variable}_FILE" for setting in every_setting() if setting.secret}
    assert set(re.findall(r"TASKS_[A-Z]+__[A-Z_]+[A-Z]", path.read_text())) - known <= {"TASKS_SECTION__KEY"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_unit_starts_a_command_there_is(unit: Path) -> None:
    [started] = re.findall(rf"^ExecStart={INSTALLED} (.+)$", unit.read_text(), re.MULTILINE)
    assert f"## tasks-service {started}\n" in (ROOT / "docs/cli.md").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_in_the_documentation(path: Path) -> None:
    assert path.name in (ROOT / "docs/operations.md").read_text()
