"""The command line called in this process: what it printed where, and how it ended."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from tasks_service import cli
from tasks_service.config import DatabaseSettings
from tasks_service.database.engine import Database


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@contextmanager
def in_process(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Give a function that runs commands in a directory, with nothing configured; leave logging as it was."""
    monkeypatch.chdir(directory)
    for name in [name for name in os.environ if name.startswith("TASKS_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    made: list[Database] = []
    make = Database.__init__

    def noted(self: Database, settings: DatabaseSettings) -> None:
        make(self, settings)
        made.append(self)

    monkeypatch.setattr(Database, "__init__", noted)

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        code = cli.run(arguments)
        while made:  # what the end of a process closes
            made.pop().dispose()
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
