"""The command line: `tasks-service`, or `python -m tasks_service` from a checkout.

What lives here: the commands put together, one module a group, and the rule of how they end. Data goes to standard
output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130
interrupted. A user's error is a sentence, never a traceback.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tasks_service import zones
from tasks_service.cli import (
    clients,
    configuration,
    database,
    demo,
    doctor,
    indices,
    processes,
    reference,
    sample,
    tasks,
    tokens,
    verification,
)
from tasks_service.cli.invocation import application, say
from tasks_service.errors import ConfigurationError, ServiceError

FAILED = 1
REFUSED = 2
INTERRUPTED = 130

app = application()
processes.register(app)
demo.register(app)
doctor.register(app)
verification.register(app)
app.add_typer(database.group)
app.add_typer(clients.group)
app.add_typer(tokens.group)
app.add_typer(tasks.group)
app.add_typer(indices.group)
app.add_typer(sample.group)
app.add_typer(configuration.group)
reference.register(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a letter must not end a command
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    zones.pin()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="tasks-service")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ServiceError as error:
        say(f"tasks-service: {error.detail}")
        return REFUSED if isinstance(error, ConfigurationError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
