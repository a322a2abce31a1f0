"""The reference of the command line, as Markdown, from the commands themselves: docs/cli.md is this output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import typer

from tasks_service.cli.invocation import ABOUT, write

_HEAD = f"""\
# The command line

`tasks-service`, or `python -m tasks_service` from a checkout. This page is generated from the commands (`make docs`).

{ABOUT}
Errors are one sentence on standard error. Settings come from `--config FILE`, else from the file that `TASKS_CONFIG`
names, else from `./config.toml` where there is one, with `TASKS_SECTION__KEY` variables on top; see
[config.example.toml](../config.example.toml).
"""


def register(app: typer.Typer) -> None:
    """Add the command; it is hidden, for only the repository's own documentation needs it."""

    @app.command("reference", hidden=True)
    def reference() -> None:  # pyright: ignore[reportUnusedFunction] -- typer keeps it
        """Print this reference."""
        write(render(app).rstrip("\n"))


def render(app: typer.Typer) -> str:
    """Return the whole reference."""
    return "\n".join([_HEAD, *_sections(typer.main.get_command(app), "tasks-service")])


def commands(app: typer.Typer) -> list[str]:
    """Return every command as it is typed, hidden ones left out."""
    return [words for words, _ in _leaves(typer.main.get_command(app), "tasks-service")]


def _leaves(command: Any, words: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 -- typer carries its own click
    children = cast("dict[str, Any]", getattr(command, "commands", {}))
    if not children:
        yield words, command
    for name, child in children.items():
        if not child.hidden:
            yield from _leaves(child, f"{words} {name}")


def _sections(command: Any, words: str) -> Iterator[str]:  # noqa: ANN401
    for name, leaf in _leaves(command, words):
        arguments = [p for p in leaf.params if p.param_type_name == "argument"]
        options = [p for p in leaf.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]
        usage = " ".join([name, *(_named(p) for p in arguments)])
        yield f"## {name}\n"
        yield f"    {usage}{' [OPTIONS]' if options else ''}\n"
        yield f"{leaf.help.strip()}\n"
        if arguments or options:
            yield "| | |\n|---|---|"
            yield from (f"| `{_named(p)}` | {p.help or ''} |" for p in arguments)
            yield from (f"| `{_spelt(p)}` | {p.help or ''} |" for p in options)
            yield ""


def _named(argument: Any) -> str:  # noqa: ANN401
    return str(argument.name).upper().replace("_", "-")


def _spelt(option: Any) -> str:  # noqa: ANN401
    value = "" if option.is_flag else f" {option.metavar or (option.name or '').upper()}"
    return f"{', '.join(option.opts)}{value}"
