"""`tasks-service verify`: downloaded files held against their manifest, on any machine, with nothing configured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tasks_service.cli.invocation import JsonOption, say, write, write_json
from tasks_service.errors import ServiceError

if TYPE_CHECKING:
    from tasks_service.artifacts.verification import Verdict

DIFFERS = 1
UNREADABLE = 2


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(verify)


def verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, metavar="FILE...", help="The file; its numbered files, or their folder; or the zip."
        ),
    ],
    manifest: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, metavar="MANIFEST", help="The manifest that came with it.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Hold a download against its manifest: sizes, CRC-32C and SHA-256 of every file, and that none is missing.

    Exit codes: 0 all is as the manifest says, 1 something differs (each difference is named), 2 it could not be told
    (no manifest, or a file that cannot be read). Needs no service and no configuration.
    """
    from dataclasses import asdict

    from tasks_service.artifacts import verification
    from tasks_service.artifacts.manifest import LARGEST, from_bytes

    try:
        with manifest.open("rb") as stream:
            said = from_bytes(stream.read(LARGEST))
        verdicts = list(verification.verify(files, said))
    except (OSError, ServiceError) as error:
        detail = error.detail if isinstance(error, ServiceError) else f"{error.filename}: {error.strerror}"
        say(f"tasks-service: {detail}")
        raise typer.Exit(UNREADABLE) from error
    differs = any(verdict.differences for verdict in verdicts)
    if as_json:
        write_json({"whole": not differs, "files": [asdict(verdict) for verdict in verdicts]})
    else:
        for verdict in verdicts:
            write(_line(verdict))
        write("DIFFERS from its manifest." if differs else f"Whole: {said.rows} rows, as the manifest says.")
    if differs:
        raise typer.Exit(DIFFERS)


def _line(verdict: Verdict) -> str:
    if verdict.differences:
        return f"differs  {verdict.name}: {'; '.join(verdict.differences)}"
    rows = "" if verdict.rows is None else f"{verdict.rows} rows, "
    return f"ok       {verdict.name}  {rows}{verdict.bytes} bytes"
