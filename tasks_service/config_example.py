"""Settings written out as TOML: the example with every default, and the settings in force, secrets masked.

What lives here: only writing. What does not: reading (config_loading.py). Called by cli/ (`config example`,
`config show`); config.example.toml in the repository is this module's output, which a test compares.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from tasks_service.config import Setting, Settings, every_setting
from tasks_service.config_named import NAMED

_HEAD = """\
# Every setting of tasks-service with its default. Copy this file to config.toml and keep what you change.
#
# The file is read from --config, else from the path in TASKS_CONFIG, else ./config.toml where there is one.
# A variable TASKS_SECTION__KEY overrides it: TASKS_WEB__PORT=8081 sets port in [web]. A secret (marked so)
# may also be read from a file that TASKS_SECTION__KEY_FILE names. Paths are relative to the working directory.
"""
_WIDTH = 108
_DESTINATIONS = (
    "Customers' buckets, which results are pushed to before they are published (docs/destinations.md): what a task's "
    "destination may name."
)


def example() -> str:
    """Return the text of config.example.toml: loading it gives the defaults."""
    return _HEAD + _tables(Settings(), described=True) + _destination()


def show(settings: Settings) -> str:
    """Return the settings in force as TOML, secrets masked; of a secret URL the host stays readable."""
    return _tables(settings, described=False).lstrip("\n")


def _tables(settings: Settings, *, described: bool) -> str:
    """Write a table for each section; with descriptions, those of an index stand at the first one only."""
    lines: list[str] = []
    table: tuple[str, ...] = ()
    sections: set[str] = set()
    for setting in every_setting({section: tuple(getattr(settings, section)) for section in NAMED}):
        section, *_, name = setting.path
        if setting.path[:-1] != table:
            sections.update(table[:1])
            table = setting.path[:-1]
            lines += ["", *(_about(section) if described and section not in sections else [])]
            lines.append(f"[{'.'.join(table)}]")
        if described and section not in sections:
            lines += _comment(setting)
        found = _value(settings, setting)
        lines.append(_line(name, _plain(found) if described else _masked(found)))
    return "\n".join(lines) + "\n"


def _destination() -> str:
    """Write a destination, of which there is none by default, as comments."""
    values: dict[str, object] = {"kind": "gcs", "bucket": "acme-exports", "chains": [1764]}
    lines = [*textwrap.wrap(_DESTINATIONS, _WIDTH), "[destinations.acme]"]
    for setting in every_setting({"destinations": ["acme"]}):
        if setting.path[0] == "destinations":
            lines += [line.removeprefix("# ") for line in _comment(setting)]
            lines.append(_line(setting.path[-1], values.get(setting.path[-1], setting.default)).removeprefix("# "))
    return "\n" + "".join(f"# {line}\n" for line in lines)


def _value(settings: Settings, setting: Setting) -> object:
    section, *between, name = setting.path
    table = getattr(settings, section)
    return getattr(table[between[0]] if between else table, name)


def _about(section: str) -> list[str]:
    if section == "indices":
        text = (
            "What a task's export_index may name; adding an index needs no code. Where this file names any "
            "index, these six are gone unless it names them too."
        )
    else:
        text = (type(Settings.model_fields[section].default).__doc__ or "").strip().splitlines()[0]
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _comment(setting: Setting) -> list[str]:
    text = f"{setting.field.description}{' A secret.' if setting.secret else ''}"
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _line(key: str, value: object) -> str:
    return f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"


def _toml(value: object) -> str:
    """Write a value; JSON's texts, numbers and booleans are TOML's too."""
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, cast("list[object]", value))) + "]"
    return json.dumps(value, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def _masked(value: object) -> object:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return _without_credentials(text) if "://" in text else "***"
    if isinstance(value, list):
        return [_masked(item) for item in cast("list[object]", value)]
    if isinstance(value, str) and "://" in value:
        return _without_credentials(value)
    return _plain(value)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    host = f"***@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    return f"{parts.scheme}://{host}{parts.path}"
