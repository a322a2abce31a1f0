"""`tasks-service config`: the settings, as an example and as they are in force."""

from __future__ import annotations

import typer

from tasks_service import config_example
from tasks_service.cli.invocation import group, invocation, write

group = group("config", "The settings.")


@group.command()
def example() -> None:
    """Print every setting with its default and a line on it, as a config.toml to start from."""
    write(config_example.example().rstrip("\n"))


@group.command()
def show(context: typer.Context) -> None:
    """Print the settings in force, from file, environment and defaults; secrets are masked."""
    write(config_example.show(invocation(context).settings).rstrip("\n"))
