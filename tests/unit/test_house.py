"""The house rules that a machine can hold: arrows between rooms, who imports which vendor, sizes, names, words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("tasks_service", "segments")
MODULES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "migrations/versions" not in path.as_posix()
)

# Room -> the rooms it may import. `app` (the composition root) and the command line know everyone.
EVERYONE = {"*"}
LEAVES = {"errors", "config", "telemetry", "metrics", "fault_points", "zones"}
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors", "config_loading", "config_example", "config_named"},
    "config_named": set(),
    "config_loading": {"errors", "config", "config_named"},
    "config_example": {"errors", "config", "config_named"},
    "telemetry": {"errors"},
    "metrics": set(),
    "fault_points": set(),
    "filenames": LEAVES,
    "cron": LEAVES,
    "trigger": LEAVES | {"cron"},
    "zones": set(),
    "schedule": LEAVES | {"cron", "trigger"},
    "executors": LEAVES,
    "sources": LEAVES,
    "formats": LEAVES | {"sources"},
    "storage": LEAVES,
    "database": LEAVES,
    "destinations": LEAVES | {"artifacts", "order", "progress", "storage"},
    "pipeline": LEAVES | {"sources", "formats"},
    "order": LEAVES,
    "artifacts": LEAVES | {"order", "sources", "formats", "storage", "filenames"},
    "progress": set(),
    "parts": LEAVES | {"order", "artifacts", "sources", "formats", "storage", "pipeline", "progress"},
    "export": LEAVES | {"order", "artifacts", "sources", "formats", "storage", "pipeline", "parts", "progress"},
    "dealing": LEAVES | {"database", "executors", "order", "parts", "sources"},
    "delivering": LEAVES | {"app", "artifacts", "database", "destinations", "order", "progress"},
    "helping": LEAVES | {"app", "beats", "database", "dealing", "formats", "lease", "order", "parts", "progress"},
    "loops": LEAVES,
    "vitals": LEAVES | {"loops"},
    "beats": LEAVES | {"database", "progress"},
    "beater": LEAVES | {"beats", "database", "progress"},
    "beater_link": LEAVES | {"beats"},
    "lease": LEAVES | {"beats", "progress"},
    "sweeper": LEAVES | {"artifacts", "database", "destinations", "storage"},
    "rescuer": LEAVES | {"database", "executors"},
    "zone_changes": LEAVES | {"database"},
    "presence": LEAVES | {"database", "loops"},
    "scrape": LEAVES | {"database", "vitals", "__init__"},
    "runner": LEAVES
    | {
        "app",
        "artifacts",
        "beats",
        "database",
        "executors",
        "export",
        "lease",
        "sweeper",
        "filenames",
        "loops",
        "order",
    }
    | {"dealing", "delivering", "formats", "helping"},
    "scheduler": LEAVES | {"database", "schedule", "executors", "loops"},
    "target_schemas": set(),
    "schemas": LEAVES | {"target_schemas"},
    "segment_schemas": LEAVES | {"schemas"},
    "backfill_schemas": LEAVES | {"schemas"},
    "occurrence_schemas": LEAVES | {"schemas"},
    "problem_schemas": LEAVES | {"schemas"},
    "process_schemas": LEAVES | {"schemas"},
    "indices": LEAVES,
    "sample": LEAVES | {"indices"},
    "supervisor": LEAVES,
    "api": LEAVES
    | {"app", "artifacts", "database", "schedule", "sources", "formats", "executors", "storage", "filenames"}
    | {"destinations"}
    | {"schemas", "segment_schemas", "backfill_schemas", "occurrence_schemas", "problem_schemas"}
    | {"process_schemas", "scrape"},
    "app": EVERYONE,
    "cli": EVERYONE,
    "__init__": set(),
    "__main__": {"cli"},
}

# Vendor -> the places that may import it (a file or a folder, from the root).
VENDORS: dict[str, tuple[str, ...]] = {
    "google": ("tasks_service/storage/gcs",),
    "elasticsearch": ("tasks_service/sources/elasticsearch", "tasks_service/sample/"),
    "elastic_transport": ("tasks_service/sources/elasticsearch", "tasks_service/sample/"),
    "duckdb": ("tasks_service/sources/files", "tasks_service/formats/", "tasks_service/sample/"),
    "pyarrow": ("tasks_service/formats/",),
    "xlsxwriter": ("tasks_service/formats/xlsx_workbook.py",),
    "flask": ("tasks_service/api/", "tasks_service/app.py", "tasks_service/ui/"),
    "apscheduler": ("tasks_service/scheduler",),
    "cronsim": ("tasks_service/cron.py",),
    "alembic": ("tasks_service/database/",),
    "typer": ("tasks_service/cli/",),
    "gunicorn": ("tasks_service/cli/",),
    "procrastinate": ("tasks_service/executors/procrastinate",),
    "boto3": ("tasks_service/destinations/s3",),
    "botocore": ("tasks_service/destinations/s3",),
    "prometheus_client": ("tasks_service/metrics/", "tasks_service/scrape.py"),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "tasks_service").parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(path) if name.startswith("tasks_service.")}
    return {
        name
        for name in names
        if (ROOT / "tasks_service" / name).exists() or (ROOT / "tasks_service" / f"{name}.py").exists()
    }


@pytest.mark.parametrize(
    "path", [p for p in MODULES if "tasks_service" in p.parts], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_arrows_between_rooms_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in ARROWS, f"a new room, {room}: draw its arrows here"
    if ARROWS[room] == EVERYONE:
        return
    assert rooms_imported(path) - ARROWS[room] - {room} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "segments").glob("*.py")), ids=lambda p: p.name)
def test_segments_imports_only_the_standard_library_and_pydantic(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots - set(sys.stdlib_module_names) - {"pydantic", "pydantic_core", "segments"} == set()


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_library_is_imported_in_its_own_room_only(vendor: str) -> None:
    users = {p.relative_to(ROOT).as_posix() for p in MODULES if vendor in {name.split(".")[0] for name in imports(p)}}
    assert {user for user in users if not user.startswith(VENDORS[vendor])} == set()


def test_queries_over_the_own_tables_live_in_database_alone() -> None:
    said = re.compile(
        r"\b(select|insert|update|delete)\(\s*(models\.|Task\b|Run\b|Attempt\b|Event\b|Client\b|Token\b|Skip\b)"
    )
    outside = [
        p.relative_to(ROOT).as_posix()
        for p in MODULES
        if "database" not in p.parts and (said.search(p.read_text()) or "session.exec(" in p.read_text())
    ]
    assert outside == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_rooms_are_small_and_named(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= 400
    assert path.stem not in {"utils", "util", "common", "helpers", "misc", "manager"}
    tree = ast.parse(source)
    if path.stem not in {"__init__", "__main__"} or tree.body:
        assert ast.get_docstring(tree), "a module opens with a paragraph"
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    }
    assert long == {}


def test_importing_a_module_does_nothing() -> None:
    """Every module imports in a process where sockets, files written and vendor clients are refused or absent."""
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in MODULES
        if p.stem != "__main__" and "migrations" not in p.parts
    ]
    code = (
        "import importlib, socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket at import')\n"
        "socket.socket.connect = refuse\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\n"
        "heavy = {'boto3', 'botocore', 'duckdb', 'elasticsearch', 'google.cloud.storage'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


def test_the_repository_names_no_registry_no_machine_and_no_secret() -> None:
    # One letter of each in brackets, so that the pattern does not find itself.
    pattern = (
        "/roo[t]/|/wor[k]/|pythonhoste[d]|registry[.]npmj[s]|repo1?[.]mave[n]|proxy[.]golan[g]|PRIVATE KEY----[-]$"
    )
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern, "--", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_run_export_reads_as_a_sentence() -> None:
    tree = ast.parse((ROOT / "tasks_service" / "export.py").read_text())
    [function] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "run_export"]
    assert (function.end_lineno or 0) - function.lineno + 1 <= 40
